"""What a provider takes back: the ``.mdfyrev`` file (B-40, B-41).

Rules kept here: a file is only a claim until one of the provider's keys verifies
it, and ``SignedRevocation.open`` is the only way from the one to the other;
number 0 is a key that revokes itself, and nothing else; lists have numbers from
1, and each contains all of the one before it (B-40). Which list is the newest,
and whether its signer may still speak, is for the trust store to say.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from protocol.canonical import Json, dump_json, parse_json
from protocol.dsse import Envelope, PrivateKey
from protocol.errors import MalformedBundleError, VerificationError, problem
from protocol.provider import ProviderKey
from protocol.schema import Count, Hex64, Line, Positive, decode, encode
from protocol.signing import unusable
from protocol.storage import PRIVATE, PUBLIC, atomic_writer, read_file

__all__ = [
    "MAX_REVOCATION",
    "REVOCATION_PAYLOAD_TYPE",
    "REVOCATION_SUFFIX",
    "Revocation",
    "RevocationRecord",
    "SignedRevocation",
    "extend_revocation",
    "issue_revocation",
    "read_revocation",
    "self_revocation",
    "write_revocation",
]

MAX_REVOCATION = 256 << 10
"""Most bytes of a file; room for about a thousand entries."""
REVOCATION_PAYLOAD_TYPE = "application/vnd.mdfy.revocation+json"
"""DSSE payload type of a ``.mdfyrev`` file."""
REVOCATION_SUFFIX = ".mdfyrev"
"""Suffix of the file."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class RevocationRecord:
    """Signed contents of a ``.mdfyrev`` file (B-40)."""

    format: Literal["mdfyrev/1"] = "mdfyrev/1"
    provider_id: Hex64
    number: Count
    """0: a key revokes itself. From 1: lists, the higher number is the newer one."""
    issued: datetime
    next_update: datetime | None = None
    """When the provider will have issued another list; later than that, clients warn (B-41)."""
    keys: Mapping[str, Line]
    """Fingerprint of each revoked key, and why."""
    bundles: Mapping[str, Line]
    """Payload digest of each revoked bundle, and why."""
    min_sequence: Mapping[str, Positive]
    """Bundle id, and the lowest sequence of it that may still be used (B-42)."""


@dataclass(frozen=True, kw_only=True)
class SignedRevocation:
    """A ``.mdfyrev`` file as it came: what it says, not whether it is true."""

    envelope: Envelope
    provider_id: str
    """Whose it claims to be; tells whose keys can open it."""
    number: int
    """The number it claims."""

    @classmethod
    def from_json(cls, value: Json, *, source: str) -> Self:
        """Read an envelope; its signature is checked by ``open`` only.

        Raises:
            KeyFileError: E_KEYFILE, not the format.
        """
        with _malformed(source):
            envelope = Envelope.from_json(value, payload_type=REVOCATION_PAYLOAD_TYPE)
        # Who is said to have signed stands inside what is signed, so it is read
        # before the signature is checked; nothing but these two values is kept.
        record = _read_record(envelope.payload, source)
        return cls(envelope=envelope, provider_id=record.provider_id, number=record.number)

    @classmethod
    def from_text(cls, text: str, *, source: str) -> Self:
        """Read what ``to_text`` wrote.

        Raises:
            KeyFileError: E_KEYFILE, not the format.
        """
        with _malformed(source):
            value = parse_json(text.encode("utf-8"), limit=MAX_REVOCATION - 1, member=source)  # a file ends its line
        return cls.from_json(value, source=source)

    def to_text(self) -> str:
        """Return the document, without a line break at its end."""
        return dump_json(self.envelope.to_json()).decode("utf-8")

    def open(self, keys: Sequence[ProviderKey]) -> "Revocation":
        """Check the signature and only then hand out the record (B-14).

        Args:
            keys: The keys of the provider that may have signed; those of other
                providers are passed over.

        Raises:
            VerificationError: E_SIG_BAD, signed by none of ``keys``.
            KeyFileError: E_KEYFILE, number 0 with more in it than the key itself.
        """
        for signer in keys:
            if signer.provider_id == self.provider_id and self._signed_by(signer):
                record = _read_record(self.envelope.payload, "revocation")
                _check_self_revocation(record, signer)
                return Revocation(**vars(record), signer=signer, signed=self)
        raise problem(
            "E_SIG_BAD",
            why="the revocation is signed by none of the keys that are known of its provider",
            fix="if the provider has a newer key, take its .mdfykey file first, with content-client trust update FILE",
        )

    def _signed_by(self, signer: ProviderKey) -> bool:
        try:
            self.envelope.verify(signer.public_key)
        except VerificationError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Revocation(RevocationRecord):
    """A revocation whose signature was verified; two with equal contents are equal."""

    signer: ProviderKey = field(repr=False, compare=False)
    """The key that signed it."""
    signed: SignedRevocation = field(repr=False, compare=False)
    """The file; it is what gets written and stored."""

    def contains(self, earlier: "Revocation") -> bool:
        """Tell whether all of ``earlier`` still holds; reasons may be worded anew (B-40)."""
        return (
            self.provider_id == earlier.provider_id
            and self.keys.keys() >= earlier.keys.keys()
            and self.bundles.keys() >= earlier.bundles.keys()
            and all(self.min_sequence.get(bundle, 0) >= floor for bundle, floor in earlier.min_sequence.items())
        )


