"""Private keys under a passphrase (B-29, B-32, B-33)."""

import base64
import hmac
import importlib
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from protocol import encryption
from protocol.encryption import AGE_MAGIC, is_age, lock, unlock
from protocol.errors import EnvironmentMissingError, KeyFileError


def derive(key: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def age_file(plaintext: bytes, passphrase: str, log_n: int) -> bytes:
    """Make an age v1 passphrase file of one chunk, cheap to open; pyrage makes dear ones only."""
    file_key, salt, nonce = bytes(16), b"s" * 16, b"n" * 16
    wrap = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << log_n, 8, 1).derive(passphrase.encode())
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
    lines = [AGE_MAGIC, b"-> scrypt %b %d" % (unpadded(salt), log_n), unpadded(body), b"---"]
    mac = hmac.digest(derive(file_key, None, b"header"), b"\n".join(lines), "sha256")
    chunk = ChaCha20Poly1305(derive(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\1", plaintext, None)
    return b"\n".join(lines) + b" " + unpadded(mac) + b"\n" + nonce + chunk


def unpadded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


LOCKED = age_file(b"secret", "correct horse", 4)


def test_passphrase_opens_it() -> None:
    # The way back, lock() and then unlock(), is part of test_signing.
    assert is_age(LOCKED)
    assert unlock(LOCKED, "correct horse") == b"secret"


@pytest.mark.parametrize("damage", ["passphrase", "body", "truncated"])
def test_wrong_passphrase_or_damage(damage: str) -> None:
    passphrase = "wrong" if damage == "passphrase" else "correct horse"
    data = {"passphrase": LOCKED, "body": LOCKED[:-1] + bytes([LOCKED[-1] ^ 1]), "truncated": LOCKED[:-3]}[damage]
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
def test_header_is_checked_before_it_costs_anything(
    header: bytes, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_busy_machine_is_told_from_a_wrong_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        DecryptError = ValueError

        class passphrase:  # noqa: N801 - the name of pyrage's module
            @staticmethod
            def decrypt(_data: bytes, _passphrase: str) -> NoReturn:
                message = "Excessive work parameter for passphrase"
                raise ValueError(message)

    monkeypatch.setattr(encryption, "_pyrage", lambda: Busy)
    with pytest.raises(KeyFileError, match="too busy") as caught:
        unlock(LOCKED, "correct horse")
    assert "when less is running" in caught.value.fix
