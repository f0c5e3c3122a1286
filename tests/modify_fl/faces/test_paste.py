"""Painted faces back into their photo: exact where nothing was painted, without a seam elsewhere (U-64)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from modify_fl.errors import ShapeError
from modify_fl.faces.align import Alignment
from modify_fl.faces.decode import decode_image
from modify_fl.faces.paste import Patch, _bounds, paste, seam_mask
from modify_fl.synthetic import draw_faces


def scene(height: int = 240, width: int = 260) -> np.ndarray:
    """Noise of full range over smooth colours, uint8 [H, W, 3]: detail that no crop can hold."""
    rows, columns = np.mgrid[:height, :width] / 90
    smooth = 127.5 + 70 * np.stack([np.sin(3 * columns + rows), np.sin(2 * rows), np.cos(columns - 2 * rows)], -1)
    noise = np.random.default_rng(0).normal(0, 25, (height, width, 3))
    return np.uint8((smooth + noise).clip(0, 255))


def placed(x: float, y: float, side: float, degrees: float, resolution: int) -> Alignment:
    """A square of that side around (x, y), turned clockwise."""
    angle = math.radians(degrees)
    right = np.array([math.cos(angle), math.sin(angle)]) * side / 2
    down = np.array([-right[1], right[0]])
    centre = np.array([x, y])
    corners = np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])
    return Alignment(quad=corners, resolution=resolution)


def patch(photo: np.ndarray, alignment: Alignment, paint: str = "identity") -> Patch:
    crop = alignment.crop(photo)
    painted = {"identity": crop, "negative": 255 - crop, "flat": np.full_like(crop, 90)}[paint]
    return Patch(crop=crop, painted=painted, alignment=alignment)


def influence(alignment: Alignment, shape: tuple[int, ...]) -> np.ndarray:
    """Value of the mask at every pixel, by its definition: bool [H, W], whether it is above 0."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = alignment.to_crop(np.stack([columns.ravel(), rows.ravel()], -1)) / alignment.resolution
    # The ellipse of the module, and the reach of one sample of the map that bilinear sampling adds.
    side = min(math.ceil(2 * alignment.side), 4 * alignment.resolution)
    x, y = (points[:, 0] - 0.5) / (0.4 + 1 / side), (points[:, 1] - 0.51) / (0.46 + 1 / side)
    return (x**2 + y**2 < 1).reshape(shape[:2])


POSES = [
    (130, 120, 150, 0), (130, 120, 150, 17), (120, 118, 90.3, -78), (130, 120, 200, 180), (125, 120, 49, 45),
    (10, 20, 120, 12), (255, 235, 130, -30), (130, -20, 110, 95), (130, 120, 900, 5),
]  # fmt: skip


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
@pytest.mark.parametrize("pose", POSES)
def test_identity_returns_the_photo_exactly(pose: tuple[float, ...], resolution: int) -> None:
    photo = scene()
    alignment = placed(*pose, resolution)
    assert np.array_equal(paste(photo, [patch(photo, alignment)]), photo)


@pytest.mark.parametrize("resolution", [32, 64, 256])
@pytest.mark.parametrize("pose", POSES[:-1])
def test_pixels_outside_of_the_mask_are_untouched(pose: tuple[float, ...], resolution: int) -> None:
    photo = scene()
    alignment = placed(*pose, resolution)
    result = paste(photo, [patch(photo, alignment, "negative")])
    changed = (result != photo).any(-1)
    assert not (changed & ~influence(alignment, photo.shape)).any()
    assert changed.sum() > 0.3 * influence(alignment, photo.shape).sum()
    assert result.dtype == np.uint8


def test_photo_itself_is_not_changed() -> None:
    photo = scene()
    before = photo.copy()
    paste(photo, [patch(photo, placed(*POSES[0], 64), "negative")])
    assert np.array_equal(photo, before)


def test_noise_of_the_network_does_not_cost_detail() -> None:
    # A stylizer that returns nearly the crop, as an autoencoder does: the photo's own detail stays.
    photo = scene()
    made = patch(photo, placed(*POSES[1], 32))
    noise = np.random.default_rng(1).integers(-2, 3, made.crop.shape)
    painted = np.uint8(np.clip(made.crop.astype(int) + noise, 0, 255))
    result = paste(photo, [Patch(crop=made.crop, painted=painted, alignment=made.alignment)])
    assert np.abs(result.astype(int) - photo).max() <= 5
    assert np.abs(result.astype(int) - photo).mean() < 0.5


def test_centre_takes_the_colours_of_the_painting() -> None:
    photo = scene()
    alignment = placed(130, 120, 150, 0, 64)
    crop = alignment.crop(photo)
    tint = np.array([40, -30, 15])
    made = Patch(crop=crop, painted=np.uint8((crop + tint).clip(0, 255)), alignment=alignment)
    change = paste(photo, [made]).astype(int)[110:140, 115:145] - photo[110:140, 115:145]
    unclipped = (photo[110:140, 115:145] > 45).all(-1) & (photo[110:140, 115:145] < 210).all(-1)
    assert np.abs(change[unclipped].mean(0) - tint).max() < 6


def test_what_the_painting_does_not_follow_loses_its_detail() -> None:
    # Stripes in the photo, a plain colour in the painting: no stripe may shine through.
    photo = np.full((240, 260, 3), 80, np.uint8)
    photo[:, ::16] = photo[:, 1::16] = 200
    result = paste(photo, [patch(photo, placed(130, 120, 160, 0, 64), "flat")])
    inside = (slice(105, 145), slice(110, 150))
    assert result[inside].std() < 0.2 * photo[inside].std()


