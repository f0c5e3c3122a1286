"""An adapter for another base, or one that touches frozen tensors (B-18)."""

from dataclasses import replace
from pathlib import Path

import pytest
from attackkit import snapshot
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    ENCODER,
    GENERATOR,
    NOW,
    adapter_manifest,
    open_trusted,
    style_manifest,
    weights,
    write_style,
)

from protocol.errors import PolicyError
from protocol.trust import TrustStore
from protocol.verify import check_base, open_bundle

HEAD = {"head.weight": [2, 3]}


@pytest.fixture
def both(store: TrustStore, style_path: Path, tmp_path: Path) -> TrustStore:
    store.add(CLIENT)
    return store


def make_adapter(base: Path, folder: Path, *, name: str = ENCODER, table: dict[str, list[int]] = HEAD) -> Path:
    path = folder / "x.mdfa"
    with open_trusted(base) as style:
        manifest = adapter_manifest(style)
    manifest = replace(manifest, model=replace(manifest.model, trainable=tuple(table)))
    write_style(
        path, manifest=manifest, members={name: weights(table)}, abs_max={name: 0.5}, key=CLIENT_KEY, provider=CLIENT
    )
    return path


def refuse(store: TrustStore, adapter: Path, base: Path, folder: Path) -> None:
    before = snapshot(folder)
    changed, style = (open_bundle(path, trust=store, now=NOW).facts() for path in (adapter, base))
    with pytest.raises(PolicyError) as caught:
        check_base(changed, style)
    assert caught.value.code == "E_BASE"
    assert caught.value.exit_code == 6
    assert snapshot(folder) == before


def test_adapter_for_another_base(both: TrustStore, style_path: Path, tmp_path: Path) -> None:
    adapter = make_adapter(style_path, tmp_path)
    manifest = style_manifest()
    later = tmp_path / "later.mdfy"
    write_style(later, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    refuse(both, adapter, later, tmp_path)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (ENCODER, {"trunk.weight": [4]}),  # frozen there
        (ENCODER, {"head.weight": [3, 2]}),  # another shape
        (ENCODER, {"new.weight": [1]}),
        (GENERATOR, {"head.weight": [2, 3]}),  # the right name in the wrong network
    ],
)
def test_adapter_that_touches_more(
    both: TrustStore, style_path: Path, tmp_path: Path, name: str, table: dict[str, list[int]]
) -> None:
    refuse(both, make_adapter(style_path, tmp_path, name=name, table=table), style_path, tmp_path)


def test_style_in_place_of_an_adapter(both: TrustStore, style_path: Path, tmp_path: Path) -> None:
    refuse(both, style_path, style_path, tmp_path)


def test_adapter_in_place_of_a_style(both: TrustStore, style_path: Path, tmp_path: Path) -> None:
    adapter = make_adapter(style_path, tmp_path)
    refuse(both, adapter, adapter, tmp_path)
