"""Stripped, forged or doubled signatures; downgrade of format or predicate (B-9, B-10, B-15)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attackkit import LENIENT, Edit, edit_payload, put_signature, sign_payload, snapshot
from bundlekit import NOW, STUDIO_KEY, edit_json, forge, pack, resign, unpack
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from protocol.container import SIGNATURE
from protocol.dsse import Envelope
from protocol.errors import ProtocolError
from protocol.statement import PAYLOAD_TYPE, SignatureRecord
from protocol.trust import TrustStore
from protocol.verify import verify_bundle


def foreign_payload(members: dict[str, bytes]) -> None:
    """Keep a genuine signature of the studio, over something else."""
    record = SignatureRecord.from_bytes(members[SIGNATURE])
    payload = record.envelope.payload.replace(b"style-bundle", b"encoder-adapter")
    envelope = Envelope(payload_type=PAYLOAD_TYPE, payload=payload, signatures=record.envelope.signatures)
    members[SIGNATURE] = SignatureRecord(hint=record.hint, envelope=envelope).to_bytes()


def raw_signature(members: dict[str, bytes]) -> None:
    """Sign the payload itself, without its encoding."""
    payload = SignatureRecord.from_bytes(members[SIGNATURE]).envelope.payload
    put_signature(members, STUDIO_KEY.sign(payload, ec.ECDSA(SHA256())))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda members: members.pop(SIGNATURE), "E_UNSIGNED"),
        (lambda members: members.update({SIGNATURE: b"{}"}), "E_SIG_FORMAT"),
        (lambda members: members.update({SIGNATURE: b" " * ((1 << 20) + 1)}), "E_CONTAINER"),
        (lambda members: put_signature(members, b""), "E_SIG_BAD"),
        (lambda members: put_signature(members, bytes(70)), "E_SIG_BAD"),
        (lambda members: put_signature(members, b"\x30\x06\x02\x01\x00\x02\x01\x00"), "E_SIG_BAD"),  # r = s = 0
        (raw_signature, "E_SIG_BAD"),
        (foreign_payload, "E_SIG_BAD"),
        (edit_payload(lambda value: value["predicate"].pop("mdfy")), "E_STATEMENT"),  # signed for something else
    ],
)
def test_stripped_or_forged_signature(refused: Callable[..., str], style_path: Path, edit: Edit, code: str) -> None:
    assert refused(forge(style_path, edit, sign=False).read_bytes()) == code


@pytest.mark.parametrize("name", LENIENT)
def test_what_the_public_tool_lets_through(refused: Callable[..., str], style_path: Path, name: str) -> None:
    # B-15, all eight.
    edit, code = LENIENT[name]
    assert refused(forge(style_path, edit, sign=False).read_bytes()) == code


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_downgrade_of_the_format(refused: Callable[..., str], style_path: Path, version: str) -> None:
    changed = forge(style_path, edit_json("manifest.json", lambda value: value.update(format_version=version)))
    assert refused(changed.read_bytes()) == "E_VERSION"


def test_unknown_critical_feature(refused: Callable[..., str], style_path: Path) -> None:
    changed = forge(style_path, edit_json("manifest.json", lambda value: value.update(critical=["thresholds"])))
    assert refused(changed.read_bytes()) == "E_VERSION"


def test_every_malformed_json_as_manifest_and_as_record(
    store: TrustStore, tmp_path: Path, style_bytes: bytes, shared_vectors: Path
) -> None:
    cases = sorted((shared_vectors / "jsontestsuite" / "test_parsing").glob("n_*.json"))
    assert len(cases) == 188
    path, members = tmp_path / "attack.mdfy", unpack(style_bytes)
    before = snapshot(tmp_path / "trust")
    for case in cases:
        data = case.read_bytes()
        attacks = {
            "E_JSON": resign({**members, "manifest.json": data}),
            "E_SIG_FORMAT": pack({**members, SIGNATURE: data}),
        }
        for code, attack in attacks.items():
            path.write_bytes(attack)
            with pytest.raises(ProtocolError) as caught:
                verify_bundle(path, trust=store, now=NOW)
            assert (caught.value.code, caught.value.exit_code != 0) == (code, True), case.name
    assert snapshot(tmp_path / "trust") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attack.mdfy", "trust"]


def test_malformed_statement_with_a_genuine_signature(refused: Callable[..., str], style_path: Path) -> None:
    for payload in (b"", b"{}", b"[]", b"\xff", json.dumps({"_type": 1}).encode()):
        changed = forge(style_path, lambda members, payload=payload: sign_payload(members, payload), sign=False)
        assert refused(changed.read_bytes()) == "E_STATEMENT"


def test_signature_of_another_bundle(refused: Callable[..., str], style_bytes: bytes, style_path: Path) -> None:
    # Genuine, by the right key, over another set of members.
    other = unpack(forge(style_path, lambda members: members.update({"notes.txt": b"x"})).read_bytes())
    style_path.write_bytes(style_bytes)
    changed = forge(style_path, lambda members: members.update({SIGNATURE: other[SIGNATURE]}), sign=False)
    assert refused(changed.read_bytes()) == "E_MISSING_MEMBER"
