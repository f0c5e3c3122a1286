"""Reading rosinality's and pSp's checkpoints (M-22)."""

import argparse
import copyreg
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.checkpoints import read_checkpoint, read_state_dict
from modify_fl.networks.model import StyleModel
from modify_fl.networks.paper_encoder import PaperEncoder
from modify_fl.networks.synthesis import Generator

_FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 16  # sum 4

State = dict[str, Tensor]


# The foreign layout, name by name.


def _random_state(resolution: int, *, w_dim: int = 512, multiplier: int = 2, layers: int = 8, seed: int = 1) -> State:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def channels(side: int) -> int:
        return min(512, 16384 * multiplier // side)

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> State:
        return {
            f"{name}.conv.weight": draw(1, outputs, inputs, kernel, kernel),
            f"{name}.conv.modulation.weight": draw(inputs, w_dim),
            f"{name}.conv.modulation.bias": 1 + draw(inputs) / 10,
        }

    def styled(name: str, inputs: int, outputs: int) -> State:
        return conv(name, inputs, outputs, 3) | {
            f"{name}.noise.weight": draw(1),
            f"{name}.activate.bias": draw(outputs),
        }

    def rgb(name: str, inputs: int) -> State:
        return conv(name, inputs, 3, 1) | {f"{name}.bias": draw(1, 3, 1, 1)}

    state = {"input.input": draw(1, channels(4), 4, 4)}
    for layer in range(1, layers + 1):
        state |= {f"style.{layer}.weight": 100 * draw(w_dim, w_dim), f"style.{layer}.bias": draw(w_dim)}
    state |= styled("conv1", channels(4), channels(4)) | rgb("to_rgb1", channels(4))
    state |= {"noises.noise_0": draw(1, 1, 4, 4)}
    for level in range(3, int(math.log2(resolution)) + 1):
        side, index = 2**level, level - 3
        state |= styled(f"convs.{2 * index}", channels(side // 2), channels(side))
        state |= styled(f"convs.{2 * index + 1}", channels(side), channels(side))
        state |= rgb(f"to_rgbs.{index}", channels(side))
        state |= {f"convs.{2 * index}.conv.blur.kernel": _FIR, f"to_rgbs.{index}.upsample.kernel": _FIR}
        state |= {f"noises.noise_{2 * index + i}": draw(1, 1, side, side) for i in (1, 2)}
    return state


# An independent generator: per-sample kernels, filters one plane at a time.


def _filter(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    planes = functional.pad(x, (before, after, before, after)).flatten(0, 1)[:, None]
    return functional.conv2d(planes, kernel.flip(0, 1)[None, None]).unflatten(0, x.shape[:2])[:, :, 0]


def _modulated(state: State, name: str, x: Tensor, w: Tensor, *, demodulate: bool = True) -> Tensor:
    kernel = state[f"{name}.conv.weight"][0]
    styles = functional.linear(
        w, state[f"{name}.conv.modulation.weight"] / w.shape[1] ** 0.5, state[f"{name}.conv.modulation.bias"]
    )
    outputs = []
    for sample, style in zip(x, styles, strict=True):
        own = kernel / kernel[0].numel() ** 0.5 * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if f"{name}.conv.blur.kernel" in state:
            wide = functional.conv_transpose2d(sample[None], own.transpose(0, 1), stride=2)
            outputs.append(_filter(wide, state[f"{name}.conv.blur.kernel"], 1, 1))
        else:
            outputs.append(functional.conv2d(sample[None], own, padding=own.shape[-1] // 2))
    return torch.cat(outputs)


def _reference(state: State, codes: Tensor) -> Tensor:
    def styled(name: str, x: Tensor, row: int, noise: int) -> Tensor:
        x = _modulated(state, name, x, codes[:, row])
        x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"]
        x = x + state[f"{name}.activate.bias"][None, :, None, None]
        return functional.leaky_relu(x, 0.2) * 2**0.5

    def rgb(name: str, x: Tensor, row: int) -> Tensor:
        return _modulated(state, name, x, codes[:, row], demodulate=False) + state[f"{name}.bias"]

    x = styled("conv1", state["input.input"].expand(len(codes), -1, -1, -1), 0, 0)
    picture = rgb("to_rgb1", x, 1)
    for index in range((codes.shape[1] - 2) // 2):
        row = 2 * index + 1
        x = styled(f"convs.{2 * index}", x, row, row)
        x = styled(f"convs.{2 * index + 1}", x, row + 1, row + 1)
        spread = torch.zeros(*picture.shape[:2], 2 * picture.shape[2], 2 * picture.shape[3])
        spread[:, :, ::2, ::2] = picture
        picture = _filter(spread, state[f"to_rgbs.{index}.upsample.kernel"], 2, 1) + rgb(f"to_rgbs.{index}", x, row + 2)
    return picture


def _reference_mapping(state: State, z: Tensor) -> Tensor:
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for layer in range(1, 1 + sum(name.startswith("style.") for name in state) // 2):
        weight, bias = state[f"style.{layer}.weight"], state[f"style.{layer}.bias"]
        w = functional.leaky_relu(w @ weight.t() * (0.01 / w.shape[1] ** 0.5) + 0.01 * bias, 0.2) * 2**0.5
    return w


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def small() -> State:
    # Narrow rows keep the file small; the layout is the same.
    return _random_state(32, w_dim=16, layers=2)


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_pictures_are_those_of_the_original(tmp_path: Path, resolution: int) -> None:
    # M-22: relative error at most 1e-5 on random weights.
    state = _random_state(resolution)
    content = {"g_ema": state, "latent_avg": torch.zeros(512), "args": argparse.Namespace(size=resolution, lr=0.002)}
    conversion = read_checkpoint(_save(tmp_path / "original.pt", content))
    assert (conversion.config.resolution, conversion.config.channel_base) == (resolution, 32768)
    generator = Generator(conversion.config)
    generator.load_state_dict(dict(conversion.generator))
    codes = torch.randn(2, conversion.config.n_styles, 512, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, got = _reference(state, codes), generator(codes)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_channel_multiplier_is_read_from_the_shapes(tmp_path: Path) -> None:
    # 64 px: 256 channels with multiplier 1, 512 with 2.
    content = {"g_ema": _random_state(64, w_dim=16, multiplier=1, layers=2), "latent_avg": torch.zeros(16)}
    assert read_checkpoint(_save(tmp_path / "narrow.pt", content)).config.channel_base == 16384


def test_average_code_is_stored_or_computed(tmp_path: Path, small: State) -> None:
    stored = torch.randn(16)
    conversion = read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "latent_avg": stored}))
    assert conversion.provenance.w_avg == "latent_avg"
    assert torch.equal(conversion.w_avg, stored.expand(8, 16))
    conversion = read_checkpoint(_save(tmp_path / "b.pt", {"g_ema": small}))
    assert conversion.provenance.w_avg == "mapping"
    # The mean over 10 000 draws is the mean over others to a few hundredths of a deviation.
    w = _reference_mapping(small, torch.randn(20_000, 16, generator=torch.Generator().manual_seed(3)))
    assert (conversion.w_avg[0] - w.mean(0)).abs().max() <= 0.05 * w.std()
    assert torch.equal(conversion.w_avg, conversion.w_avg[:1].expand(8, -1))


def test_provenance_names_the_file(tmp_path: Path, small: State) -> None:
    path = _save(tmp_path / "a.pt", {"g_ema": small, "g": small, "latent_avg": torch.zeros(16)})
    provenance = read_checkpoint(path).provenance
    assert provenance.layout == "rosinality"
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_psp_decoder_and_encoder(tmp_path: Path, small: State) -> None:
    torch.manual_seed(1)
    config = NetworkConfig(resolution=32, w_dim=16, z_dim=16, encoder="ir-se50", channel_base=32768, channel_max=512)
    encoder = PaperEncoder(config)
    state = {f"decoder.{n}": v for n, v in small.items()} | {f"encoder.{n}": v for n, v in encoder.state_dict().items()}
    content = {"state_dict": state, "latent_avg": torch.randn(8, 16), "opts": {"output_size": 32, "device": "cuda"}}
    conversion = read_checkpoint(_save(tmp_path / "psp.pt", content))
    assert (conversion.provenance.layout, conversion.config.encoder) == ("psp", "ir-se50")
    model = StyleModel.build(config, 1)
    conversion.apply(model)
    assert torch.equal(model.offset.w_avg, content["latent_avg"])
    assert torch.equal(model.remapping.offset, content["latent_avg"][4:])
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name])
    codes = torch.randn(1, 8, 16)
    torch.testing.assert_close(model.decode(codes), _reference(small, codes), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="encoder does not fit this configuration"):
        conversion.apply(
            StyleModel.build(NetworkConfig(resolution=32, w_dim=16, channel_base=32768, channel_max=512), 1)
        )


def test_apply_keeps_the_own_encoder_where_the_file_has_none(tmp_path: Path, small: State) -> None:
    stored = torch.randn(16)
    conversion = read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "latent_avg": stored}))
    model = StyleModel.build(conversion.config, 1)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    conversion.apply(model)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert torch.equal(model.generator.const, small["input.input"])
    assert torch.equal(model.offset.w_avg[-1], stored)


def test_apply_refuses_other_sizes(tmp_path: Path, small: State) -> None:
    conversion = read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "latent_avg": torch.zeros(16)}))
    with pytest.raises(ConfigError, match="generator does not fit this configuration"):
        conversion.apply(StyleModel.build(NetworkConfig(resolution=32, w_dim=16), 1))


