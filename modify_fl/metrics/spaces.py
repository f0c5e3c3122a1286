"""Spaces in which pictures are near or far: pixels, perception, faces (P-74).

Every space is Euclidean: a picture becomes one vector, so distances between
whole sets are matrix products. LPIPS is such a distance once the weight of each
channel is folded into its features; its square root is used.

Legend of shapes: N pictures, M others, R resolution, d width of a space.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl.perceptual import FaceNet, Lpips

__all__ = ["Spaces", "distances", "high_pass"]

_PIXELS = 32
_COARSE = 8
_LPIPS_SIDE = 64
_BATCH = 16


def high_pass(pictures: Tensor) -> Tensor:
    """Return what is finer than an eighth of the picture, as unit vectors.

    Brightness and contrast do not matter, so an inner product is a correlation.

    Args:
        pictures: float32 [N, 3, R, R].

    Returns:
        float32 [N, 1024]; zero for a picture of one colour.
    """
    grey = functional.interpolate(pictures, size=_PIXELS, mode="area").mean(1, keepdim=True)  # [N, 1, 32, 32]
    coarse = functional.avg_pool2d(grey, _PIXELS // _COARSE)
    fine = grey - functional.interpolate(coarse, size=_PIXELS, mode="bilinear", align_corners=False)
    flat = fine.flatten(1)  # [N, 1024]
    found: Tensor = functional.normalize(flat - flat.mean(1, keepdim=True), dim=1, eps=1e-3)
    return found


def _pixels(pictures: Tensor) -> Tensor:
    small: Tensor = functional.interpolate(pictures, size=_PIXELS, mode="area").flatten(1)
    return small / math.sqrt(3 * _PIXELS**2)  # a root mean square


@dataclass(frozen=True, kw_only=True)
class Spaces:
    """Three spaces; where a network is missing, another space stands in or none."""

    lpips: Lpips | None
    """Perception; details finer than an eighth of the picture stand in where it is missing."""
    face: FaceNet | None
    """Faces, best a network that was not trained with; nothing stands in."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the spaces, the first two always for pixels and perception."""
        perception = "details" if self.lpips is None else "LPIPS"
        return ("pixels", perception, *(() if self.face is None else ("faces",)))

    @torch.no_grad()
    def embed(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return the vectors of pictures by space, float32 [N, d] each.

        Args:
            pictures: float32 [N, 3, R, R] in [-1, 1].
        """
        kinds = [_pixels, high_pass if self.lpips is None else self._perception, self._faces]
        named = zip(self.names, kinds, strict=False)
        return {name: torch.cat([kind(part) for part in torch.split(pictures, _BATCH)]) for name, kind in named}

    def _perception(self, pictures: Tensor) -> Tensor:
        if self.lpips is None:
            raise RuntimeError("there is no LPIPS network")
        if pictures.shape[-1] > _LPIPS_SIDE:
            pictures = functional.interpolate(pictures, size=_LPIPS_SIDE, mode="area")
        levels = self.lpips.features(pictures)
        weighted = [
            level * (head / level[0, 0].numel()).clamp_min(0).sqrt()  # LPIPS: mean over places of weighted squares
            for level, head in zip(levels, self.lpips.heads, strict=True)
        ]
        return torch.cat([level.flatten(1) for level in weighted], 1)

    def _faces(self, pictures: Tensor) -> Tensor:
        if self.face is None:
            raise RuntimeError("there is no face network")
        found: Tensor = self.face(pictures)
        return found


def distances(pictures: Tensor, others: Tensor) -> Tensor:
    """Return all Euclidean distances between two sets of vectors, float32 [N, M].

    Args:
        pictures: float32 [N, d].
        others: float32 [M, d].
    """
    return torch.cdist(pictures, others)
