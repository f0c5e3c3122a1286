"""Painted faces back into their photo (U-64).

A crop of 64 pixels knows nothing of the eyelashes of a face of 600. So it is not
the painted crop that is enlarged and laid over the photo, but what the painting
changed: with photo p, crop c and painted crop q, all seen at the photo's size,

    result = p + mask * ((q - c) + h * (p - c)),    h = cov(q - c, c) / (var(c) + eps)

The first term is the change at the resolution of the crop; the second one scales
the detail that only the photo has. Where the painting follows the photo, h is
near 0 and the detail stays; where it paints something else, h is near -1 and the
detail goes, so that no real eye shines through a painted one. This is the fast
guided filter (He and Sun 2015, "Fast Guided Filter", equations 3 to 8) for the
change instead of the picture: a painting that equals its crop changes no pixel.

Letters: R side of a crop, H and W of the photo, U side of the map that is sampled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.faces.align import Alignment

__all__ = ["Patch", "paste", "seam_mask"]

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_CENTRE = (0.5, 0.51)  # of the ellipse, as shares of the crop: between forehead and chin
_AXES = (0.4, 0.46)  # its half axes; beyond them the photo is as it was
_FEATHER = 0.4  # share of each half axis over which the mask falls
_SEAM_CELLS = 16  # side of the map of colour shifts along the seam
_SEAM_SPREAD = 3  # how often it is smoothed
_EPS = 4.0**2  # squared grey levels below which a neighbourhood counts as flat
_ENLARGED = 4  # the map that is sampled has at most so many times the side of the crop
_STRIP = 1 << 20  # pixels of the photo treated at once
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """One painted face and where it belongs."""

    crop: Pixels
    """The aligned face as cut from the photo, uint8 [R, R, 3]."""
    painted: Pixels
    """The same, painted, uint8 [R, R, 3]."""
    alignment: Alignment
    """Where it was cut out; resolution R."""

    def __post_init__(self) -> None:
        """Check types and shapes."""
        expected = (self.alignment.resolution, self.alignment.resolution, 3)
        for name, pixels in (("crop", self.crop), ("painted", self.painted)):
            if pixels.dtype != np.uint8 or pixels.shape != expected:
                got = f"{pixels.dtype} {list(pixels.shape)}"
                raise ShapeError(f"{name} does not fit the alignment", expected=f"uint8 {list(expected)}", got=got)


def paste(photo: Pixels, patches: Sequence[Patch]) -> Pixels:
    """Return the photo with its faces painted.

    Smaller faces are taken for those behind, and come first. Where masks
    overlap, the face in front covers the one behind, not its own photo's part twice.

    Args:
        photo: uint8 [H, W, 3].
        patches: Painted faces of this photo.

    Returns:
        uint8 [H, W, 3]; pixels outside of all masks are those of the photo,
        and so is every pixel of a face whose painting equals its crop.
    """
    result = photo.copy()
    done: list[Box] = []
    for patch in sorted(patches, key=lambda patch: patch.alignment.side):
        box = _bounds(patch.alignment, photo.shape)
        _lay(result, photo, patch, covers=any(_meet(box, other) for other in done))
        done.append(box)
    return result


@lru_cache(maxsize=16)
def seam_mask(side: int) -> Tensor:
    """Return the mask in the frame of the crop, float32 [U, U] for U = ``side``, in [0, 1].

    It is 1 on the face and falls smoothly to exactly 0 on an ellipse that lies
    inside of the crop.
    """
    at = (torch.arange(side, dtype=torch.float32) + 0.5) / side  # [U]
    x, y = ((at - centre) / axis for centre, axis in zip(_CENTRE, _AXES, strict=True))
    radius = torch.sqrt(x[None, :] ** 2 + y[:, None] ** 2)  # [U, U]
    inside = ((1 - radius) / _FEATHER).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def _change(crop: Pixels, painted: Pixels) -> Tensor:
    """Return q - c - h * c and h, float32 [1, 4, R, R] in grey levels; zero where nothing was painted."""
    stacked = torch.from_numpy(np.stack([crop, painted])).permute(0, 3, 1, 2).float()  # [2, 3, R, R]
    difference = stacked[1] - stacked[0]
    difference -= _seam_shift(difference)
    luma = torch.tensor(_LUMA)
    grey, change = (torch.einsum("c,chw->hw", luma, each) for each in (stacked[0], difference))
    radius = max(1, crop.shape[0] // 32)
    means = _smooth(torch.stack([grey, change, grey * grey, grey * change]), radius)  # [4, R, R]
    variance = (means[2] - means[0] ** 2).clamp(min=0)
    gain = ((means[3] - means[0] * means[1]) / (variance + _EPS)).clamp(-1, 1)
    gain = _smooth(gain[None], radius)  # [1, R, R]
    return torch.cat([difference - gain * stacked[0], gain])[None]


def _smooth(maps: Tensor, radius: int) -> Tensor:
    """Return the mean over squares of 2 radius + 1 pixels, float32 [C, R, R]."""
    return F.avg_pool2d(maps, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def _seam_shift(difference: Tensor) -> Tensor:
    """Return the change of colour along the seam, carried inwards and fading there, float32 [3, R, R].

    The seam crosses cheeks, hair and background, so each stretch of it has a shift of its own.
    """
    resolution = difference.shape[-1]
    mask = seam_mask(resolution)
    ring = 4 * mask * (1 - mask)
    coarse = F.adaptive_avg_pool2d(torch.cat([difference * ring, ring[None]]), min(_SEAM_CELLS, resolution))
    for _ in range(_SEAM_SPREAD):
        coarse = _smooth(coarse, 1)
    shift = coarse[:3] / coarse[3:].clamp(min=1e-6)  # [3, 16, 16]
    wide = F.interpolate(shift[None], size=(resolution, resolution), mode="bilinear", align_corners=False)[0]
    return wide * (1 - mask)


def _lay(result: Pixels, photo: Pixels, patch: Patch, *, covers: bool) -> None:
    """Write one face into the result; ``covers``: others may lie behind it."""
    alignment = patch.alignment
    side = max(1, min(math.ceil(1.25 * alignment.side), _ENLARGED * alignment.resolution))  # U
    change = _change(patch.crop, patch.painted)
    maps = F.interpolate(change, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    mask = seam_mask(side)
    maps *= mask
    if covers:
        maps = torch.cat([maps, mask[None, None]], 1)  # [1, 5, U, U]
    left, top, right, bottom = _bounds(alignment, photo.shape)
    rows = max(1, _STRIP // max(1, right - left))
    for start in range(top, bottom, rows):
        part = (slice(start, min(start + rows, bottom)), slice(left, right))
        _blend(result[part], photo[part], F.grid_sample(maps, _grid(alignment, part), align_corners=False)[0])


def _bounds(alignment: Alignment, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the box around the mask, cut to the photo: left, top, right, bottom."""
    size = alignment.resolution
    centre = alignment.to_photo(np.array([_CENTRE]) * size)[0]
    edges = alignment.to_photo(np.array([_CENTRE, _CENTRE]) * size + np.diag(_AXES) * size) - centre
    reach = np.sqrt((edges**2).sum(0))
    low, high = np.floor(centre - reach).astype(int) - 1, np.ceil(centre + reach).astype(int) + 1
    (left, top), (right, bottom) = low.clip(0), np.minimum(high, [shape[1], shape[0]])
    return int(left), int(top), max(int(left), int(right)), max(int(top), int(bottom))


