"""Tensor functions of the networks: filters, modulated convolution, activation.

Rules kept here (M-15, M-50):

* no compiled extension, no ``grid_sample``, no grouped per-sample kernels;
* the FIR filter is [1, 3, 3, 1], a depthwise convolution;
* every function has a second derivative, because penalties need one (M-7);
* demodulation is float32 under autocast.

Speed of the FIR filter, forward and backward, B = 16, one thread, in units of
the depthwise convolution in ``channels_last`` and float32, for 128 channels at
17 px, 64 at 33 and 32 at 65: depthwise bfloat16 0.5-0.8, two separable
depthwise passes 1.2-2.7, three 2x2 average pools (the same filter) 1.8-2.7,
shifts and adds 4-7, depthwise in the contiguous layout 1.3-1.6, one plane per
channel 80-110. Two cases are slow inside torch and are avoided: the library's
second derivative of a depthwise convolution costs 4 to 9 times that of
``_Fir``, which differentiates by calling itself; and depthwise convolutions of
stride 2 in bfloat16 cost 10 to 50 times those in float32, so these run in
float32. Transposed convolution of stride 2 beats four convolutions by phase 2
to 4 times and zero insertion 2 to 8 times.

Letters: N batch, C channels, I and O channels in and out, H and W sides, k
kernel side, P elements of padding.
"""

import contextlib
import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl.errors import ShapeError

__all__ = [
    "LEAKY_GAIN",
    "blur",
    "downsample2d",
    "fir_filter",
    "float32_region",
    "leaky_relu",
    "leaky_relu_scaled",
    "minibatch_std",
    "modulated_conv2d",
    "pixel_norm",
    "upsample2d",
    "widen",
]

LEAKY_GAIN = math.sqrt(2)
"""Factor behind the activation; it keeps the variance of a normal input near 1."""

_TAPS = (1.0, 3.0, 3.0, 1.0)
_SLOPE = 0.2
_EPSILON = 1e-8


def float32_region(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context in which autocast is off on the device of ``x`` (M-50)."""
    if x.device.type == "meta":  # autocast does not know the device, and nothing is computed there
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widen(x: Tensor) -> Tensor:
    """Return ``x`` as float32, or as it is where its type is not a narrow one (M-50)."""
    return x.float() if x.dtype in {torch.bfloat16, torch.float16} else x


@functools.cache
def _fir_kernel(total: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # A tensor born in inference mode could not serve a later training step.
    with torch.inference_mode(mode=False):
        taps = torch.tensor(_TAPS, dtype=torch.float64, device="cpu")
        kernel = torch.outer(taps, taps)
        return (kernel * (total / kernel.sum())).to(device=device, dtype=dtype)


def fir_filter(total: float = 1.0, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """Return the outer product of [1, 3, 3, 1] with itself (M-15).

    Args:
        total: Sum of the result; 4 where the picture doubles.
        dtype: Type of the result.
        device: Place of the result.

    Returns:
        [4, 4], equal to its own mirror images. Shared: do not write to it.
    """
    return _fir_kernel(float(total), dtype, torch.device(device))


@dataclass(frozen=True)
class _Filter:
    """How ``_Fir`` filters."""

    total: float
    padding: int
    stride: int = 1
    extra: int | None = None  # a number makes it the adjoint, with this output padding


class _Fir(torch.autograd.Function):
    """Depthwise FIR whose derivative is its own adjoint, any number of times.

    The filter is symmetric, so the adjoint of filtering with stride s and
    padding P is the transposed convolution with the same numbers, and back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: _Filter) -> Tensor:  # noqa: ANN401 - torch's signature
        """Map [N, C, H, H] to the filtered tensor, type of ``x``."""
        ctx.how, ctx.side = how, x.shape[-1]
        y = widen(x) if how.stride > 1 else x
        groups = y.shape[1]
        kernel = fir_filter(how.total, dtype=y.dtype, device=y.device).expand(groups, 1, -1, -1)  # [C, 1, 4, 4]
        with float32_region(x):
            if how.extra is None:
                y = functional.conv2d(y, kernel, None, how.stride, how.padding, groups=groups)
            else:
                y = functional.conv_transpose2d(y, kernel, None, how.stride, how.padding, how.extra, groups)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's signature
        """Apply the adjoint."""
        how: _Filter = ctx.how
        (grad,) = grads
        if how.stride == 1:  # the adjoint is a plain filter too, which is faster than a transposed one
            adjoint = replace(how, padding=len(_TAPS) - 1 - how.padding)
        elif how.extra is None:
            side = (grad.shape[-1] - 1) * how.stride - 2 * how.padding + len(_TAPS)
            adjoint = replace(how, extra=ctx.side - side)
        else:
            adjoint = replace(how, extra=None)
        return _fir(grad, adjoint), None


def _fir(x: Tensor, how: _Filter) -> Tensor:
    result: Tensor = _Fir.apply(x, how)
    return result


def blur(x: Tensor, *, padding: int, total: float = 1.0) -> Tensor:
    """Filter every channel with [1, 3, 3, 1] in both directions (M-15).

    Args:
        x: Square activations [N, C, H, H], any float type.
        padding: P, zeros added on each side, 0 to 3.
        total: Sum of the filter.

    Returns:
        [N, C, H + 2P - 3, H + 2P - 3], type of ``x``.
    """
    return _fir(x, _Filter(total, padding))


