"""Colour transfer, the baseline that knows nothing of faces (M-45).

Source: Reinhard et al. 2001, "Color Transfer between Images": each channel of
an opponent colour space gets the mean and the standard deviation of the target.
The space is CIE L*a*b* (D65) instead of the paper's l-alpha-beta, whose
logarithm has no value for black.

Letters: B batch, H and W height and width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.data import ImageSet, to_uint8
from modify_fl.errors import ShapeError
from modify_fl.streams import generator

__all__ = ["from_lab", "match_statistics", "recolour", "reinhard", "to_lab"]

# Linear sRGB to XYZ, divided by the white point D65, so that white is (1, 1, 1).
_TO_XYZ = torch.tensor([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
], dtype=torch.float64)  # fmt: skip
_TO_XYZ /= _TO_XYZ.sum(1, keepdim=True)
_FROM_XYZ = torch.linalg.inv(_TO_XYZ)
_KNEE = 6 / 29
_TINY = 1e-6


def to_lab(images: Tensor) -> Tensor:
    """Return L*, a*, b* of pictures.

    Args:
        images: sRGB, float [B, 3, H, W] in [-1, 1].

    Returns:
        float64 [B, 3, H, W]; L* in [0, 100].
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError("colours are of pictures", expected="[B, 3, H, W]", got=str(list(images.shape)))
    srgb = images.double().clamp(-1, 1).add(1).div(2)
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,bjhw->bihw", _TO_XYZ, linear)
    f = torch.where(xyz > _KNEE**3, xyz.clamp_min(_TINY) ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def from_lab(lab: Tensor) -> Tensor:
    """Return the picture of L*, a*, b*; colours that no screen shows are clipped.

    Args:
        lab: float64 [B, 3, H, W].

    Returns:
        sRGB, float32 [B, 3, H, W] in [-1, 1].
    """
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], 1)
    xyz = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = torch.einsum("ij,bjhw->bihw", _FROM_XYZ, xyz).clamp(0, 1)
    srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(_TINY) ** (1 / 2.4) - 0.055)
    return srgb.clamp(0, 1).mul(2).sub(1).float()


def match_statistics(lab: Tensor, target: Tensor) -> Tensor:
    """Give every channel the mean and the standard deviation of the target's.

    Args:
        lab: float64 [B, 3, H, W].
        target: float64 [B, 3, H', W'].

    Returns:
        float64 [B, 3, H, W]; a channel that is constant gets the target's mean.
    """
    own_mean, mean = (values.mean((2, 3), keepdim=True) for values in (lab, target))
    own_std, std = (values.std((2, 3), correction=0, keepdim=True) for values in (lab, target))
    scale = torch.where(own_std > _TINY, std / own_std.clamp_min(_TINY), torch.zeros_like(std))
    return (lab - own_mean) * scale + mean


def reinhard(photos: Tensor, targets: Tensor) -> Tensor:
    """Give photos the colours of other pictures.

    Args:
        photos: sRGB, float32 [B, 3, H, W] in [-1, 1].
        targets: One picture for each photo, float32 [B, 3, H', W'] in [-1, 1].

    Returns:
        float32 [B, 3, H, W] in [-1, 1].

    Raises:
        ShapeError: There is not one target for each photo.
    """
    if len(photos) != len(targets):
        raise ShapeError("each photo needs one target", expected=str(len(photos)), got=str(len(targets)))
    return from_lab(match_statistics(to_lab(photos), to_lab(targets)))


def recolour(photos: ImageSet, styles: ImageSet, indices: Sequence[int], *, count: int, seed: int) -> NDArray[np.uint8]:
    """Give photos the colours of random style images, other ones for each (M-45).

    Args:
        photos: Where the photos are.
        styles: Where the colours are from.
        indices: Photos, B of them.
        count: Style images for each photo, S.
        seed: Of the draws.

    Returns:
        uint8 [B, S, R, R, 3].
    """
    rows = []
    for index in indices:
        picks = torch.randint(len(styles), (count,), generator=generator(seed, "colour", index))
        photo = photos.batch([index]).expand(count, -1, -1, -1)  # [S, 3, R, R]
        rows.append(to_uint8(reinhard(photo, styles.batch(picks.tolist()))))
    return np.stack(rows)
