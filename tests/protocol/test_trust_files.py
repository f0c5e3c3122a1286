"""The two files of a trust store: private, whole, and never less than they were (B-42, B-43)."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from bundlekit import CLIENT, CLIENT_KEY, NOW, OTHER, STUDIO, STUDIO_KEY
from trustkit import DIGEST, OTHER_DIGEST, SECOND, STOLEN, accept, digest, given_up, listing, refusal, release

from protocol.errors import KeyFileError, StorageError
from protocol.provider import ProviderKey
from protocol.trust import TrustStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one provider, one list and one release seen."""
    store = TrustStore(tmp_path / "trust")
    store.add(STUDIO, label="nord")
    store.add(CLIENT)
    accept(store, listing(1, bundles={OTHER_DIGEST: "wrong"}), given_up(CLIENT_KEY, CLIENT))
    advance(store, 2, DIGEST)
    return tmp_path / "trust"


def advance(store: TrustStore, sequence: int, payload: str, key: ProviderKey = STUDIO) -> None:
    signer = store.find(key.hint)
    assert signer is not None
    store.advance(signer, release(sequence), payload)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("pins.json", "state.json")}


# --- private and whole ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pins.json", "state.json"])
def test_files_are_private(folder: Path, name: str) -> None:
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / name).chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        TrustStore(folder).list()


def test_all_comes_back(folder: Path) -> None:
    store = TrustStore(folder)
    (pin,) = (pin for pin in store.list() if pin.label == "nord")
    assert pin.key == STUDIO
    provider = store.provider("nord")
    assert [item.bundles for item in store.revocations(provider)] == [{OTHER_DIGEST: "wrong"}]
    assert [(item.sequence, item.payload_sha256) for item in store.last_seen(provider)] == [(2, DIGEST)]
    assert [pin.revoked for pin in store.list() if pin.key == CLIENT] == ["laptop stolen"]


def test_nothing_is_written_where_nothing_changed(folder: Path) -> None:
    store = TrustStore(folder)
    before = [(path.name, path.stat().st_ino) for path in sorted(folder.iterdir())]
    store.update(STUDIO, now=NOW)
    store.update(listing(1, bundles={OTHER_DIGEST: "wrong"}).signed, now=NOW)
    advance(store, 2, DIGEST)
    assert [(path.name, path.stat().st_ino) for path in sorted(folder.iterdir())] == before


def edited(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


def flipped(document: str) -> str:
    """Change one character of the payload inside a signed document."""
    place = document.index('"payload":"') + 40
    return document[:place] + ("A" if document[place] != "A" else "B") + document[place + 1 :]


def entry(text: str, **changes: Any) -> str:
    """Change the first provider."""
    found = json.loads(text)["providers"]
    return edited(text, providers=[{**found[0], **changes}, *found[1:]])


def keys(text: str) -> Any:
    return json.loads(text)["providers"][0]["keys"]


PIN_DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut": lambda text: text[:-5],
    "unknown field": lambda text: edited(text, extra=1),
    "other format": lambda text: edited(text, format="mdfy-pins/2"),
    "format of old": lambda text: edited(text, pins=[]),
    "forged key": lambda text: entry(text, keys=[flipped(keys(text)[0])]),
    "key twice": lambda text: entry(text, keys=keys(text) * 2),
    "no key": lambda text: entry(text, keys=[]),
    "bad role": lambda text: entry(text, roles=["root"]),
    "no role": lambda text: entry(text, roles=[]),
    "dispute gone": lambda text: text.replace('"disputed":false,', ""),
    "one label twice": lambda text: entry(text, label="this computer"),
    "one provider twice": lambda text: edited(text, providers=json.loads(text)["providers"] * 2),
}


@pytest.mark.parametrize("name", PIN_DAMAGE)
def test_damaged_pins_refuse_everything(folder: Path, name: str) -> None:
    path = folder / "pins.json"
    path.write_text(PIN_DAMAGE[name](path.read_text()))
    store, before = TrustStore(folder), path.read_bytes()
    with pytest.raises(KeyFileError, match="is damaged"):
        store.find(STUDIO.hint)
    with pytest.raises(KeyFileError):
        store.add(OTHER)
    assert path.read_bytes() == before  # nothing is lost by writing over it


