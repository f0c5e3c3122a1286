"""Compact encoder E: a picture becomes the rows of a code, without their offset (M-18, M-19).

Trainable layers are plain ``nn.Conv2d``, ``nn.Linear`` and ``nn.GroupNorm``, so
that per-sample gradients are right: no batch statistics, no in-place operation,
no module that is called twice, no weight used outside its module. The gain of
an equalised layer multiplies the layer's output; ``fold_gains`` moves it into
the weights when stage 1 is over. Gains are buffers, so a saved state says by
itself whether it was folded.

Unlike D and Dis, this network does not turn its activations to
``channels_last``; they follow the layout of pictures and weights. Opacus reads
the memory of convolution inputs as if it were contiguous, and its per-sample
gradients are silently wrong in any other layout: training with privacy must
leave pictures and weights as they come, all other training should convert both.

Letters: N batch, I and O channels, H side, S side of the input, R resolution,
n rows, W width of a row.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.layers import PYRAMID_STRIDES, encoder_input, encoder_side, level_of_row
from modify_fl.networks.paper_encoder import PaperEncoder
from modify_fl.ops import leaky_relu, leaky_relu_scaled, widen

__all__ = ["CompactEncoder", "Encoder", "build_encoder", "fold_gains"]

_GROUPS = 8
_CHANNELS_MIN = 16
_SIDE_MIN = 4
_SUM_GAIN = 1 / math.sqrt(2)


class _Gained(nn.Module, ABC):
    """A module whose layers start at unit variance and have their outputs scaled (M-19)."""

    gains: Tensor

    @abstractmethod
    def gained(self) -> list[nn.Conv2d | nn.Linear]:
        """Return the layers, in the order of ``gains``."""

    def _equalise(self) -> None:
        for layer in self.gained():
            nn.init.normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        gains = [1 / math.sqrt(layer.weight[0].numel()) for layer in self.gained()]
        self.register_buffer("gains", torch.tensor(gains))

    @torch.no_grad()
    def fold(self) -> None:
        """Move the gains into weights and biases; in place."""
        for layer, gain in zip(self.gained(), self.gains, strict=True):
            layer.weight.mul_(gain)
            if layer.bias is not None:
                layer.bias.mul_(gain)
        self.gains.fill_(1)


class _Block(_Gained):
    """3x3, norm, leaky ReLU, 3x3 of stride 2, norm; shortcut average pool and 1x1; sum over root 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)  # the norm has a bias
        self.norm1 = nn.GroupNorm(_GROUPS, inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_GROUPS, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self._equalise()

    def gained(self) -> list[nn.Conv2d | nn.Linear]:
        return [self.conv1, self.conv2, self.shortcut]

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, H] to [N, O, H/2, H/2]."""
        gain1, gain2, gain3 = self.gains.unbind()
        # Statistics are float32 (M-50). torch would compute them so from bfloat16
        # too, but its backward pass is then up to twice as slow.
        y = leaky_relu(self.norm1(widen(self.conv1(x)) * gain1).to(x.dtype))  # [N, I, H, H]
        y = self.norm2(widen(self.conv2(y)) * gain2).to(x.dtype)  # [N, O, H/2, H/2]
        skip = self.shortcut(functional.avg_pool2d(x, 2)) * gain3  # [N, O, H/2, H/2]
        total: Tensor = (y + skip) * _SUM_GAIN
        return total


class CompactEncoder(_Gained):
    """Convolutional pyramid with GroupNorm and one linear head per row (M-18)."""

    def __init__(self, config: NetworkConfig) -> None:
        """Draw weights from torch's current random state.

        Args:
            config: Sizes.

        Raises:
            ConfigError: A width cannot be split into the groups of GroupNorm.
        """
        super().__init__()
        self.resolution, self._side = config.resolution, encoder_side(config.resolution)
        # Side of each pyramid level, coarse first; small pictures share the coarse ones.
        self._sides = tuple(max(_SIDE_MIN, self._side // stride) for stride in PYRAMID_STRIDES)
        self.stem = nn.Conv2d(3, _channels(config, self._side), 3, padding=1)
        self.blocks = nn.ModuleList()
        side = self._side
        while side > min(self._sides):
            self.blocks.append(_Block(_channels(config, side), _channels(config, side // 2)))
            side //= 2
        self.laterals = nn.ModuleList(nn.Conv2d(_channels(config, side), config.pyramid, 1) for side in self._sides)
        self.trunks = nn.ModuleList(nn.Linear(config.pyramid * _SIDE_MIN**2, config.trunk) for _ in self._sides)
        self.heads = nn.ModuleList(nn.Linear(config.trunk, config.w_dim) for _ in range(config.n_styles))
        self._equalise()

    def gained(self) -> list[nn.Conv2d | nn.Linear]:
        """Return stem, laterals, trunks and heads, the order of ``gains``."""
        return [self.stem, *self.laterals, *self.trunks, *self.heads]

    def forward(self, x: Tensor) -> Tensor:
        """Return what E adds to the average code.

        Args:
            x: Pictures [N, 3, R, R] in [-1, 1]; reduced to 256 px where larger.

        Returns:
            float32 [N, n, W], without ``w_avg``.

        Raises:
            ShapeError: ``x`` is not [N, 3, R, R].
        """
        gains = iter(self.gains.unbind())
        x = self.stem(encoder_input(x, self.resolution)) * next(gains)  # [N, C, S, S]
        maps = {self._side: x}
        for block in self.blocks:
            x = block(x)  # [N, C, H, H]
            maps[x.shape[-1]] = x
        sides = self._sides
        laterals = [lateral(maps[side]) * next(gains) for side, lateral in zip(sides, self.laterals, strict=True)]
        vectors = [
            leaky_relu_scaled(trunk(functional.avg_pool2d(level, side // _SIDE_MIN).flatten(1)) * next(gains))  # [N, T]
            for side, trunk, level in zip(sides, self.trunks, _top_down(laterals), strict=True)
        ]
        rows = [head(vectors[level_of_row(row)]) * next(gains) for row, head in enumerate(self.heads)]  # n times [N, W]
        return widen(torch.stack(rows, 1))  # [N, n, W]


Encoder = CompactEncoder | PaperEncoder
"""Either encoder; both map [N, 3, R, R] to [N, n, W]."""


def _top_down(laterals: list[Tensor]) -> list[Tensor]:
    """Add to each level the enlarged level above it, coarse first."""
    levels = laterals[:1]
    for lateral in laterals[1:]:
        above = levels[-1]
        if above.shape[-1] != lateral.shape[-1]:
            above = functional.interpolate(above, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        levels.append(lateral + above)  # [N, C, H, H]
    return levels


def _channels(config: NetworkConfig, resolution: int) -> int:
    channels = max(_CHANNELS_MIN, min(config.enc_base // resolution, config.enc_max))
    if channels % _GROUPS:
        raise ConfigError(
            f"the encoder has {channels} channels at {resolution} pixels, which {_GROUPS} groups cannot share",
            fix=f"make enc_max a multiple of {_GROUPS} and enc_base one of {_GROUPS * resolution}",
        )
    return channels


def build_encoder(config: NetworkConfig) -> Encoder:
    """Return the encoder that ``config`` names, with weights from torch's current random state."""
    return PaperEncoder(config) if config.encoder == "ir-se50" else CompactEncoder(config)


def fold_gains(encoder: nn.Module) -> None:
    """Make plain layers out of equalised ones, and fixed ones out of BatchNorm (M-19, M-20).

    Outputs in evaluation mode stay equal to 1e-6; folding twice changes nothing.

    Args:
        encoder: E; changed in place.
    """
    if isinstance(encoder, PaperEncoder):
        encoder.fold()
    for module in encoder.modules():
        if isinstance(module, _Gained):
            module.fold()
