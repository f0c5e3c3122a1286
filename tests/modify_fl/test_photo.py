"""U-51, U-60 to U-64: a photo on its way through a style."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modify_fl.errors import DataError, ShapeError
from modify_fl.photo import PhotoReader, ReadPhoto, Stylized, faces_of
from modify_fl.styles import seeded
from modify_fl.synthetic import draw_faces

R = 32


def wall(*sides: int) -> np.ndarray:
    """A photo of drawn people of these sizes beside each other, uint8 [H, W, 3]."""
    faces = draw_faces("photo", len(sides), 160, 1)
    photo = np.full((240, 20 + sum(sides) + 20 * len(sides), 3), 190, np.uint8)
    left = 20
    for face, side in zip(faces, sides, strict=True):
        photo[30 : 30 + side, left : left + side] = np.asarray(Image.fromarray(face).resize((side, side)))
        left += side + 20
    return photo


@pytest.fixture(scope="module")
def two() -> ReadPhoto:
    return PhotoReader(resolution=R).read(wall(160, 120))


def test_all_faces_are_cut_out_from_left_to_right(two: ReadPhoto) -> None:
    assert two.crops.shape == (2, R, R, 3)
    assert two.numbers == (1, 2)
    assert two.faces[0].box[0] < two.faces[1].box[0]
    batch = faces_of([two, two])
    assert batch.shape == (4, 3, R, R)
    assert float(batch.min()) >= -1
    assert float(batch.max()) <= 1


@pytest.mark.parametrize(("which", "numbers"), [("largest", (1,)), ("2", (2,)), ("1,2", (1, 2))])
def test_chosen_faces_keep_their_numbers(which: str, numbers: tuple[int, ...]) -> None:
    assert PhotoReader(resolution=R, faces=which).read(wall(160, 120)).numbers == numbers


def test_what_is_not_painted_stays_as_it_is(two: ReadPhoto) -> None:
    same = two.put_back(list(two.crops))
    assert np.abs(same.astype(int) - two.picture.pixels).max() <= 2  # U-64
    changed = two.put_back([255 - two.crops[0], two.crops[1]])
    where = np.nonzero((changed != two.picture.pixels).any(2))[1]
    assert where.max() < 200  # the second face begins there
    assert len(where) > 1000


def test_a_photo_that_is_one_aligned_face_is_taken_whole() -> None:
    face = draw_faces("photo", 1, R, 1)[0]
    read = PhotoReader(resolution=R, align=False).read(face)
    assert (read.crops[0] == face).all()
    assert (read.put_back([255 - face]) == 255 - face).all()


def test_every_kind_of_photo_is_read_alike(tmp_path: Path) -> None:
    pixels = wall(160)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned clockwise: a phone that lay on its side
    tensor = torch.from_numpy(draw_faces("photo", 1, R, 1)[0]).permute(2, 0, 1)[None].float().div(127.5).sub(1)
    reader = PhotoReader(resolution=R)
    first = reader.read(tmp_path / "a.png").crops
    for source in (str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), pixels, Image.fromarray(pixels), turned):
        assert (reader.read(source).crops == first).all()
    assert PhotoReader(resolution=R, align=False).read(tensor).crops.shape == (1, R, R, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)  # fmt: skip
def test_other_arrays_are_refused_with_what_was_expected(wrong: np.ndarray) -> None:
    with pytest.raises(ShapeError) as caught:
        PhotoReader(resolution=R).read(wrong)
    assert caught.value.expected
    assert caught.value.got


def test_no_face_and_no_large_face_are_told() -> None:
    with pytest.raises(DataError) as caught:
        PhotoReader(resolution=R).read(np.full((60, 60, 3), 128, np.uint8), name="grey.png")
    assert (caught.value.what, caught.value.why) == ("no face in grey.png", "no face found")
    small = np.asarray(Image.fromarray(wall(160)).resize((50, 60)))
    with pytest.raises(DataError) as caught:
        PhotoReader(resolution=R).read(small)
    assert "less than 48" in caught.value.why


def test_small_faces_beside_large_ones_are_left_out_and_named() -> None:
    read = PhotoReader(resolution=R).read(wall(160, 44))
    assert read.numbers == (1,)
    assert len(read.skipped) == 1
    assert read.skipped[0].startswith("face 2 is ")


def test_a_result_is_saved_with_what_belongs_to_the_photo(two: ReadPhoto, tmp_path: Path) -> None:
    painted = np.stack([two.crops, 255 - two.crops])  # [S, B, R, R, 3]
    result = Stylized(photo=two, painted=painted, styles=seeded((1, 2)))
    assert (np.asarray(result.image) == result.pictures[0]).all()
    assert result.faces == two.faces
    result.save(tmp_path / "out.png", style=1)
    with Image.open(tmp_path / "out.png") as image:
        assert (np.asarray(image) == result.pictures[1]).all()
