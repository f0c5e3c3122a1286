"""Contact sheets: many pictures on one page (U-74).

Pillow is imported when a sheet is drawn, so importing this module is cheap.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modify_fl.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["contact_sheet"]

_MARGIN = 4
_LINE = 14
_INK = (40, 40, 40)
_PAPER = (255, 255, 255)
_NAME_SHARE = 6  # pixels that one character of the built-in font takes


def contact_sheet(
    rows: Sequence[Sequence["NDArray[np.uint8]"]], *, columns: Sequence[str] = (), names: Sequence[str] = ()
) -> "Image":
    """Lay pictures out in rows, with captions above the columns and below each row.

    Args:
        rows: Pictures of equal size, uint8 [R, R, 3]; rows may differ in length.
        columns: Captions above the columns; none if empty.
        names: Captions below the rows, cut to the width of the sheet; none if empty.

    Returns:
        An RGB image.

    Raises:
        ShapeError: There is no picture, sizes differ, or captions do not match.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 - see the module docstring

    side = _side(rows)
    wide = max(len(row) for row in rows)
    if len(columns) not in {0, wide} or len(names) not in {0, len(rows)}:
        raise ShapeError("captions do not match the pictures", expected=f"{wide} and {len(rows)}",
                         got=f"{len(columns)} and {len(names)}")  # fmt: skip
    step_x, step_y = side + _MARGIN, side + _MARGIN + (_LINE if names else 0)
    top = _MARGIN + (_LINE if columns else 0)
    sheet = Image.new("RGB", (_MARGIN + wide * step_x, top + len(rows) * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for x, caption in enumerate(columns):
        draw.text((_MARGIN + x * step_x, 1), _cut(caption, side), fill=_INK)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (_MARGIN + x * step_x, top + y * step_y))
        if names:
            draw.text((_MARGIN, top + y * step_y + side), _cut(names[y], wide * step_x), fill=_INK)
    return sheet


def _side(rows: Sequence[Sequence["NDArray[np.uint8]"]]) -> int:
    shapes = {picture.shape for row in rows for picture in row}
    if len(shapes) != 1:
        raise ShapeError("pictures of a sheet must have one size", expected="one size", got=f"{len(shapes)} sizes")
    height, width, channels = shapes.pop()
    if height != width or channels != 3:
        raise ShapeError(
            "pictures of a sheet must be uint8 [R, R, 3]", expected="[R, R, 3]", got=f"[{height}, {width}, {channels}]"
        )
    side: int = height
    return side


def _cut(text: str, width: int) -> str:
    # The built-in font knows Latin-1 only; other characters must not end a run.
    text = text.encode("latin-1", "replace").decode("latin-1")
    longest = max(1, width // _NAME_SHARE)
    return text if len(text) <= longest else text[: longest - 1] + "~"
