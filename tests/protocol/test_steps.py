"""Each verification step of B-25, refused by its own error."""

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from bundlekit import (
    CREATED,
    ENCODER,
    EXPIRES,
    GENERATOR,
    MEMBERS,
    NOW,
    OTHER,
    OTHER_KEY,
    STUDIO,
    STUDIO_KEY,
    edit_json,
    forge,
    pack,
    provider_key,
    resign,
    resources,
    style_manifest,
    unpack,
    write_style,
)

from protocol.container import SIGNATURE
from protocol.errors import ProtocolError
from protocol.statement import Statement, sign_statement
from protocol.trust import PinnedKey, TrustStore
from protocol.verify import verify_bundle


def refusal(path: Path, *, trust: TrustStore | None = None, now: datetime = NOW) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=trust or TrustStore.of(STUDIO), now=now)
    return caught.value


def test_step_1_size_limit(style_path: Path) -> None:
    size = style_path.stat().st_size
    verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, size_limit=size)
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, size_limit=size - 1)
    assert (caught.value.code, caught.value.step) == ("E_CONTAINER", 1)


def test_step_1_missing_file(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.mdfy")
    assert (error.code, error.step) == ("E_IO", 1)


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b"", "E_FORMAT"),
        (b"hello", "E_FORMAT"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "E_FORMAT"),
        (b"age-encryption.org/v", "E_FORMAT"),
    ],
)
def test_step_2_first_bytes(tmp_path: Path, start: bytes, code: str) -> None:
    path = tmp_path / "x.mdfy"
    path.write_bytes(start)
    error = refusal(path)
    assert (error.code, error.step) == (code, 2)


def test_step_5_unsigned(style_path: Path) -> None:
    error = refusal(forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False))
    assert (error.code, error.step, error.exit_code) == ("E_UNSIGNED", 5, 4)


def test_step_5_long_record(style_path: Path) -> None:
    error = refusal(forge(style_path, lambda m: m.update({SIGNATURE: b" " * ((1 << 20) + 1)}), sign=False))
    assert (error.code, error.step) == ("E_CONTAINER", 5)


def test_step_6_unknown_key(style_path: Path) -> None:
    error = refusal(style_path, trust=TrustStore.of(OTHER))
    assert (error.code, error.step, error.exit_code) == ("E_UNTRUSTED", 6, 5)
    # B-34: the whole fingerprint, and a line that can be pasted; U-45: no unverified name.
    assert f"the provider whose first key is {STUDIO.fingerprint}, by that key or a later one" in error.why
    assert f"content-client trust add FILE.mdfykey --fingerprint {STUDIO.fingerprint}" in error.fix
    assert "Studio" not in error.why + error.fix + error.what


def test_step_6_unknown_key_with_a_broken_manifest(style_path: Path) -> None:
    forge(style_path, lambda members: members.update({"manifest.json": b"{}"}))
    error = refusal(style_path, trust=TrustStore.of(OTHER))
    assert (error.code, error.step, error.got) == ("E_UNTRUSTED", 6, None)
    assert "trust add" not in error.fix  # with a fingerprint that nobody named


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (CREATED - timedelta(seconds=1), "E_NOT_YET_VALID"),
        (EXPIRES + timedelta(seconds=1), "E_KEY_EXPIRED"),
    ],
)
def test_step_6_life_of_the_key(style_path: Path, now: datetime, code: str) -> None:
    error = refusal(style_path, now=now)
    assert (error.code, error.step, error.exit_code) == (code, 6, 6)


def test_step_6_another_key_of_an_accepted_provider(style_path: Path) -> None:
    # The bundle names the studio, and is signed by a key that nobody has accepted: perhaps its next one.
    style_path.write_bytes(resign(unpack(style_path.read_bytes()), key=OTHER_KEY))
    error = refusal(style_path)
    assert (error.code, error.step) == ("E_UNTRUSTED", 6)
    assert "content-client trust update FILE.mdfykey" in error.fix
    assert "Studio" in error.why  # the user's own name for it


