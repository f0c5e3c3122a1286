"""One photo on its way through a style: read, faces cut out, painted faces put back (U-60 to U-64).

Nothing here knows networks of a style: a ``PhotoReader`` turns a file into
aligned faces, and the photo puts whatever was painted of them back.

Letters: H and W height and width of the photo, B faces, S styles, R resolution.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from modify_fl.errors import DataError, ShapeError
from modify_fl.faces.align import Alignment
from modify_fl.faces.decode import Picture, fit_square, read_picture, save_png
from modify_fl.faces.detect import SMALLEST, Face, FaceDetector, choose
from modify_fl.faces.paste import Patch, paste
from modify_fl.perceptual import PerceptualNets
from modify_fl.styles import StyleChoice, from_pixels

__all__ = ["PhotoReader", "PhotoSource", "ReadPhoto", "Stylized", "as_picture", "faces_of", "similarity"]

Pixels = NDArray[np.uint8]
PhotoSource = str | Path | bytes | Image.Image | Pixels | Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadPhoto:
    """A photo with the faces that are to be painted."""

    picture: Picture
    """The photo."""
    faces: tuple[Face, ...] = ()
    """Faces to paint, from left to right; none where the whole photo is one aligned face."""
    numbers: tuple[int, ...] = (1,)
    """Number of each of them among all that were found, from left to right, counted from 1."""
    alignments: tuple[Alignment, ...] = ()
    """How each was cut out."""
    crops: Pixels
    """The aligned faces, uint8 [B, R, R, 3]."""
    skipped: tuple[str, ...] = ()
    """Faces that were left out, and why (U-63)."""
    remarks: tuple[str, ...] = ()
    """What the user should know of the photo or of a face, such as that it is turned away."""

    @property
    def pixels(self) -> int:
        """Size of the photo in pixels."""
        return int(self.picture.pixels.size) // 3

    def put_back(self, painted: Sequence[Pixels]) -> Pixels:
        """Return the photo with its faces painted (U-64).

        Args:
            painted: One picture for each face, uint8 [R, R, 3].

        Returns:
            uint8 [H, W, 3]; the painted face alone where nothing was aligned.
        """
        if not self.alignments:
            return painted[0]
        parts = zip(self.crops, painted, self.alignments, strict=True)
        return paste(self.picture.pixels, [Patch(crop=c, painted=p, alignment=a) for c, p, a in parts])


@dataclass(frozen=True, kw_only=True)
class PhotoReader:
    """Finds, chooses and aligns faces; the detector is loaded when the first photo needs it."""

    resolution: int
    """R."""
    faces: str = "all"
    """``all``, ``largest`` or numbers from left to right (U-63)."""
    align: bool = True
    """Without, the central square of every photo is taken for an aligned face."""

    @cached_property
    def detector(self) -> FaceDetector:
        """The face detector."""
        return FaceDetector()

    def read(self, source: PhotoSource, *, name: str = "") -> ReadPhoto:
        """Read one photo and cut its faces out.

        Args:
            source: Of the kinds of U-51.
            name: What errors call it.

        Raises:
            DataError: It cannot be read, or holds no face of a usable size.
            ShapeError: An array or a tensor of another kind.
        """
        picture = as_picture(source, name=name)
        return self.find(picture, name=name)

    def find(self, picture: Picture, *, name: str = "") -> ReadPhoto:
        """Cut the faces out of a decoded photo; see ``read``."""
        if not self.align:
            crop = fit_square(picture.pixels, self.resolution)
            return ReadPhoto(picture=picture, crops=crop[None], remarks=picture.notes)
        found = self.detector.detect(picture.pixels)
        if not found:
            raise DataError(
                f"no face in {name or 'the photo'}", why="no face found",
                fix="use a photo in which a face is seen from the front, or --no-align if it is an aligned face",
            )  # fmt: skip
        chosen = choose(found, self.faces)
        return self._cut(picture, found, chosen, name)

    def _cut(self, picture: Picture, found: Sequence[Face], chosen: Sequence[Face], name: str) -> ReadPhoto:
        number = {id(face): at for at, face in enumerate(found, 1)}
        large = [face for face in chosen if not face.tiny]
        skipped = tuple(
            f"face {number[id(face)]} is {face.size:.0f} pixels wide, less than {SMALLEST}"
            for face in chosen if face.tiny
        )  # fmt: skip
        if not large:
            raise DataError(
                f"no face of a usable size in {name or 'the photo'}", why="; ".join(skipped), fix="use a larger photo"
            )
        alignments = tuple(Alignment.of(face.landmarks, self.resolution) for face in large)
        remarks = tuple(f"face {number[id(face)]} is {remark}" for face in large for remark in face.warnings)
        return ReadPhoto(
            picture=picture, faces=tuple(large), numbers=tuple(number[id(face)] for face in large),
            alignments=alignments, skipped=skipped, remarks=picture.notes + remarks,
            crops=np.stack([alignment.crop(picture.pixels) for alignment in alignments]),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Stylized:
    """A photo and what a style made of it."""

    photo: ReadPhoto
    """The photo and its faces."""
    painted: Pixels
    """The painted faces, uint8 [S, B, R, R, 3]."""
    styles: tuple[StyleChoice, ...]
    """The styles, S of them."""
    losses: tuple[tuple[float, float], ...] = ()
    """Loss of each face before and after refining, where that was asked for."""

    @cached_property
    def pictures(self) -> tuple[Pixels, ...]:
        """The whole photo in each style, uint8 [H, W, 3]."""
        return tuple(self.photo.put_back(list(faces)) for faces in self.painted)

    @property
    def image(self) -> Image.Image:
        """The photo in the first style, for a notebook."""
        return Image.fromarray(self.pictures[0])

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces that were painted, from left to right."""
        return self.photo.faces

    @property
    def skipped(self) -> tuple[str, ...]:
        """Faces that were left out, and why."""
        return self.photo.skipped

    @cached_property
    def id_scores(self) -> tuple[tuple[float, ...], ...] | None:
        """Likeness of each face in each style, [S][B]: the cosine of ``similarity``; nothing without the network."""
        net = PerceptualNets.find(identity="casia-webface").face
        if net is None:
            return None
        return tuple(similarity(net, self.photo.crops, faces) for faces in self.painted)

    def save(self, path: Path | str, *, style: int = 0, keep_metadata: bool = False) -> None:
        """Write the photo in one of the styles as PNG.

        Args:
            path: Where; an existing file is replaced.
            style: Which one, counted from 0.
            keep_metadata: Keep the photo's metadata, all but the place (U-67).
        """
        picture = self.photo.picture
        aligned = bool(self.photo.alignments)
        save_png(
            self.pictures[style], Path(path), alpha=picture.alpha if aligned else None,
            metadata=picture.metadata if keep_metadata else None,
        )  # fmt: skip


