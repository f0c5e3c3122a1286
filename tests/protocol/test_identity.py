"""Files of the user's own age identity (B-28, B-32)."""

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from protocol import identity as module
from protocol.encryption import generate_identity, lock
from protocol.errors import KeyFileError, StorageError
from protocol.identity import load_identity, public_file, save_identity

SECRET, RECIPIENT = generate_identity()


def nobody() -> NoReturn:
    pytest.fail("nothing is to be asked")


def cheap(data: bytes, passphrase: str) -> bytes:
    """Stand for ``lock``, which takes seconds on purpose; test_a_passphrase_protects_it uses the real one."""
    return b"age-encryption.org/v1\n" + passphrase.encode() + b"\n" + data


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lock", cheap)
    monkeypatch.setattr(module, "unlock", lambda data, _passphrase: data.partition(b"\n")[2].partition(b"\n")[2])


def test_plain_identity_reads_back(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, None)
    found = load_identity(path, nobody)
    assert (found.recipient, found.secret()) == (RECIPIENT, SECRET)
    assert path == tmp_path / "me.agekey"
    assert public_file(path).read_text() == RECIPIENT + "\n"
    assert SECRET not in repr(found)


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes")
def test_only_the_public_half_is_public(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_file(path).stat().st_mode & 0o777 == 0o644
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="open to others"):
        load_identity(path, nobody)


def test_a_passphrase_protects_it(tmp_path: Path) -> None:
    path = tmp_path / "me.agekey.age"
    path.write_bytes(lock(SECRET.encode(), "horse"))
    path.chmod(0o600)
    public_file(path).write_text(RECIPIENT)
    asked = []

    def ask() -> str:
        asked.append("?")
        return "horse"

    found = load_identity(path, ask)
    assert (found.recipient, asked) == (RECIPIENT, [])  # known without it
    assert found.secret() == SECRET
    assert found.secret() == SECRET
    assert asked == ["?"]


def test_locked_file_is_found_under_the_plain_name(tmp_path: Path, quick: None) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, "horse")
    assert path == tmp_path / "me.agekey.age"
    assert load_identity(tmp_path / "me.agekey", lambda: "horse").secret() == SECRET


def test_there_is_one_private_file(tmp_path: Path, quick: None) -> None:
    plain = save_identity(tmp_path / "me.agekey", SECRET, None)
    with pytest.raises(StorageError, match="exists"):
        save_identity(plain, SECRET, "horse")
    assert {path.name for path in tmp_path.iterdir()} == {"me.agekey", "me.age1"}
    save_identity(plain, SECRET, "horse", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"me.agekey.age", "me.age1"}


def test_nothing_is_replaced_without_a_word(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, None)
    other, recipient = generate_identity()
    with pytest.raises(StorageError, match="exists"):
        save_identity(path, other, None)
    assert load_identity(path, nobody).secret() == SECRET
    save_identity(path, other, None, overwrite=True)
    assert load_identity(path, nobody).recipient == recipient


def test_what_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lock", lambda _data, _passphrase: generate_identity()[0].encode())
    with pytest.raises(KeyFileError, match="does not read back"):
        save_identity(tmp_path / "me.agekey", SECRET, "horse")
    assert list(tmp_path.iterdir()) == []


def test_file_of_age_keygen(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    path.write_text(f"# created: 2026-01-01T00:00:00Z\n# public key: {RECIPIENT}\n{SECRET}\n")
    path.chmod(0o600)
    assert load_identity(path, nobody).recipient == RECIPIENT


@pytest.mark.parametrize("text", ["", "hello", f"{SECRET}\n{SECRET}\n", "AGE-SECRET-KEY-1XYZ"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "me.agekey"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not an age identity"):
        load_identity(path, nobody)


def test_public_file_of_another_key(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, None)
    public_file(path).write_text(generate_identity()[1])
    found = load_identity(path, nobody)
    with pytest.raises(KeyFileError, match="belongs to another key"):
        found.secret()


def test_damaged_public_file(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "me.agekey", SECRET, None)
    public_file(path).write_text("age1hello")
    with pytest.raises(KeyFileError, match="not one age1"):
        load_identity(path, nobody)
