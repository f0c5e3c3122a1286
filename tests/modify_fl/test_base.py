"""Base models: record, finding, loading, writing (M-23, ADR 6)."""

import hashlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from basekit import TINY_NETWORK, tiny_base, tiny_card, tiny_faces
from safetensors.torch import load_file, save, save_file

from modify_fl.base import card as cards
from modify_fl.base.card import BaseCard, find_base, markdown, read_card, to_json
from modify_fl.base.export import LARGEST, write_base
from modify_fl.base.start import MODEL_PARTS, Start, load_base, load_checkpoint, tensor_table
from modify_fl.config import PRESETS, NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel

_ROOT = Path(__file__).resolve().parents[2]


def _states(network: NetworkConfig, seed: int) -> dict[str, dict[str, torch.Tensor]]:
    model, critic = StyleModel.build(network, seed), build_discriminator(network, seed)
    return {p: getattr(model, p).state_dict() for p in MODEL_PARTS} | {"discriminator": critic.state_dict()}


def _rewrite(base: BaseCard, change: Callable[[dict[str, torch.Tensor]], object]) -> BaseCard:
    """Change the weights and sign off the change in the record, as a wrong export would."""
    tensors = load_file(base.weights_file)
    change(tensors)
    content = save(tensors)
    base.weights_file.write_bytes(content)
    base = replace(base, sha256=hashlib.sha256(content).hexdigest())
    (base.folder / f"{base.name}.json").write_text(to_json(base), encoding="utf-8")
    return base


def test_record_comes_back_as_written(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    assert read_card(tmp_path / "tiny.json") == base
    assert base.sha256 == hashlib.sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()
    assert base.label == f"tiny sha256:{base.sha256[:12]}"


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """The record has no date, so an export can be repeated and compared."""
    tiny_base(tmp_path / "a")
    tiny_base(tmp_path / "b")
    for suffix in ("json", "md", "safetensors"):
        assert (tmp_path / f"a/tiny.{suffix}").read_bytes() == (tmp_path / f"b/tiny.{suffix}").read_bytes()


def test_model_card_says_how_far_the_run_was(tmp_path: Path) -> None:
    half, whole = tiny_card(tmp_path), tiny_card(tmp_path, seen=160)
    assert "**unfinished**: 50% of the planned run" in markdown(half)
    assert "the run was finished" in markdown(whole)
    assert "| drawn faces | Apache-2.0 | 4 |" in markdown(whole)


def test_a_base_is_found_by_what_decides_its_tensors(tmp_path: Path) -> None:
    tiny_base(tmp_path, name="b")
    assert find_base(TINY_NETWORK, tmp_path / "nowhere") is None
    for same in (TINY_NETWORK, replace(TINY_NETWORK, remap_lr_mul=0.5), replace(TINY_NETWORK, xi=3)):
        assert find_base(same, tmp_path) == read_card(tmp_path / "b.json")
    for other in ({"w_dim": 32}, {"minibatch_std": 4}, {"remap_layers": 3}, {"resolution": 64}):
        assert find_base(replace(TINY_NETWORK, **other), tmp_path) is None  # type: ignore[arg-type]


def test_m_is_drawn_anew_for_another_cut(tmp_path: Path) -> None:
    """All else comes from the base, and the recipe for a base is in force (ADR 7)."""
    other = replace(TINY_NETWORK, xi=3)
    start = load_base(tiny_base(tmp_path), other)
    assert start.complete
    assert "remapping" not in start.states
    model, critic = StyleModel.build(other, 0), build_discriminator(other, 0)
    start.apply(model, critic)
    assert torch.equal(model.remapping.offset, model.offset.w_avg[other.split :])
    assert torch.equal(model.encoder.state_dict()["stem.weight"], start.states["encoder"]["stem.weight"])


def test_loaded_weights_are_those_of_the_file(tmp_path: Path) -> None:
    """Kernels come back as float16 rounds them; vectors, scalars and gains exactly."""
    start = load_base(tiny_base(tmp_path), TINY_NETWORK)
    stored = load_file(tmp_path / "tiny.safetensors")
    drawn = _states(TINY_NETWORK, 77)
    assert start.complete
    for part, state in start.states.items():
        for name, value in state.items():
            assert torch.equal(value, stored[f"{part}.{name}"].float())
            if value.ndim < 2:
                assert torch.equal(value, drawn[part][name])
            elif name != "w_avg":
                assert torch.allclose(value, drawn[part][name], rtol=5e-4, atol=1e-7)  # 11 bits
    assert {v.dtype for n, v in stored.items() if n.endswith("gains")} == {torch.float32}


def test_pictures_survive_float16(tmp_path: Path) -> None:
    """A picture through E and D differs by less than a grey level of 255."""
    model = StyleModel.build(TINY_NETWORK, 77)
    model.offset.w_avg.data.fill_(0.25)
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        before = model.decode(model.encode(pictures))
        load_base(tiny_base(tmp_path), TINY_NETWORK).apply(model, build_discriminator(TINY_NETWORK, 0))
        after = model.decode(model.encode(pictures))
    assert (before - after).abs().max() < 2 / 255


def test_m_is_rescaled_to_another_learning_rate_multiplier(tmp_path: Path) -> None:
    """The multiplier is part of the function, so the stored weights alone would give another M."""
    base, z = tiny_base(tmp_path), torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    rows = []
    for network in (TINY_NETWORK, replace(TINY_NETWORK, remap_lr_mul=0.01)):
        model = StyleModel.build(network, 0)
        load_base(base, network).apply(model, build_discriminator(network, 0))
        rows.append(model.remap(z))
    assert torch.allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.pop("encoder.stem.weight"), "does not hold the tensors"),
        (lambda t: t.update({"encoder.more": torch.zeros(1)}), "does not hold the tensors"),
        (lambda t: t.update({"offset.w_avg": torch.zeros(8, 17)}), "does not hold the tensors"),
        (lambda t: t.update({"offset.w_avg": torch.full((8, 16), torch.nan)}), "finite"),
        (lambda t: t.update({"offset.w_avg": torch.zeros(8, 16, dtype=torch.int32)}), "finite float16"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], what: str
) -> None:
    base = _rewrite(tiny_base(tmp_path), change)
    with pytest.raises(ConfigError, match=what):
        load_base(base, TINY_NETWORK)


