"""Differentiable augmentation of what the discriminator sees (M-29).

Colour, translation and cutout as in Zhao et al. 2020 (DiffAugment). The draws
are made apart from the pictures, on the CPU and from a named stream, so a run
can be resumed bit for bit (M-52); every operation has a second derivative,
because penalties are taken at the picture before augmentation (M-7).
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Augmentation", "augment", "draw_augmentation", "flip", "jitter"]

_SHIFT = 1 / 8
_CUTOUT = 1 / 2


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Draws for one batch of B pictures."""

    colour: Tensor
    """Uniform in [0, 1), float32 [B, 3]: brightness, saturation, contrast."""
    shift: Tensor
    """Uniform in [-1, 1), float32 [B, 2]: vertical and horizontal translation."""
    hole: Tensor
    """Uniform in [0, 1), float32 [B, 2]: centre of the cutout."""

    def at(self, part: slice) -> Self:
        """Return the draws of a portion of the batch."""
        return replace(self, colour=self.colour[part], shift=self.shift[part], hole=self.hole[part])


def draw_augmentation(batch: int, generator: torch.Generator) -> Augmentation:
    """Draw what ``augment`` needs for ``batch`` pictures from ``generator``."""
    return Augmentation(
        colour=torch.rand(batch, 3, generator=generator),
        shift=torch.rand(batch, 2, generator=generator) * 2 - 1,
        hole=torch.rand(batch, 2, generator=generator),
    )


def augment(images: Tensor, draws: Augmentation) -> Tensor:
    """Change colours, shift and cut a square out of every picture.

    Args:
        images: float32 [B, 3, R, R].
        draws: For the same B.

    Returns:
        Pictures of the same shape; shifted-in and cut-out pixels are 0 (grey).
    """
    return _cut(_translate(_recolour(images, draws.colour.to(images)), draws.shift), draws.hole)


def _recolour(images: Tensor, colour: Tensor) -> Tensor:
    brightness, saturation, contrast = (colour[:, i, None, None, None] for i in range(3))  # [B, 1, 1, 1]
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * (contrast + 0.5) + level


def _translate(images: Tensor, shift: Tensor) -> Tensor:
    side = images.shape[-1]
    margin = round(side * _SHIFT)
    padded = functional.pad(images, (margin,) * 4)  # [B, 3, R + 2m, R + 2m]
    corner = (margin + shift * (margin + 0.5)).round().long().clamp(0, 2 * margin).tolist()
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, corner, strict=True)])


def _cut(images: Tensor, hole: Tensor) -> Tensor:
    side = images.shape[-1]
    half = side * _CUTOUT / 2
    line = torch.arange(side) + 0.5
    near = (line[None, :, None] - hole[:, None, :] * side).abs() < half  # [B, R, 2]
    square = near[:, :, None, 0] & near[:, None, :, 1]  # [B, R, R]
    return images * (~square)[:, None].to(images)  # [B, 1, R, R] over channels


def jitter(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Shift and zoom every picture a little; what comes in repeats the edge (P-82).

    Args:
        images: float32 [B, 3, R, R].
        amount: Farthest shift, and largest change of scale, as a share of the side; 0 changes and draws nothing.
        generator: Decides how far.

    Returns:
        Pictures of the same shape and range.
    """
    if not amount:
        return images
    draws = (torch.rand(images.shape[0], 3, generator=generator) * 2 - 1) * amount  # [B, 3]: zoom, x, y
    theta = torch.zeros(images.shape[0], 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + draws[:, 0]
    theta[:, :, 2] = 2 * draws[:, 1:]  # the side is 2 in these units
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror about half of the pictures left to right.

    Args:
        images: [B, 3, R, R].
        generator: Decides which.

    Returns:
        Pictures of the same shape and type.
    """
    which = torch.rand(images.shape[0], generator=generator) < 0.5
    return torch.where(which[:, None, None, None].to(images.device), images.flip(-1), images)
