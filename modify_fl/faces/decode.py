"""Picture files in, pixels out, and back (U-60, U-61, M-49).

Rules this module keeps: one unreadable file raises ``DataError`` and nothing
else, whatever its bytes are; only the formats listed here are tried, so no
format that runs programs or reads other files is ever reached; pictures are
made square and resized by one function, antialiased bicubic on uint8, once.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from modify_fl.errors import DataError, ShapeError
from modify_fl.faces.colours import to_eight_bits, to_srgb
from modify_fl.faces.metadata import Metadata, photo_metadata
from protocol.storage import atomic_writer, storage_errors

__all__ = ["MAX_PIXELS", "Picture", "count_pixels", "decode_image", "fit_square", "read_picture", "save_png"]

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused before they are decoded (U-61)."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_FORMAT_NAMES = "JPEG, PNG, WebP, TIFF, BMP or GIF"
_HEIC_WHY = "it is a HEIC picture: pip install 'modify-fl[heic]', or convert it to JPEG"  # all that lists keep
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_TOGETHER = 1 << 20  # pixels computed at once, so that a large picture needs no second memory
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One decoded picture."""

    pixels: NDArray[np.uint8]
    """sRGB, uint8 [H, W, 3], upright; where there is transparency, on white."""
    alpha: NDArray[np.uint8] | None = None
    """uint8 [H, W], 0 transparent to 255 opaque; nothing for a picture that is opaque everywhere."""
    metadata: Metadata = field(default_factory=Metadata)
    """What may be written beside a result (U-67); empty unless it was asked for."""
    notes: tuple[str, ...] = ()
    """What the user should be told, such as that only the first frame was used."""


def decode_image(source: str | Path | bytes | BinaryIO, *, name: str = "") -> NDArray[np.uint8]:
    """Return the pixels of a picture file; ``read_picture`` without the notes.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        name: What errors call the picture; the file name if empty.

    Returns:
        sRGB, uint8 [H, W, 3], upright.

    Raises:
        DataError: The picture cannot be read or has more than 100 megapixels.
    """
    return read_picture(source, name=name).pixels


def read_picture(
    source: str | Path | bytes | BinaryIO, *, name: str = "", max_pixels: int = MAX_PIXELS, metadata: bool = False
) -> Picture:
    """Decode one picture of any format users bring (U-60).

    The EXIF orientation is applied first; grey, palette, CMYK, 16-bit and float
    pictures become 8-bit RGB, an embedded colour profile is converted to sRGB,
    transparency lies on white, and of an animation the first frame is taken.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        name: What errors call the picture; the file name if empty.
        max_pixels: Larger pictures are refused unseen.
        metadata: Whether to read what the file says about the photo.

    Returns:
        The pixels, what belongs to them, and notes for the user.

    Raises:
        DataError: The picture cannot be read or has more than ``max_pixels``.
    """
    if isinstance(source, str | Path):
        name = name or Path(source).name
    name = name or "the picture"
    stream = BytesIO(source) if isinstance(source, bytes) else source
    try:
        # Pillow warns about oddities it survives; they are no business of the user.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(stream, name, max_pixels, metadata=metadata)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, max_pixels) from error
    except UnidentifiedImageError as error:
        raise _unidentified(stream, name) from error
    except Exception as error:  # decoders raise anything on hostile bytes, and one file must not end a run
        raise DataError(f"cannot read {name}", why=_reason(error), fix="replace the file or take it out") from error


def count_pixels(data: bytes) -> int:
    """Return how many pixels a picture file says it has, without decoding it; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(BytesIO(data)) as image:
                return image.width * image.height
    except Exception:  # noqa: BLE001 - whoever decodes it says what is wrong
        return 0


def fit_square(pixels: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """Cut the central square and resize it (M-49).

    Args:
        pixels: uint8 [H, W, 3].
        resolution: R, the side of the result.

    Returns:
        uint8 [R, R, 3]; antialiased bicubic, or the same pixels when the square has that size.
    """
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]  # [side, side, 3]
    if side == resolution:
        return np.ascontiguousarray(square)
    image = Image.fromarray(np.ascontiguousarray(square))
    return np.array(image.resize((resolution, resolution), Image.Resampling.BICUBIC))  # [R, R, 3]


def save_png(
    pixels: NDArray[np.uint8],
    path: Path,
    *,
    alpha: NDArray[np.uint8] | None = None,
    metadata: Metadata | None = None,
    text: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG that holds the pixels, what is given here and nothing else (U-67).

    The file appears under its name only when it is complete (U-40); missing
    folders are made. Whether an old file may be replaced is for the caller to check.

    Args:
        pixels: sRGB, uint8 [H, W, 3]; with ``alpha``, as seen on white.
        path: Where to write.
        alpha: Transparency to put back, uint8 [H, W]; the picture looks the
            same on white as without it.
        metadata: What ``read_picture`` kept of a photo.
        text: Text chunks, such as a note on provenance.

    Raises:
        ShapeError: ``pixels`` is not uint8 [H, W, 3], or ``alpha`` does not fit.
        StorageError: The file cannot be written.
    """
    _check_saved(pixels, alpha)
    kept = metadata or Metadata()
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    if kept.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", kept.xmp)
    image = Image.fromarray(np.ascontiguousarray(pixels) if alpha is None else _off_white(pixels, alpha))
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path, overwrite=True) as stream:
        image.save(stream, "PNG", pnginfo=chunks, exif=kept.exif or None)


