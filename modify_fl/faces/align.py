"""Photo <-> aligned face: the template, the crop, and the maps between both (U-62, M-49).

The template is that of FFHQ (Karras et al. 2019, "A Style-Based Generator
Architecture for Generative Adversarial Networks", section "FFHQ"): a square that
stands on the line from the eyes to the mouth, so that a crop is upright whatever
way the head is held. It is part of what a style was trained on; its digest is in
the bundle.

Coordinates are continuous: pixel i covers the interval from i to i + 1. Points
are [x, y] rows.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modify_fl.errors import ShapeError

__all__ = ["TEMPLATE", "Alignment", "Points", "Template", "quad", "template_digest"]

Points = NDArray[np.float64]

_MARGIN = 4  # pixels around the square, so that no filter reaches past the region
_LARGEST_SIDE = 200_000


@dataclass(frozen=True, kw_only=True)
class Template:
    """How the square follows from the eyes and the mouth."""

    eye_spans: float
    """Side of the square in distances between the eyes, at least."""
    face_spans: float
    """Side of the square in distances from the eyes to the mouth, at least."""
    drop: float
    """Centre of the square below the eyes, in distances from the eyes to the mouth."""
    padding: str
    """What lies outside the photo."""


TEMPLATE = Template(eye_spans=4.0, face_spans=3.6, drop=0.1, padding="reflect")
"""The template of FFHQ, of the base model and of every style made with this package."""


@cache
def template_digest() -> str:
    """Return the SHA-256 over the template, in hexadecimal; what a bundle names (U-62)."""
    text = json.dumps({"template": "eye-mouth-square", **TEMPLATE.__dict__}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def quad(landmarks: Points) -> Points:
    """Return the corners of the square that the template puts over a face.

    Its horizontal axis is the mean of two estimates: the line between the eyes,
    and the normal of the line from the eyes to the mouth.

    Args:
        landmarks: Eye centres (of the picture's left first), nose, mouth corners, float [5, 2], in pixels.

    Returns:
        Top left, bottom left, bottom right, top right of the upright face, float64 [4, 2].

    Raises:
        ShapeError: Not five points, or they have no direction.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ShapeError("a face has five landmarks", expected="float [5, 2]", got=str(list(points.shape)))
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, down = points[1] - points[0], mouth - eyes
    axis = across + np.array([down[1], -down[0]])
    length = math.hypot(*axis)
    side = max(math.hypot(*across) * TEMPLATE.eye_spans, math.hypot(*down) * TEMPLATE.face_spans)
    if length < 1e-9 * max(side, 1.0) or side <= 0:
        raise ShapeError("the landmarks of a face have no direction", expected="eyes above a mouth", got="a point")
    x = axis * (side / 2 / length)
    y = np.array([-x[1], x[0]])
    centre = eyes + TEMPLATE.drop * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """Where an aligned face of one resolution lies in its photo."""

    quad: Points
    """Corners in the photo: top left, bottom left, bottom right, top right of the face; a square, float64 [4, 2]."""
    resolution: int
    """R, the side of the crop in pixels."""

    def __post_init__(self) -> None:
        """Check type and shape."""
        if self.quad.shape != (4, 2) or not np.isfinite(self.quad).all() or self.resolution < 1:
            got = f"{list(self.quad.shape)}, {self.resolution} px"
            raise ShapeError("an alignment is four corners and a size", expected="float [4, 2], 1 or more px", got=got)
        if not 0 < self.side < _LARGEST_SIDE:
            raise ShapeError("the square of an alignment has no usable size", got=f"{self.side:g} px")

    @classmethod
    def of(cls, landmarks: Points, resolution: int) -> "Alignment":
        """Align the face with these landmarks, float [5, 2]; see ``quad``."""
        return cls(quad=quad(landmarks), resolution=resolution)

    @property
    def side(self) -> float:
        """Side of the square in pixels of the photo."""
        return math.hypot(*(self.quad[3] - self.quad[0]))

    def to_photo(self, points: Points) -> Points:
        """Map points of the crop, float [N, 2] in its pixels, into the photo."""
        mapped: Points = self.quad[0] + np.asarray(points, np.float64) @ self._axes / self.resolution
        return mapped

    def to_crop(self, points: Points) -> Points:
        """Map points of the photo, float [N, 2] in its pixels, into the crop."""
        inverse = np.linalg.inv(self._axes).astype(np.float64)
        mapped: Points = (np.asarray(points, np.float64) - self.quad[0]) @ inverse * self.resolution
        return mapped

    def crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the face out, upright.

        Antialiased bicubic as in M-49, in two steps, since the face must also be
        turned: first to twice the crop, then, upright, to the crop. What lies
        outside the photo is its mirror image, as in FFHQ.

        Args:
            pixels: The photo, uint8 [H, W, 3].

        Returns:
            uint8 [R, R, 3].
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            got = f"{pixels.dtype} {list(pixels.shape)}"
            raise ShapeError("a photo must be uint8 [H, W, 3]", expected="uint8 [H, W, 3]", got=got)
        scale = min(1.0, 2 * self.resolution / self.side)
        margin = math.ceil(_MARGIN / scale)
        low = np.floor(self.quad.min(0)).astype(int) - margin
        high = np.ceil(self.quad.max(0)).astype(int) + margin
        region = Image.fromarray(_mirrored(pixels, low, high))
        if scale < 1:
            smaller = [math.ceil(length * scale) for length in region.size]
            region = region.resize((smaller[0], smaller[1]), Image.Resampling.BICUBIC, reducing_gap=1.5)
        side = min(2 * self.resolution, max(self.resolution, round(self.side)))
        shrunk = np.array(region.size) / (high - low)
        matrix = np.column_stack([(self._axes * shrunk / side).T, (self.quad[0] - low) * shrunk])  # [2, 3]
        place = matrix.ravel().tolist()
        upright = region.transform((side, side), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)
        return np.array(upright.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC))  # [R, R, 3]

    @property
    def _axes(self) -> Points:
        """The right and the downward edge of the square as rows, float64 [2, 2]."""
        return np.stack([self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]])


def _mirrored(pixels: NDArray[np.uint8], low: NDArray[np.int_], high: NDArray[np.int_]) -> NDArray[np.uint8]:
    """Return the pixels from corner ``low`` to corner ``high`` ([x, y]) of a photo that is mirrored at its edges."""
    columns, rows = (_reflected(low[i], high[i], pixels.shape[1 - i]) for i in range(2))
    if isinstance(rows, slice) and isinstance(columns, slice):
        return np.ascontiguousarray(pixels[rows, columns])
    return np.ascontiguousarray(pixels[rows][:, columns])


def _reflected(low: int, high: int, size: int) -> slice | NDArray[np.int_]:
    """Return which of ``size`` rows stand from ``low`` to ``high``; the edge itself is not repeated."""
    if low >= 0 and high <= size:
        return slice(low, high)
    period = max(1, 2 * (size - 1))
    index = np.arange(low, high) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
