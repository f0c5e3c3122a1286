"""Private keys under a passphrase (B-29, B-32, B-33)."""

import importlib
from typing import NoReturn

import pytest
from protocol import encryption
from protocol.encryption import AGE_MAGIC, is_age, lock, unlock
from protocol.errors import EnvironmentMissingError, KeyFileError


@pytest.fixture(scope="module")
def locked() -> bytes:
    return lock(b"secret", "correct horse")  # pyrage makes this take a second on purpose


def test_passphrase_opens_it(locked: bytes) -> None:
    assert is_age(locked)
    assert b"secret" not in locked
    assert unlock(locked, "correct horse") == b"secret"


@pytest.mark.parametrize("damage", ["passphrase", "body", "truncated"])
def test_wrong_passphrase_or_damage(locked: bytes, damage: str) -> None:
    passphrase = "wrong" if damage == "passphrase" else "correct horse"
    data = {"passphrase": locked, "body": locked[:-1] + bytes([locked[-1] ^ 1]), "truncated": locked[:-3]}[damage]
    with pytest.raises(KeyFileError, match="wrong passphrase, or damaged"):
        unlock(data, passphrase)


SALT = b"A" * 22


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 22\nbody\n--- mac", "above"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 99\nbody\n--- mac", "above"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 018\nbody\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 18\nb\n-> scrypt " + SALT + b" 18\nb\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> X25519 abc\nbody\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n--- mac", "exactly one"),
        (AGE_MAGIC + b"\n-> scrypt " + SALT + b" 18\n" + b"x" * (65 << 10) + b"\n--- mac", "damaged"),
        (AGE_MAGIC + b"2\n-> scrypt " + SALT + b" 18\nbody\n--- mac", "damaged"),
        (AGE_MAGIC, "damaged"),
    ],
)
def test_header_is_checked_before_it_costs_anything(header: bytes, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> NoReturn:
        pytest.fail("pyrage must not see this header")

    monkeypatch.setattr(encryption, "_pyrage", never)
    with pytest.raises(KeyFileError, match=detail):
        unlock(header, "x")


def test_empty_passphrase_is_refused() -> None:
    with pytest.raises(KeyFileError, match="empty passphrase"):
        lock(b"secret", "")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EnvironmentMissingError) as caught:
        lock(b"secret", "x")
    assert caught.value.code == "E_NO_AGE"
