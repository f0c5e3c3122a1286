"""Parts that several networks share.

Equalised layers (M-15, M-21): weights are drawn from the standard normal
distribution and scaled by 1 / sqrt(fan_in) when they are used, so that Adam
moves every layer at the same relative speed. The compact encoder has its own
convention (M-19) and uses none of them; what both encoders have in common is
how they reduce the picture and which level of the pyramid a row reads (M-18,
M-20).

Letters: N batch, I and O channels in and out, H side, k kernel side, R
resolution, S side of an encoder's input.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl import streams
from modify_fl.errors import ShapeError
from modify_fl.ops import LEAKY_GAIN, leaky_relu

__all__ = [
    "PYRAMID_STRIDES",
    "EqualConv2d",
    "EqualLinear",
    "encoder_input",
    "encoder_side",
    "level_of_row",
    "seeded",
]

PYRAMID_STRIDES = (16, 8, 4)
"""Strides of the three levels of an encoder's pyramid, coarse first (M-18)."""

_FIRST_ROWS = (0, 3, 7)
_ENCODER_MAX = 256


def level_of_row(row: int) -> int:
    """Return the pyramid level that row ``row`` of a code reads: 0 coarse, 1 middle, 2 fine (M-18, M-20)."""
    return sum(row >= first for first in _FIRST_ROWS) - 1


def encoder_side(resolution: int) -> int:
    """Return S, the side of what an encoder looks at: min(R, 256) (M-18)."""
    return min(resolution, _ENCODER_MAX)


def encoder_input(x: Tensor, resolution: int) -> Tensor:
    """Check pictures and reduce them to the encoder's side with the filter of M-49.

    Args:
        x: [N, 3, R, R] in [-1, 1].
        resolution: R.

    Returns:
        [N, 3, S, S] in the layout of ``x``.

    Raises:
        ShapeError: ``x`` is not [N, 3, R, R].
    """
    if x.ndim != 4 or x.shape[1:] != (3, resolution, resolution):
        raise ShapeError(f"expected pictures [N, 3, {resolution}, {resolution}], got {tuple(x.shape)}")
    side = encoder_side(resolution)
    if side == resolution:
        return x
    return functional.interpolate(x, size=side, mode="bicubic", antialias=True, align_corners=False)  # [N, 3, S, S]


@contextlib.contextmanager
def seeded(seed: int, stream: str) -> Iterator[None]:
    """Let torch's CPU draws inside the block depend on ``seed`` and ``stream`` alone.

    The random state of the process is as before when the block ends.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.generator(seed, stream).initial_seed())
        yield


class EqualLinear(nn.Module):
    """Fully connected layer with equalised learning rate."""

    def __init__(
        self, inputs: int, outputs: int, *, bias_init: float = 0.0, lr_mul: float = 1.0, activate: bool = False
    ) -> None:
        """Draw the weights.

        Args:
            inputs: I, columns of the input.
            outputs: O, columns of the output.
            bias_init: Effective value of the bias at the start.
            lr_mul: Learning-rate multiplier of weights and bias.
            activate: Whether scaled leaky ReLU follows.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init / lr_mul))
        self._activate = activate
        self._gain = lr_mul / math.sqrt(inputs) * (LEAKY_GAIN if activate else 1)
        self._bias_gain = lr_mul * (LEAKY_GAIN if activate else 1)

    @torch.no_grad()
    def assign(self, weight: Tensor, bias: Tensor) -> None:
        """Make this layer compute ``weight @ x + bias``, before its activation.

        Args:
            weight: float32 [O, I].
            bias: float32 [O].
        """
        gain = LEAKY_GAIN if self._activate else 1
        self.weight.copy_(weight * (gain / self._gain))
        self.bias.copy_(bias * (gain / self._bias_gain))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I] to [N, O]."""
        y = functional.linear(x, self.weight * self._gain, self.bias * self._bias_gain)  # [N, O]
        return leaky_relu(y) if self._activate else y

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """Return a plain layer that maps as this one does before its activation (M-19)."""
        plain = nn.Linear(
            self.weight.shape[1], self.weight.shape[0], device=self.weight.device, dtype=self.weight.dtype
        ).requires_grad_(self.weight.requires_grad)
        plain.weight.copy_(self.weight * self._gain)
        plain.bias.copy_(self.bias * self._bias_gain)
        return plain


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *,
        stride: int = 1, padding: int = 0, bias: bool = True, activate: bool = False, gain: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw the weights.

        Args:
            inputs: I, channels in.
            outputs: O, channels out.
            kernel: k, side of the kernel.
            stride: Distance of two outputs.
            padding: Zeros on each side.
            bias: Whether a bias is added; it starts at 0.
            activate: Whether scaled leaky ReLU follows.
            gain: Factor on the result.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self._stride, self._padding, self._activate = stride, padding, activate
        self._bias_gain = gain * (LEAKY_GAIN if activate else 1)
        self._gain = self._bias_gain / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, H] to [N, O, H', H'] with H' = (H + 2 padding - k) / stride + 1."""
        bias = None if self.bias is None else self.bias * self._bias_gain
        y = functional.conv2d(x, self.weight * self._gain, bias, self._stride, self._padding)  # [N, O, H', H']
        return leaky_relu(y) if self._activate else y
