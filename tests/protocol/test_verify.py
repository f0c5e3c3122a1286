"""The door from bytes to a VerifiedBundle: what it gives, and what it asks for (B-25)."""

import inspect
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    CREATED,
    ENCODER,
    EXPIRES,
    GENERATOR,
    MEMBERS,
    NOW,
    OTHER,
    STUDIO,
    TABLE,
    adapter_manifest,
    edit_json,
    forge,
    open_trusted,
    pack,
    provider_key,
    style_manifest,
    unpack,
    weights,
    write_style,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol.container import SIGNATURE
from protocol.errors import DigestMismatchError, PolicyError, ProtocolError, UntrustedKeyError, VerificationError
from protocol.manifest import Usage
from protocol.publish import write_bundle
from protocol.trust import TrustStore
from protocol.verify import STEPS, VerifiedBundle, check_base, inspect_bundle, open_bundle


def refusal(path: Path, *, trust: TrustStore | None = None, now: datetime = NOW) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        open_bundle(path, trust=trust or TrustStore.of(STUDIO), now=now)
    return caught.value


# --- what a verified bundle gives -----------------------------------------------------------


def test_verified_bundle(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        assert bundle.kind == "style-bundle"
        assert bundle.signer.label == "Studio"
        assert set(bundle.members) == {*MEMBERS, "manifest.json", "model-card.md"}
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]
        assert [step.number for step in bundle.steps] == sorted(STEPS)
        with pytest.raises(VerificationError, match="missing"):
            bundle.read(SIGNATURE)
    with pytest.raises(ValueError, match="closed"):
        bundle.read(ENCODER)


def test_no_defaults_for_trust_and_time() -> None:
    parameters = inspect.signature(open_bundle).parameters
    for name in ("trust", "now"):
        assert parameters[name].default is inspect.Parameter.empty
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_time_needs_a_zone(style_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        open_trusted(style_path, now=datetime(2026, 6, 1))  # noqa: DTZ001 - the point of the test


def test_refusal_closes_the_file(style_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    refusal(style_path, trust=TrustStore.of(OTHER))
    after = set(os.listdir("/proc/self/fd")) if before else set()
    assert len(after) <= len(before)


def test_suffix_is_only_a_label(style_path: Path) -> None:
    # B-1: the signed kind decides.
    renamed = style_path.rename(style_path.with_suffix(".mdfa"))
    with open_trusted(renamed) as bundle:
        assert bundle.kind == "style-bundle"


# --- property: nothing can be changed -------------------------------------------------------


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(style_bytes) * 8 - 1))
    broken = bytearray(style_bytes)
    broken[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.getbasetemp() / "flipped.mdfy"
    path.write_bytes(broken)
    refusal(path)


@settings(max_examples=150)
@given(st.data())
def test_any_truncation_is_refused(style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.mdfy"
    path.write_bytes(style_bytes[: data.draw(st.integers(0, len(style_bytes) - 1))])
    refusal(path)


def test_bits_all_over_the_file(style_bytes: bytes, tmp_path: Path) -> None:
    # "A flipped bit anywhere in the bundle"; the bits of the headers are all tried in test_container.
    path = tmp_path / "x.mdfy"
    trust = TrustStore.of(STUDIO)
    for position in range(0, len(style_bytes), 7):
        broken = bytearray(style_bytes)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        refusal(path, trust=trust)


# --- each step, by its own error ------------------------------------------------------------


def test_step_1_size_limit(style_path: Path) -> None:
    size = style_path.stat().st_size
    open_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, size_limit=size).close()
    with pytest.raises(ProtocolError) as caught:
        open_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, size_limit=size - 1)
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
        (b"age-encryption.org/v1\n-> X25519 ", "E_VERSION"),
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
    assert STUDIO.fingerprint in error.why
    assert f"content-client trust add FILE.mdfykey --fingerprint {STUDIO.fingerprint}" in error.fix
    assert "Studio" not in error.why + error.fix + error.what


def test_step_6_unknown_key_with_a_broken_manifest(style_path: Path) -> None:
    forge(style_path, lambda members: members.update({"manifest.json": b"{}"}))
    error = refusal(style_path, trust=TrustStore.of(OTHER))
    assert (error.code, error.step) == ("E_UNTRUSTED", 6)


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


def test_step_7_forged_signature(style_path: Path) -> None:
    # Signed by another key which claims the hint of the pinned one.
    def claim(members: dict[str, bytes]) -> None:
        members[SIGNATURE] = members[SIGNATURE].replace(OTHER.hint.encode(), STUDIO.hint.encode())

    from bundlekit import OTHER_KEY, resign

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
    from bundlekit import STUDIO_KEY, resources
    from protocol.statement import Statement, sign_statement

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
    from bundlekit import resign

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


@pytest.mark.parametrize(
    ("usage", "code"),
    [(Usage(audience=("age1x",)), "E_AUDIENCE"), (Usage(requires_acknowledgement=True), "E_USAGE")],
)
def test_step_10_what_nobody_can_prove_yet(style_path: Path, usage: Usage, code: str) -> None:
    from protocol.schema import encode

    error = refusal(forge(style_path, edit_json("manifest.json", lambda value: value.update(usage=encode(usage)))))
    assert (error.code, error.step, error.exit_code) == (code, 10, 6)


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
    from hashlib import sha256

    junk = b"\xff" * 64

    def replace_weights(members: dict[str, bytes]) -> None:
        members[ENCODER] = junk
        row = {"sha256": sha256(junk).hexdigest(), "size": len(junk)}
        weight_row(**row)(members)  # type: ignore[operator]

    error = refusal(forge(style_path, replace_weights))
    assert (error.code, error.step, error.exit_code) == ("E_TENSOR_HEADER", 12, 7)