def pinned(**state: object) -> PinnedKey:
    pin = TrustStore.of(STUDIO).find(STUDIO.hint)
    assert pin is not None
    return replace(pin, **state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ({"disputed": True}, "E_KEY_FORK", "content-client trust remove Studio"),
        ({"revoked": "laptop stolen"}, "E_KEY_REVOKED", "laptop stolen"),
        ({"disputed": True, "revoked": "laptop stolen"}, "E_KEY_FORK", "serial"),
    ],
)
def test_step_6_state_of_the_key(
    style_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, object], code: str, said: str
) -> None:
    trust = TrustStore.of(STUDIO)
    monkeypatch.setattr(trust, "find", lambda _hint: pinned(**state))
    error = refusal(style_path, trust=trust)
    assert (error.code, error.step) == (code, 6)
    assert said in error.why + error.fix


def test_step_7_forged_signature(style_path: Path) -> None:
    # Signed by another key which claims the hint of the pinned one.
    def claim(members: dict[str, bytes]) -> None:
        members[SIGNATURE] = members[SIGNATURE].replace(OTHER.hint.encode(), STUDIO.hint.encode())

    style_path.write_bytes(resign(unpack(style_path.read_bytes()), key=OTHER_KEY))
    error = refusal(forge(style_path, claim, sign=False))
    assert (error.code, error.step) == ("E_SIG_BAD", 7)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda m: m.update({"extra.txt": b"x"}), "E_UNSIGNED_MEMBER"),
        (lambda m: m.pop(ENCODER), "E_MISSING_MEMBER"),
        (lambda m: m.update({ENCODER: m[ENCODER] + b"x"}), "E_DIGEST"),
        (lambda m: m.update({ENCODER: m[ENCODER][:-1] + b"x"}), "E_DIGEST"),
    ],
)
def test_step_8_members_and_statement(style_path: Path, edit: object, code: str) -> None:
    error = refusal(forge(style_path, edit, sign=False))  # type: ignore[arg-type]
    assert (error.code, error.step, error.exit_code) == (code, 8, 4)


def test_step_8_signature_over_itself(style_path: Path) -> None:

    members = unpack(style_path.read_bytes())
    record = sign_statement(STUDIO_KEY, Statement(kind="style-bundle", resources=resources(members)))
    style_path.write_bytes(pack({**members, SIGNATURE: record.to_bytes()}))
    error = refusal(style_path)
    assert (error.code, error.step) == ("E_STATEMENT", 8)


def test_step_8_no_manifest(style_path: Path) -> None:
    error = refusal(forge(style_path, lambda members: members.pop("manifest.json") and None))
    assert (error.code, error.step) == ("E_MISSING_MEMBER", 8)


def test_step_9_manifest_changed_with_its_crc_kept(style_path: Path) -> None:
    # Same size, same CRC, other bytes: only the digest tells. CRC-32 is linear, so flipping the
    # bits of a multiple of its polynomial changes nothing in it.
    data = bytearray(style_path.read_bytes())
    found = data.index(b'"allowed"')
    polynomial = 0x104C11DB7  # x^32 + ... + 1, as the bits of a message, most significant first
    for bit in range(33):
        if polynomial >> (32 - bit) & 1:
            data[found + bit // 8] ^= 1 << (bit % 8)  # ZIP feeds each byte least significant bit first
    style_path.write_bytes(data)
    error = refusal(style_path)
    assert (error.code, error.step) == ("E_DIGEST", 9)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"critical": ["holograms"]}, "E_VERSION"),
        ({"format_version": "2.0"}, "E_VERSION"),
        ({"files": []}, "E_MANIFEST"),
        ({"extra": 1}, "E_MANIFEST"),
    ],
)
def test_step_9_manifest(style_path: Path, change: dict[str, object], code: str) -> None:
    error = refusal(forge(style_path, edit_json("manifest.json", lambda value: value.update(change))))
    assert (error.code, error.step) == (code, 9)


def test_step_9_signed_kind_wins(style_path: Path) -> None:

    style_path.write_bytes(resign(unpack(style_path.read_bytes()), kind="encoder-adapter"))
    error = refusal(style_path)
    assert (error.code, error.step) == ("E_MANIFEST", 9)