def test_saved_as_safetensors_with_a_record(tmp_path: Path, small: State) -> None:
    conversion = read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "latent_avg": torch.zeros(16)}))
    conversion.save(tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(tensors["generator.const"], small["input.input"])
    assert {name.partition(".")[0] for name in tensors} == {"generator", "mapping", "w_avg"}
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record == {
        "channel_base": 32768, "layout": "rosinality", "resolution": 32, "sha256": conversion.provenance.sha256,
        "w_avg": "latent_avg", "w_dim": 16,
    }  # fmt: skip


# Strictness -------------------------------------------------------------------


def _without(name: str) -> Callable[[State], State]:
    return lambda state: {n: v for n, v in state.items() if n != name}


def _with(name: str, value: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("convs.3.noise.weight"), "has no convs.3.noise.weight"),
        (_without("style.2.bias"), "has no style.2.bias"),
        (_without("noises.noise_4"), "has no noises.noise_4"),
        (_without("convs.5.conv.weight"), "holds no StyleGAN2 generator"),
        (_without("to_rgbs.0.upsample.kernel"), "has no to_rgbs.0.upsample.kernel"),
        (_with("surprise", torch.zeros(1)), "unknown name surprise"),
        (_with("style.9.bias", torch.zeros(1)), "unknown name style.9.bias"),
        (_with("to_rgb1.bias", torch.zeros(3)), r"to_rgb1.bias of the checkpoint is \(3,\), expected \(1, 3, 1, 1\)"),
        (_with("convs.0.conv.blur.kernel", torch.ones(4, 4) / 4), "another filter than"),
        (_with("input.input", torch.full((1, 512, 4, 4), math.nan)), "input.input .* not finite"),
    ],
)
def test_a_missing_extra_or_odd_tensor_is_an_error(
    tmp_path: Path, small: State, change: Callable[[State], State], message: str
) -> None:
    path = _save(tmp_path / "odd.pt", {"g_ema": change(small), "latent_avg": torch.zeros(16)})
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {}}, "not of rosinality's or pSp's layout"),
        ({"state_dict": {"face_pool.weight": torch.zeros(1)}}, "unknown name face_pool.weight"),
        ({"g_ema": {"a": 1}}, "something else than tensors"),
        ({"g_ema": {}}, "holds no StyleGAN2 generator"),
        ([1, 2], "holds a list, expected tensors by name"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(_save(tmp_path / "other.pt", content))


def test_a_generator_without_mapping_network_is_refused(tmp_path: Path, small: State) -> None:
    bare = {name: value for name, value in small.items() if not name.startswith("style.")}
    with pytest.raises(ConfigError, match="has no mapping network"):
        read_checkpoint(_save(tmp_path / "bare.pt", {"g_ema": bare, "latent_avg": torch.zeros(16)}))


def test_an_unknown_name_in_the_encoder_is_refused(tmp_path: Path, small: State) -> None:
    config = NetworkConfig(resolution=32, w_dim=16, z_dim=16, encoder="ir-se50", channel_base=32768, channel_max=512)
    encoder = PaperEncoder(config).state_dict() | {"surprise": torch.zeros(1)}
    state = {f"decoder.{n}": v for n, v in small.items()} | {f"encoder.{n}": v for n, v in encoder.items()}
    with pytest.raises(ConfigError, match="unknown name surprise in the checkpoint's encoder"):
        read_checkpoint(_save(tmp_path / "psp.pt", {"state_dict": state}))


def test_an_average_of_another_shape_is_refused(tmp_path: Path, small: State) -> None:
    with pytest.raises(ConfigError, match="latent_avg of the checkpoint is no tensor of shape"):
        read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "latent_avg": torch.zeros(15)}))


