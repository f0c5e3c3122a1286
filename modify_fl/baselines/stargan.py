"""Networks of a compact StarGAN v2, a baseline with two domains (M-45).

Source: Choi et al. 2020, "StarGAN v2: Diverse Image Synthesis for Multiple
Domains", sections 2 and B; written from the paper. Generator of pre-activation
residual blocks: instance normalisation on the way down, adaptive instance
normalisation (AdaIN) by a style code on the way up. Mapping network, style
encoder and discriminator have one output branch for each domain. Fewer
channels and levels than the paper's, so that all parameters together are about
as many as those of the method's own networks.

Letters: B batch, I and O channels, H side, R resolution, S width of a style
code, Z width of the noise.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.layers import seeded

__all__ = ["PAINTING", "PHOTO", "StarGan", "StarGanSizes", "pick"]

PHOTO, PAINTING = 0, 1
"""The two domains."""

_DOMAINS = 2
_SLOPE = 0.2
_BOTTOM = 8
_LAST = 4
_CHANNELS_MIN = 8


@dataclass(frozen=True, kw_only=True)
class StarGanSizes:
    """Everything from which the layers derive."""

    resolution: int = 64
    """Side of the picture in pixels; a power of two from 32 on."""
    base: int = 1536
    """``base / r`` channels at r x r pixels."""
    channel_max: int = 176
    """Upper bound of the channels."""
    style_dim: int = 64
    """Width of a style code."""
    z_dim: int = 16
    """Width of the noise."""
    mapping_width: int = 192
    """Width of the hidden layers of the mapping network."""

    def __post_init__(self) -> None:
        """Check the resolution."""
        side = self.resolution
        if side < 4 * _BOTTOM or side & (side - 1):
            raise ConfigError(f"StarGAN v2 needs a power of two from {4 * _BOTTOM} on as resolution, got {side}")

    @classmethod
    def like(cls, network: NetworkConfig) -> Self:
        """Return sizes with about as many parameters as E, D, M and Dis of ``network`` have together."""
        return cls(
            resolution=network.resolution,
            base=network.channel_base * 3 // 4,
            channel_max=network.channel_max * 11 // 8,
            style_dim=max(4, network.w_dim // 2),
            z_dim=max(4, network.z_dim // 8),
            mapping_width=network.w_dim * 3 // 2,
        )

    def channels(self, side: int) -> int:
        """Channels at ``side`` pixels."""
        return max(_CHANNELS_MIN, min(self.base // side, self.channel_max))

    def levels(self, last: int) -> list[int]:
        """Sides from R down to ``last`` pixels."""
        return [2**k for k in range(int(math.log2(self.resolution)), int(math.log2(last)) - 1, -1)]


class _AdaIn(nn.Module):
    """Instance normalisation whose scale and shift come from a style code."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.norm, self.affine = nn.InstanceNorm2d(channels), nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map [B, I, H, H] and [B, S] to [B, I, H, H]."""
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, 1)  # each [B, I, 1, 1]
        normed: Tensor = (1 + scale) * self.norm(x) + shift
        return normed


class _Down(nn.Module):
    """Pre-activation residual block, with or without instance normalisation, that may halve the side."""

    def __init__(self, inputs: int, outputs: int, *, normed: bool, halve: bool) -> None:
        super().__init__()
        self.norm1 = nn.InstanceNorm2d(inputs, affine=True) if normed else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(inputs, affine=True) if normed else nn.Identity()
        self.conv1, self.conv2 = nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self._halve = halve

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, I, H, H] to [B, O, H, H], or to [B, O, H/2, H/2]."""
        skip, y = self.shortcut(x), self.conv1(functional.leaky_relu(self.norm1(x), _SLOPE))
        if self._halve:
            skip, y = functional.avg_pool2d(skip, 2), functional.avg_pool2d(y, 2)
        y = self.conv2(functional.leaky_relu(self.norm2(y), _SLOPE))
        total: Tensor = (skip + y) / math.sqrt(2)
        return total


class _Up(nn.Module):
    """Residual block under a style code that may double the side."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, double: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _AdaIn(inputs, style_dim), _AdaIn(outputs, style_dim)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self._double = double

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map [B, I, H, H] to [B, O, H, H], or to [B, O, 2H, 2H]."""
        skip, y = self.shortcut(x), functional.leaky_relu(self.norm1(x, style), _SLOPE)
        if self._double:
            skip, y = (functional.interpolate(t, scale_factor=2.0, mode="nearest") for t in (skip, y))
        y = self.conv2(functional.leaky_relu(self.norm2(self.conv1(y), style), _SLOPE))
        total: Tensor = (skip + y) / math.sqrt(2)
        return total


class _Generator(nn.Module):
    """G: a picture and a style code become a picture."""

    def __init__(self, sizes: StarGanSizes) -> None:
        super().__init__()
        sides, style = sizes.levels(_BOTTOM), sizes.style_dim
        widths = [sizes.channels(side) for side in sides]
        pairs = list(itertools.pairwise(widths))
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList([_Down(a, b, normed=True, halve=True) for a, b in pairs])
        self.down.append(_Down(widths[-1], widths[-1], normed=True, halve=False))
        self.up = nn.ModuleList([_Up(widths[-1], widths[-1], style, double=False)])
        self.up.extend(_Up(b, a, style, double=True) for a, b in reversed(pairs))
        self.norm, self.to_rgb = nn.InstanceNorm2d(widths[0], affine=True), nn.Conv2d(widths[0], 3, 1)

    def forward(self, pictures: Tensor, style: Tensor) -> Tensor:
        """Map [B, 3, R, R] and [B, S] to float32 [B, 3, R, R], not clamped."""
        x = self.from_rgb(pictures)  # [B, C, R, R]
        for block in self.down:
            x = block(x)  # at the end [B, C, 8, 8]
        for block in self.up:
            x = block(x, style)  # at the end [B, C, R, R]
        painted: Tensor = self.to_rgb(functional.leaky_relu(self.norm(x), _SLOPE))
        return painted.float()


class _Mapping(nn.Module):
    """F: noise becomes a style code of each domain."""

    def __init__(self, sizes: StarGanSizes) -> None:
        super().__init__()
        width = sizes.mapping_width
        layers = [nn.Linear(sizes.z_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self.shared = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sizes.style_dim))
            for _ in range(_DOMAINS)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map noise [B, Z] to [B, domains, S]."""
        shared = self.shared(z)
        return torch.stack([head(shared) for head in self.heads], 1)