def test_there_is_no_edge_where_the_mask_ends() -> None:
    # A grey wall, a face of another grey: neighbours of the result differ by a level or two, nowhere by a step.
    photo = np.full((240, 260, 3), 120, np.uint8)
    result = paste(photo, [patch(photo, placed(130, 120, 180, 20, 64), "flat")]).astype(int)
    assert np.abs(np.diff(result, axis=0)).max() <= 3
    assert np.abs(np.diff(result, axis=1)).max() <= 3
    assert result[125, 130].tolist() == [90] * 3


def test_seam_has_the_colours_of_the_photo() -> None:
    # A tinted copy: on the seam, where the mask is about one half, the shift is taken back.
    photo = np.full((240, 260, 3), 120, np.uint8)
    alignment = placed(130, 120, 180, 0, 64)
    crop = alignment.crop(photo)
    result = paste(photo, [Patch(crop=crop, painted=crop + np.uint8(60), alignment=alignment)]).astype(int)
    mask = seam_mask(180).numpy()
    change = result[30:210, 40:220, 0] - 120
    assert np.abs(change - 60 * mask**2).max() <= 2  # mask * (tint - (1 - mask) * tint)


def test_nine_faces_of_a_group_are_all_painted() -> None:
    people = draw_faces("photo", 9, 64, 1)
    photo = np.full((240, 240, 3), 150, np.uint8)
    alignments = []
    for index, person in enumerate(people):
        row, column = divmod(index, 3)
        photo[row * 80 : row * 80 + 64, column * 80 : column * 80 + 64] = person
        alignments.append(placed(column * 80 + 32, row * 80 + 32, 64, 0, 32))
    assert np.array_equal(paste(photo, [patch(photo, a) for a in alignments]), photo)
    result = paste(photo, [patch(photo, a, "negative") for a in alignments])
    for alignment in alignments:
        x, y = alignment.quad.mean(0).astype(int)
        assert (result[y - 5 : y + 5, x - 5 : x + 5] != photo[y - 5 : y + 5, x - 5 : x + 5]).mean() > 0.8


def test_face_in_front_covers_the_face_behind() -> None:
    photo = np.full((240, 300, 3), 120, np.uint8)
    behind, front = placed(120, 120, 120, 0, 32), placed(150, 120, 160, 0, 32)
    patches = [
        Patch(crop=a.crop(photo), painted=np.full((32, 32, 3), level, np.uint8), alignment=a)
        for a, level in ((front, 200), (behind, 60))
    ]
    result, alone = paste(photo, patches), paste(photo, patches[:1])
    # In the middle of the front face nothing of the other is seen, whatever the order they are given in.
    assert np.array_equal(result[110:130, 145:155], alone[110:130, 145:155])
    assert np.array_equal(result, paste(photo, patches[::-1]))
    assert result[120, 85, 0] < 120  # where only the face behind is


def test_overlapping_identities_return_the_photo() -> None:
    photo = scene()
    assert np.array_equal(paste(photo, [patch(photo, placed(*pose, 64)) for pose in POSES]), photo)


def test_result_does_not_depend_on_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = scene()
    made = [patch(photo, placed(*pose, 64), "negative") for pose in POSES[:2]]
    whole = paste(photo, made)
    monkeypatch.setattr("modify_fl.faces.paste._STRIP", 1000)
    assert np.abs(paste(photo, made).astype(int) - whole).max() <= 1


def test_face_outside_of_the_photo_changes_nothing() -> None:
    photo = scene()
    made = patch(photo, placed(130, 120, 100, 0, 32), "negative")
    far = Patch(crop=made.crop, painted=made.painted, alignment=placed(900, -700, 100, 0, 32))
    assert np.array_equal(paste(photo, [far]), photo)
    assert np.array_equal(paste(photo, []), photo)


@pytest.mark.parametrize("side", [32, 64, 255])
def test_mask_is_one_on_the_face_and_zero_at_the_edge(side: int) -> None:
    mask = seam_mask(side)
    assert mask.shape == (side, side)
    assert float(mask[side // 2, side // 2]) == 1
    edge = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not edge.any()


def test_box_holds_the_mask() -> None:
    for pose in POSES:
        alignment = placed(*pose, 64)
        left, top, right, bottom = _bounds(alignment, (240, 260, 3))
        rows, columns = np.nonzero(influence(alignment, (240, 260)))
        if len(rows):
            assert left <= columns.min() <= columns.max() < right
            assert top <= rows.min() <= rows.max() < bottom


@pytest.mark.parametrize("change", [{"crop": np.zeros((32, 32, 3), np.uint8)}, {"painted": np.zeros((64, 64, 3))}])
def test_patch_must_fit_its_alignment(change: dict[str, np.ndarray]) -> None:
    good = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ShapeError):
        Patch(**{"crop": good, "painted": good, "alignment": placed(*POSES[0], 64), **change})


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_real_photos_come_back_exactly_from_an_identity(resolution: int, shared_data: Path) -> None:
    from modify_fl.faces.detect import FaceDetector

    detector = FaceDetector()
    for photo in sorted((shared_data / "photos" / "congress").glob("*.jpg"))[::9]:
        pixels = decode_image(photo)
        made = [patch(pixels, Alignment.of(face.landmarks, resolution)) for face in detector.detect(pixels)]
        assert made
        assert np.array_equal(paste(pixels, made), pixels)
