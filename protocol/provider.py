"""A provider's public key as clients pin it: the ``.mdfykey`` file (B-36 to B-38).

Rules kept here: the file is signed by the key that it holds, and from serial 2 on
by the key before it too, which comes first (B-36). A file alone shows only that
its own key made it; whether the key before endorses it, ``check_endorsement``
tells, which needs that key (B-38).
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from protocol.canonical import Json, dump_json, parse_json
from protocol.dsse import Envelope, PrivateKey, PublicKey, as_private, as_public, decode_base64, encode_base64
from protocol.errors import MalformedBundleError, VerificationError, problem
from protocol.manifest import ProviderInfo
from protocol.schema import Bound, Hex64, Line, Positive, Text, decode, encode
from protocol.signing import fingerprint, key_hint, public_der, unusable
from protocol.storage import atomic_writer, read_file

__all__ = [
    "KEY_PAYLOAD_TYPE",
    "ROLES",
    "KeyRecord",
    "ProviderKey",
    "Role",
    "issue_provider_key",
    "read_provider_key",
    "rotate_provider_key",
    "write_provider_key",
]

Role = Literal["adapter", "style"]
ROLES: tuple[Role, ...] = ("adapter", "style")
"""What a key may sign: ``.mdfa`` or ``.mdfy`` (B-37)."""

KEY_PAYLOAD_TYPE = "application/vnd.mdfy.provider-key+json"
"""DSSE payload type of a ``.mdfykey`` file."""

_MAX_KEY_FILE = 64 << 10
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


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

        Of a rotated key only its own signature is checked; see ``check_endorsement``.

        Raises:
            KeyFileError: E_KEYFILE, not the format, or not what its owner signed.
            UntrustedKeyError: E_KEY_TYPE, the key is not P-256.
            VerificationError: E_SIG_BAD, not signed by itself.
        """
        with _malformed_key(source):
            envelope = Envelope.from_json(value, payload_type=KEY_PAYLOAD_TYPE, most=2)
            # The key stands inside what it signs, so this one payload is parsed
            # before its signature is checked; nothing of it is used until then.
            record = decode(KeyRecord, parse_json(envelope.payload), member=source)
            parsed = serialization.load_der_public_key(decode_base64(record.spki))
        key = as_public(parsed)
        envelope.verify(key)
        _check_record(record, key, source)
        if len(envelope.signatures) != min(record.serial, 2):
            raise unusable(source, "has not the signatures that its serial asks for")
        return cls(**vars(record), public_key=key, envelope=envelope)

    def check_endorsement(self, previous: "ProviderKey") -> None:
        """Check that ``previous`` makes this key its successor (B-36, B-38).

        Raises:
            UntrustedKeyError: E_KEY_CHAIN, it is of another provider, not the next
                serial, names another key before it, is for other roles, begins
                outside the life of ``previous``, or is not signed by it.
        """
        why = self._breaks_chain(previous)
        if why:
            raise problem("E_KEY_CHAIN", why=why, expected=previous.fingerprint, got=self.previous or None)
        if not self.is_endorsed_by(previous.public_key):
            why = "the key before it did not sign it"
            raise problem("E_KEY_CHAIN", why=why, expected=previous.fingerprint)

    def is_endorsed_by(self, key: PublicKey) -> bool:
        """Tell whether ``key`` signed this record; whether it may follow that key, ``check_endorsement`` tells."""
        try:
            self.envelope.verify(key, index=0)
        except VerificationError:
            return False
        return True

    def _breaks_chain(self, previous: "ProviderKey") -> str:
        """Return why this record cannot follow ``previous``; empty if it can."""
        if self.provider_id != previous.provider_id:
            return "it is a key of another provider"
        if self.serial != previous.serial + 1:
            return f"it has serial {self.serial}, and only {previous.serial + 1} can follow"
        if self.previous != previous.fingerprint:
            return "it names another key as the one before it"
        if self.roles != previous.roles:
            return "it is for other purposes than the key before it"
        if not previous.not_before <= self.not_before < previous.expires:
            return "its life does not begin within that of the key before it"
        return ""


@contextlib.contextmanager
def _malformed_key(source: str) -> Iterator[None]:
    try:
        yield
    except (MalformedBundleError, ValueError, UnsupportedAlgorithm) as error:
        raise unusable(source, f"not a provider key: {error}") from error


def _check_record(record: KeyRecord, key: PublicKey, source: str) -> None:
    """Refuse a record that contradicts itself although its signature is right."""
    der = public_der(key)
    first = record.provider_id == hashlib.sha256(der).hexdigest()
    consistent = (
        record.spki == encode_base64(der)
        and first == (record.serial == 1)
        and _names_predecessor(record, fingerprint(key))
        and record.roles in {("adapter",), ("style",), ROLES}
        and record.not_before < record.expires
    )
    if not consistent:
        raise unusable(source, "contradicts itself", "ask the provider for a new key file")


def _names_predecessor(record: KeyRecord, own: str) -> bool:
    """Tell whether ``previous`` is as the serial wants it: nothing, or a key other than this one."""
    if record.serial == 1:
        return not record.previous
    return record.previous != own and _FINGERPRINT.fullmatch(record.previous) is not None


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
    return _signed(record, key)


def rotate_provider_key(
    old: PrivateKey,
    previous: ProviderKey,
    new: PrivateKey,
    *,
    not_before: datetime,
    expires: datetime,
    name: str | None = None,
    contact: str | None = None,
) -> ProviderKey:
    """Make the record of the key after ``previous``, signed by both keys (B-36).

    Args:
        old: The private key of ``previous``.
        previous: The provider's current key; identity and roles are taken over.
        new: The private key that follows.
        not_before: Start of its life, within that of ``previous``; whole seconds,
            with time zone. From here on ``previous`` is retired (B-39).
        expires: End of its life.
        name: A new name; that of ``previous`` when omitted.
        contact: A new way to reach the provider; that of ``previous`` when omitted.

    Raises:
        KeyFileError: E_KEYFILE, a field breaks the schema or contradicts another.
        UntrustedKeyError: E_KEY_CHAIN, ``old`` is not the key of ``previous``, or
            the new life does not begin within that of ``previous``.
    """
    record = KeyRecord(
        provider_id=previous.provider_id,
        name=previous.name if name is None else name,
        contact=previous.contact if contact is None else contact,
        serial=previous.serial + 1,
        spki=encode_base64(public_der(as_private(new).public_key())),
        not_before=not_before,
        expires=expires,
        previous=previous.fingerprint,
        roles=previous.roles,
    )
    provider = _signed(record, old, new)
    provider.check_endorsement(previous)
    return provider


def _signed(record: KeyRecord, *keys: PrivateKey) -> ProviderKey:
    """Sign a new record and read it back."""
    with _malformed_key("new key"):
        envelope = Envelope.signed(KEY_PAYLOAD_TYPE, dump_json(encode(record)), *keys)
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
        VerificationError: E_SIG_BAD, not signed by itself.
        StorageError: E_IO, cannot be read.
    """
    data = read_file(path, limit=_MAX_KEY_FILE)
    with _malformed_key(str(path)):
        value = parse_json(data, member=path.name)
    return ProviderKey.from_json(value, source=str(path))