class _Judge(nn.Module):
    """The trunk of style encoder and discriminator, without normalisation, and one head a domain."""

    def __init__(self, sizes: StarGanSizes, outputs: int) -> None:
        super().__init__()
        widths = [sizes.channels(side) for side in sizes.levels(_LAST)]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(_Down(a, b, normed=False, halve=True) for a, b in pairs))
        self.last = nn.Conv2d(widths[-1], widths[-1], _LAST)
        self.heads = nn.Linear(widths[-1], _DOMAINS * outputs)
        self._outputs = outputs

    def forward(self, pictures: Tensor) -> Tensor:
        """Map [B, 3, R, R] to float32 [B, domains, outputs]."""
        x = self.blocks(self.from_rgb(pictures))  # [B, C, 4, 4]
        x = functional.leaky_relu(self.last(functional.leaky_relu(x, _SLOPE)), _SLOPE)  # [B, C, 1, 1]
        heads: Tensor = self.heads(x.flatten(1)).float()
        return heads.reshape(len(pictures), _DOMAINS, self._outputs)


class StarGan(nn.Module):
    """All four networks."""

    def __init__(self, sizes: StarGanSizes) -> None:
        """Draw weights from torch's current random state; see ``build``."""
        super().__init__()
        self.sizes = sizes
        self.generator, self.mapping = _Generator(sizes), _Mapping(sizes)
        self.encoder, self.discriminator = _Judge(sizes, sizes.style_dim), _Judge(sizes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.generator.modules():
            if isinstance(module, _AdaIn):  # the style starts with little say
                module.affine.weight.data.mul_(0.1)

    @classmethod
    def build(cls, sizes: StarGanSizes, seed: int) -> Self:
        """Return networks whose every tensor depends on nothing but the arguments."""
        with seeded(seed, "stargan"):
            return cls(sizes)

    def draw(self, z: Tensor, domains: Tensor) -> Tensor:
        """Return F(z) of the wanted domains: noise [B, Z] and int64 [B] to style codes [B, S]."""
        return pick(self.mapping(z), domains)

    def style_of(self, pictures: Tensor, domains: Tensor) -> Tensor:
        """Return E(x) of the wanted domains: [B, 3, R, R] and int64 [B] to style codes [B, S]."""
        return pick(self.encoder(pictures), domains)

    def score(self, pictures: Tensor, domains: Tensor) -> Tensor:
        """Return the raw value of Dis in the wanted domains, float32 [B, 1]; larger for real."""
        return pick(self.discriminator(pictures), domains)

    def forward(self, pictures: Tensor, style: Tensor) -> Tensor:
        """Return G(x, s).

        Args:
            pictures: float32 [B, 3, R, R] in [-1, 1].
            style: Style codes, float32 [B, S].

        Returns:
            float32 [B, 3, R, R], about in [-1, 1], not clamped.

        Raises:
            ShapeError: ``pictures`` is not [B, 3, R, R].
        """
        side = self.sizes.resolution
        if pictures.ndim != 4 or pictures.shape[1:] != (3, side, side):
            raise ShapeError(f"expected pictures [B, 3, {side}, {side}], got {list(pictures.shape)}")
        painted: Tensor = self.generator(pictures, style)
        return painted


def pick(branches: Tensor, domains: Tensor) -> Tensor:
    """Choose the branch of each sample's domain: [B, domains, N] and int64 [B] to [B, N]."""
    return branches[torch.arange(len(branches), device=branches.device), domains]