def test_other_sizes_changed_and_missing_files_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    with pytest.raises(ConfigError, match="does not fit") as caught:
        load_base(base, replace(TINY_NETWORK, w_dim=32))
    assert caught.value.why == "w_dim is 16 there, 32 here"
    content = bytearray(base.weights_file.read_bytes())
    content[-1] ^= 1
    base.weights_file.write_bytes(content)
    with pytest.raises(ConfigError, match="were changed"):
        load_base(base, TINY_NETWORK)
    base.weights_file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no safetensors file"):
        load_base(replace(base, sha256=hashlib.sha256(b"nothing").hexdigest()), TINY_NETWORK)
    base.weights_file.unlink()
    with pytest.raises(ConfigError, match="are not there"):
        load_base(base, TINY_NETWORK)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "other/1"}, "its format is not"),
        ({"surplus": 1}, "its fields differ in surplus"),
        ({"name": "other"}, "it belongs to other"),
        ({"network": {"resolution": 33}}, "resolution must be one of"),
        ({"network": {"depth": 33}}, "depth"),
        ({"steps": 1.5}, "its counts are not whole numbers"),
        ({"sources": 3}, "not iterable"),
    ],
)
def test_records_that_are_none_are_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    tiny_base(tmp_path)
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="not the record") as caught:
        read_card(path)
    assert why in caught.value.why


@pytest.mark.parametrize(("content", "what"), [(None, "cannot read"), ("{", "cannot read"), ("[]", "not the record")])
def test_records_that_cannot_be_read_are_refused(tmp_path: Path, content: str | None, what: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=what):
        read_card(tmp_path / "x.json")


