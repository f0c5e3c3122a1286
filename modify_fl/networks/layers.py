"""Equalised layers of generator, remapping network and discriminator (M-15, M-21).

Weights are drawn from the standard normal distribution and scaled by
1 / sqrt(fan_in) when they are used, so that Adam moves every layer at the same
relative speed. The encoder has its own convention (M-19) and uses none of this.

Letters: N batch, I and O channels in and out, H side, k kernel side.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl import streams
from modify_fl.ops import LEAKY_GAIN, leaky_relu

__all__ = ["EqualConv2d", "EqualLinear", "seeded"]


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

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I] to [N, O]."""
        y = functional.linear(x, self.weight * self._gain, self.bias * self._bias_gain)  # [N, O]
        return leaky_relu(y) if self._activate else y


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
