"""The FFHQ template, the crop, and the maps between photo and crop (U-62, M-49)."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modify_fl.errors import ShapeError
from modify_fl.faces.align import Alignment, quad, template_digest
from modify_fl.faces.decode import decode_image, fit_square

# An upright face: eyes 40 apart, 50 above the mouth.
UPRIGHT = np.array([[80.0, 100], [120, 100], [100, 125], [85, 150], [115, 150]])


def turned(points: np.ndarray, degrees: float, centre: tuple[float, float] = (100, 120)) -> np.ndarray:
    """Turn points clockwise, as seen on the screen, around ``centre``."""
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (points - centre) @ rotation + centre


def scene(height: int, width: int) -> np.ndarray:
    """Smooth colours without symmetry, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * columns + 4 * rows), np.sin(7 * rows - 5 * columns), np.cos(6 * rows * columns + 3 * columns)]
    return np.uint8(127.5 + 100 * np.stack(waves, -1))


def test_upright_face_gets_the_square_of_ffhq() -> None:
    # Side max(4 * 40, 3.6 * 50) = 180; centre 0.1 * 50 = 5 below the eyes: (100, 105).
    assert np.allclose(quad(UPRIGHT), [[10, 15], [10, 195], [190, 195], [190, 15]])


def test_wide_eyes_decide_the_size_of_a_short_face() -> None:
    short = np.array([[50.0, 100], [150, 100], [100, 110], [80, 120], [120, 120]])
    # Side max(4 * 100, 3.6 * 20) = 400.
    assert math.hypot(*(quad(short)[3] - quad(short)[0])) == pytest.approx(400)


def test_axis_is_the_mean_of_the_lines_of_eyes_and_mouth() -> None:
    # Eyes lie level, 40 apart; the mouth stands 30 to the right and 40 below: their normal is (40, -30), so the
    # axis points along (40, 0) + (40, -30) = (80, -30).
    leaning = np.array([[80.0, 100], [120, 100], [115, 120], [115, 140], [145, 140]])
    corners = quad(leaning)
    right = corners[3] - corners[0]
    assert right[1] / right[0] == pytest.approx(-30 / 80)


@pytest.mark.parametrize("degrees", range(-180, 180, 30))
def test_square_turns_with_the_face(degrees: int) -> None:
    assert np.allclose(quad(turned(UPRIGHT, degrees)), turned(quad(UPRIGHT), degrees))


@pytest.mark.parametrize("degrees", [-170, -90, -45, -10, 0, 5, 30, 90, 135, 180])
@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_landmarks_land_where_the_template_says(degrees: int, resolution: int) -> None:
    alignment = Alignment.of(turned(UPRIGHT, degrees), resolution)
    # The eyes' middle is 5 above the centre of a square of side 180.
    points = alignment.to_crop(turned(UPRIGHT, degrees)) / resolution
    expected = (UPRIGHT - [10, 15]) / 180
    assert np.allclose(points, expected)
    assert np.allclose(alignment.to_photo(points * resolution), turned(UPRIGHT, degrees))


@pytest.mark.parametrize(
    "points",
    [np.zeros((4, 2)), np.full((5, 2), np.nan), np.zeros((5, 2)), np.ones(10)],
)
def test_points_that_are_no_face_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        quad(points)


@pytest.mark.parametrize(
    ("corners", "resolution"),
    [(np.zeros((4, 2)), 64), (np.zeros((3, 2)), 64), (quad(UPRIGHT), 0), (quad(UPRIGHT) * 1e6, 64)],
)
def test_alignment_without_usable_size_is_refused(corners: np.ndarray, resolution: int) -> None:
    with pytest.raises(ShapeError):
        Alignment(quad=corners, resolution=resolution)