def downsample2d(x: Tensor) -> Tensor:
    """Filter with padding (1, 1) and keep every second pixel (M-21).

    Args:
        x: Square activations [N, C, H, H], H even.

    Returns:
        [N, C, H/2, H/2], type of ``x``.
    """
    return _fir(x, _Filter(1.0, 1, stride=2))


def upsample2d(x: Tensor) -> Tensor:
    """Insert zeros, then filter with padding (2, 1): the doubling of the RGB skips (M-15).

    Args:
        x: Square activations [N, C, H, H].

    Returns:
        [N, C, 2H, 2H], type of ``x``; a constant stays constant away from the border.
    """
    # Zero insertion and filter in one: the transposed convolution never
    # multiplies the zeros, and its padding 1 is the padding (2, 1) seen backwards.
    return _fir(x, _Filter(4.0, 1, stride=2, extra=0))


def leaky_relu(x: Tensor) -> Tensor:
    """Return leaky ReLU of slope 0.2, without its factor.

    Positive factors pass through the activation, so callers that scale ``x``
    anyway put ``LEAKY_GAIN`` into that scale and save a pass over the tensor.
    """
    return functional.leaky_relu(x, _SLOPE)


def leaky_relu_scaled(x: Tensor) -> Tensor:
    """Return leaky ReLU of slope 0.2 times the root of 2 (M-15)."""
    return functional.leaky_relu(x, _SLOPE) * LEAKY_GAIN


def pixel_norm(z: Tensor) -> Tensor:
    """Scale every row to mean square 1 (M-21).

    Args:
        z: float32 [N, Z].

    Returns:
        z / sqrt(mean z^2 + 1e-8), same shape.
    """
    return z * (z.square().mean(1, keepdim=True) + _EPSILON).rsqrt()


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append the mean standard deviation over groups of samples as a channel (M-21).

    Compares samples of a batch with each other: never under differential
    privacy.

    Args:
        x: Activations [N, C, H, W].
        group: Samples per group; the largest divisor of N up to this number is used.

    Returns:
        [N, C + 1, H, W], type of ``x``.
    """
    batch, _, height, width = x.shape
    size = next(g for g in range(min(group, batch), 0, -1) if batch % g == 0)
    groups = widen(x).reshape(size, -1, *x.shape[1:])  # [g, N/g, C, H, W]
    deviation = (groups.var(0, correction=0) + _EPSILON).sqrt().mean((1, 2, 3))  # [N/g]
    # Sample i belongs to group i mod N/g, as in the split above.
    plane = deviation.repeat(size).to(x.dtype)[:, None, None, None].expand(-1, 1, height, width)  # [N, 1, H, W]
    return torch.cat([x, plane], 1)


def _demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return 1 / sqrt(sum over i of s_i^2 q_oi + 1e-8), float32 [N, O], for a kernel scaled by 1 / sqrt(fan_in)."""
    energy = widen(weight).square().sum((2, 3)) / weight[0].numel()  # [O, I]
    return (styles.square() @ energy.t() + _EPSILON).rsqrt()


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    up: int = 1,
    demodulate: bool = True,
    gain: float = 1.0,
    shift: Tensor | None = None,
) -> Tensor:
    """Convolve each sample with its own modulated, demodulated kernel.

    The kernel is shared: inputs are scaled by the styles and outputs by the
    demodulation, which is the same function (M-15).

    Source: Karras et al. 2020 (StyleGAN2), equations 1 and 3.

    Args:
        x: Activations [N, I, H, H], or [1, I, H, H] for all samples alike.
        weight: Kernel with unit variance, float32 [O, I, k, k], k odd; it is
            divided by sqrt(fan_in) = sqrt(I k k) here.
        styles: Modulation coefficients, float32 [N, I], unitless, near 1.
        up: 1, or 2 for a transposed convolution and the FIR filter behind it.
        demodulate: Whether outputs are scaled back to unit variance.
        gain: Factor on the result, before ``shift``.
        shift: Added to the result, anything that broadcasts to it.

    Returns:
        [N, O, up*H, up*H]; type of ``x``, or autocast's type.

    Raises:
        ShapeError: ``styles`` does not have I columns, or ``up`` is neither 1 nor 2.
    """
    if styles.ndim != 2 or styles.shape[1] != weight.shape[1] or up not in {1, 2}:
        raise ShapeError(f"expected styles [N, {weight.shape[1]}] and up 1 or 2, got {tuple(styles.shape)} and {up}")
    with float32_region(x):
        styles = widen(styles)
        gain = gain / math.sqrt(weight[0].numel())
        # The small tensors carry every factor, so the large ones are not walked again.
        after = gain * _demodulation(weight, styles) if demodulate else None  # [N, O]
        before = styles if demodulate else styles * gain
    x = x * before[:, :, None, None].to(x.dtype)  # [N, I, H, H]
    if up == 1:
        y = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
    else:
        y = functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, O, 2H+1, 2H+1]
        y = blur(y, padding=1, total=4.0)  # [N, O, 2H, 2H]
    if after is None:
        return y if shift is None else y + shift.to(y.dtype)
    scale = after[:, :, None, None].to(y.dtype)
    return y * scale if shift is None else torch.addcmul(shift.to(y.dtype), y, scale)
