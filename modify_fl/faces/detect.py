"""Finding faces in a photo (U-62, U-63).

MTCNN of facenet-pytorch, whose weights come with its wheel (U-6). Where it
finds nothing, or nothing sure, the photo is padded, turned, and looked at again with
lower thresholds, in this order; the way a face was found stands in the face.
All coordinates are those of the photo as it was given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from modify_fl.errors import ConfigError, DataError, ShapeError
from modify_fl.faces.align import Points, quad

__all__ = ["SMALLEST", "Face", "FaceDetector", "choose"]

SMALLEST = 48
"""Faces whose square has a shorter side, in pixels of the photo, are not painted (U-63)."""

Pixels = NDArray[np.uint8]
Back = Callable[[Points], Points]

_LONGEST_SIDE = 1280  # of the picture that the networks see; more costs seconds and finds smaller faces only
_SMALLEST_BOX = 20  # pixels of that picture
_SHRINK = 0.709
_USUAL = ((0.6, 0.7, 0.7), 0.9)  # thresholds of the three networks, and of the result
_LOW = ((0.5, 0.6, 0.6), 0.95)  # of a photo with its contrast stretched; a lower end finds faces in shirts
_SURE = 0.9985  # most upright faces of photos get more, the same photos upside down up to 0.9974
_MISFIT = 0.05  # what landmarks that lie unlike those of a face cost, in probability
# Where eyes, nose and mouth corners lie in a face that is seen from the front, up to place, size and angle.
_FRONT = np.array([[-1.0, -1.15], [1.0, -1.15], [0.0, 0.0], [-0.82, 1.17], [0.84, 1.16]]) @ np.array([1, 1j])
_TURNED = 0.35
_DARK = 50.0
_UPRIGHT_DEGREES = 60.0
_LYING_DEGREES = 45.0
_OVERLAP = 0.4


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face in a photo."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the photo."""
    landmarks: Points
    """Eye centres, nose, mouth corners, float64 [5, 2] in pixels of the photo; the person's right side first."""
    probability: float
    """What the detector says, 0 to 1."""
    path: str
    """How it was found: ``plain``, ``padded``, ``rotated 90`` (180, 270) or ``low threshold``."""
    warnings: tuple[str, ...] = ()
    """Why the result may disappoint, in short."""

    @property
    def quad(self) -> Points:
        """Corners of its square, float64 [4, 2]; see ``align.quad``."""
        return quad(self.landmarks)

    @property
    def size(self) -> float:
        """Side of its square in pixels of the photo."""
        corners = self.quad
        return math.hypot(*(corners[3] - corners[0]))

    @property
    def tiny(self) -> bool:
        """Whether it is too small to be painted (U-63)."""
        return self.size < SMALLEST