@pytest.mark.parametrize("pixels", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)])
def test_only_pixels_are_cropped(pixels: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        Alignment.of(UPRIGHT, 32).crop(pixels)


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.array([[left, top], [left, top + side], [left + side, top + side], [left + side, top]])


@pytest.mark.parametrize(("side", "resolution"), [(64, 64), (128, 64), (100, 32), (90, 128), (250, 32)])
def test_square_of_the_grid_is_cut_and_resized_as_a_prepared_picture(side: int, resolution: int) -> None:
    # M-49: what a data set of ready crops goes through. In two steps here: up to four levels on slopes of 24 per pixel.
    photo = scene(300, 280)
    crop = Alignment(quad=square(20.0, 30.0, side), resolution=resolution).crop(photo)
    expected = fit_square(photo[30 : 30 + side, 20 : 20 + side], resolution)
    inside = slice(1, -1)  # a filter at the cut sees the neighbours there and the edge here
    difference = np.abs(crop.astype(int) - expected)[inside, inside]
    assert difference.max() <= 4
    assert difference.mean() < 1
    assert crop.dtype == np.uint8


@pytest.mark.parametrize("turns", range(4))
def test_crop_of_a_turned_photo_is_the_same_face(turns: int) -> None:
    photo = scene(240, 240)
    upright = Alignment.of(UPRIGHT, 64).crop(photo)
    # np.rot90 turns counter-clockwise, around the middle of a square photo.
    landmarks = turned(UPRIGHT, -90 * turns, (120, 120))
    again = Alignment.of(landmarks, 64).crop(np.ascontiguousarray(np.rot90(photo, turns)))
    assert np.abs(upright.astype(int) - again).max() <= 2


def test_crop_of_a_rotated_face_follows_the_scene() -> None:
    photo = scene(300, 300)
    alignment = Alignment.of(turned(UPRIGHT, 33), 64)
    crop = alignment.crop(photo)
    for column, row in [(5, 7), (32, 32), (50, 20), (12, 58)]:
        x, y = alignment.to_photo(np.array([[column + 0.5, row + 0.5]]))[0]
        near = photo[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3).mean(0)
        assert np.abs(crop[row, column] - near).max() <= 8  # waves change by a few levels per pixel


def test_fine_stripes_come_out_grey() -> None:
    # Without antialiasing, every eighth pixel of stripes would give black, white or moire.
    stripes = np.zeros((700, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = Alignment.of(turned(UPRIGHT * 3, 8, (300, 360)), 64).crop(stripes)
    assert np.abs(crop.astype(float) - 127.5).max() < 12


def test_outside_of_the_photo_is_its_mirror_image() -> None:
    photo = scene(100, 100)
    crop = Alignment(quad=square(-40.0, -40.0, 128.0), resolution=128).crop(photo)
    # Pixel i of the crop is pixel i - 40 of the photo; -n shows n, and the edge is not repeated.
    assert np.array_equal(crop[40:, 40:], photo[:88, :88])
    assert np.array_equal(crop[39, 40:], photo[1, :88])
    assert np.array_equal(crop[10, 40:], photo[30, :88])


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3)])
def test_square_far_larger_than_the_photo_is_filled(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 77, np.uint8)
    assert (Alignment.of(UPRIGHT, 32).crop(photo) == 77).all()


def test_template_has_a_stable_name() -> None:
    # Bundles carry it: another value here means that their faces no longer fit.
    assert template_digest() == "dcd18d19a39154fbaff4de81aeb8af10795722f2d997b1506897d79071fed0e1"


def test_photos_are_aligned_as_the_prepared_crops_were(shared_data: Path) -> None:
    from modify_fl.faces.detect import FaceDetector

    detector = FaceDetector()
    shifts = []
    for photo in sorted((shared_data / "photos" / "congress").glob("*.jpg"))[::4]:
        prepared = shared_data / "content" / "congress" / "128" / f"us_congress_us_congress_{photo.name}"
        pixels = decode_image(photo)
        ours = Alignment.of(detector.detect(pixels)[0].landmarks, 128).crop(pixels)
        seen = [detector.detect(crop)[0].landmarks for crop in (ours, decode_image(prepared))]
        shifts.append(np.median(np.hypot(*(seen[0] - seen[1]).T)) / 128)
    assert np.median(shifts) < 0.03


def test_large_photo_is_cropped_without_a_second_copy_of_it() -> None:
    # 30 megapixels, most of which lie outside the square and are never touched: a view that cannot be copied.
    photo = np.lib.stride_tricks.as_strided(np.full(3, 9, np.uint8), (100_000, 100_000, 3), (0, 0, 1))
    assert (Alignment.of(UPRIGHT, 32).crop(photo) == 9).all()


def test_image_library_is_not_asked_for_more_than_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Image.fromarray
    monkeypatch.setattr(Image, "fromarray", lambda pixels: seen.append(pixels.shape) or original(pixels))
    Alignment.of(UPRIGHT, 64).crop(np.zeros((2000, 2000, 3), np.uint8))
    assert all(height < 220 and width < 220 for height, width, _ in seen)
