"""``content-client trust`` (B-34 to B-42)."""

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from programs import client

from modify_fl.ready import DEMO_KEY
from protocol.manifest import BundleInfo
from protocol.provider import issue_provider_key, read_provider_key, rotate_provider_key, write_provider_key
from protocol.revocation import Revocation, issue_revocation, self_revocation, write_revocation
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore, config_folder


@pytest.fixture
def key(studio: Path) -> Path:
    return studio / "keys" / "studio.mdfykey"


def test_right_fingerprint_is_accepted_then_listed_then_removed(key: Path, tmp_path: Path) -> None:
    fingerprint = read_provider_key(key).fingerprint
    assert client("trust", "list", cwd=tmp_path).out == "no key is accepted yet\n"
    assert client("trust", "add", key, "--fingerprint", fingerprint, "--label", "nord", cwd=tmp_path).code == 0
    listed = client("trust", "list", "--json", cwd=tmp_path).json["result"]["providers"]
    assert [(pin["label"], pin["roles"], pin["fingerprint"]) for pin in listed] == [("nord", ["style"], fingerprint)]
    assert fingerprint in client("trust", "list", cwd=tmp_path).out
    assert client("trust", "remove", "nord", cwd=tmp_path).code == 0
    assert TrustStore.default().list() == ()
    assert client("trust", "remove", "nord", cwd=tmp_path).code == 5
    assert client("trust", "remove", "", cwd=tmp_path).code == 2


def test_the_key_that_came_along_is_accepted_when_asked_for(tmp_path: Path) -> None:
    shipped = read_provider_key(DEMO_KEY)
    result = client("trust", "add", "--demo", cwd=tmp_path)
    assert result.code == 0
    assert result.out == f"accepted {shipped.name} for styles\nfingerprint  {shipped.fingerprint}\n"
    assert "engravings, paintings" in result.err
    assert "whoever gave you the program gave you the key" in result.err
    assert [pin.fingerprint for pin in TrustStore.default().list()] == [shipped.fingerprint]


def test_demo_takes_no_file_and_no_other_fingerprint(key: Path, tmp_path: Path) -> None:
    assert client("trust", "add", "--demo", key, cwd=tmp_path).code == 2
    assert client("trust", "add", cwd=tmp_path).code == 2
    other = read_provider_key(key).fingerprint
    assert client("trust", "add", "--demo", "--fingerprint", other, cwd=tmp_path).code == 5
    assert TrustStore.default().list() == ()


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text.lower(), lambda text: ""])
def test_another_fingerprint_is_refused(change: object, key: Path, tmp_path: Path) -> None:
    # Compared in full: a part of it, or another case, is another fingerprint (B-35).
    wrong = change(read_provider_key(key).fingerprint)  # type: ignore[operator]
    result = client("trust", "add", key, "--fingerprint", wrong, cwd=tmp_path)
    assert result.code == 5
    assert TrustStore.default().list() == ()


def test_nothing_is_trusted_without_a_terminal_or_a_fingerprint(key: Path, tmp_path: Path) -> None:
    result = client("trust", "add", key, "--json", cwd=tmp_path)
    assert result.code == 2
    assert result.json["error"]["fix"][-1] == read_provider_key(key).fingerprint
    assert TrustStore.default().list() == ()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 5)])