def _check_saved(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} {list(pixels.shape)}"
        raise ShapeError("a picture to save must be uint8 [H, W, 3]", expected="uint8 [H, W, 3]", got=got)
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
        got = f"{alpha.dtype} {list(alpha.shape)}"
        raise ShapeError("transparency must fit its picture", expected=f"uint8 {list(pixels.shape[:2])}", got=got)


def _off_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colours that look like ``pixels`` on white, with their alpha, uint8 [H, W, 4]."""
    out = np.dstack([pixels, alpha])
    step = max(1, _TOGETHER // pixels.shape[1])
    for top in range(0, len(out), step):
        rows = out[top : top + step]
        partly = (rows[..., 3] > 0) & (rows[..., 3] < 255)
        colours, share = rows[partly, :3].astype(np.float32), rows[partly, 3:] / np.float32(255)
        rows[partly, :3] = np.rint(255 - (255 - colours) / share).clip(0, 255)
    return out


def _read(stream: str | Path | BinaryIO, name: str, max_pixels: int, *, metadata: bool) -> Picture:
    with _open(stream) as image:
        if image.width * image.height > max_pixels:
            raise _too_large(name, max_pixels, f"{image.width} x {image.height} pixels")
        notes = _frame_note(image)
        image.load()
        profile = image.info.get("icc_profile")
        upright = _upright(image)
        if "transparency" in image.info:
            upright.info["transparency"] = image.info["transparency"]
        kept = photo_metadata(image) if metadata else Metadata()
        rgb, alpha, note = to_srgb(to_eight_bits(upright, name), profile)
        return Picture(
            pixels=np.array(rgb), alpha=None if alpha is None else np.array(alpha), metadata=kept, notes=notes + note
        )


def _open(stream: str | Path | BinaryIO) -> Image.Image:
    try:
        return Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        if not _is_heic(stream) or not _reads_heic():
            raise
    importlib.import_module("pillow_heif").register_heif_opener()
    return Image.open(stream, formats=("HEIF",))


def _head(stream: str | Path | BinaryIO) -> bytes:
    if isinstance(stream, str | Path):
        with Path(stream).open("rb") as file:
            return file.read(16)
    stream.seek(0)
    head = stream.read(16)
    stream.seek(0)
    return head


def _reads_heic() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _is_heic(stream: str | Path | BinaryIO) -> bool:
    head = _head(stream)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def _unidentified(stream: str | Path | BinaryIO, name: str) -> DataError:
    if not _head(stream):
        return DataError(f"cannot read {name}", why="the file is empty", fix="take it out")
    if _is_heic(stream) and _reads_heic():
        return DataError(f"cannot read {name}", why="it is a damaged HEIC picture", fix="take it out")
    if _is_heic(stream):
        return DataError(f"cannot read {name}", why=_HEIC_WHY, fix="do one of the two, or take it out")
    return DataError(f"cannot read {name}", why=f"it is not {_FORMAT_NAMES}", fix="convert it, or take it out")


def _too_large(name: str, max_pixels: int, got: str = "") -> DataError:
    limit = f"{max_pixels / 1e6:g} megapixels"
    return DataError(
        f"cannot read {name}",
        why=f"it has more than {limit}",
        fix="make the picture smaller",
        expected=f"at most {limit}",
        got=got or None,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text[:1].lower() + text[1:200]


def _frame_note(image: Image.Image) -> tuple[str, ...]:
    # An MPO is a photo with a preview or a second eye, not an animation.
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return ()
    frames = getattr(image, "n_frames", 1)
    image.seek(0)
    return (f"only the first of {frames} frames was used",)


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken metadata must not cost a sound picture
        method = None
    return image if method is None else image.transpose(method)
