"""Filters, modulated convolution and activation (M-15, M-21, M-50)."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from modify_fl import ops
from modify_fl.errors import ShapeError

# Small enough for numerical derivatives, and of the two parities of side.
_EVEN, _ODD = (2, 3, 6, 6), (2, 3, 5, 5)


def _draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def _filtered(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    # One plane at a time: slow, and nothing to get wrong.
    planes = functional.pad(x, (before, after, before, after)).flatten(0, 1)[:, None]
    return functional.conv2d(planes, kernel[None, None].to(x)).unflatten(0, x.shape[:2])[:, :, 0]


def test_filter_is_the_outer_product() -> None:
    # [1, 3, 3, 1] has the sum 8, so its outer product has the sum 64 (M-15).
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    assert torch.equal(ops.fir_filter(64.0), torch.outer(taps, taps))
    assert ops.fir_filter().sum() == 1
    assert ops.fir_filter(4.0).sum() == 4


def test_filter_made_in_inference_mode_serves_training() -> None:
    ops._fir_kernel.cache_clear()
    with torch.inference_mode():
        ops.blur(_draw(*_EVEN, dtype=torch.float32), padding=1)
    x = _draw(*_EVEN, dtype=torch.float32).requires_grad_()
    ops.blur(x, padding=1).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [_EVEN, _ODD])
def test_blur(shape: tuple[int, ...], padding: int) -> None:
    x = _draw(*shape)
    torch.testing.assert_close(
        ops.blur(x, padding=padding, total=4.0), _filtered(x, ops.fir_filter(4.0), padding, padding)
    )


def test_downsample_keeps_every_second_pixel_of_the_filtered_picture() -> None:
    x = _draw(*_EVEN)
    expected = _filtered(x, ops.fir_filter(), 1, 1)[:, :, ::2, ::2]
    torch.testing.assert_close(ops.downsample2d(x), expected)


@pytest.mark.parametrize("shape", [_EVEN, _ODD])
def test_upsample_inserts_zeros_and_filters(shape: tuple[int, ...]) -> None:
    x = _draw(*shape)
    spread = torch.zeros(*shape[:2], 2 * shape[2], 2 * shape[3], dtype=x.dtype)
    spread[:, :, ::2, ::2] = x
    torch.testing.assert_close(ops.upsample2d(x), _filtered(spread, ops.fir_filter(4.0), 2, 1))


def test_upsample_keeps_a_constant_inside() -> None:
    # Each output weighs two inputs per direction with 1/4 and 3/4; only the
    # outermost row and column miss one.
    y = ops.upsample2d(torch.ones(1, 1, 4, 4))
    assert torch.equal(y[:, :, 1:-1, 1:-1], torch.ones(1, 1, 6, 6))


@pytest.mark.parametrize("function", [lambda x: ops.blur(x, padding=2), ops.downsample2d, ops.upsample2d])
def test_filters_keep_the_type_and_their_accuracy_in_bfloat16(function: Callable[[Tensor], Tensor]) -> None:
    x = _draw(2, 8, 16, 16, dtype=torch.bfloat16)
    y = function(x)
    assert y.dtype == torch.bfloat16
    # bfloat16 has 8 bits: one rounding of at most 2^-9 of the largest output.
    exact = function(x.double())
    assert (y - exact).abs().max() <= 2**-8 * exact.abs().max()


def _modulated(**options: object) -> Callable[..., Tensor]:
    return lambda x, weight, styles: ops.modulated_conv2d(x, weight, styles, **options)


_WEIGHT, _STYLES = (2, 3, 3, 3), (2, 3)
_DIFFERENTIABLE: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "blur 0": (lambda x: ops.blur(x, padding=0), (_ODD,)),
    "blur 2": (lambda x: ops.blur(x, padding=2), (_EVEN,)),
    "downsample even": (ops.downsample2d, (_EVEN,)),
    "downsample odd": (ops.downsample2d, (_ODD,)),
    "upsample": (ops.upsample2d, (_ODD,)),
    "leaky": (ops.leaky_relu_scaled, (_ODD,)),
    "pixel norm": (ops.pixel_norm, ((3, 5),)),
    "minibatch std": (lambda x: ops.minibatch_std(x, 2), ((4, 2, 3, 3),)),
    "modulated": (_modulated(), (_ODD, _WEIGHT, _STYLES)),
    "modulated up": (_modulated(up=2), ((2, 3, 3, 3), _WEIGHT, _STYLES)),
    "modulated rgb": (_modulated(demodulate=False), (_ODD, (3, 3, 1, 1), _STYLES)),
    "modulated shifted": (_modulated(shift=_draw(1, 2, 5, 5), gain=1.5), (_ODD, _WEIGHT, _STYLES)),
}


@pytest.mark.parametrize("name", sorted(_DIFFERENTIABLE))
def test_first_and_second_derivatives(name: str) -> None:
    # M-15: penalties differentiate gradients, so every op needs both.
    function, shapes = _DIFFERENTIABLE[name]
    inputs = tuple(_draw(*shape).requires_grad_() for shape in shapes)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_second_derivative_of_a_filter_is_the_filter_again() -> None:
    # ops.py: the library's own second derivative of a depthwise convolution
    # falls back to a loop; ours is the filter again, so the gradient of the
    # gradient is built from the same function.
    x = _draw(*_EVEN).requires_grad_()
    (slope,) = torch.autograd.grad(ops.blur(x, padding=1).square().sum(), x, create_graph=True)
    assert type(slope.grad_fn).__name__ == "_FirBackward"


def _per_sample(x: Tensor, weight: Tensor, styles: Tensor, *, up: int, demodulate: bool) -> Tensor:
    # Equations 1 and 3 of StyleGAN2 as printed: a kernel for every sample.
    outputs = []
    for sample, style in zip(x, styles, strict=True):
        kernel = weight / math.sqrt(weight[0].numel()) * style[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up == 1:
            outputs.append(functional.conv2d(sample[None], kernel, padding=weight.shape[-1] // 2))
        else:
            wide = functional.conv_transpose2d(sample[None], kernel.transpose(0, 1), stride=2)
            outputs.append(_filtered(wide, ops.fir_filter(4.0), 1, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize(("up", "demodulate", "side"), [(1, True, 3), (2, True, 3), (1, False, 1)])
def test_unfused_equals_per_sample_kernels(up: int, demodulate: bool, side: int) -> None:
    # M-15, and row 6 of the table of section 8: demodulation, not AdaIN.
    x, weight = _draw(3, 16, 8, 8, dtype=torch.float32), _draw(12, 16, side, side, dtype=torch.float32)
    styles = 1 + _draw(3, 16, dtype=torch.float32)
    got = ops.modulated_conv2d(x, weight, styles, up=up, demodulate=demodulate)
    expected = _per_sample(x, weight, styles, up=up, demodulate=demodulate)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_demodulation_ignores_the_size_of_the_styles() -> None:
    x, weight = _draw(*_ODD, dtype=torch.float32), _draw(*_WEIGHT, dtype=torch.float32)
    styles = 1 + _draw(*_STYLES, dtype=torch.float32)
    torch.testing.assert_close(
        ops.modulated_conv2d(x, weight, styles), ops.modulated_conv2d(x, weight, 10 * styles), rtol=1e-4, atol=1e-5
    )


def test_gain_and_shift() -> None:
    x, weight = _draw(*_ODD), _draw(*_WEIGHT)
    styles, shift = 1 + _draw(*_STYLES), _draw(1, 2, 5, 5)
    plain = ops.modulated_conv2d(x, weight, styles)
    torch.testing.assert_close(ops.modulated_conv2d(x, weight, styles, gain=3.0, shift=shift), 3 * plain + shift)
    rgb = ops.modulated_conv2d(x, weight, styles, demodulate=False)
    torch.testing.assert_close(
        ops.modulated_conv2d(x, weight, styles, demodulate=False, gain=3.0, shift=shift), 3 * rgb + shift
    )


def test_demodulation_is_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    # M-50. Squares of styles near 300 lose every second digit in bfloat16.
    seen: list[Tensor] = []
    real = ops._demodulation

    def spy(weight: Tensor, styles: Tensor) -> Tensor:
        seen.append(real(weight, styles))
        return seen[-1]

    monkeypatch.setattr(ops, "_demodulation", spy)
    x, weight = _draw(*_ODD, dtype=torch.float32), _draw(*_WEIGHT, dtype=torch.float32)
    styles = 300 + _draw(*_STYLES, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = ops.modulated_conv2d(x, weight, styles)
    assert y.dtype == torch.bfloat16
    assert seen[0].dtype == torch.float32
    energy = (weight[None] * styles[:, None, :, None, None]).square().sum((2, 3, 4)) / weight[0].numel()
    torch.testing.assert_close(seen[0], energy.rsqrt(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("columns", "up"), [(4, 1), (3, 3)])
def test_modulated_refuses_what_does_not_fit(columns: int, up: int) -> None:
    with pytest.raises(ShapeError, match=r"expected styles \[N, 3\] and up 1 or 2"):
        ops.modulated_conv2d(_draw(*_ODD), _draw(*_WEIGHT), _draw(2, columns), up=up)


def test_activation() -> None:
    # 2 -> 2 sqrt 2; -1 -> -0.2 sqrt 2 (M-15).
    y = ops.leaky_relu_scaled(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(y, torch.tensor([2 * math.sqrt(2), -0.2 * math.sqrt(2)]))
    assert torch.equal(ops.leaky_relu(torch.tensor([2.0, -1.0])), torch.tensor([2.0, -0.2]))


def test_pixel_norm_has_mean_square_one() -> None:
    z = _draw(5, 64, dtype=torch.float32) * 7
    torch.testing.assert_close(ops.pixel_norm(z).square().mean(1), torch.ones(5))


def test_minibatch_std_of_pairs() -> None:
    # Groups are {0, 2} and {1, 3}. The first pair differs by 2 everywhere: its
    # standard deviation is 1. The second is equal: only epsilon is left.
    x = torch.tensor([0.0, 5.0, 2.0, 5.0])[:, None, None, None].expand(4, 3, 2, 2)
    y = ops.minibatch_std(x, 2)
    assert y.shape == (4, 4, 2, 2)
    torch.testing.assert_close(y[:, 3, 0, 0], torch.tensor([1.0, 1e-4, 1.0, 1e-4]), rtol=1e-4, atol=1e-7)


def test_minibatch_std_of_a_batch_that_no_group_divides() -> None:
    # Three samples, groups of four wanted: one group of three.
    y = ops.minibatch_std(_draw(3, 2, 2, 2), 4)
    assert len(y[:, 2].unique()) == 1