# Hostile files ----------------------------------------------------------------


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


class _Rebuilt:
    pass


@pytest.mark.parametrize("reader", [read_checkpoint, read_state_dict])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    tmp_path: Path, small: State, reader: Callable[[Path], object]
) -> None:
    target = tmp_path / "owned"
    path = _save(tmp_path / "hostile.pt", {"g_ema": small, "args": _Payload(target)})
    with pytest.raises(ConfigError, match=r"refused to read the checkpoint hostile\.pt") as caught:
        reader(path)
    assert caught.value.why
    assert not target.exists()
    # The file is live ammunition: without the rule it would have worked.
    torch.load(path, weights_only=False)  # noqa: TID251 - our own file
    assert target.exists()


@pytest.mark.parametrize("content", [nn.Linear(2, 2), {"g_ema": nn.Linear(2, 2)}, {"args": _Rebuilt()}])
def test_pickled_objects_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ConfigError, match="refused to read the checkpoint"):
        read_checkpoint(_save(tmp_path / "object.pt", content))


def test_a_namespace_cannot_smuggle_other_globals(tmp_path: Path, small: State) -> None:
    options = argparse.Namespace(hook=copyreg.pickle)
    with pytest.raises(ConfigError, match="refused to read the checkpoint"):
        read_checkpoint(_save(tmp_path / "a.pt", {"g_ema": small, "args": options}))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(40), b"\x80\x02]."])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"damaged.pt"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"refused to read the checkpoint none.pt"):
        read_checkpoint(tmp_path / "none.pt")


def test_state_dict_of_tensors(tmp_path: Path) -> None:
    state = {"b": torch.ones(2), "a": torch.zeros(3)}
    got = read_state_dict(_save(tmp_path / "state.pt", state))
    assert list(got) == ["b", "a"]
    assert all(torch.equal(got[name], state[name]) for name in state)
    with pytest.raises(ConfigError, match=r"state.pt holds something else than tensors"):
        read_state_dict(_save(tmp_path / "state.pt", {"a": 1}))
