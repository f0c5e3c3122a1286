"""model.sig: fields, profile, and what model_signing would let through (B-9 to B-15)."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from bundlekit import STUDIO_KEY, resources

from protocol.canonical import dump_json
from protocol.dsse import Envelope
from protocol.errors import VerificationError
from protocol.signing import key_hint
from protocol.statement import PAYLOAD_TYPE, SignatureRecord, Statement, sign_statement

MEMBERS = {"manifest.json": b"{}", "w.safetensors": b"w"}
STATEMENT = Statement(kind="style-bundle", resources=resources(MEMBERS))
RECORD = sign_statement(STUDIO_KEY, STATEMENT)


def test_record_round_trip() -> None:
    again = SignatureRecord.from_bytes(RECORD.to_bytes())
    assert again == RECORD
    assert again.hint == key_hint(STUDIO_KEY.public_key())
    assert again.payload_digest == hashlib.sha256(STATEMENT.to_bytes()).hexdigest()
    payload = again.envelope.verify(STUDIO_KEY.public_key())
    assert Statement.from_bytes(payload) == STATEMENT


def test_record_is_as_the_rule_says() -> None:
    value = json.loads(RECORD.to_bytes())
    assert value["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert value["verificationMaterial"] == {"publicKey": {"hint": RECORD.hint}, "tlogEntries": []}
    assert value["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    assert [signature["keyid"] for signature in value["dsseEnvelope"]["signatures"]] == [""]


def test_subject_is_the_digest_of_the_digests() -> None:
    value = json.loads(STATEMENT.to_bytes())
    raw = hashlib.sha256(b"{}").digest() + hashlib.sha256(b"w").digest()  # in listed order
    assert value["subject"] == [{"name": "style-bundle", "digest": {"sha256": hashlib.sha256(raw).hexdigest()}}]


def record(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(RECORD.to_bytes())
    change(value)
    return json.dumps(value).encode()


def test_white_space_and_order_of_the_record_do_not_matter() -> None:
    # B-14: validity does not depend on how the JSON around the payload is written.
    value = json.loads(RECORD.to_bytes())
    assert SignatureRecord.from_bytes(json.dumps(dict(reversed(value.items())), indent=2).encode()) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(extra=1),
        lambda v: v.update(mediaType="application/vnd.dev.sigstore.bundle.v0.1+json"),
        lambda v: v.pop("mediaType"),
        lambda v: v["verificationMaterial"].pop("publicKey"),
        lambda v: v["verificationMaterial"]["publicKey"].pop("hint"),  # B-15: accepted there with a warning
        lambda v: v["verificationMaterial"]["publicKey"].update(hint=""),
        lambda v: v["verificationMaterial"]["publicKey"].update(hint=None),
        lambda v: v["verificationMaterial"]["publicKey"].update(hint=1),
        lambda v: v["verificationMaterial"]["publicKey"].update(rawBytes=""),
        lambda v: v["verificationMaterial"].update(tlogEntries=[{}]),
        lambda v: v["verificationMaterial"].update(tlogEntries=None),
        lambda v: v["dsseEnvelope"]["signatures"].append(dict(v["dsseEnvelope"]["signatures"][0])),  # B-15
        lambda v: v["dsseEnvelope"]["signatures"].clear(),
        lambda v: v["dsseEnvelope"].update(payloadType="application/x"),
        lambda v: v["dsseEnvelope"].update(payload=v["dsseEnvelope"]["payload"] + "\n"),  # B-15
        lambda v: v["dsseEnvelope"].update(payload="!" + v["dsseEnvelope"]["payload"]),  # B-15
        lambda v: v["dsseEnvelope"].pop("payload"),
    ],
)
def test_record_has_exactly_its_fields(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(VerificationError) as caught:
        SignatureRecord.from_bytes(record(change))
    assert caught.value.code == "E_SIG_FORMAT"


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"mediaType":1,"mediaType":2}', b"\xff"])
def test_record_is_strict_json(data: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        SignatureRecord.from_bytes(data)
    assert caught.value.code == "E_SIG_FORMAT"


def payload(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(STATEMENT.to_bytes())
    change(value)
    return json.dumps(value).encode()


def rehash(value: dict[str, Any]) -> None:
    """Make the subject fit the listed resources again, as an attacker with a key would."""
    raw = b"".join(bytes.fromhex(item["digest"]) for item in value["predicate"]["resources"])
    value["subject"][0]["digest"]["sha256"] = hashlib.sha256(raw).hexdigest()


def double(value: dict[str, Any]) -> None:
    value["predicate"]["resources"].insert(0, dict(value["predicate"]["resources"][0]))
    rehash(value)


def unsort(value: dict[str, Any]) -> None:
    value["predicate"]["resources"].reverse()
    rehash(value)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda v: v.update(predicateType="https://model_signing/Digests/v0.1"),  # B-15
        lambda v: v.update(extra=1),
        lambda v: v["subject"].append(v["subject"][0]),
        lambda v: v["subject"][0].update(name="other"),
        lambda v: v["subject"][0]["digest"].update(sha256="0" * 64),
        lambda v: v["subject"][0]["digest"].update(md5="0" * 32),
        lambda v: v["predicate"].pop("mdfy"),  # a plain model_signing signature is no bundle
        lambda v: v["predicate"]["mdfy"].update(kind="firmware"),
        lambda v: v["predicate"]["mdfy"].update(kind=1),
        lambda v: v["predicate"]["mdfy"].update(kind=[]),
        lambda v: v["predicate"]["mdfy"].update(format=2),
        lambda v: v["predicate"]["mdfy"].update(format=True),  # true is not 1
        lambda v: v["predicate"]["mdfy"].update(manifest="other.json"),
        lambda v: v["predicate"].update(extra=1),
        lambda v: v["predicate"]["serialization"].update(ignore_paths=["model.sig", ".git"]),  # B-15
        lambda v: v["predicate"]["serialization"].update(ignore_paths=[]),
        lambda v: v["predicate"]["serialization"].update(allow_symlinks=True),
        lambda v: v["predicate"]["serialization"].update(method="shards"),
        lambda v: v["predicate"]["serialization"].update(hash_type="blake2b"),
        lambda v: v["predicate"].update(resources={}),
        lambda v: v["predicate"]["resources"][0].pop("crc32"),
        lambda v: v["predicate"]["resources"][0].update(size=-1),
        lambda v: v["predicate"]["resources"][0].update(digest="00"),
        lambda v: v["predicate"]["resources"][0].update(algorithm="md5"),
        double,  # B-15: two resources with one name
        unsort,
    ],
)
def test_statement_keeps_its_profile(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(VerificationError) as caught:
        Statement.from_bytes(payload(change))
    assert caught.value.code == "E_STATEMENT"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"predicate":1}', b'{"predicate":{},"predicate":{}}'])
def test_statement_is_strict_json(data: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        Statement.from_bytes(data)
    assert caught.value.code == "E_STATEMENT"


def test_payload_type_separates_documents() -> None:
    # A signature over a key record is no signature over a statement, even of equal bytes.
    data = dump_json({})
    other = Envelope.signed("application/vnd.mdfy.provider-key+json", data, STUDIO_KEY)
    moved = Envelope(payload_type=PAYLOAD_TYPE, payload=data, signatures=other.signatures)
    assert moved.signatures == other.signatures
    with pytest.raises(VerificationError):
        moved.verify(STUDIO_KEY.public_key())
