"""Generator (M-13 to M-16, M-50)."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from modify_fl.config import NetworkConfig, preset
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.synthesis import Generator, StyledConv, ToRgb, conv_resolution, rgb_row

_RESOLUTIONS = (32, 64, 128, 256, 512, 1024)


def _config(resolution: int = 32, **sizes: int) -> NetworkConfig:
    small = {"w_dim": 8, "z_dim": 8, "channel_base": 512, "channel_max": 16}
    return NetworkConfig(resolution=resolution, **(small | sizes))


def _generator(**sizes: int) -> Generator:
    torch.manual_seed(3)
    generator = Generator(_config(**sizes))
    for conv in generator.convs:  # 0 at the start (M-16), which would hide the noise
        nn.init.constant_(conv.noise_strength, 0.1)
    return generator


def _codes(count: int = 2, rows: int = 8) -> Tensor:
    return torch.randn(count, rows, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("resolution", _RESOLUTIONS)
def test_every_resolution_builds(resolution: int) -> None:
    # M-13: n = 2 log2 R - 2 rows, n - 1 convolutions, one RGB layer per level.
    config = NetworkConfig(resolution=resolution)
    rows = 2 * (resolution.bit_length() - 1) - 2
    with torch.device("meta"):
        generator = Generator(config)
        picture = generator(torch.empty(2, rows, config.w_dim))
    assert picture.shape == (2, 3, resolution, resolution)
    assert (len(generator.convs), len(generator.to_rgbs)) == (rows - 1, rows // 2)
    sides = [conv.noise.shape[-1] for conv in generator.convs]
    assert sides == [2 ** ((c + 5) // 2) for c in range(rows - 1)]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("quick-64", 1.06), ("quick-128", 1.08), ("good-128", 1.41), ("gpu-256", 20.8), ("paper-1024", 28.3)],
)
def test_size_of_the_presets(name: str, millions: float) -> None:
    # M-31
    with torch.device("meta"):
        generator = Generator(preset(name).network)
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(millions * 1e6, rel=0.02)


def test_style_rows_to_layers() -> None:
    # M-14 at 64 px, n = 10: convolution c reads row c; RGB of 4, 8, 16, 32, 64
    # pixels reads rows 1, 3, 5, 7, 9.
    generator = _generator(resolution=64)
    codes = _codes(rows=10)
    seen: dict[str, list[int]] = {}

    def record(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = [row for row in range(10) if torch.equal(inputs[0], codes[:, row])]

        return hook

    for name, module in generator.named_modules():
        if isinstance(module, (StyledConv, ToRgb)):
            module.affine.register_forward_pre_hook(record(name))
    generator(codes)
    assert seen == {f"convs.{c}": [c] for c in range(9)} | {f"to_rgbs.{i}": [2 * i + 1] for i in range(5)}


def test_layout_functions() -> None:
    # M-14: sides 4, 8, 8, 16, 16 ...; the last RGB layer alone reads row n - 1.
    assert [conv_resolution(c) for c in range(6)] == [4, 8, 8, 16, 16, 32]
    assert [rgb_row(level) for level in (2, 3, 10)] == [1, 3, 17]


def test_each_row_changes_the_picture_and_the_style_rows_only_its_details() -> None:
    # Row 0 drives 4x4 pixels, the last row only the last RGB layer.
    generator, codes = _generator(), _codes(1)
    plain = generator(codes)
    for row in range(8):
        moved = codes.clone()
        moved[:, row] += 1
        assert (generator(moved) - plain).abs().max() > 1e-3
    # The constant and the first convolution do not see row 1.
    stages: list[Tensor] = []
    generator.convs[0].register_forward_hook(lambda *call: stages.append(call[2]))
    moved = codes.clone()
    moved[:, 1] += 1
    generator(codes)
    generator(moved)
    assert torch.equal(stages[0], stages[1])


def test_noise_modes() -> None:
    generator, codes = _generator(), _codes()
    assert torch.equal(generator(codes), generator(codes))
    assert torch.equal(generator(codes), generator(codes, noise="const"))
    bare = generator(codes, noise="none")
    assert not torch.equal(generator(codes), bare)
    drawn = [generator(codes, noise="random", generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    # Each sample draws its own planes.
    twins = generator(codes[:1].expand(2, -1, -1), noise="random", generator=torch.Generator().manual_seed(1))
    assert not torch.equal(twins[0], twins[1])
    with pytest.raises(ConfigError, match="noise must be one of const, random, none"):
        generator(codes, noise="loud")


def test_noise_is_learned_from_zero_and_depends_on_the_seed_alone() -> None:
    # M-16
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = Generator(_config(), seed=4)
        torch.manual_seed(2)
        second, other = Generator(_config(), seed=4), Generator(_config(), seed=5)
    for a, b, c in zip(first.convs, second.convs, other.convs, strict=True):
        assert a.noise_strength.item() == 0
        assert torch.equal(a.noise, b.noise)
        assert not torch.equal(a.noise, c.noise)


def test_picture_does_not_depend_on_its_batch() -> None:
    generator, codes = _generator(), _codes(3)
    torch.testing.assert_close(generator(codes)[1:2], generator(codes[1:2]), rtol=1e-4, atol=1e-5)


def test_output_is_linear() -> None:
    # M-14: no tanh, no clamp: doubling the RGB layers doubles the picture.
    generator, codes = _generator(), _codes()
    plain = generator(codes)
    with torch.no_grad():
        for layer in generator.to_rgbs:
            layer.weight.mul_(100)
            layer.bias.mul_(100)
    torch.testing.assert_close(generator(codes), 100 * plain, rtol=1e-4, atol=1e-3)


def test_activations_stay_channels_last() -> None:
    generator = _generator()
    layouts: list[bool] = []

    def look(_: nn.Module, __: object, output: Tensor) -> None:
        layouts.append(output.is_contiguous(memory_format=torch.channels_last))

    for conv in generator.convs:
        conv.register_forward_hook(look)
    generator(_codes())
    assert layouts == [True] * 7


def test_autocast_keeps_pictures_and_codes_float32() -> None:
    # M-50. bfloat16 has 8 bits; errors of the layers add up to a few per cent.
    generator, codes = _generator(channel_max=32), _codes()
    exact = generator(codes)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = generator(codes)
    assert narrow.dtype == torch.float32
    assert (narrow - exact).square().mean().sqrt() <= 0.03 * exact.square().mean().sqrt()


def test_second_derivatives_of_the_whole_network() -> None:
    generator = _generator(channel_base=8, channel_max=8).double()
    codes = _codes(1).double().requires_grad_()
    assert gradcheck(generator, (codes,), fast_mode=True)
    assert gradgradcheck(generator, (codes,), fast_mode=True)


def test_every_parameter_gets_a_gradient() -> None:
    generator = _generator()
    generator(_codes()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator.parameters())


@pytest.mark.parametrize("shape", [(2, 7, 8), (2, 8, 9), (8, 8)])
def test_refuses_codes_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected codes \[N, 8, 8\]"):
        _generator()(torch.zeros(shape))
