"""``model.sig``: which members were signed, and by which key (B-9 to B-15).

The record is a sigstore bundle v0.3 around a DSSE envelope around an in-toto
statement, as OpenSSF model signing v1.0 writes it, so that the public
``model_signing`` tool can check an unpacked bundle too. Reading is stricter than
there (B-15): a record is parsed, built again from the few values that may vary,
and refused if the two differ.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, NoReturn, Self

from protocol.canonical import Json, dump_json, parse_json, pick, same_json
from protocol.container import SIGNATURE
from protocol.dsse import Envelope, PrivateKey
from protocol.errors import MalformedBundleError, problem
from protocol.manifest import KINDS, MANIFEST, Kind
from protocol.schema import Count, Hex64, Line, decode
from protocol.signing import key_hint

__all__ = [
    "PAYLOAD_TYPE",
    "Resource",
    "SignatureRecord",
    "Statement",
    "sign_statement",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""DSSE payload type of a signed statement."""

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_HINT = re.compile(r"[0-9a-f]{64}")
_SERIALIZATION: Json = {
    "method": "files",
    "hash_type": "sha256",
    "allow_symlinks": False,
    "ignore_paths": [SIGNATURE],
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One signed member."""

    name: Line
    digest: Hex64
    """SHA-256."""
    size: Count
    """Bytes."""
    crc32: Count
    """As in the archive header, which is thereby signed too (B-12)."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What is signed: the kind of the bundle and its members, sorted by name (B-11)."""

    kind: Kind
    resources: tuple[Resource, ...]

    def to_bytes(self) -> bytes:
        """Return the payload: an in-toto statement."""
        return dump_json(self._to_json())

    def _to_json(self) -> Json:
        digests = b"".join(bytes.fromhex(resource.digest) for resource in self.resources)
        resources: list[Json] = [{"algorithm": "sha256", **vars(resource)} for resource in self.resources]
        return {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": self.kind, "digest": {"sha256": hashlib.sha256(digests).hexdigest()}}],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {
                "serialization": _SERIALIZATION,
                "resources": resources,
                "mdfy": {"format": 1, "kind": self.kind, "manifest": MANIFEST},
            },
        }

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read a payload whose signature was verified, and hold it to the profile.

        Raises:
            VerificationError: E_STATEMENT, any difference from the profile.
        """
        try:
            value = parse_json(payload, member="statement")
            kind = pick(value, "predicate", "mdfy", "kind")
            resources = _read_resources(pick(value, "predicate", "resources"))
        except (LookupError, MalformedBundleError) as error:
            raise problem("E_STATEMENT", detail="B-11", why=f"not a statement: {error}") from error
        if kind not in KINDS:
            _refuse(f"unknown kind {ascii(kind)[:40]}")
        names = [resource.name for resource in resources]
        if names != sorted(set(names)):
            _refuse("resources not sorted, or two with one name")
        statement = cls(kind=kind, resources=resources)
        if not same_json(statement._to_json(), value):
            _refuse("fields differ from the profile")
        return statement


def _refuse(why: str) -> NoReturn:
    raise problem("E_STATEMENT", detail="B-11", why=why)


@dataclass(frozen=True, kw_only=True)
class _SignedResource(Resource):
    """One entry of the statement, which names its algorithm besides."""

    algorithm: Literal["sha256"] = "sha256"


@dataclass(frozen=True, kw_only=True)
class _Resources:
    """The part of the statement that may vary."""

    resources: tuple[_SignedResource, ...]


def _read_resources(value: Json) -> tuple[Resource, ...]:
    signed = decode(_Resources, {"resources": value}, member="statement").resources
    return tuple(Resource(name=item.name, digest=item.digest, size=item.size, crc32=item.crc32) for item in signed)


@dataclass(frozen=True, kw_only=True)
class SignatureRecord:
    """Contents of ``model.sig``; its signature is not checked yet (B-9)."""

    hint: str
    """Hex SHA-256 of the PEM text of the key that is said to have signed."""
    envelope: Envelope

    @property
    def payload_digest(self) -> str:
        """Hex SHA-256 of the signed bytes: the identity of a bundle (B-13)."""
        return hashlib.sha256(self.envelope.payload).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the bytes of ``model.sig``."""
        return dump_json(self._to_json())

    def _to_json(self) -> Json:
        return {
            "mediaType": _MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": self.envelope.to_json(),
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read ``model.sig``.

        Raises:
            VerificationError: E_SIG_FORMAT, not strict JSON, or any field is
                missing, unknown or different from B-9.
        """
        try:
            value = parse_json(data, member=SIGNATURE)
            hint = pick(value, "verificationMaterial", "publicKey", "hint")
            body = pick(value, "dsseEnvelope")
            envelope = Envelope.from_json(body, payload_type=PAYLOAD_TYPE)
        except (LookupError, ValueError, MalformedBundleError) as error:
            raise problem("E_SIG_FORMAT", member=SIGNATURE, detail=str(error)) from error
        record = cls(hint=str(hint), envelope=envelope)
        if not _HINT.fullmatch(record.hint) or not same_json(record._to_json(), value):
            raise problem("E_SIG_FORMAT", member=SIGNATURE, detail="unexpected fields")
        return record


def sign_statement(key: PrivateKey, statement: Statement) -> SignatureRecord:
    """Sign a statement; equal input gives equal bytes (B-10)."""
    envelope = Envelope.signed(PAYLOAD_TYPE, statement.to_bytes(), key)
    return SignatureRecord(hint=key_hint(key.public_key()), envelope=envelope)
