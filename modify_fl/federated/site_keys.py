"""The key by which a site proves to the coordinator who it is; only its public half leaves (F-25).

ECDSA over secp384r1 in OpenSSH's format: what a SuperNode reads. It signs nothing
but the site's requests, and opens nothing.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from protocol.errors import KeyFileError
from protocol.storage import PRIVATE, PUBLIC, atomic_writer, read_file

__all__ = ["SITE_KEY", "SITE_PUBLIC", "check_pair", "make_site_key", "read_public"]

SITE_KEY = "site"
"""Private half, in the site's folder."""
SITE_PUBLIC = "site.pub"
"""Public half, for the coordinator."""

_SMALL = 1 << 12


def make_site_key(folder: Path, name: str) -> None:
    """Make a key pair in ``folder``; the name stands in the public file.

    Raises:
        StorageError: A file exists or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    with atomic_writer(folder / SITE_KEY, mode=PRIVATE) as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with atomic_writer(folder / SITE_PUBLIC, mode=PUBLIC) as stream:
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        stream.write(line + f" {name}\n".encode())


def read_public(path: Path) -> tuple[bytes, str]:
    """Read a site's public key.

    Returns:
        The key as a SuperLink takes it (PEM), and the name in its file.

    Raises:
        KeyFileError: It is no such key.
        StorageError: It cannot be read.
    """
    data = read_file(path, limit=_SMALL)
    try:
        key = load_ssh_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "it is not one in OpenSSH's format") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _no_key(path, "it is of another kind than content-client federate enroll makes")
    words = data.decode("ascii", "replace").split(maxsplit=2)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "".join(words[2:]).strip()


def check_pair(folder: Path) -> None:
    """Refuse a folder whose key is missing, open to others or damaged.

    Raises:
        KeyFileError: It is.
        StorageError: It cannot be read.
    """
    path = folder / SITE_KEY
    data = read_file(path, limit=_SMALL, private=True)
    try:
        key = load_ssh_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "it is damaged") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _no_key(path, "it is of another kind than content-client federate enroll makes")


def _no_key(path: Path, why: str) -> KeyFileError:
    return KeyFileError(f"{path} is no key of a site", why=why, fix="run content-client federate enroll")
