"""Kills and full disks in the middle of the work: everything is whole, or as it was (B-43, U-40)."""

import contextlib
import errno
import multiprocessing
import os
import stat
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import NoReturn

import faultkit
import numpy as np
import pytest
from attackkit import next_key, snapshot
from bundlekit import NOW, STUDIO, style_manifest, write_style

from protocol.container import MAGIC
from protocol.encryption import Identity, generate_identity, is_age
from protocol.errors import StorageError
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is neither SIGKILL nor a fork server")

SECRET, RECIPIENT = generate_identity()
READER = Identity(recipient=RECIPIENT, secret=lambda: SECRET)
STYLE = style_manifest().bundle.id
FAST, SLOW = range(6), range(6, 40)
LONGEST = 0.12
"""Seconds after which a program is killed at the latest; a round of its work takes a tenth of that."""


Forks = multiprocessing.context.ForkServerContext


@pytest.fixture(scope="module")
def forks() -> Forks:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faultkit"])
    with pytest.MonkeyPatch.context() as patch:  # a kill costs a tenth of a second only if imports are done before
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        forkserver.ensure_running()
    return context


def answers(forks: Forks, kill_after: float | None, work: Callable[..., None], *words: object) -> list[object]:
    """Run a program to its end, or kill it some seconds after it has begun; returns what it told."""
    ours, theirs = forks.Pipe(duplex=False)
    process = forks.Process(target=work, args=(theirs, *words), daemon=True)
    process.start()
    theirs.close()
    told = [ours.recv()]
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join()
    with contextlib.suppress(EOFError):  # the pipe keeps what was told before the end
        while True:
            told.append(ours.recv())
    return told


def kill(forks: Forks, number: int, work: Callable[..., None], *words: object) -> int:
    """Kill a program at a moment that follows from ``number``; returns the last thing it told."""
    last = answers(forks, float(np.random.default_rng(number).uniform(0, LONGEST)), work, *words)[-1]
    assert isinstance(last, int)
    return last


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    for sequence in range(1, faultkit.RELEASES + 1):
        faultkit.release(folder / f"{sequence}.mdfy", sequence)
    return folder


def pinned(folder: Path) -> TrustStore:
    trust = TrustStore(folder / "trust")
    trust.add(STUDIO)
    return trust


def check_publishing(forks: Forks, numbers: range, folder: Path) -> None:
    for number in numbers:
        recipients = (RECIPIENT,) if number % 2 else ()
        place = folder / str(number)
        place.mkdir()
        kill(forks, number, faultkit.keep_publishing, place, recipients)
        path = place / "style.mdfy"
        if path.exists():
            assert is_age(path.read_bytes()[:64]) == bool(recipients)
            assert verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=READER).members
        for left in place.iterdir():  # what was not finished is hidden, and private as long as it is plain
            assert left == path or left.name.startswith(".")
            if recipients and left.read_bytes()[:4] == MAGIC:
                assert stat.S_IMODE(left.stat().st_mode) == 0o600
        faultkit.publish(path, recipients=recipients)  # and is in nobody's way


def check_using(forks: Forks, numbers: range, folder: Path, releases: Path) -> None:
    for number in numbers:
        place = folder / str(number)
        trust = pinned(place)
        told = kill(forks, number, faultkit.keep_using, place, releases)
        again = TrustStore(place / "trust")
        assert again.list() == trust.list()
        seen = [item.sequence for item in again.last_seen(again.provider("Studio")) if item.bundle_id == STYLE]
        assert max(seen, default=0) in {told, min(told + 1, faultkit.RELEASES)}
        assert again.warnings(NOW) == ()
        again.acknowledge("a" * 64)  # the lock of a dead program holds nobody up


def check_updating(forks: Forks, numbers: range, folder: Path) -> None:
    for number in numbers:
        place = folder / str(number)
        pinned(place)
        told = kill(forks, number, faultkit.keep_updating, place)
        again = TrustStore(place / "trust")
        provider = again.provider("Studio")
        assert provider.keys[0] == STUDIO
        assert len(provider.keys) == 2 or told == -1
        newest = max((item.number for item in again.revocations(provider)), default=0)
        assert newest in {max(told, 0), told + 1}
        again.acknowledge("a" * 64)


def test_killed_while_publishing(forks: Forks, tmp_path: Path) -> None:
    check_publishing(forks, FAST, tmp_path)


def test_killed_while_using(forks: Forks, tmp_path: Path, releases: Path) -> None:
    check_using(forks, FAST, tmp_path, releases)


def test_killed_while_updating(forks: Forks, tmp_path: Path) -> None:
    check_updating(forks, FAST, tmp_path)


@pytest.mark.slow
def test_killed_a_hundred_times(forks: Forks, tmp_path: Path, releases: Path) -> None:
    for name in ("published", "used", "updated"):
        (tmp_path / name).mkdir()
    check_publishing(forks, SLOW, tmp_path / "published")
    check_using(forks, SLOW, tmp_path / "used", releases)
    check_updating(forks, SLOW, tmp_path / "updated")


# Disk full: no file may grow beyond a limit, so some write fails, whichever it is.


@pytest.mark.parametrize("limit", [0, 100, 5000, 1_000_000, 2_000_000])
@pytest.mark.parametrize("recipients", [(), (RECIPIENT,)])
def test_disk_full_while_publishing(forks: Forks, tmp_path: Path, limit: int, recipients: tuple[str, ...]) -> None:
    assert answers(forks, None, faultkit.publish_on_a_full_disk, tmp_path, limit, recipients) == ["E_IO 9"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 100, 1000])
@pytest.mark.parametrize("work", [faultkit.update_on_a_full_disk, faultkit.revoke_on_a_full_disk])
def test_disk_full_while_updating(forks: Forks, tmp_path: Path, work: Callable[..., None], limit: int) -> None:
    pinned(tmp_path)
    before = snapshot(tmp_path)
    assert answers(forks, None, work, tmp_path, limit) == ["E_IO 9"]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("limit", [0, 100])
def test_disk_full_while_recording(forks: Forks, tmp_path: Path, limit: int) -> None:
    pinned(tmp_path)
    faultkit.release(tmp_path / "1.mdfy", 1)
    before = snapshot(tmp_path)
    assert answers(forks, None, faultkit.use_on_a_full_disk, tmp_path, limit) == ["E_IO 9"]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("limit", [0, 5000, 100_000])
def test_disk_full_while_decrypting(forks: Forks, tmp_path: Path, limit: int) -> None:
    pinned(tmp_path)
    faultkit.publish(tmp_path / "style.mdfy", recipients=(RECIPIENT,))
    before = snapshot(tmp_path)
    assert answers(forks, None, faultkit.decrypt_on_a_full_disk, tmp_path, limit, RECIPIENT, SECRET) == ["E_IO 9"]
    assert snapshot(tmp_path) == before


def full(_: int) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_space_runs_out_on_the_way_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file system may tell only now, in fsync.
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        write_style(tmp_path / "style.mdfy")
    assert caught.value.code == "E_IO"
    assert list(tmp_path.iterdir()) == []


def test_space_runs_out_while_a_key_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = pinned(tmp_path)
    before = snapshot(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        trust.update(next_key(), now=NOW)
    assert snapshot(tmp_path) == before