def faces_of(photos: Iterable[ReadPhoto]) -> Tensor:
    """Return all faces of some photos as one batch, float32 [B, 3, R, R] in [-1, 1]."""
    crops = np.concatenate([photo.crops for photo in photos])  # [B, R, R, 3]
    return from_pixels(crops)


@torch.no_grad()
def similarity(net: torch.nn.Module, faces: Pixels, painted: Pixels) -> tuple[float, ...]:
    """Return the cosine between the embeddings of faces and of what was painted of them (U-8).

    Args:
        net: A face network that no training used, ``perceptual.FaceNet``.
        faces: uint8 [B, R, R, 3].
        painted: Same shape.
    """
    near, far = (net(from_pixels(pixels)) for pixels in (faces, painted))
    return tuple((near * far).sum(1).tolist())


def as_picture(source: PhotoSource, *, name: str = "") -> Picture:
    """Return a photo of any kind of U-51 decoded.

    Raises:
        DataError: A file cannot be read.
        ShapeError: An array is not uint8 [H, W, 3], or a tensor not float32 [1, 3, R, R] in [-1, 1].
    """
    if isinstance(source, str | Path | bytes):
        return read_picture(source, name=name, metadata=True)
    if isinstance(source, Image.Image):
        return Picture(pixels=np.array(ImageOps.exif_transpose(source).convert("RGB")))
    if isinstance(source, Tensor):
        if source.ndim != 4 or tuple(source.shape[:2]) != (1, 3) or not source.is_floating_point():
            got = f"{source.dtype} {list(source.shape)}"
            raise ShapeError("a photo as a tensor is one picture", expected="float [1, 3, R, R] in [-1, 1]", got=got)
        pixels = source.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        return Picture(pixels=np.ascontiguousarray(pixels[0].permute(1, 2, 0).cpu().numpy()))
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        got = f"{source.dtype} {list(source.shape)}"
        raise ShapeError("a photo as an array is uint8 [H, W, 3]", expected="uint8 [H, W, 3]", got=got)
    return Picture(pixels=np.ascontiguousarray(source))
