"""Discriminator Dis: a picture becomes one raw value, larger for real (M-21).

It sees the picture at its own resolution, never reduced or enlarged. Each
residual block halves the size; the last two layers and the result are float32
(M-50).

Letters: N batch, C, I and O channels, H side, R resolution.
"""

import math

import torch
from torch import Tensor, nn

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.layers import EqualConv2d, EqualLinear, seeded
from modify_fl.ops import blur, downsample2d, float32_region, minibatch_std, widen

__all__ = ["FEATURE_LEVELS", "Discriminator", "build_discriminator"]

FEATURE_LEVELS = 3
"""Number of feature maps that stand in for a perceptual network (M-41)."""

_LAST_RESOLUTION = 4
_SUM_GAIN = 1 / math.sqrt(2)


class _Block(nn.Module):
    """3x3; FIR and 3x3 of stride 2; shortcut FIR and 1x1; sum over root 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(inputs, inputs, 3, padding=1, activate=True)
        # The factor of the sum sits in the layers: one pass over the tensor less.
        self.conv2 = EqualConv2d(inputs, outputs, 3, stride=2, activate=True, gain=_SUM_GAIN)
        self.shortcut = EqualConv2d(inputs, outputs, 1, bias=False, gain=_SUM_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, H] to [N, O, H/2, H/2]."""
        # FIR with padding (2, 2) gives H + 1, from which a 3x3 of stride 2 makes H/2.
        y: Tensor = self.conv2(blur(self.conv1(x), padding=2))
        skip: Tensor = self.shortcut(downsample2d(x))  # every second pixel only: the 1x1 of stride 2
        return y + skip


class Discriminator(nn.Module):
    """Residual discriminator of StyleGAN2 in its native resolution."""

    def __init__(self, config: NetworkConfig) -> None:
        """Draw weights from torch's current random state."""
        super().__init__()
        self.resolution, self._group = config.resolution, config.minibatch_std
        self.from_rgb = EqualConv2d(3, config.channels(config.resolution), 1, activate=True)
        self.blocks = nn.ModuleList()
        resolution = config.resolution
        while resolution > _LAST_RESOLUTION:
            self.blocks.append(_Block(config.channels(resolution), config.channels(resolution // 2)))
            resolution //= 2
        last = config.channels(resolution)
        self.conv = EqualConv2d(last + (self._group > 0), last, 3, padding=1, activate=True)
        self.dense = EqualLinear(last * resolution**2, last, activate=True)
        self.score = EqualLinear(last, 1)

    def freeze(self, blocks: int) -> None:
        """Take the first ``blocks`` residual blocks, and the layer before them, out of training.

        Source: Mo, Cho and Shin 2020, FreezeD: the layers next to the picture
        keep what they learnt on much data while the rest learns on little.

        Args:
            blocks: Counted from the picture, 0 to log2 R - 2; 0 changes nothing.

        Raises:
            ConfigError: The network has fewer blocks.
        """
        if not 0 <= blocks <= len(self.blocks):
            raise ConfigError(
                f"freeze_d must lie between 0 and {len(self.blocks)} at {self.resolution} px, got {blocks}"
            )
        for layer in [self.from_rgb, *self.blocks[:blocks]] if blocks else []:
            layer.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Score pictures.

        Args:
            x: [N, 3, R, R] in [-1, 1].

        Returns:
            float32 [N, 1], unbounded; no sigmoid.

        Raises:
            ShapeError: ``x`` is not [N, 3, R, R] with the network's own R.
        """
        return self.features(x)[1]

    def features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Score pictures and return what the middle blocks see (M-41).

        Args:
            x: [N, 3, R, R] in [-1, 1].

        Returns:
            Outputs of the three middle blocks, finest first, each [N, C, h, h];
            and the scores, float32 [N, 1].

        Raises:
            ShapeError: ``x`` is not [N, 3, R, R] with the network's own R.
        """
        if x.ndim != 4 or x.shape[1:] != (3, self.resolution, self.resolution):
            raise ShapeError(f"expected pictures [N, 3, {self.resolution}, {self.resolution}], got {tuple(x.shape)}")
        x = self.from_rgb(x.contiguous(memory_format=torch.channels_last))  # [N, C, R, R]
        outputs: list[Tensor] = []
        for block in self.blocks:
            x = block(x)  # [N, C, h, h]
            outputs.append(x)
        first = (len(outputs) - FEATURE_LEVELS) // 2
        return outputs[first : first + FEATURE_LEVELS], self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        if self._group:
            x = minibatch_std(x, self._group)  # [N, C + 1, 4, 4]
        x = self.conv(x)  # [N, C, 4, 4]
        with float32_region(x):
            score: Tensor = self.score(self.dense(widen(x).flatten(1)))  # [N, 1]
        return score


def build_discriminator(config: NetworkConfig, seed: int) -> Discriminator:
    """Return a discriminator whose weights depend on nothing but the arguments."""
    with seeded(seed, "discriminator"):
        return Discriminator(config)
