"""Values of every kind of picture to 8-bit sRGB (U-60)."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from modify_fl.errors import DataError

__all__ = ["to_eight_bits", "to_srgb"]

# Colour space of a profile -> mode it converts from, modes it may be embedded in.
_PROFILE_MODES = {
    "RGB": ("RGB", ("RGB", "RGBA", "RGBX", "P", "PA")),
    "GRAY": ("L", ("1", "L", "LA")),
    "CMYK": ("CMYK", ("CMYK",)),
}
_INTEGER_SCALES = (255.0, 65535.0, 2.0**31 - 1)
_FLOAT_SCALES = (1.0, *_INTEGER_SCALES)


def to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Return ``image``, or its 8-bit grey version if it is 16-bit, 32-bit or float.

    Raises:
        DataError: Its values are negative or not finite; ``name`` says which picture.
    """
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)  # [H, W]
    if not np.isfinite(values).all() or values.min() < 0:
        raise DataError(
            f"cannot read {name}", why="its values are negative or not finite", fix="save it as 8 or 16 bit"
        )
    scale = 65535.0 if image.mode.startswith("I;16") else _full_scale(image.mode, float(values.max()))
    return Image.fromarray(np.rint(values.clip(0, scale) * (255 / scale)).astype(np.uint8))


def _full_scale(mode: str, largest: float) -> float:
    # Nothing in such a file says what is white: take the smallest usual scale that holds every value.
    scales = _FLOAT_SCALES if mode == "F" else _INTEGER_SCALES
    return next((scale for scale in scales if largest <= scale), largest)


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, Image.Image | None, tuple[str, ...]]:
    """Return ``image`` in sRGB on white, its alpha, and a note when its profile was of no use."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    rgb, note = _apply_profile(image, profile) if profile else (None, ())
    if rgb is None:
        plain = image.convert("RGBA") if alpha else image
        rgb = plain if plain.mode == "RGB" else plain.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb, None, note
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha), alpha, note


def _apply_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image | None, tuple[str, ...]]:
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None, ()
        mode, fitting = _PROFILE_MODES.get(source.profile.xcolor_space.strip(), ("", ()))
        if image.mode not in fitting:
            return None, ("its colour profile does not fit and was ignored",)
        base = image if image.mode == mode else image.convert(mode)
        converted = ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None, ("its colour profile cannot be read and was ignored",)
    return converted, ()
