"""Private keys, fingerprints and private key files (B-32, B-35)."""

import base64
import hashlib
from pathlib import Path

import pytest
from bundlekit import OTHER_KEY, STUDIO_KEY
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import KeyFileError, ProtocolError, StorageError, UntrustedKeyError
from protocol.signing import (
    fingerprint,
    generate_key,
    key_hint,
    load_private_key,
    public_der,
    public_pem,
    save_private_key,
)


def test_fingerprint_is_of_the_der_form() -> None:
    # B-35: what `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` prints.
    key = STUDIO_KEY.public_key()
    digest = hashlib.sha256(public_der(key)).digest()
    assert fingerprint(key) == "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    assert len(fingerprint(key)) == len("SHA256:") + 43


def test_hint_is_of_the_pem_text() -> None:
    assert key_hint(STUDIO_KEY.public_key()) == hashlib.sha256(public_pem(STUDIO_KEY.public_key())).hexdigest()


def test_new_keys_differ() -> None:
    assert public_der(generate_key().public_key()) != public_der(generate_key().public_key())


# --- private key files ----------------------------------------------------------------------


def test_bare_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_private_key(path).private_numbers() == STUDIO_KEY.private_numbers()


def test_protected_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem.age"
    save_private_key(path, STUDIO_KEY, "correct horse")
    assert path.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert load_private_key(path, lambda: "correct horse").private_numbers() == STUDIO_KEY.private_numbers()
    with pytest.raises(KeyFileError, match="passphrase needed"):
        load_private_key(path)


def test_passphrase_is_asked_for_only_when_needed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    load_private_key(path, lambda: pytest.fail("nobody should be asked"))


def test_key_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        load_private_key(path)


def test_key_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    with pytest.raises(StorageError):
        save_private_key(path, OTHER_KEY, None)
    save_private_key(path, OTHER_KEY, None, overwrite=True)
    assert load_private_key(path).private_numbers() == OTHER_KEY.private_numbers()


def test_key_that_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.signing.load_private_key", lambda *_: OTHER_KEY)
    with pytest.raises(KeyFileError, match="does not read back"):
        save_private_key(tmp_path / "key.pem", STUDIO_KEY, None)
    assert list(tmp_path.iterdir()) == []


def pem(key: object, encryption: serialization.KeySerializationEncryption) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_KEYFILE"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "E_KEYFILE"),
        (pem(STUDIO_KEY, serialization.BestAvailableEncryption(b"x")), "E_KEYFILE"),  # PBKDF2, 2048 rounds
        (public_pem(STUDIO_KEY.public_key()), "E_KEYFILE"),
        (pem(ec.derive_private_key(7, ec.SECP384R1()), serialization.NoEncryption()), "E_KEY_TYPE"),
    ],
)
def test_files_that_are_no_key(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ProtocolError) as caught:
        load_private_key(path)
    assert caught.value.code == code


def test_only_p256_is_saved(tmp_path: Path) -> None:
    with pytest.raises(UntrustedKeyError):
        save_private_key(tmp_path / "key.pem", ec.derive_private_key(7, ec.SECP384R1()), None)