def flipped_first(text: str, name: str) -> str:
    """Change the first of the signed documents."""
    found = json.loads(text)[name]
    return edited(text, **{name: [flipped(found[0]), *found[1:]]})


STATE_DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut": lambda text: text[:-5],
    "unknown field": lambda text: edited(text, extra=1),
    "other format": lambda text: edited(text, format="mdfy-state/2"),
    "seen twice": lambda text: edited(text, seen=json.loads(text)["seen"] * 2),
    "no lost provider": lambda text: edited(text, reset=["all"]),
    "no digest": lambda text: edited(text, acknowledged=["all"]),
    "forged list": lambda text: flipped_first(text, "revocations"),
    "forged key": lambda text: flipped_first(text, "keys"),
    "list of somebody else": lambda text: edited(text, keys=json.loads(text)["keys"][1:]),
}


@pytest.mark.parametrize("name", STATE_DAMAGE)
def test_damaged_state_refuses_everything(folder: Path, name: str) -> None:
    path = folder / "state.json"
    path.write_text(STATE_DAMAGE[name](path.read_text()))
    store, before = TrustStore(folder), path.read_bytes()
    with pytest.raises(KeyFileError, match="is damaged"):
        store.find(STUDIO.hint)
    with pytest.raises(KeyFileError):
        store.acknowledge(DIGEST)
    with pytest.raises(KeyFileError):
        store.warnings(NOW)
    assert path.read_bytes() == before


# --- a state that got lost (B-42) -------------------------------------------------------------


def test_lost_state_is_noticed_and_loses_no_pin(folder: Path) -> None:
    (folder / "state.json").unlink()
    store = TrustStore(folder)
    (warning,) = store.warnings(NOW)
    assert warning.endswith("(W_STATE_RESET)")
    assert store.find(STUDIO.hint) is not None
    assert "nord, this computer" in warning
    for change in (
        lambda: store.add(OTHER),  # of whom nothing got lost
        lambda: store.acknowledge(DIGEST),
        lambda: advance(store, 1, digest(1)),
        lambda: accept(store, given_up(CLIENT_KEY, CLIENT)),
    ):
        change()
        assert store.warnings(NOW) == (warning,)


def test_lost_state_is_noticed_until_each_provider_made_up_for_it(folder: Path) -> None:
    (folder / "state.json").unlink()
    store = TrustStore(folder)
    accept(store, listing(1, bundles={OTHER_DIGEST: "wrong"}))
    (warning,) = store.warnings(NOW)
    assert "nord" not in warning
    assert "this computer" in warning
    store.remove("this computer")
    assert store.warnings(NOW) == ()
    store.add(CLIENT)
    assert store.warnings(NOW) == ()


def test_no_warning_for_a_new_or_an_empty_store(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "trust")
    assert store.warnings(NOW) == ()
    store.add(STUDIO)
    assert store.warnings(NOW) == ()
    store.remove("Studio")
    (tmp_path / "trust" / "state.json").unlink()
    assert store.warnings(NOW) == ()
    assert TrustStore.of(STUDIO).warnings(NOW) == ()


def test_floor_of_a_list_stands_after_the_state_was_lost(folder: Path) -> None:
    (folder / "state.json").unlink()
    store = TrustStore(folder)
    accept(store, listing(2, min_sequence={release().id: 2}))
    with pytest.raises(Exception, match="older than sequence 2"):
        advance(store, 1, DIGEST)


# --- no space, no permission, no process -----------------------------------------------------


def full(_: int) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


CHANGES: dict[str, Callable[[TrustStore], object]] = {
    "add": lambda store: store.add(OTHER),
    "remove": lambda store: store.remove("nord"),
    "key": lambda store: store.update(SECOND, now=NOW),
    "list": lambda store: store.update(listing(2, bundles={OTHER_DIGEST: "wrong"}).signed, now=NOW),
    "self-revocation": lambda store: store.update(given_up(STUDIO_KEY, STUDIO).signed, now=NOW),
    "release": lambda store: advance(store, 3, digest(3)),
    "acknowledgement": lambda store: store.acknowledge(DIGEST),
}


