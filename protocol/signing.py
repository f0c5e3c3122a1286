"""Signing keys, their fingerprints and private key files (B-32, B-35).

Rules kept here: a private key file is PKCS#8 PEM, bare or inside an age
passphrase file, has mode 0600, and is read back before success is reported
(B-32); fingerprints are never shortened (B-35).
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol import encryption
from protocol.dsse import PrivateKey, PublicKey, as_private
from protocol.errors import ProtocolError, problem
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = [
    "PrivateKey",
    "PublicKey",
    "fingerprint",
    "generate_key",
    "key_hint",
    "load_private_key",
    "public_der",
    "public_pem",
    "save_private_key",
    "unusable",
]

_MAX_KEY_FILE = 64 << 10
_PEM_START = b"-----BEGIN PRIVATE KEY-----"


def generate_key() -> PrivateKey:
    """Make a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def public_der(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: PublicKey) -> bytes:
    """Return the PEM SubjectPublicKeyInfo of a key."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: PublicKey) -> str:
    """Return ``SHA256:`` and 43 characters, never shortened (B-35)."""
    digest = hashlib.sha256(public_der(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def key_hint(key: PublicKey) -> str:
    """Return the hint by which a signature names its key: hex SHA-256 of the PEM text (B-9)."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def unusable(path: Path | str, detail: str, fix: str = "check which file this is") -> ProtocolError:
    """Return E_KEYFILE about one file, ready to be raised."""
    return problem("E_KEYFILE", detail=f"{path}: {detail}", fix=fix)


def load_private_key(path: Path, passphrase: str | Callable[[], str] | None = None) -> PrivateKey:
    """Read a private key file.

    Args:
        path: PKCS#8 PEM, or an age passphrase file around it; mode 0600.
        passphrase: The passphrase, or what asks for it; called only if needed.

    Raises:
        KeyFileError: E_KEYFILE, open to others, wrong passphrase, not a key.
        UntrustedKeyError: E_KEY_TYPE, a key of another kind.
        StorageError: E_IO, cannot be read.
    """
    data = read_file(path, limit=_MAX_KEY_FILE, private=True)
    if encryption.is_age(data):
        if passphrase is None:
            raise unusable(path, "passphrase needed", "set MDFY_PASSPHRASE or --passphrase-file")
        data = encryption.unlock(data, passphrase if isinstance(passphrase, str) else passphrase())
    return _parse_private_key(data, path)


def _parse_private_key(data: bytes, path: Path) -> PrivateKey:
    if not data.startswith(_PEM_START):  # PBKDF2-protected PEM too (B-32)
        raise unusable(path, "neither PKCS#8 PEM nor an age file")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise unusable(path, "damaged private key") from error
    return as_private(key)


def save_private_key(path: Path, key: PrivateKey, passphrase: str | None, *, overwrite: bool = False) -> None:
    """Write a private key file with mode 0600 and read it back before returning (B-32).

    Args:
        path: Destination; its folder must exist.
        key: A P-256 key.
        passphrase: Protects the file; ``None`` must be the user's explicit wish.
        overwrite: Whether an existing file is replaced.

    Raises:
        StorageError: E_IO, cannot be written, or exists.
        KeyFileError: E_KEYFILE, the passphrase is empty, or what was written
            does not read back.
    """
    data = as_private(key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if passphrase is not None:
        data = encryption.lock(data, passphrase)
    with atomic_writer(path, mode=PRIVATE, overwrite=overwrite) as stream:
        stream.write(data)
        stream.flush()
        written = load_private_key(Path(stream.name), passphrase)
        if public_der(written.public_key()) != public_der(key.public_key()):
            raise unusable(path, "does not read back")