def test_step_10_provider_mismatch(style_path: Path) -> None:
    # The studio signs a bundle that names somebody else.
    def claim(value: dict[str, object]) -> None:
        value["provider"] = {"id": OTHER.provider_id, "name": "Other", "contact": ""}

    error = refusal(forge(style_path, edit_json("manifest.json", claim)))
    assert (error.code, error.step, error.exit_code) == ("E_PROVIDER_MISMATCH", 10, 5)


@pytest.mark.parametrize(("days", "code"), [(366, "E_EXPIRED"), (-1, "E_NOT_YET_VALID")])
def test_step_10_validity(tmp_path: Path, days: int, code: str) -> None:
    # The key lives longer than the bundle on both sides.
    long_lived = provider_key(not_before=CREATED - timedelta(days=30))
    path = tmp_path / "style.mdfy"
    write_style(path, provider=long_lived)
    error = refusal(path, trust=TrustStore.of(long_lived), now=CREATED + timedelta(days=days))
    assert (error.code, error.step, error.exit_code) == (code, 10, 6)


def test_step_10_role(style_path: Path, tmp_path: Path) -> None:
    # B-37: pinned for adapters only.
    store = TrustStore(tmp_path / "trust")
    store.add(STUDIO, roles=("adapter",))
    error = refusal(style_path, trust=store)
    assert (error.code, error.step, error.exit_code) == ("E_KEY_ROLE", 10, 5)


def test_step_10_older_than_seen_before(tmp_path: Path) -> None:
    trust = TrustStore.of(STUDIO)
    bundle = style_manifest().bundle
    trust.advance(pinned(), replace(bundle, sequence=3), "0" * 64)
    write_style(tmp_path / "style.mdfy")
    error = refusal(tmp_path / "style.mdfy", trust=trust)
    assert (error.code, error.step, error.exit_code) == ("E_ROLLBACK", 10, 6)


def test_step_11_contents_changed_with_their_crc_kept(style_path: Path) -> None:
    data = bytearray(style_path.read_bytes())
    found = data.index(MEMBERS[GENERATOR]) + len(MEMBERS[GENERATOR]) - 8
    for bit in range(33):
        if 0x104C11DB7 >> (32 - bit) & 1:
            data[found + bit // 8] ^= 1 << (bit % 8)
    style_path.write_bytes(data)
    error = refusal(style_path)
    assert (error.code, error.step, error.member) == ("E_DIGEST", 11, GENERATOR)


def weight_row(**change: object) -> object:
    def edit(value: dict[str, object]) -> None:
        value["model"]["weights"][0].update(change)  # type: ignore[index]

    return edit_json("manifest.json", edit)


def model(**change: object) -> object:
    return edit_json("manifest.json", lambda value: value["model"].update(change))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (model(weights=[]), "E_MANIFEST"),
        (weight_row(sha256="0" * 64), "E_MANIFEST"),
        (weight_row(size=1), "E_MANIFEST"),
        (weight_row(tensors={"head.weight": {"dtype": "F32", "shape": [3, 2]}}), "E_TENSOR_SHAPE"),
        (model(n_parameters=1), "E_TENSOR_SHAPE"),
        (model(trainable=["const", "head.weight"]), "E_TENSOR_SHAPE"),  # of two files
    ],
)
def test_step_12_tables(style_path: Path, edit: object, code: str) -> None:
    error = refusal(forge(style_path, edit))  # type: ignore[arg-type]
    assert (error.code, error.step) == (code, 12)


def test_step_12_header(style_path: Path) -> None:
    # Signed by the provider, and still not loaded: a file that is no strict safetensors.

    junk = b"\xff" * 64

    def replace_weights(members: dict[str, bytes]) -> None:
        members[ENCODER] = junk
        row = {"sha256": sha256(junk).hexdigest(), "size": len(junk)}
        weight_row(**row)(members)  # type: ignore[operator]

    error = refusal(forge(style_path, replace_weights))
    assert (error.code, error.step, error.exit_code) == ("E_TENSOR_HEADER", 12, 7)
