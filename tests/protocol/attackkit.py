"""Tools of an attacker: foreign archives, forged records, and what must not change."""

import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from bundlekit import CREATED, OTHER_KEY, STUDIO, STUDIO_KEY
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from protocol.container import SIGNATURE
from protocol.dsse import Envelope
from protocol.provider import ProviderKey, rotate_provider_key
from protocol.signing import PrivateKey
from protocol.statement import PAYLOAD_TYPE, SignatureRecord

Edit = Callable[[dict[str, bytes]], object]

NEXT_KEY = ec.derive_private_key(0x5D11, ec.SECP256R1())
ROTATED = CREATED + timedelta(days=90)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its contents."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def foreign_zip(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, mode: int = 0o100644) -> bytes:
    """Return an archive as an attacker's own tool writes it, canonical wherever it can be."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, compression
            archive.writestr(info, data)
    return stream.getvalue()


def edit_record(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Return an edit of ``model.sig`` that leaves what was signed as it is."""

    def edit(members: dict[str, bytes]) -> None:
        value = json.loads(members[SIGNATURE])
        change(value)
        members[SIGNATURE] = json.dumps(value).encode()

    return edit


def edit_payload(change: Callable[[dict[str, Any]], object], key: PrivateKey = STUDIO_KEY) -> Edit:
    """Return an edit of the statement, signed as the owner of ``key`` could."""

    def edit(members: dict[str, bytes]) -> None:
        record = SignatureRecord.from_bytes(members[SIGNATURE])
        value = json.loads(record.envelope.payload)
        change(value)
        sign_payload(members, json.dumps(value).encode(), key)

    return edit


def sign_payload(members: dict[str, bytes], payload: bytes, key: PrivateKey = STUDIO_KEY) -> None:
    """Put a genuine signature over any payload in place."""
    record = SignatureRecord.from_bytes(members[SIGNATURE])
    envelope = Envelope.signed(PAYLOAD_TYPE, payload, key)
    members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()


def put_signature(members: dict[str, bytes], signature: bytes) -> None:
    """Replace the signature and keep what it is said to be over."""
    record = SignatureRecord.from_bytes(members[SIGNATURE])
    envelope = Envelope(payload_type=PAYLOAD_TYPE, payload=record.envelope.payload, signatures=(signature,))
    members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()


def next_key(
    *, old: PrivateKey = STUDIO_KEY, previous: ProviderKey = STUDIO, new: PrivateKey = NEXT_KEY
) -> ProviderKey:
    """Return the studio's second key, valid from ``ROTATED``."""
    return rotate_provider_key(old, previous, new, not_before=ROTATED, expires=ROTATED + timedelta(days=730))


def forked_key() -> ProviderKey:
    """Return another second key, endorsed by the same first one: a fork."""
    return next_key(new=OTHER_KEY)


# What model_signing 1.1.1 accepts and the verifier must not (B-15) ---------------------


def old_encoding(members: dict[str, bytes]) -> None:
    """Sign what version 0.2 of the tool signed by mistake: the payload as Python shows bytes."""
    payload = SignatureRecord.from_bytes(members[SIGNATURE]).envelope.payload
    encoded = f"DSSEV1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} {payload!r}".encode()
    put_signature(members, STUDIO_KEY.sign(encoded, ec.ECDSA(SHA256())))


def double_key(members: dict[str, bytes]) -> None:
    text = members[SIGNATURE].decode()
    members[SIGNATURE] = ('{"mediaType":"x",' + text[1:]).encode()


def double_resource(value: dict[str, Any]) -> None:
    listed = value["predicate"]["resources"]
    listed.append(dict(listed[0]))
    raw = b"".join(bytes.fromhex(item["digest"]) for item in listed)
    value["subject"][0]["digest"]["sha256"] = sha256(raw).hexdigest()


def old_predicate(value: dict[str, Any]) -> None:
    """Say it as version 0.2 did: files are subjects, and nothing tells how they were hashed."""
    listed = value["predicate"]["resources"]
    value["subject"] = [{"name": item["name"], "digest": {"sha256": item["digest"]}} for item in listed]
    value.update(predicateType="https://model_signing/Digests/v0.1", predicate={"unused": "x"})


def broken_base64(value: dict[str, object]) -> None:
    envelope = value["dsseEnvelope"]
    envelope["payload"] = envelope["payload"][:76] + "\n" + envelope["payload"][76:]  # type: ignore[index]


LENIENT: dict[str, tuple[Edit, str]] = {
    "missing hint": (
        edit_record(lambda value: value["verificationMaterial"]["publicKey"].pop("hint")),
        "E_SIG_FORMAT",
    ),
    "second signature": (
        edit_record(lambda value: value["dsseEnvelope"].update(signatures=value["dsseEnvelope"]["signatures"] * 2)),
        "E_SIG_FORMAT",
    ),
    "two resources with one name": (edit_payload(double_resource), "E_STATEMENT"),
    "wider ignore_paths": (
        edit_payload(lambda value: value["predicate"]["serialization"]["ignore_paths"].append("extra.json")),
        "E_STATEMENT",
    ),
    "duplicate JSON keys": (double_key, "E_SIG_FORMAT"),
    "base64 with line breaks": (edit_record(broken_base64), "E_SIG_FORMAT"),
    "old encoding": (old_encoding, "E_SIG_BAD"),
    "old predicate": (edit_payload(old_predicate), "E_STATEMENT"),
}
"""Edits of a bundle, and the code with which it is refused."""
