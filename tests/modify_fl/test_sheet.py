"""Rule U-74: contact sheets."""

import numpy as np
import pytest

from modify_fl.errors import ShapeError
from modify_fl.sheet import contact_sheet


def _picture(value: int, side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_pictures_lie_in_rows_and_columns() -> None:
    sheet = np.asarray(contact_sheet([[_picture(10), _picture(20)], [_picture(30)]]))
    # Margins of 4 pixels: width 4 + 2 * 36, height 4 + 2 * 36.
    assert sheet.shape == (76, 76, 3)
    assert (sheet[4:36, 4:36] == 10).all()
    assert (sheet[4:36, 40:72] == 20).all()
    assert (sheet[40:72, 4:36] == 30).all()
    assert (sheet[40:72, 40:72] == 255).all()


def test_captions_take_a_line_each_and_are_cut() -> None:
    sheet = contact_sheet([[_picture(10)]], columns=["seed 1"], names=["a-very-long-name-\u4eba.jpg"])
    # One line of 14 pixels above, one below.
    assert sheet.size == (40, 4 + 14 + 36 + 14)
    page = np.asarray(sheet)
    assert (page[18:50, 4:36] == 10).all()
    assert (page[:18] < 255).any()
    assert (page[50:] < 255).any()


@pytest.mark.parametrize(
    ("rows", "captions"),
    [
        ([], {}),
        ([[_picture(1), _picture(1, 16)]], {}),
        ([[np.zeros((4, 5, 3), np.uint8)]], {}),
        ([[_picture(1)]], {"columns": ["a", "b"]}),
        ([[_picture(1)]], {"names": ["a", "b"]}),
    ],
)
def test_unequal_pictures_and_captions_are_refused(
    rows: list[list[np.ndarray]], captions: dict[str, list[str]]
) -> None:
    with pytest.raises(ShapeError):
        contact_sheet(rows, **captions)
