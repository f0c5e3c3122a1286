"""Keys and key files (B-32, B-35 to B-37).

Rules kept here: a private key file is PKCS#8 PEM, bare or inside an age
passphrase file, has mode 0600, and is read back before success is reported
(B-32); fingerprints are never shortened (B-35); a provider's public key travels
as a ``.mdfykey`` file that it signed itself (B-36). Rotation, that is serial 2
and later, and revocation (B-38 to B-41) are not built yet: such files are refused.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol import encryption
from protocol.canonical import Json, dump_json, parse_json
from protocol.dsse import (
    Envelope,
    PrivateKey,
    PublicKey,
    as_private,
    as_public,
    decode_base64,
    encode_base64,
)
from protocol.errors import MalformedBundleError, problem
from protocol.manifest import ProviderInfo
from protocol.schema import Bound, Hex64, Line, Positive, Text, decode, encode
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = [
    "KEY_PAYLOAD_TYPE",
    "ROLES",
    "KeyRecord",
    "PrivateKey",
    "ProviderKey",
    "PublicKey",
    "Role",
    "fingerprint",
    "generate_key",
    "issue_provider_key",
    "key_hint",
    "load_private_key",
    "public_der",
    "public_pem",
    "read_provider_key",
    "save_private_key",
    "write_provider_key",
]

Role = Literal["adapter", "style"]
ROLES: tuple[Role, ...] = ("adapter", "style")
"""What a key may sign: ``.mdfa`` or ``.mdfy`` (B-37)."""

KEY_PAYLOAD_TYPE = "application/vnd.mdfy.provider-key+json"
"""DSSE payload type of a ``.mdfykey`` file."""

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


def _unusable(path: Path | str, detail: str, fix: str = "check which file this is") -> Exception:
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
            raise _unusable(path, "passphrase needed", "set MDFY_PASSPHRASE or --passphrase-file")
        data = encryption.unlock(data, passphrase if isinstance(passphrase, str) else passphrase())
    return _parse_private_key(data, path)


def _parse_private_key(data: bytes, path: Path) -> PrivateKey:
    if not data.startswith(_PEM_START):  # PBKDF2-protected PEM too (B-32)
        raise _unusable(path, "neither PKCS#8 PEM nor an age file")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "damaged private key") from error
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
            raise _unusable(path, "does not read back")


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """Signed contents of a ``.mdfykey`` file (B-36)."""

    format: Literal["mdfykey/1"] = "mdfykey/1"
    provider_id: Hex64
    """SHA-256 of the DER form of the provider's first key; never changes."""
    name: Line
    contact: Annotated[str, Bound(longest=200)]
    serial: Positive
    spki: Text
    """DER form of the public key, base64."""
    not_before: datetime
    expires: datetime
    previous: Text = ""
    """Fingerprint of the key before this one; empty for serial 1."""
    roles: tuple[Role, ...]
    """What the key may sign, sorted (B-37)."""


@dataclass(frozen=True, kw_only=True)
class ProviderKey(KeyRecord):
    """A provider's public key and what its owner says about it, checked (B-36)."""

    public_key: PublicKey = field(repr=False, compare=False)
    envelope: Envelope = field(repr=False, compare=False)
    """The signed record as it came; it is what gets written and stored."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the public key."""
        return fingerprint(self.public_key)

    @property
    def hint(self) -> str:
        """Hint by which signatures name this key."""
        return key_hint(self.public_key)

    def info(self, url: str | None = None) -> ProviderInfo:
        """Return the ``provider`` block of a manifest signed with this key."""
        return ProviderInfo(id=self.provider_id, name=self.name, contact=self.contact, url=url)

    @classmethod
    def from_json(cls, value: Json, *, source: str) -> Self:
        """Read and check the contents of a ``.mdfykey`` file.

        Raises:
            KeyFileError: E_KEYFILE, not the format, or not what its owner signed.
            UnsupportedVersionError: E_VERSION, a rotated key; rotation is not built yet.
            UntrustedKeyError: E_KEY_TYPE, the key is not P-256.
            VerificationError: E_SIG_BAD, not signed by itself.
        """
        with _malformed_key(source):
            envelope = Envelope.from_json(value, payload_type=KEY_PAYLOAD_TYPE)
            # The key stands inside what it signs, so this one payload is parsed
            # before its signature is checked; nothing of it is used until then.
            record = decode(KeyRecord, parse_json(envelope.payload), member=source)
            parsed = serialization.load_der_public_key(decode_base64(record.spki))
        if record.serial != 1:
            raise problem("E_VERSION", member=source, got=f"key serial {record.serial}")
        key = as_public(parsed)
        envelope.verify(key)
        _check_record(record, public_der(key), source)
        return cls(**vars(record), public_key=key, envelope=envelope)


@contextlib.contextmanager
def _malformed_key(source: str) -> Iterator[None]:
    try:
        yield
    except (MalformedBundleError, ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(source, f"not a provider key: {error}") from error


def _check_record(record: KeyRecord, der: bytes, source: str) -> None:
    """Refuse a record that contradicts itself although its signature is right."""
    consistent = (
        record.spki == encode_base64(der)
        and record.provider_id == hashlib.sha256(der).hexdigest()
        and not record.previous
        and record.roles in {("adapter",), ("style",), ROLES}
        and record.not_before < record.expires
    )
    if not consistent:
        raise _unusable(source, "contradicts itself", "ask the provider for a new key file")


def issue_provider_key(
    key: PrivateKey,
    *,
    name: str,
    contact: str = "",
    roles: tuple[Role, ...],
    not_before: datetime,
    expires: datetime,
) -> ProviderKey:
    """Make the public key record of a new provider, signed by itself; serial 1 (B-36).

    Args:
        key: The provider's private key.
        name: 1 to 200 characters.
        contact: How to reach the provider; the only place for an e-mail address.
        roles: What the key may sign.
        not_before: Start of its life; whole seconds, with time zone.
        expires: End of its life.

    Raises:
        KeyFileError: E_KEYFILE, a field breaks the schema or contradicts another.
    """
    der = public_der(as_private(key).public_key())
    record = KeyRecord(
        provider_id=hashlib.sha256(der).hexdigest(),
        name=name,
        contact=contact,
        serial=1,
        spki=encode_base64(der),
        not_before=not_before,
        expires=expires,
        roles=tuple(sorted(set(roles))),
    )
    with _malformed_key("new key"):
        envelope = Envelope.signed(key, KEY_PAYLOAD_TYPE, dump_json(encode(record)))
    return ProviderKey.from_json(envelope.to_json(), source="new key")


def write_provider_key(path: Path, provider: ProviderKey, *, overwrite: bool = False) -> None:
    """Write a ``.mdfykey`` file.

    Raises:
        StorageError: E_IO, cannot be written, or exists.
    """
    with atomic_writer(path, overwrite=overwrite) as stream:
        stream.write(dump_json(provider.envelope.to_json()) + b"\n")


def read_provider_key(path: Path) -> ProviderKey:
    """Read and check a ``.mdfykey`` file; this does not make it trusted.

    Raises:
        KeyFileError: E_KEYFILE, not the format, or it contradicts itself.
        UnsupportedVersionError: E_VERSION, a rotated key; rotation is not built yet.
        VerificationError: E_SIG_BAD, not signed by itself.
        StorageError: E_IO, cannot be read.
    """
    data = read_file(path, limit=_MAX_KEY_FILE)
    with _malformed_key(str(path)):
        value = parse_json(data, member=path.name)
    return ProviderKey.from_json(value, source=str(path))