# --- reading again --------------------------------------------------------------------------


def test_file_changed_in_place_after_verification(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        data = style_path.read_bytes()
        start = data.index(MEMBERS[ENCODER])
        with style_path.open("r+b") as stream:
            stream.seek(start + len(MEMBERS[ENCODER]) - 1)
            stream.write(b"\xff")
        # The stream's own buffer may still hold the old bytes of a small file; drop it as reading
        # elsewhere would.
        bundle._stream.seek(0)
        with pytest.raises(DigestMismatchError) as caught:
            bundle.read(ENCODER)
    assert caught.value.member == ENCODER


def test_file_cut_while_it_is_hashed(style_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from protocol import steps

    real = steps.check_policy

    def cut(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        with style_path.open("r+b") as stream:
            stream.truncate(0)

    monkeypatch.setattr("protocol.verify.check_policy", cut)
    error = refusal(style_path)
    assert (error.code, error.step) in {("E_TRUNCATED", 11), ("E_DIGEST", 11)}


# --- adapters -------------------------------------------------------------------------------


@pytest.fixture
def base(style_path: Path) -> VerifiedBundle:
    return open_trusted(style_path)


def write_adapter(path: Path, base: VerifiedBundle, members: dict[str, bytes], **base_changes: object) -> VerifiedBundle:
    manifest = adapter_manifest(base)
    assert manifest.base is not None
    manifest = replace(
        manifest,
        base=replace(manifest.base, **base_changes),
        model=replace(manifest.model, trainable=()),
    )
    write_bundle(
        path, manifest=manifest, members=members, abs_max=dict.fromkeys(members, 1.0), key=CLIENT_KEY, provider=CLIENT
    )
    return open_trusted(path, CLIENT)


HEAD = {"head.weight": TABLE["head.weight"]}


def test_adapter_on_its_base(tmp_path: Path, base: VerifiedBundle) -> None:
    with base, write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)}) as adapter:
        assert adapter.kind == "encoder-adapter"
        check_base(adapter, base)


@pytest.mark.parametrize("change", [{"payload_sha256": "0" * 64}, {"sequence": 2}, {"bundle_id": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}])
def test_adapter_for_another_base(tmp_path: Path, base: VerifiedBundle, change: dict[str, object]) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)}, **change)
    with base, adapter, pytest.raises(PolicyError) as caught:
        check_base(adapter, base)
    assert caught.value.code == "E_BASE"


@pytest.mark.parametrize(
    "members",
    [
        {ENCODER: weights({"trunk.weight": [4]})},  # frozen
        {ENCODER: weights({"head.weight": [3, 2]})},  # other shape
        {ENCODER: weights({"new.weight": [1]})},
        {GENERATOR: weights({"const": [1, 8]})},  # frozen file
        {"weights/discriminator.safetensors": weights(HEAD)},  # right name, other file
    ],
)
def test_adapter_that_touches_more_than_it_may(tmp_path: Path, base: VerifiedBundle, members: dict[str, bytes]) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, members)
    with base, adapter, pytest.raises(PolicyError) as caught:
        check_base(adapter, base)
    assert caught.value.code == "E_BASE"


def test_base_without_trainable_tensors(tmp_path: Path) -> None:
    manifest = style_manifest()
    write_style(tmp_path / "s.mdfy", manifest=replace(manifest, model=replace(manifest.model, trainable=())))
    with open_trusted(tmp_path / "s.mdfy") as frozen:
        adapter = write_adapter(tmp_path / "a.mdfa", frozen, {ENCODER: weights(HEAD)})
        with adapter, pytest.raises(PolicyError, match="frozen"):
            check_base(adapter, frozen)


def test_kinds_are_not_interchangeable(tmp_path: Path, base: VerifiedBundle) -> None:
    adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD)})
    with base, adapter:
        for pair in ((base, base), (adapter, adapter), (base, adapter)):
            with pytest.raises(PolicyError):
                check_base(*pair)


def test_adapter_key_cannot_sign_styles(tmp_path: Path) -> None:
    # B-37: the client's own key is for adapters only, whoever gets hold of it.
    with pytest.raises(UntrustedKeyError) as caught:
        write_style(tmp_path / "s.mdfy", manifest=style_manifest(CLIENT), key=CLIENT_KEY, provider=CLIENT)
    assert caught.value.code == "E_KEY_ROLE"


# --- inspecting -----------------------------------------------------------------------------


def test_inspection_trusts_nobody(style_path: Path) -> None:
    seen = inspect_bundle(style_path)
    assert seen.manifest.bundle.name == "paintings"
    assert seen.claimed_fingerprint == STUDIO.fingerprint
    with open_trusted(style_path) as bundle:
        assert seen.payload_digest == bundle.payload_digest
    assert [member.name for member in seen.members][0] == "manifest.json"
    assert not hasattr(seen, "read")  # nothing to load weights with


def test_inspection_of_an_unsigned_file(style_path: Path) -> None:
    forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False)
    assert inspect_bundle(style_path).payload_digest is None


def test_inspection_needs_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "x.mdfy"
    path.write_bytes(pack({"a.txt": b""}))
    with pytest.raises(VerificationError, match="missing"):
        inspect_bundle(path)
