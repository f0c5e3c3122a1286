"""Signatures over the pre-authentication encoding (B-10, B-13, B-15, B-24)."""

import base64
import json
from pathlib import Path

import pytest
from bundlekit import OTHER_KEY, STUDIO_KEY
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from protocol.canonical import Json
from protocol.dsse import Envelope, as_private, as_public, decode_base64, encode_base64, pae, sign, verify_signature
from protocol.errors import UntrustedKeyError, VerificationError

TYPE = "application/x"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the group of P-256


def test_public_vector(shared_vectors: Path) -> None:
    # Section 12: encoding, verification and deterministic re-signing equal.
    vector = json.loads((shared_vectors / "dsse" / "ecdsa_p256.json").read_bytes())
    key = ec.derive_private_key(int(vector["d"]), ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    assert (numbers.x, numbers.y) == (int(vector["x"]), int(vector["y"]))
    payload = vector["payload"].encode()
    assert pae(vector["payload_type"], payload) == vector["pae"].encode()
    raw = base64.b64decode(vector["signature"])
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    verify_signature(key.public_key(), vector["payload_type"], payload, encode_dss_signature(r, s))
    assert decode_dss_signature(sign(key, vector["payload_type"], payload)) == (r, s)


def test_public_signature_suite(shared_vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Section 12: 484 cases, every valid one accepted, every invalid one refused. The suite signs
    # plain messages, so the encoding is taken out and all the rest stays as it is.
    monkeypatch.setattr("protocol.dsse.pae", lambda _, payload: payload)
    suite = json.loads((shared_vectors / "wycheproof" / "ecdsa_secp256r1_sha256_test.json").read_bytes())
    wrong, count = [], 0
    for group in suite["testGroups"]:
        key = as_public(serialization.load_der_public_key(bytes.fromhex(group["publicKeyDer"])))
        for case in group["tests"]:
            count += 1
            try:
                verify_signature(key, TYPE, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
                accepted = True
            except VerificationError:
                accepted = False
            if accepted != (case["result"] == "valid"):
                wrong.append(case["tcId"])
    assert (count, wrong) == (484, [])


def test_signing_is_deterministic() -> None:
    assert sign(STUDIO_KEY, TYPE, b"x") == sign(STUDIO_KEY, TYPE, b"x")


def test_other_form_of_a_signature_is_valid_too() -> None:
    # B-13: (r, n - s) verifies as well, which is why a bundle's identity is its payload.
    r, s = decode_dss_signature(sign(STUDIO_KEY, TYPE, b"x"))
    verify_signature(STUDIO_KEY.public_key(), TYPE, b"x", encode_dss_signature(r, ORDER - s))


@pytest.mark.parametrize("changed", ["type", "payload", "key", "signature", "empty"])
def test_anything_changed_is_refused(changed: str) -> None:
    signature = sign(STUDIO_KEY, TYPE, b"x")
    key = (OTHER_KEY if changed == "key" else STUDIO_KEY).public_key()
    given = {"signature": signature[:-1], "empty": b""}.get(changed, signature)
    with pytest.raises(VerificationError) as caught:
        verify_signature(key, TYPE + "y" * (changed == "type"), b"y" if changed == "payload" else b"x", given)
    assert caught.value.code == "E_SIG_BAD"


def test_encodings_cannot_be_confused() -> None:
    # Lengths are part of the encoding, so moving a byte between type and payload changes it.
    assert pae("a", b"b c") != pae("a b", b"c")
    assert pae("a", b"") == b"DSSEv1 1 a 0 "


def test_buggy_encoding_of_old_releases_is_refused() -> None:
    # B-15: model_signing 0.2 signed "DSSEV1 ..." over the text form of the bytes.
    old = f"DSSEV1 {len(TYPE)} {TYPE} 1 {b'x'}".encode()
    signature = STUDIO_KEY.sign(old, ec.ECDSA(SHA256()))
    with pytest.raises(VerificationError):
        verify_signature(STUDIO_KEY.public_key(), TYPE, b"x", signature)


def test_other_algorithms_are_refused() -> None:
    larger = ec.derive_private_key(7, ec.SECP384R1())
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    for key in (larger, edwards):
        with pytest.raises(UntrustedKeyError) as caught:
            as_private(key)
        assert caught.value.code == "E_KEY_TYPE"
        with pytest.raises(UntrustedKeyError):
            as_public(key.public_key())


@pytest.mark.parametrize(
    "text", ["YQ", "YQ=", "YQ==\n", " YQ==", "YR==", "YQ==YQ==", "Y Q==", "é", "-_-_", None, 1, b"YQ=="]
)
def test_lax_base64_is_refused(text: Json) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the callers say what it means
        decode_base64(text)


def test_strict_base64() -> None:
    assert decode_base64(encode_base64(b"a")) == b"a"
    assert decode_base64("") == b""


def test_envelope_round_trip() -> None:
    envelope = Envelope.signed(TYPE, b"x", STUDIO_KEY)
    again = Envelope.from_json(envelope.to_json(), payload_type=TYPE)
    assert again == envelope
    assert again.verify(STUDIO_KEY.public_key()) == b"x"


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "other"},
        {"payload": "eA=="[:-1]},
        {"payload": None},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [{"keyid": "", "sig": "eA=="}, {"keyid": "", "sig": "eA=="}]},
        {"signatures": [{"keyid": "x", "sig": "eA=="}]},
        {"signatures": [{"sig": "eA=="}]},
        {"extra": 1},
    ],
)
def test_envelope_has_exactly_its_fields(change: dict[str, Json]) -> None:
    value = Envelope.signed(TYPE, b"x", STUDIO_KEY).to_json()
    assert isinstance(value, dict)
    with pytest.raises(ValueError):  # noqa: PT011 - the callers say what it means
        Envelope.from_json({**value, **change}, payload_type=TYPE)


def test_second_signature_only_where_it_is_expected() -> None:
    # B-36: a rotated key has two, in the order of the keys; everything else has one.
    value = Envelope.signed(TYPE, b"x", OTHER_KEY, STUDIO_KEY).to_json()
    with pytest.raises(ValueError, match="other fields"):
        Envelope.from_json(value, payload_type=TYPE)
    envelope = Envelope.from_json(value, payload_type=TYPE, most=2)
    assert envelope.verify(STUDIO_KEY.public_key()) == b"x"
    assert envelope.verify(OTHER_KEY.public_key(), index=0) == b"x"
    with pytest.raises(VerificationError):
        envelope.verify(STUDIO_KEY.public_key(), index=0)
    with pytest.raises(VerificationError):
        envelope.verify(OTHER_KEY.public_key())


def test_one_signature_is_enough_where_two_may_stand() -> None:
    envelope = Envelope.signed(TYPE, b"x", STUDIO_KEY)
    assert Envelope.from_json(envelope.to_json(), payload_type=TYPE, most=2) == envelope


def test_third_signature_is_refused() -> None:
    value = Envelope.signed(TYPE, b"x", STUDIO_KEY, OTHER_KEY, STUDIO_KEY).to_json()
    with pytest.raises(ValueError, match="other fields"):
        Envelope.from_json(value, payload_type=TYPE, most=2)