def _grid(alignment: Alignment, part: tuple[slice, slice]) -> Tensor:
    """Return where in the crop the pixels of a part of the photo lie, float32 [1, h, w, 2] in [-1, 1]."""
    rows, columns = part
    origin, right, down = alignment.to_crop(np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])) / alignment.resolution
    along = torch.arange(columns.start, columns.stop)[:, None] * torch.from_numpy(2 * (right - origin))
    below = torch.arange(rows.start, rows.stop)[:, None] * torch.from_numpy(2 * (down - origin))
    first = torch.from_numpy(2 * origin - 1)
    return (below + first).float()[None, :, None] + along.float()[None, None]


def _blend(result: Pixels, photo: Pixels, maps: Tensor) -> None:
    """Write p + h p + rest over a part, and cover what another face left there; maps are float32 [4 or 5, h, w]."""
    original = _planes(photo)  # [3, h, w]
    values = torch.addcmul(original, original, maps[3:4]).add_(maps[:3])
    if len(maps) > 4:
        values.add_((1 - maps[4:]) * (_planes(result) - original))
    rounded = values.add_(0.5).clamp_(0, 255).to(torch.uint8)  # towards zero
    result[...] = rounded.permute(1, 2, 0).numpy()


def _planes(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)


def _meet(one: Box, two: Box) -> bool:
    return max(one[0], two[0]) < min(one[2], two[2]) and max(one[1], two[1]) < min(one[3], two[3])
