"""Generator D: a code of style vectors becomes a picture (M-13 to M-16).

There are n - 1 convolutions. Convolution c reads row c and works at resolution
2^floor((c + 5) / 2); from c = 1 on, odd c doubles the size. The RGB layer of a
level reads the row of the next convolution. The picture is the sum of the RGB
layers over levels, each doubled up to the full size; it is linear and not
clamped. RGB is float32 throughout, whatever autocast does to the convolutions.

Letters: N batch, n rows, W width of a row, I and O channels, r resolution of a
layer, R resolution of the picture.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from modify_fl import streams
from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.layers import EqualLinear
from modify_fl.ops import LEAKY_GAIN, float32_region, leaky_relu, modulated_conv2d, upsample2d, widen

__all__ = ["FIRST_RESOLUTION", "Generator", "Noise", "StyledConv", "ToRgb", "conv_resolution", "rgb_row"]

Noise = Literal["const", "random", "none"]

FIRST_RESOLUTION = 4
"""Side of the learned constant at which the generator starts."""

_FIRST_LEVEL = FIRST_RESOLUTION.bit_length() - 1


def conv_resolution(conv: int) -> int:
    """Return the side in pixels of the output of convolution ``conv``, counted from 0 (M-14)."""
    return int(2 ** ((conv + 2 * _FIRST_LEVEL + 1) // 2))


def rgb_row(level: int) -> int:
    """Return the row of ``w_plus`` that the RGB layer at 2^level pixels reads (M-14)."""
    return 2 * (level - _FIRST_LEVEL) + 1


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation."""

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: int, noise: Tensor) -> None:
        """Draw the weights.

        Args:
            inputs: I.
            outputs: O.
            w_dim: W.
            up: 2 doubles the size.
            noise: Fixed noise [1, 1, r, r]; becomes a buffer (M-16).
        """
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = EqualLinear(w_dim, inputs, bias_init=1.0)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("noise", noise)
        self._up = up

    def forward(self, x: Tensor, w: Tensor, noise: Noise, generator: torch.Generator | None) -> Tensor:
        """Map activations [N, I, r/up, r/up] and rows [N, W] to [N, O, r, r]."""
        with float32_region(x):
            styles = self.affine(widen(w))  # [N, I]
            shift = self._shift(w.shape[0], noise, generator) * LEAKY_GAIN
        y = modulated_conv2d(x, self.weight, styles, up=self._up, gain=LEAKY_GAIN, shift=shift)
        return leaky_relu(y)

    def _shift(self, batch: int, noise: Noise, generator: torch.Generator | None) -> Tensor:
        bias = self.bias[None, :, None, None]  # [1, O, 1, 1]
        if noise == "none":
            return bias
        plane = self.noise
        if noise == "random":
            # Drawn on the CPU, so that the numbers do not depend on the device.
            plane = torch.randn(batch, *plane.shape[1:], generator=generator, device="cpu").to(plane)  # [N, 1, r, r]
        # The sum must lie in memory as the activations do, or adding it to them is slow.
        return (bias + self.noise_strength * plane).contiguous(memory_format=torch.channels_last)  # [1 or N, O, r, r]


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation (M-15)."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        """Draw the weights for I channels and rows of width W."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.affine = EqualLinear(w_dim, inputs, bias_init=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map activations [N, I, r, r] and rows [N, W] to float32 [N, 3, r, r]."""
        with float32_region(x):
            styles = self.affine(widen(w))  # [N, I]
        y = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return widen(y) + self.bias[:, None, None]


class Generator(nn.Module):
    """StyleGAN2 synthesis network of any resolution from 32 to 1024 (M-13)."""

    def __init__(self, config: NetworkConfig, *, seed: int = 0) -> None:
        """Draw weights from torch's current random state and noise from ``seed``.

        Args:
            config: Sizes.
            seed: Seed of the fixed noise (M-16).
        """
        super().__init__()
        self.n_styles, self.w_dim = config.n_styles, config.w_dim
        first = config.channels(FIRST_RESOLUTION)
        self.const = nn.Parameter(torch.randn(1, first, FIRST_RESOLUTION, FIRST_RESOLUTION))
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        inputs = first
        for conv in range(config.n_styles - 1):
            resolution = conv_resolution(conv)
            outputs = config.channels(resolution)
            noise = torch.randn(
                1, 1, resolution, resolution, generator=streams.generator(seed, "noise", conv), device="cpu"
            ).to(self.const.device)
            self.convs.append(StyledConv(inputs, outputs, config.w_dim, up=1 + conv % 2, noise=noise))
            inputs = outputs
        for level in range(_FIRST_LEVEL, config.log2 + 1):
            self.to_rgbs.append(ToRgb(config.channels(2**level), config.w_dim))

    def forward(self, w_plus: Tensor, *, noise: Noise = "const", generator: torch.Generator | None = None) -> Tensor:
        """Render codes.

        Args:
            w_plus: float32 [N, n, W].
            noise: ``"const"`` uses the stored planes, ``"random"`` draws anew,
                ``"none"`` leaves it out.
            generator: CPU generator for ``"random"``; torch's own unless given.

        Returns:
            float32 [N, 3, R, R], about in [-1, 1], not clamped.

        Raises:
            ShapeError: ``w_plus`` is not [N, n, W].
            ConfigError: ``noise`` is none of the three.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.n_styles, self.w_dim):
            raise ShapeError(f"expected codes [N, {self.n_styles}, {self.w_dim}], got {tuple(w_plus.shape)}")
        if noise not in get_args(Noise):
            raise ConfigError(f"noise must be one of {', '.join(get_args(Noise))}, got {noise}")
        rows = w_plus.unbind(1)  # n times [N, W]
        # A shape, not len(): that would be a number, and fix the batch of an exported graph.
        x = self.const.expand(w_plus.shape[0], -1, -1, -1)  # [N, I, 4, 4]
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, rows[0], noise, generator)  # [N, I, 4, 4]
        rgb: Tensor = self.to_rgbs[0](x, rows[rgb_row(_FIRST_LEVEL)])  # [N, 3, 4, 4]
        for level, to_rgb in enumerate(self.to_rgbs[1:], _FIRST_LEVEL + 1):
            last = rgb_row(level) - 1  # second convolution of the level
            for conv in (last - 1, last):
                x = self.convs[conv](x, rows[conv], noise, generator)  # [N, O, 2^level, 2^level]
            rgb = to_rgb(x, rows[rgb_row(level)]) + upsample2d(rgb)  # [N, 3, 2^level, 2^level]
        return rgb