def test_export_refuses_what_could_not_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, states = tiny_card(tmp_path), _states(TINY_NETWORK, 1) | {"faces": tiny_faces()}
    with pytest.raises(ConfigError, match=r"discriminator\.\S+ is not as the configuration"):
        write_base(card, {part: states[part] for part in (*MODEL_PARTS, "faces")})
    large = states | {"offset": {"w_avg": torch.full((8, 16), 1e6)}}
    with pytest.raises(ConfigError, match="not finite in float16"):
        write_base(card, large)
    monkeypatch.setattr("modify_fl.base.export.LARGEST", 1000)
    with pytest.raises(ConfigError, match="too large to ship"):
        write_base(card, states)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["quick-64", "quick-128"])
def test_a_base_of_a_quick_preset_may_ship(name: str) -> None:
    """Two bytes a number stay below the bound with room for the header."""
    numbers = sum(torch.Size(shape).numel() for shape in tensor_table(PRESETS[name].network).values())
    assert 2 * numbers < 0.9 * LARGEST


def test_shipped_bases_are_whole() -> None:
    """Every record beside the code has its weights and its model card, and fits a preset."""
    for path in cards.HOME.glob("*.json"):
        base = read_card(path)
        assert (base.folder / f"{base.name}.md").read_text(encoding="utf-8") == markdown(base)
        fitting = [p.network for p in PRESETS.values() if not base.differences(p.network)]
        assert load_base(base, fitting[0]).complete
        assert base.weights_file.stat().st_size <= LARGEST


def test_wheels_carry_the_data_files() -> None:
    """The build packs whole folders; nothing excludes or ignores the files of a base."""
    build = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    assert "modify_fl" in wheel["packages"]
    assert not {"exclude", "only-include", "include"} & (wheel.keys() | build.keys())
    ignored = (_ROOT / ".gitignore").read_text(encoding="utf-8").split()  # hatchling leaves these out
    assert not any(line.endswith(suffix) for line in ignored for suffix in ("safetensors", ".json", ".md", "base/"))


def test_finding_a_base_is_light() -> None:
    """U-31: the command lines look for a base before torch is imported."""
    code = "import sys, modify_fl.base.card, style_provider.starts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_published_checkpoint_starts_generator_and_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M-17, M-22: D, w_avg and M's offset are the file's; E, Dis and the layers of M are the seed's."""
    from modify_fl.networks import checkpoints

    network = replace(TINY_NETWORK, remap_lr_mul=0.01)
    given = StyleModel.build(network, 5)
    average = torch.randn(8, 16, generator=torch.Generator().manual_seed(2))
    conversion = checkpoints.Conversion(
        config=network, generator=given.generator.state_dict(), mapping={}, encoder=None, w_avg=average,
        provenance=checkpoints.Provenance(layout="rosinality", sha256="ab" * 32, w_avg="latent_avg"),
    )  # fmt: skip
    monkeypatch.setattr("modify_fl.base.start.read_checkpoint", lambda _: conversion)
    start = load_checkpoint(tmp_path / "private-name.pt", network)
    assert (start.label, start.complete) == ("rosinality checkpoint sha256:abababababab", False)
    model, fresh = StyleModel.build(network, 1), StyleModel.build(network, 1)
    start.apply(model, build_discriminator(network, 1))
    for part, origin in (("generator", given), ("encoder", fresh)):
        own, other = getattr(model, part).state_dict(), getattr(origin, part).state_dict()
        assert all(torch.equal(own[n], other[n]) for n in other)
    assert torch.equal(model.offset.w_avg, average)
    assert torch.equal(model.remapping.offset, average[4:])
    with pytest.raises(ConfigError, match="does not fit these networks"):
        load_checkpoint(tmp_path / "private-name.pt", replace(network, w_dim=32, z_dim=32))


def test_start_without_dis_is_not_complete() -> None:
    states = _states(TINY_NETWORK, 1) | {"faces": tiny_faces()}
    assert not Start(name="x", digest="", states={part: states[part] for part in MODEL_PARTS}).complete


def test_weights_in_place_of_an_export_are_refused(tmp_path: Path) -> None:
    """A safetensors file without a record is no base."""
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"cannot read the base model's record x\.json"):
        read_card(tmp_path / "x.json")
