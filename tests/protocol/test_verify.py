"""The door from bytes to a VerifiedBundle: what it gives, and what it asks for (B-25)."""

import gc
import inspect
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    ENCODER,
    GENERATOR,
    MEMBERS,
    NOW,
    OTHER,
    STUDIO,
    TABLE,
    adapter_manifest,
    forge,
    open_trusted,
    pack,
    style_manifest,
    weights,
    write_style,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import steps
from protocol.container import SIGNATURE
from protocol.errors import DigestMismatchError, PolicyError, ProtocolError, UntrustedKeyError, VerificationError
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
    # An open file whose owner is gone warns when it is collected, and a warning is an error here.
    refusal(style_path, trust=TrustStore.of(OTHER))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_suffix_is_only_a_label(style_path: Path) -> None:
    # B-1: the signed kind decides.
    renamed = style_path.rename(style_path.with_suffix(".mdfa"))
    with open_trusted(renamed) as bundle:
        assert bundle.kind == "style-bundle"


# --- property: nothing can be changed -------------------------------------------------------


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(style_bytes) * 8 - 1))
    broken = bytearray(style_bytes)
    broken[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.getbasetemp() / "flipped.mdfy"
    path.write_bytes(broken)
    refusal(path)


@settings(max_examples=150)
@given(st.data())
def test_any_truncation_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
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


def write_adapter(
    path: Path, base: VerifiedBundle, members: dict[str, bytes], **base_changes: object
) -> VerifiedBundle:
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


@pytest.mark.parametrize(
    "change", [{"payload_sha256": "0" * 64}, {"sequence": 2}, {"bundle_id": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}]
)
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
    assert seen.members[0].name == "manifest.json"
    assert not hasattr(seen, "read")  # nothing to load weights with


def test_inspection_of_an_unsigned_file(style_path: Path) -> None:
    forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False)
    assert inspect_bundle(style_path).payload_digest is None


def test_inspection_needs_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "x.mdfy"
    path.write_bytes(pack({"a.txt": b""}))
    with pytest.raises(VerificationError, match="missing"):
        inspect_bundle(path)