@contextlib.contextmanager
def _malformed(source: str) -> Iterator[None]:
    try:
        yield
    except (MalformedBundleError, ValueError) as error:
        raise unusable(source, f"not a revocation: {error}") from error


def _read_record(payload: bytes, source: str) -> RevocationRecord:
    with _malformed(source):
        record = decode(RevocationRecord, parse_json(payload, limit=MAX_REVOCATION), member=source)
    consistent = (
        all(map(_FINGERPRINT.fullmatch, record.keys))
        and all(map(_DIGEST.fullmatch, record.bundles))
        and all(map(_UUID.fullmatch, record.min_sequence))
        and (record.next_update is None or record.next_update > record.issued)
    )
    if not consistent:
        raise unusable(source, "contradicts itself", "ask the provider for a new file")
    return record


def _check_self_revocation(record: RevocationRecord, signer: ProviderKey) -> None:
    """Hold number 0 to the one thing that any key may say: that it is revoked itself."""
    beyond = record.bundles or record.min_sequence or record.next_update
    if record.number == 0 and (beyond or list(record.keys) != [signer.fingerprint]):
        raise unusable("revocation", "number 0 may name its own key only", "ask the provider for a new file")


def issue_revocation(
    key: PrivateKey,
    provider: ProviderKey,
    *,
    number: int,
    issued: datetime,
    next_update: datetime | None = None,
    keys: Mapping[str, str] | None = None,
    bundles: Mapping[str, str] | None = None,
    min_sequence: Mapping[str, int] | None = None,
) -> Revocation:
    """Sign a revocation, whatever was issued before (B-40).

    Args:
        key: The private key of ``provider``.
        provider: The provider's current key.
        number: 0 for a key that revokes itself; else higher than that of every list before.
        issued: Now; whole seconds, with time zone.
        next_update: When there will be another list at the latest.
        keys: Fingerprints of revoked keys, with reasons.
        bundles: Payload digests of revoked bundles, with reasons.
        min_sequence: Bundle ids, with the lowest sequence that may still be used.

    Raises:
        KeyFileError: E_KEYFILE, a field breaks the schema, number 0 is not what it
            must be, or the file would be longer than ``MAX_REVOCATION``.
        VerificationError: E_SIG_BAD, ``key`` is not the key of ``provider``.
    """
    record = RevocationRecord(
        provider_id=provider.provider_id,
        number=number,
        issued=issued,
        next_update=next_update,
        keys=dict(keys or {}),
        bundles=dict(bundles or {}),
        min_sequence=dict(min_sequence or {}),
    )
    with _malformed("new revocation"):
        envelope = Envelope.signed(REVOCATION_PAYLOAD_TYPE, dump_json(encode(record)), key)
        text = dump_json(envelope.to_json()).decode("utf-8")
    return SignedRevocation.from_text(text, source="new revocation").open([provider])


