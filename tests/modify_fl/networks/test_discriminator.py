"""Discriminator (M-7, M-13, M-21, M-41, M-50)."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from modify_fl.config import NetworkConfig, preset
from modify_fl.errors import ShapeError
from modify_fl.networks.discriminator import Discriminator, build_discriminator

_RESOLUTIONS = (32, 64, 128, 256, 512, 1024)


def _config(resolution: int = 32, **sizes: int) -> NetworkConfig:
    small = {"w_dim": 8, "z_dim": 8, "channel_base": 512, "channel_max": 16}
    return NetworkConfig(resolution=resolution, **(small | sizes))


def _pictures(count: int = 2, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("resolution", _RESOLUTIONS)
def test_every_resolution_builds(resolution: int) -> None:
    # M-13; the three middle blocks of the L - 2 (M-41).
    with torch.device("meta"):
        discriminator = Discriminator(NetworkConfig(resolution=resolution))
        features, score = discriminator.features(torch.empty(2, 3, resolution, resolution))
    assert score.shape == (2, 1)
    levels = resolution.bit_length() - 3
    first = (levels - 3) // 2
    assert [f.shape[-1] for f in features] == [resolution // 2 ** (i + 1) for i in range(first, first + 3)]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("quick-64", 1.18), ("quick-128", 1.19), ("good-128", 1.49), ("gpu-256", 24.0), ("paper-1024", 29.0)],
)
def test_size_of_the_presets(name: str, millions: float) -> None:
    # M-31
    with torch.device("meta"):
        discriminator = Discriminator(preset(name).network)
    assert sum(p.numel() for p in discriminator.parameters()) == pytest.approx(millions * 1e6, rel=0.02)


def test_discriminator_sees_native_resolution() -> None:
    # Row 10 of section 8: pictures that differ only in what half the size
    # cannot show get different scores, and every pixel has a say.
    discriminator = build_discriminator(_config(), 1)
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    fine = board.expand(1, 3, -1, -1)
    assert not functional.avg_pool2d(fine, 2).any()
    assert (discriminator(fine) - discriminator(torch.zeros(1, 3, 32, 32))).abs() > 1e-3
    pictures = _pictures().requires_grad_()
    discriminator(pictures).sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().amin() > 0
    for side in (16, 64):
        with pytest.raises(ShapeError, match=r"expected pictures \[N, 3, 32, 32\]"):
            discriminator(_pictures(side=side))


def test_features_end_in_the_same_score() -> None:
    discriminator = build_discriminator(_config(), 1)
    features, score = discriminator.features(_pictures())
    assert torch.equal(score, discriminator(_pictures()))
    assert [tuple(f.shape) for f in features] == [(2, 16, 16, 16), (2, 16, 8, 8), (2, 16, 4, 4)]


def test_block_as_written_down() -> None:
    # M-21: 3x3; FIR with padding (2, 2), 3x3 of stride 2; shortcut FIR with
    # padding (1, 1), 1x1 of stride 2; sum over root 2.
    block = build_discriminator(_config(), 1).blocks[0].double()
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = torch.outer(taps, taps).expand(16, 1, 4, 4)

    def conv(x: Tensor, layer: torch.nn.Module, **options: int) -> Tensor:
        weight = layer.weight / layer.weight[0].numel() ** 0.5
        return functional.conv2d(x, weight, **options)

    def act(x: Tensor, bias: Tensor) -> Tensor:
        return functional.leaky_relu(x + bias[:, None, None], 0.2) * 2**0.5

    with torch.no_grad():
        block.conv1.bias.normal_()
        block.conv2.bias.normal_()
        y = act(conv(x, block.conv1, padding=1), block.conv1.bias)
        y = act(conv(functional.conv2d(y, kernel, padding=2, groups=16), block.conv2, stride=2), block.conv2.bias)
        skip = conv(functional.conv2d(x, kernel, padding=1, groups=16), block.shortcut, stride=2)
        torch.testing.assert_close(block(x), (y + skip) / 2**0.5)


def test_build_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_discriminator(_config(), 7).state_dict()
    torch.manual_seed(2)
    second, other = build_discriminator(_config(), 7).state_dict(), build_discriminator(_config(), 8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["from_rgb.weight"], other["from_rgb.weight"])


def test_second_derivatives_of_the_whole_network() -> None:
    # M-7, M-15: both penalties differentiate the gradient at the picture.
    discriminator = build_discriminator(_config(channel_base=8, channel_max=8), 1).double()
    pictures = _pictures(1).double().requires_grad_()
    assert gradcheck(discriminator, (pictures,), fast_mode=True)
    assert gradgradcheck(discriminator, (pictures,), fast_mode=True)


def test_a_penalty_reaches_every_parameter_it_can() -> None:
    # The last bias only moves the score and has no part in the slope; the
    # other biases reach it through which side of the activation is taken, so
    # their gradient exists and is zero.
    discriminator = build_discriminator(_config(), 1)
    pictures = _pictures().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(pictures).sum(), pictures, create_graph=True)
    slope.square().sum().backward()
    weights = {n: p for n, p in discriminator.named_parameters() if n.endswith("weight")}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in weights.values())


def test_without_minibatch_deviation_samples_do_not_meet() -> None:
    # M-2, M-21
    discriminator, pictures = build_discriminator(_config(), 1), _pictures(4)
    torch.testing.assert_close(discriminator(pictures)[:1], discriminator(pictures[:1]), rtol=1e-4, atol=1e-5)


def test_minibatch_deviation_only_when_asked_for() -> None:
    plain, grouped = (build_discriminator(_config(minibatch_std=size), 1) for size in (0, 4))
    # One channel more enters the last convolution.
    assert grouped.conv.weight.shape[1] == plain.conv.weight.shape[1] + 1 == 17
    pictures = _pictures(4)
    assert (grouped(pictures)[:1] - grouped(pictures[:1].expand(4, -1, -1, -1))[:1]).abs() > 1e-4
    assert grouped(pictures).shape == (4, 1)


def test_autocast_returns_float32_scores() -> None:
    # M-50. bfloat16 has 8 bits; errors of the layers add up to a few per cent.
    discriminator, pictures = build_discriminator(_config(channel_max=32), 1), _pictures(16)
    exact = discriminator(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        score = discriminator(pictures)
    assert score.dtype == torch.float32
    assert (score - exact).square().mean().sqrt() <= 0.05 * exact.square().mean().sqrt()