def test_a_person_is_asked(answer: str, code: int, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    result = client("trust", "add", key, cwd=tmp_path)
    assert result.code == code
    assert read_provider_key(key).fingerprint in result.err
    assert len(TrustStore.default().list()) == (code == 0)


@pytest.mark.parametrize("form", ["--quiet", "--json"])
def test_fingerprint_in_question_is_always_shown(
    form: str, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # B-34
    monkeypatch.setattr(sys, "stdin", _Terminal("yes\n"))
    result = client("trust", "add", key, form, cwd=tmp_path)
    assert result.code == 0
    assert f"its fingerprint is\n  {read_provider_key(key).fingerprint}\n" in result.err


def test_line_to_paste_survives_any_file_name(key: Path, tmp_path: Path) -> None:
    file = tmp_path / "the studio's key.mdfykey"
    file.write_bytes(key.read_bytes())
    fix = client("trust", "add", file, "--json", cwd=tmp_path).json["error"]["fix"]
    assert client(*fix[1:], cwd=tmp_path).code == 0


# --- keys and revocations that arrive later ---------------------------------------------------

NOW = datetime.now(UTC).replace(microsecond=0)
LIFE = timedelta(days=30)
BUNDLE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


class Atelier:
    """A provider that rotates its key, and its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets: list[PrivateKey] = [generate_key()]
        first = issue_provider_key(
            self.secrets[0], name="Atelier", roles=("style",), not_before=NOW - LIFE, expires=NOW + LIFE
        )
        self.keys = [first]
        write_provider_key(folder / "1.mdfykey", first)

    def rotate(self, name: str, *, after: int = 0) -> Path:
        secret = generate_key()
        following = rotate_provider_key(
            self.secrets[after], self.keys[after], secret, not_before=NOW - timedelta(days=1), expires=NOW + 2 * LIFE
        )
        self.secrets.append(secret)
        self.keys.append(following)
        write_provider_key(self.folder / name, following)
        return self.folder / name

    def revoke(
        self, name: str, number: int, *, by: int = 0, next_update: datetime | None = None, **what: object
    ) -> Path:
        return self._write(
            name,
            issue_revocation(
                self.secrets[by],
                self.keys[by],
                number=number,
                issued=NOW - LIFE,
                next_update=next_update,
                **what,  # type: ignore[arg-type]
            ),
        )

    def give_up(self, name: str) -> Path:
        return self._write(name, self_revocation(self.secrets[0], self.keys[0], reason="stolen", issued=NOW))

    def _write(self, name: str, revocation: Revocation) -> Path:
        write_revocation(self.folder / name, revocation)
        return self.folder / name


@pytest.fixture
def atelier(tmp_path: Path) -> Atelier:
    made = Atelier(tmp_path)
    TrustStore.default().add(made.keys[0])
    return made


def test_fingerprint_of_the_first_key_with_the_file_of_a_later_one_is_no_alarm(
    atelier: Atelier, tmp_path: Path
) -> None:
    # A bundle names the first key only, so whoever follows its error with the present key file comes here.
    client("trust", "remove", "Atelier", cwd=tmp_path)
    second = atelier.rotate("key of today.mdfykey")
    result = client("trust", "add", second, "--fingerprint", atelier.keys[0].fingerprint, "--json", cwd=tmp_path)
    assert result.code == 5
    assert "first key" in result.json["error"]["what"]
    assert "exchanged" not in result.json["error"]["why"]
    assert result.json["error"]["fix"] == [
        "content-client", "trust", "add", str(second), "--fingerprint", atelier.keys[1].fingerprint
    ]  # fmt: skip
    assert TrustStore.default().list() == ()


def test_update_takes_files_of_any_name_in_any_order(atelier: Atelier, tmp_path: Path) -> None:
    third = atelier.rotate("a.bin")
    fourth = atelier.rotate("b.bin", after=1)
    listed = atelier.revoke("0.bin", 1, by=2, keys={atelier.keys[0].fingerprint: "old"})
    result = client("trust", "update", listed, fourth, third, "--json", cwd=tmp_path)
    assert result.code == 0
    assert [(entry["what"], entry["ok"], entry["changed"]) for entry in result.json["result"]["files"]] == [
        ("key 2 accepted", True, True),
        ("key 3 accepted", True, True),
        ("revocation list 1 accepted", True, True),
    ]
    again = client("trust", "update", listed, fourth, third, cwd=tmp_path)
    assert again.code == 0
    assert again.out.count("nothing new in") == 3
    assert "Atelier: nothing new in key 2" in again.out


def test_update_of_one_file_fails_with_its_own_code(atelier: Atelier, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("{}")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "pdf").write_bytes(b"%PDF")
    (tmp_path / "other.json").write_text('{"payloadType": "application/pdf"}')
    for name, code in (("text", 8), ("list", 8), ("pdf", 8), ("other.json", 8), ("nowhere", 9)):
        assert client("trust", "update", name, cwd=tmp_path).code == code
    atelier.rotate("2.mdfykey")
    missing = client("trust", "update", atelier.rotate("3.mdfykey", after=1), "--json", cwd=tmp_path)
    assert (missing.code, missing.json["error"]["code"]) == (5, "E_KEY_CHAIN")
    atelier.give_up("0.mdfyrev")
    assert client("trust", "update", "0.mdfyrev", cwd=tmp_path).code == 0
    assert client("trust", "update", "2.mdfykey", cwd=tmp_path).code == 6


def test_update_tries_all_files_and_lists_what_failed(atelier: Atelier, tmp_path: Path) -> None:
    good, bad = atelier.rotate("2.mdfykey"), tmp_path / "bad.mdfyrev"
    bad.write_text("nothing")
    (tmp_path / "stranger").mkdir()
    foreign = Atelier(tmp_path / "stranger").rotate("2.mdfykey")
    result = client("trust", "update", bad, foreign, good, "--json", cwd=tmp_path)
    assert result.code == 13
    assert "2 of 3 files" in result.json["error"]["what"]
    assert str(bad) in result.json["error"]["why"]
    assert {entry["file"]: entry.get("code") for entry in result.json["result"]["files"]} == {
        str(bad): "E_KEYFILE",
        str(foreign): "E_UNTRUSTED",
        str(good): None,
    }
    assert len(TrustStore.default().list()) == 2


def test_second_key_with_one_serial_disables_the_provider(atelier: Atelier, tmp_path: Path) -> None:
    assert client("trust", "update", atelier.rotate("2.mdfykey"), cwd=tmp_path).code == 0
    result = client("trust", "update", atelier.rotate("2-again.mdfykey"), "--json", cwd=tmp_path)
    assert (result.code, result.json["error"]["code"]) == (5, "E_KEY_FORK")
    assert "DISPUTED" in client("trust", "list", cwd=tmp_path).out
    assert "DISPUTED" in client("trust", "show", "Atelier", cwd=tmp_path).out
    (listed,) = client("trust", "list", "--json", cwd=tmp_path).json["result"]["providers"]
    assert (listed["disputed"], listed["state"]) == (True, "disputed")


def test_list_has_one_line_per_provider(atelier: Atelier, tmp_path: Path) -> None:
    client("trust", "update", atelier.rotate("2.mdfykey"), cwd=tmp_path)
    lines = client("trust", "list", cwd=tmp_path).out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Atelier  styles")
    assert "key 2" in lines[0]
    assert atelier.keys[1].fingerprint in lines[0]
    assert lines[0].endswith("1 retired")
    (listed,) = client("trust", "list", "--json", cwd=tmp_path).json["result"]["providers"]
    assert (listed["serial"], listed["retired"], listed["state"]) == (2, 1, "current")


def test_list_marks_keys_that_are_of_no_use(atelier: Atelier, tmp_path: Path) -> None:
    old = issue_provider_key(
        generate_key(), name="Past", roles=("style",), not_before=NOW - 3 * LIFE, expires=NOW - 2 * LIFE
    )
    TrustStore.default().add(old)
    client("trust", "update", atelier.give_up("0.mdfyrev"), cwd=tmp_path)
    revoked, expired = client("trust", "list", cwd=tmp_path).out.splitlines()
    assert revoked.endswith("REVOKED")
    assert expired.endswith("expired")
    assert (
        client("trust", "show", old.fingerprint, "--json", cwd=tmp_path).json["result"]["keys"][0]["state"] == "expired"
    )


def test_show_tells_everything(atelier: Atelier, tmp_path: Path) -> None:
    first, digest = atelier.keys[0].fingerprint, "a" * 64
    client("trust", "update", atelier.rotate("2.mdfykey"), atelier.rotate("3.mdfykey", after=1), cwd=tmp_path)
    listed = atelier.revoke(
        "1.mdfyrev",
        4,
        by=2,
        next_update=NOW + LIFE,
        keys={first: "lost"},
        bundles={digest: "wrong"},
        min_sequence={BUNDLE: 7},
    )
    client("trust", "update", listed, cwd=tmp_path)
    shown = client("trust", "show", "Atelier", cwd=tmp_path).out
    for text in (*(key.fingerprint for key in atelier.keys), "revoked: lost", "retired since", "current", "list 4"):
        assert text in shown
    for text in (f"key {first}: lost", f"bundle {digest}: wrong", f"bundle {BUNDLE}: from sequence 7", "next one by"):
        assert text in shown
    result = client("trust", "show", first, "--json", cwd=tmp_path).json["result"]
    assert [(key["serial"], key["state"]) for key in result["keys"]] == [(1, "revoked"), (2, "retired"), (3, "current")]
    (revocation,) = result["revocations"]
    assert (revocation["number"], revocation["bundles"], revocation["min_sequence"]) == (
        4,
        {digest: "wrong"},
        {BUNDLE: 7},
    )
    assert client("trust", "show", "nobody", cwd=tmp_path).code == 5


def test_show_names_releases_and_self_revocation(atelier: Atelier, tmp_path: Path) -> None:
    store = TrustStore.default()
    bundle = BundleInfo(
        id=BUNDLE, name="n", version="1", sequence=3, created=NOW - LIFE, not_before=NOW - LIFE, expires=NOW + LIFE
    )
    store.advance(store.list()[0], bundle, "b" * 64)
    client("trust", "update", atelier.give_up("0.mdfyrev"), cwd=tmp_path)
    shown = client("trust", "show", "Atelier", cwd=tmp_path).out
    assert f"seen  bundle {BUNDLE}  sequence 3  {'b' * 64}" in shown
    assert "revocation of a key by itself" in shown
    (seen,) = client("trust", "show", "Atelier", "--json", cwd=tmp_path).json["result"]["seen"]
    assert seen == {"bundle_id": BUNDLE, "sequence": 3, "payload_sha256": "b" * 64}


def test_add_takes_any_serial_and_refuses_a_revoked_key(atelier: Atelier, tmp_path: Path) -> None:
    second = atelier.rotate("2.mdfykey")
    wanted = atelier.keys[1].fingerprint
    assert client("trust", "add", second, "--fingerprint", wanted, cwd=tmp_path).code == 5  # an update, in truth
    client("trust", "update", second, cwd=tmp_path)
    old = client("trust", "add", "1.mdfykey", "--fingerprint", atelier.keys[0].fingerprint, "--json", cwd=tmp_path)
    assert ["signs with another key since" in warning for warning in old.json["warnings"]] == [True]
    client("trust", "remove", "Atelier", cwd=tmp_path)
    added = client("trust", "add", second, "--fingerprint", wanted, "--label", "nord", "--json", cwd=tmp_path)
    assert (added.code, added.json["result"]["serial"], added.json["result"]["label"]) == (0, 2, "nord")
    (claim,) = added.json["warnings"]
    assert f"number 2 of the provider whose first key is {atelier.keys[0].fingerprint}, which nothing proves" in claim
    client("trust", "update", atelier.revoke("1.mdfyrev", 1, by=1, keys={wanted: "lost"}), cwd=tmp_path)
    client("trust", "remove", "nord", cwd=tmp_path)
    refused = client("trust", "add", second, "--fingerprint", wanted, "--json", cwd=tmp_path)
    assert (refused.code, refused.json["error"]["code"]) == (6, "E_KEY_REVOKED")
    assert "lost" in refused.json["error"]["why"]


def test_warnings_of_the_store_are_shown(atelier: Atelier, tmp_path: Path) -> None:
    late = atelier.revoke("1.mdfyrev", 1, next_update=NOW - timedelta(days=1))
    for words in (("update", late), ("list",), ("show", "Atelier")):
        assert "(W_REVOCATION_STALE)" in client("trust", *words, cwd=tmp_path).err
    (_,) = client("trust", "list", "--json", cwd=tmp_path).json["warnings"]
    (config_folder() / "trust" / "state.json").unlink()
    assert "(W_STATE_RESET)" in client("trust", "list", cwd=tmp_path).err


def test_removing_says_what_was_removed(atelier: Atelier, tmp_path: Path) -> None:
    client("trust", "update", atelier.rotate("2.mdfykey"), cwd=tmp_path)
    result = client("trust", "remove", atelier.keys[0].fingerprint, "--json", cwd=tmp_path).json["result"]
    assert result["label"] == "Atelier"
    assert result["fingerprints"] == [key.fingerprint for key in atelier.keys]