def self_revocation(key: PrivateKey, provider: ProviderKey, *, reason: str, issued: datetime) -> Revocation:
    """Let a key revoke itself for good: number 0 (B-40, B-41).

    Raises:
        KeyFileError: E_KEYFILE, the reason breaks the schema.
        VerificationError: E_SIG_BAD, ``key`` is not the key of ``provider``.
    """
    return issue_revocation(key, provider, number=0, issued=issued, keys={provider.fingerprint: reason})


def extend_revocation(
    key: PrivateKey,
    provider: ProviderKey,
    earlier: Revocation | None,
    *,
    issued: datetime,
    next_update: datetime | None = None,
    keys: Mapping[str, str] | None = None,
    bundles: Mapping[str, str] | None = None,
    min_sequence: Mapping[str, int] | None = None,
) -> Revocation:
    """Issue the list after ``earlier``: all that it says, and what is given here (B-40).

    Args:
        key: The private key of ``provider``.
        provider: The provider's current key.
        earlier: The newest list so far; ``None`` if this is the first.
        issued: Now; whole seconds, with time zone.
        next_update: When there will be another list at the latest.
        keys: As for ``issue_revocation``; a new reason replaces the old one.
        bundles: The same.
        min_sequence: The same; a lower floor than the earlier one changes nothing.

    Raises:
        KeyFileError: E_KEYFILE, ``earlier`` is no list of this provider, a field
            breaks the schema, or the list would become too long.
        VerificationError: E_SIG_BAD, ``key`` is not the key of ``provider``.
    """
    if earlier and (earlier.number == 0 or earlier.provider_id != provider.provider_id):
        raise unusable("earlier revocation", "no list of this provider")
    floors = dict(earlier.min_sequence) if earlier else {}
    for bundle, floor in (min_sequence or {}).items():
        floors[bundle] = max(floor, floors.get(bundle, floor))
    return issue_revocation(
        key,
        provider,
        number=earlier.number + 1 if earlier else 1,
        issued=issued,
        next_update=next_update,
        keys={**(earlier.keys if earlier else {}), **(keys or {})},
        bundles={**(earlier.bundles if earlier else {}), **(bundles or {})},
        min_sequence=floors,
    )


def write_revocation(path: Path, revocation: Revocation, *, overwrite: bool = False, private: bool = False) -> None:
    """Write a ``.mdfyrev`` file.

    Args:
        path: Destination; its folder must exist.
        revocation: What to write.
        overwrite: Whether an existing file is replaced.
        private: Give the file mode 0600: a self-revocation that waits for its day
            must not reach anyone before (B-41).

    Raises:
        StorageError: E_IO, cannot be written, or exists.
    """
    with atomic_writer(path, mode=PRIVATE if private else PUBLIC, overwrite=overwrite) as stream:
        stream.write(revocation.signed.to_text().encode("utf-8") + b"\n")


def read_revocation(path: Path) -> SignedRevocation:
    """Read a ``.mdfyrev`` file; its signature is checked by ``open`` only.

    Raises:
        KeyFileError: E_KEYFILE, not the format.
        StorageError: E_IO, cannot be read.
    """
    data = read_file(path, limit=MAX_REVOCATION)
    with _malformed(str(path)):
        value = parse_json(data, limit=MAX_REVOCATION, member=path.name)
    return SignedRevocation.from_json(value, source=str(path))
