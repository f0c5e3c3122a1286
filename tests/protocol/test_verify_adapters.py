"""Adapters: which base they belong to, and what they may touch (B-18, B-37)."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    ENCODER,
    GENERATOR,
    MEMBERS,
    NOW,
    TABLE,
    adapter_manifest,
    open_trusted,
    style_manifest,
    weights,
    write_style,
)

from protocol.errors import PolicyError, UntrustedKeyError
from protocol.publish import write_bundle
from protocol.trust import TrustStore
from protocol.verify import VerifiedBundle, check_base, open_bundle


@pytest.fixture
def base(style_path: Path) -> VerifiedBundle:
    return open_trusted(style_path)


def write_adapter(
    path: Path, base: VerifiedBundle, members: dict[str, bytes], **base_changes: object
) -> VerifiedBundle:
    manifest = adapter_manifest(base)
    assert manifest.base is not None
    manifest = replace(
        manifest, base=replace(manifest.base, **base_changes), model=replace(manifest.model, trainable=())
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


@pytest.mark.parametrize(
    ("stored", "changed", "right"), [("F16", "F32", True), ("F16", "F16", True), ("F32", "F16", False)]
)
def test_adapter_may_be_more_precise_than_its_base(tmp_path: Path, stored: str, changed: str, right: bool) -> None:
    write_style(tmp_path / "s.mdfy", members={**MEMBERS, ENCODER: weights(dtype=stored)})
    with open_trusted(tmp_path / "s.mdfy") as base:
        adapter = write_adapter(tmp_path / "a.mdfa", base, {ENCODER: weights(HEAD, dtype=changed)})
        with adapter, contextlib.nullcontext() if right else pytest.raises(PolicyError, match="not trainable there"):
            check_base(adapter, base)


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


def test_adapter_that_stays_here_is_not_recorded(tmp_path: Path, base: VerifiedBundle) -> None:
    trust = TrustStore.of(CLIENT)
    path = tmp_path / "a.mdfa"
    write_adapter(path, base, {ENCODER: weights(HEAD)})
    open_bundle(path, trust=trust, now=NOW).record_use()
    assert [trust.last_seen(provider) for provider in trust.providers()] == [()]