@pytest.mark.parametrize("name", CHANGES)
def test_full_disk_leaves_the_old_state(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, listed = contents(folder), sorted(folder.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space"):
        CHANGES[name](TrustStore(folder))
    assert contents(folder) == before
    assert sorted(folder.iterdir()) == listed
    monkeypatch.undo()
    CHANGES[name](TrustStore(folder))
    assert contents(folder) != before


def test_dispute_is_kept_or_said_not_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrustStore(folder)
    accept(store, SECOND)
    monkeypatch.setattr(os, "fsync", full)
    assert refusal(store, STOLEN) == "E_IO"  # not E_KEY_FORK: nothing was remembered
    monkeypatch.undo()
    assert refusal(store, STOLEN) == "E_KEY_FORK"


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "trust").write_bytes(b"")  # a file where the folder should be
    with pytest.raises(StorageError):
        TrustStore(tmp_path / "trust").add(STUDIO)


KILLED = """
import sys, time
sys.path.insert(0, {kit!r})
from pathlib import Path
import protocol.storage
from test_trust_files import CHANGES, TrustStore
real = protocol.storage._put
def wait(*arguments, **options):
    if {after}:
        real(*arguments, **options)
    print("there", flush=True)
    time.sleep(60)
protocol.storage._put = wait
CHANGES[{name!r}](TrustStore(Path({folder!r})))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("after", [False, True], ids=["before it is put in place", "after"])
@pytest.mark.parametrize("name", ["key", "release"])
def test_killed_in_the_middle_leaves_old_or_new(folder: Path, name: str, *, after: bool) -> None:
    before = contents(folder)
    code = KILLED.format(kit=str(Path(__file__).parent), name=name, folder=str(folder), after=after)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
    assert (contents(folder) == before) is not after
    store = TrustStore(folder)
    CHANGES[name](store)  # neither the lock nor what was left behind is in anybody's way
    assert CHANGES[name](store) is None or not CHANGES[name](store).changed  # type: ignore[attr-defined]


def test_killed_between_the_two_files_of_a_new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The state is made first: what is left is an empty store, not one that has lost its memory.
    real, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # file, folder, file
            full(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    store = TrustStore(tmp_path / "trust")
    with pytest.raises(StorageError):
        store.add(STUDIO)
    assert [path.name for path in sorted((tmp_path / "trust").iterdir())] == ["lock", "state.json"]
    assert store.list() == ()
    assert store.warnings(NOW) == ()


# --- two programs at once ---------------------------------------------------------------------

BUSY = """
import sys
sys.path.insert(0, {kit!r})
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from bundlekit import STUDIO, provider_key
from trustkit import digest, release
from protocol.trust import TrustStore
store = TrustStore(Path({folder!r}))
print("ready", flush=True)
sys.stdin.readline()
for turn in range({turns}):
    number = 2 * turn + {which}
    store.add(provider_key(ec.derive_private_key(1000 + number, ec.SECP256R1()), name=f"provider {{number}}"))
    store.acknowledge(digest(number))
    bundle = f"{{number:08x}}-0000-0000-0000-000000000000"
    store.advance(store.find(STUDIO.hint), release(number + 1, bundle=bundle), digest(number))
"""


def test_two_programs_lose_nothing(folder: Path) -> None:
    turns = 6
    code = [
        BUSY.format(kit=str(Path(__file__).parent), folder=str(folder), turns=turns, which=which) for which in (0, 1)
    ]
    started = [
        subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for text in code
    ]
    for process in started:  # both stand at the same line before either goes on
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = TrustStore(folder)
    numbers = range(2 * turns)
    assert {f"provider {number}" for number in numbers} <= {pin.label for pin in store.list()}
    assert all(store.is_acknowledged(digest(number)) for number in numbers)
    assert {item.payload_sha256 for item in store.last_seen(store.provider("nord"))} >= {digest(n) for n in numbers}


def test_two_programs_never_lower_a_sequence(folder: Path) -> None:
    # Both verified while 2 was the newest; the slower one, with the older release, is too late.
    fast, slow = TrustStore(folder), TrustStore(folder)
    for store in (fast, slow):
        signer = store.find(STUDIO.hint)
        assert signer is not None
        store.check_release(signer, release(3), digest(3))
    advance(fast, 4, digest(4))
    with pytest.raises(Exception, match="older than sequence 4"):
        advance(slow, 3, digest(3))