class FaceDetector:
    """Finds faces; made once for many photos."""

    def __init__(self, *, device: str = "cpu") -> None:
        """Load the three networks of MTCNN.

        Args:
            device: Where they run.
        """
        from facenet_pytorch.models.mtcnn import MTCNN  # noqa: PLC0415 - heavy
        from facenet_pytorch.models.utils.detect_face import detect_face  # noqa: PLC0415 - heavy

        self._device = torch.device(device)
        self._nets = MTCNN(device=self._device).eval()
        self._search = detect_face

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        """Find the faces of one photo.

        Args:
            pixels: uint8 [H, W, 3], sRGB, upright; of any size.

        Returns:
            Faces from left to right; empty if there are none. The same photo
            gives the same faces.

        Raises:
            ShapeError: ``pixels`` is not uint8 [H, W, 3].
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            got = f"{pixels.dtype} {list(pixels.shape)}"
            raise ShapeError("a photo must be uint8 [H, W, 3]", expected="uint8 [H, W, 3]", got=got)
        small = _reduced(pixels)
        scale = np.array([pixels.shape[1] / small.shape[1], pixels.shape[0] / small.shape[0]])
        faces = [_enlarged(face, scale) for face in self._found(small)]
        return tuple(replace(face, warnings=_warnings(face, pixels)) for face in sorted(faces, key=_centre))

    def _found(self, small: Pixels) -> list[Face]:
        """Try one way after the other until there is a face (U-62)."""
        padded, back = _padded(small)
        upright = self._look(small, "plain", _same) or self._look(padded, "padded", back)
        if _surest(upright) >= _SURE:
            return upright
        # Sideways and upside-down faces are often seen as upright ones, with less certainty and wrong landmarks.
        turned = max((self._turned(small, turns) for turns in (1, 2, 3)), key=_credit)
        stretched = np.asarray(ImageOps.autocontrast(Image.fromarray(small), cutoff=1))
        return max(upright, turned, key=_credit) or self._look(stretched, "low threshold", _same, _LOW)

    def _turned(self, small: Pixels, turns: int) -> list[Face]:
        turned, back = _rotated(small, turns)
        return self._look(turned, f"rotated {90 * turns}", back)

    @torch.inference_mode()
    def _look(
        self, small: Pixels, path: str, back: Back, limits: tuple[tuple[float, ...], float] = _USUAL
    ) -> list[Face]:
        thresholds, needed = limits
        if min(small.shape[:2]) < _SMALLEST_BOX:
            return []
        nets = self._nets
        try:
            boxes, points = self._search(
                small, _SMALLEST_BOX, nets.pnet, nets.rnet, nets.onet, list(thresholds), _SHRINK, self._device
            )
        except (IndexError, RuntimeError):
            # facenet-pytorch stumbles over candidates that lie outside the picture; there is no face then.
            return []
        faces = [
            Face(box=_box(back(box[:4].reshape(2, 2))), landmarks=back(marks), probability=float(box[4]), path=path)
            for box, marks in zip(np.asarray(boxes[0], np.float64), np.asarray(points[0], np.float64), strict=True)
            if box[4] >= needed and _plausible(marks)
        ]
        return _distinct(faces)


def choose(faces: Sequence[Face], which: str) -> tuple[Face, ...]:
    """Pick faces as ``--faces`` says (U-63).

    Args:
        faces: From left to right.
        which: ``largest``, ``all``, or numbers from 1, as in ``1,3``.

    Returns:
        The chosen faces, from left to right; none of none.

    Raises:
        ConfigError: ``which`` says nothing that can be understood.
        DataError: The photo has no face of that number.
    """
    if which == "all":
        return tuple(faces)
    if which == "largest":
        return tuple(sorted(faces, key=lambda face: -face.size)[:1])
    numbers = _numbers(which)
    missing = [number for number in numbers if number > len(faces)]
    if missing:
        count = f"{len(faces)} face" + ("" if len(faces) == 1 else "s")
        raise DataError(
            f"there is no face {missing[0]}", why=f"{count} found, counted from left to right",
            fix="choose --faces largest, --faces all or another number", expected=f"at most {len(faces)}",
            got=str(missing[0]),
        )  # fmt: skip
    return tuple(faces[number - 1] for number in numbers)


def _numbers(which: str) -> list[int]:
    """Read ``1,3``; ascending, each once."""
    parts = [part.strip() for part in which.split(",")]
    numbers = sorted({int(part) for part in parts if part.isascii() and part.isdecimal()})
    if not all(part.isascii() and part.isdecimal() for part in parts) or not numbers or numbers[0] < 1:
        raise ConfigError(
            f"cannot read which faces are meant by {which!r}", expected="largest, all, or numbers from 1 such as 1,3",
            fix="choose --faces largest, --faces all or --faces 1",
        )  # fmt: skip
    return numbers


# Pictures to look at, and the way back from their coordinates ------------------


def _reduced(pixels: Pixels) -> Pixels:
    """Return the photo with its longer side at most 1280 pixels."""
    longest = max(pixels.shape[:2])
    if longest <= _LONGEST_SIDE:
        return np.ascontiguousarray(pixels)
    block = max(1, longest // (2 * _LONGEST_SIDE))
    image = Image.fromarray(np.ascontiguousarray(pixels)).reduce(block)
    share = _LONGEST_SIDE / longest
    size = (max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share)))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _same(points: Points) -> Points:
    return points


def _padded(small: Pixels) -> tuple[Pixels, Back]:
    """Return the photo within a frame half as wide as its shorter side: a face may fill the whole photo."""
    width = min(small.shape[:2]) // 2
    edges = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    frame = np.empty((small.shape[0] + 2 * width, small.shape[1] + 2 * width, 3), np.uint8)
    frame[:] = np.median(edges, 0).astype(np.uint8)
    frame[width : width + small.shape[0], width : width + small.shape[1]] = small
    return frame, lambda points: points - width


def _rotated(small: Pixels, turns: int) -> tuple[Pixels, Back]:
    """Return the photo turned counter-clockwise by so many right angles."""
    height, width = small.shape[:2]

    def back(points: Points) -> Points:
        x, y = points[:, 0], points[:, 1]
        turned = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[turns]
        return np.stack(turned, -1)

    return np.ascontiguousarray(np.rot90(small, turns)), back


# Faces -------------------------------------------------------------------------


def _box(corners: Points) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return left, top, right, bottom


def _enlarged(face: Face, scale: Points) -> Face:
    return replace(face, box=_box(np.reshape(face.box, (2, 2)) * scale), landmarks=face.landmarks * scale)


def _centre(face: Face) -> tuple[float, float]:
    return face.box[0] + face.box[2], face.box[1] + face.box[3]


def _surest(faces: Sequence[Face]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _credit(faces: Sequence[Face]) -> float:
    """Return how far the best of some faces can be believed: its probability, less where landmarks fit no face."""
    return max((face.probability - _MISFIT * _misfit(face.landmarks) for face in faces), default=0.0)


def _misfit(landmarks: Points) -> float:
    """Return how far landmarks lie from those of a face seen from the front, in distances between its eyes."""
    own, front = landmarks @ np.array([1, 1j]), _FRONT - _FRONT.mean()
    own = own - own.mean()
    scale = (front.conj() @ own) / (front.conj() @ front)  # least squares over turns and sizes
    return float(np.abs(own - scale * front).mean() / max(abs(scale) * abs(front[1] - front[0]), 1e-9))


def _tilt(landmarks: Points) -> float:
    """Return by how many degrees a face is turned in the plane, 0 to 180; 0 is upright."""
    corners = quad(landmarks)
    right = corners[3] - corners[0]
    return abs(math.degrees(math.atan2(right[1], right[0])))


def _plausible(landmarks: Points) -> bool:
    """Say whether eyes stand above a mouth; the networks see sideways faces too, but misplace these points."""
    across, down = landmarks[1] - landmarks[0], landmarks[3:].mean(0) - landmarks[:2].mean(0)
    return bool(across.any() or down.any()) and _tilt(landmarks) <= _UPRIGHT_DEGREES


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Keep the surest of faces that overlap."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.probability):
        if all(_overlap(face.box, other.box) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the shared area of two boxes as a share of the smaller one."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return max(width, 0) * max(height, 0) / max(min(areas), 1e-9)


def _warnings(face: Face, pixels: Pixels) -> tuple[str, ...]:
    tilt = _tilt(face.landmarks)
    remarks = {
        f"tiny: {face.size:.0f} pixels, less than {SMALLEST}": face.tiny,
        "turned to the side": abs(_yaw(face.landmarks)) > _TURNED,
        "dark": _luminance(face, pixels) < _DARK,
        "upside down" if tilt > 180 - _LYING_DEGREES else "lying on its side": tilt > _LYING_DEGREES,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


def _yaw(landmarks: Points) -> float:
    """Return how far the nose stands beside the middle of the face, in distances between the eyes."""
    corners = quad(landmarks)
    right = corners[3] - corners[0]
    right = right / math.hypot(*right)
    middle = (landmarks[:2].mean(0) + landmarks[3:].mean(0)) / 2
    return float((landmarks[2] - middle) @ right / max(abs((landmarks[1] - landmarks[0]) @ right), 1e-9))


def _luminance(face: Face, pixels: Pixels) -> float:
    """Return the mean luma of the box, 0 to 255."""
    left, top, right, bottom = (max(0, round(value)) for value in face.box)
    step = max(1, (bottom - top) // 64)
    inside = pixels[top:bottom:step, left:right:step].reshape(-1, 3)
    return float(inside.mean(0) @ [0.299, 0.587, 0.114]) if len(inside) else 255.0
