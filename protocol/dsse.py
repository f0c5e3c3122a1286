"""Signatures over the pre-authentication encoding (B-10, B-13 to B-15, B-24).

Rules kept here: one algorithm only, ECDSA on P-256 with SHA-256, made with
RFC 6979 so that equal input gives equal bytes (B-10); what is signed is the DSSE
encoding of raw bytes, and they are checked before they are parsed (B-14); base64
must encode back to the same text (B-24); an envelope holds no field besides those
named here, and exactly one signature unless its reader expects more (B-9, B-15):
only a rotated provider key has two (B-36).
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Self, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from protocol.canonical import Json, pick, same_json
from protocol.errors import problem

__all__ = [
    "Envelope",
    "PrivateKey",
    "PublicKey",
    "as_private",
    "as_public",
    "decode_base64",
    "encode_base64",
    "pae",
    "sign",
    "verify_signature",
]

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE v1 pre-authentication encoding: what is really signed (B-10)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def as_public(key: object) -> PublicKey:
    """Return ``key`` if it is a P-256 public key.

    Raises:
        UntrustedKeyError: E_KEY_TYPE, it is another kind of key.
    """
    if isinstance(key, PublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise problem("E_KEY_TYPE", expected="ECDSA P-256", got=type(key).__name__)


def as_private(key: object) -> PrivateKey:
    """Return ``key`` if it is a P-256 private key.

    Raises:
        UntrustedKeyError: E_KEY_TYPE, it is another kind of key.
    """
    if isinstance(key, PrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise problem("E_KEY_TYPE", expected="ECDSA P-256", got=type(key).__name__)


def sign(key: PrivateKey, payload_type: str, payload: bytes) -> bytes:
    """Sign the encoding of ``payload``; deterministic (RFC 6979).

    Returns:
        The signature as DER.
    """
    algorithm = ec.ECDSA(SHA256(), deterministic_signing=True)
    return as_private(key).sign(pae(payload_type, payload), algorithm)


def verify_signature(key: PublicKey, payload_type: str, payload: bytes, signature: bytes) -> None:
    """Check a signature; both ``(r, s)`` and ``(r, n - s)`` are valid (B-13).

    Raises:
        VerificationError: E_SIG_BAD.
        UntrustedKeyError: E_KEY_TYPE, the key is not P-256.
    """
    try:
        as_public(key).verify(signature, pae(payload_type, payload), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise problem("E_SIG_BAD") from error


def encode_base64(data: bytes) -> str:
    """Encode without line breaks, with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: Json) -> bytes:
    """Decode base64 that encodes back to the same text (B-24).

    Raises:
        ValueError: it does not, or ``text`` is no text.
    """
    if not isinstance(text, str):
        message = "not a text"
        raise ValueError(message)  # noqa: TRY004 - one kind of error for one kind of defect
    data = binascii.a2b_base64(text.encode("ascii"))
    if encode_base64(data) != text:
        message = "not canonical base64"
        raise ValueError(message)
    return data


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A DSSE envelope whose signatures have empty key ids."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]
    """DER; not checked yet."""

    @classmethod
    def signed(cls, payload_type: str, payload: bytes, *keys: PrivateKey) -> Self:
        """Sign ``payload`` with each key, in that order."""
        signatures = tuple(sign(key, payload_type, payload) for key in keys)
        return cls(payload_type=payload_type, payload=payload, signatures=signatures)

    @classmethod
    def from_json(cls, value: Json, *, payload_type: str, most: int = 1) -> Self:
        """Read an envelope of one payload type.

        Args:
            value: The envelope as JSON.
            payload_type: What it must be.
            most: Most signatures to accept; there is at least one.

        Raises:
            ValueError: a field is missing, unknown or different, there are more
                signatures, or base64 is not canonical (B-15, B-24).
        """
        try:
            payload = decode_base64(pick(value, "payload"))
            listed = pick(value, "signatures")
            entries = listed[:most] if isinstance(listed, list) and listed else [None]
            signatures = tuple(decode_base64(pick(entry, "sig")) for entry in entries)
        except LookupError as error:
            message = "envelope lacks payload or signature"
            raise ValueError(message) from error
        envelope = cls(payload_type=payload_type, payload=payload, signatures=signatures)
        if not same_json(envelope.to_json(), value):
            message = "envelope has other fields than it should"
            raise ValueError(message)
        return envelope

    def to_json(self) -> Json:
        """Return the envelope as JSON."""
        return {
            "payload": encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": "", "sig": encode_base64(signature)} for signature in self.signatures],
        }

    def verify(self, key: PublicKey, *, index: int = -1) -> bytes:
        """Check one signature and only then hand out the payload (B-14).

        Args:
            key: Whose signature it must be.
            index: Place of the signature; the last one when omitted.

        Raises:
            VerificationError: E_SIG_BAD.
        """
        verify_signature(key, self.payload_type, self.payload, self.signatures[index])
        return self.payload
