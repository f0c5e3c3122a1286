"""Picture sets in memory and index sampling (M-1, M-6, M-49, U-21, U-65)."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modify_fl import data
from modify_fl.data import (
    ImageSet,
    check_range,
    holdout_split,
    load_images,
    other_indices,
    shuffled_indices,
    to_uint8,
)
from modify_fl.errors import ConfigError, DataError, ShapeError


def noise(side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root: Path, count: int, side: int = 8) -> Path:
    for index in range(count):
        save(root / f"{index:03d}.png", noise(side, index))
    return root


def image_set(levels: list[int], side: int = 2) -> ImageSet:
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side)
    return ImageSet.of(images, [f"{index}.png" for index in range(len(levels))])


def test_public_names() -> None:
    assert data.__all__ == sorted(data.__all__)
    assert all(hasattr(data, name) for name in data.__all__)


# --- the set --------------------------------------------------------------------------------------------------------


def test_batch_is_float32_in_minus_one_to_one() -> None:
    batch = image_set([0, 255, 51]).batch([2, 0, 1, 0])
    assert batch.shape == (4, 3, 2, 2)
    assert batch.dtype == torch.float32
    # 51 / 127.5 - 1 = -0.6
    assert batch[:, 0, 0, 0].tolist() == pytest.approx([-0.6, -1, 1, -1])


def test_batch_does_not_change_the_set() -> None:
    images = image_set([0, 255])
    images.batch([0, 1]).zero_()
    assert images.batch([0, 1])[:, 0, 0, 0].tolist() == [-1, 1]


def test_every_byte_survives_the_way_to_the_network_and_back() -> None:
    images = image_set(list(range(256)))
    pixels = to_uint8(images.batch(range(256)))
    assert pixels.shape == (256, 2, 2, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0, 0].tolist() == list(range(256))


def test_output_of_a_network_is_clipped() -> None:
    assert to_uint8(torch.full((3, 2, 2), 1.7, requires_grad=True)).tolist() == [[[255] * 3] * 2] * 2
    assert to_uint8(torch.full((3, 2, 2), -9.0)).max() == 0


def test_channels_stay_red_green_blue(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0, 1] = (255, 51, 0)
    save(tmp_path / "a.png", pixels)
    batch = load_images(tmp_path, resolution=8).batch([0])
    assert batch[0, :, 0, 1].tolist() == pytest.approx([1, -0.6, -1])


def test_digest_depends_on_pixels_order_and_resolution_alone() -> None:
    first = image_set([1, 2])
    renamed = ImageSet.of(first.images, ["x.png", "y.png"])
    assert first.digest == renamed.digest
    assert len(first.digest) == 64
    others = [image_set([2, 1]), image_set([1, 3]), image_set([1]), image_set([1, 2], side=4)]
    # Four pixels of side 1 hold the bytes of one of side 2: the resolution must tell them apart.
    others.append(image_set([1, 1, 1, 1, 2, 2, 2, 2], side=1))
    assert len({first.digest, *(other.digest for other in others)}) == 6


def test_subset_keeps_names_and_has_its_own_digest() -> None:
    subset = image_set([10, 20, 30]).subset([2, 0])
    assert subset.names == ("2.png", "0.png")
    assert subset.digest == image_set([30, 10]).digest
    assert len(subset) == 2
    assert len(image_set([10]).subset([])) == 0
    assert subset.resolution == 2


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(1, 3, 4, 5, dtype=torch.uint8),
        torch.zeros(1, 4, 4, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
    ],
)
def test_set_of_the_wrong_type_or_shape_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(ShapeError):
        ImageSet(images=images, names=("a.png",), digest="")


# --- loading --------------------------------------------------------------------------------------------------------


def test_folder_and_zip_of_it_are_the_same_set(tmp_path: Path) -> None:
    save(tmp_path / "in" / "b" / "c.png", noise(8, 1))
    save(tmp_path / "in" / "a.png", noise(8, 2))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("b/c.png", "a.png"):
            archive.write(tmp_path / "in" / name, name)
    unzipped, zipped = (load_images(source, resolution=8) for source in (tmp_path / "in", tmp_path / "in.zip"))
    assert unzipped.names == zipped.names == ("a.png", "b/c.png")
    assert unzipped.digest == zipped.digest
    assert torch.equal(unzipped.images[0], torch.from_numpy(noise(8, 2)).permute(2, 0, 1))


def test_pictures_become_square_at_the_resolution(tmp_path: Path) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    save(tmp_path / "a.png", wide)
    images = load_images(tmp_path, resolution=16).images
    assert images.shape == (1, 3, 16, 16)
    assert images.min() == 255  # the middle third, and nothing of its surroundings


def test_limit_takes_the_first_in_order(tmp_path: Path) -> None:
    folder(tmp_path, 5)
    limited = load_images(tmp_path, resolution=8, limit=3)
    assert limited.names == ("000.png", "001.png", "002.png")
    assert len(load_images(tmp_path, resolution=8, limit=9)) == 5


@pytest.mark.parametrize("arguments", [{"resolution": 0}, {"resolution": 8, "limit": 0}])
def test_sizes_below_one_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, got 0"):
        load_images(folder(tmp_path, 1), **arguments)


def test_one_unreadable_of_twenty_is_named_and_counted(tmp_path: Path) -> None:
    folder(tmp_path, 20)
    (tmp_path / "007.png").write_bytes(b"")
    images = load_images(tmp_path, resolution=8)  # 1 of 20 is 5 %, and only more than that stops
    assert len(images) == 19
    assert images.skipped == (("007.png", "the file is empty"),)
    assert "007.png" not in images.names
    # What follows the gap is not shifted against its names.
    assert torch.equal(images.images[images.names.index("008.png")], torch.from_numpy(noise(8, 8)).permute(2, 0, 1))


def test_more_than_five_percent_unreadable_stops(tmp_path: Path) -> None:
    folder(tmp_path, 19)
    (tmp_path / "003.png").write_bytes(b"a letter")
    with pytest.raises(DataError, match=r"more than 5 % of the 19 pictures in .* cannot be used") as caught:
        load_images(tmp_path, resolution=8)
    assert caught.value.why == "003.png: it is not JPEG, PNG, WebP, TIFF, BMP or GIF"
    assert caught.value.exit_code == 10


def test_only_the_first_few_unreadable_are_named(tmp_path: Path) -> None:
    for index in range(200):
        (tmp_path / f"{index:03d}.png").write_bytes(b"" if index < 50 else b"x")
    with pytest.raises(DataError) as caught:
        load_images(tmp_path, resolution=8)
    # 11 of 200 are the first to be more than 5 %.
    assert caught.value.why.count("the file is empty") == 5
    assert caught.value.why.endswith("; and more")


def test_rejected_names_of_a_zip_count_as_unreadable(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(8, 0)).save(stream, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index in range(30):
            archive.writestr(f"{index}.png", stream.getvalue())
        archive.writestr("../out.png", stream.getvalue())
    assert load_images(tmp_path / "a.zip", resolution=8).skipped == (
        ("../out.png", "its path leads out of the archive"),
    )
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../out.png", stream.getvalue())
    with pytest.raises(DataError, match="more than 5 %"):
        load_images(tmp_path / "b.zip", resolution=8)


def test_a_set_that_is_not_judged_takes_each_picture_by_itself(tmp_path: Path) -> None:
    """Too many unreadable, all of one grey, or none at all: the rest is what it is without the others (P-86)."""
    for index in range(8):
        save(tmp_path / f"{index}.png", np.full((8, 8, 3), 120, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"a letter")
    with pytest.raises(DataError, match="more than 5 %"):
        load_images(tmp_path, resolution=8)
    images = load_images(tmp_path, resolution=8, judged=False)
    assert (len(images), [name for name, _ in images.skipped]) == (8, ["broken.png"])
    for index in range(8):
        (tmp_path / f"{index}.png").write_bytes(b"")
    assert len(load_images(tmp_path, resolution=8, judged=False)) == 0


def test_remarks_on_pictures_are_kept(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(8, index)) for index in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_images(tmp_path, resolution=8).notes == (("a.gif", "only the first of 2 frames was used"),)


@pytest.mark.parametrize("look", ["photo", "painting"])
def test_synthetic_faces(look: str) -> None:
    images = load_images("synthetic", resolution=32, look=look, limit=9)  # type: ignore[arg-type]
    assert len(images) == 9
    assert images.resolution == 32
    assert images.names[8] == f"{look}-00008.png"
    again = load_images("synthetic", resolution=32, look=look, limit=9)  # type: ignore[arg-type]
    assert images.digest == again.digest


def test_synthetic_looks_show_different_people() -> None:
    photos, paintings = (load_images("synthetic", resolution=32, look=look, limit=1) for look in ("photo", "painting"))
    assert photos.digest != paintings.digest
    assert data.SYNTHETIC_COUNT == 512


def test_real_faces_load(shared_data: Path) -> None:
    images = load_images(shared_data / "content" / "london" / "128", resolution=64, limit=20)
    assert len(images) == 20
    assert images.skipped == ()
    # Plain studio light: the mean is neither black nor white.
    assert -0.5 < float(images.batch(range(20)).mean()) < 0.5


# --- M-1 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "passes"),
    [
        ([63, 192] * 4, True),  # 63 / 127.5 - 1 = -0.506 and 192 / 127.5 - 1 = 0.506
        ([64, 192] * 4, False),  # 64 / 127.5 - 1 = -0.498
        ([63, 191] * 4, False),  # 191 / 127.5 - 1 = 0.498
        ([0, 1] * 4, False),  # pictures in [0, 1] that were cast to bytes
        ([128, 255] * 4, False),  # pictures in [0, 1] that were taken for [-1, 1]
        ([100] * 64 + [0, 255], False),  # only the first 64 count
        ([100] * 62 + [0, 255], True),
    ],
)
def test_first_64_pictures_use_the_range(levels: list[int], passes: bool) -> None:
    images = image_set(levels)
    if passes:
        check_range(images)
        return
    with pytest.raises(ConfigError, match="too little of the range") as caught:
        check_range(images)
    assert caught.value.exit_code == 2
    assert f"values of the first {min(64, len(levels))}" in caught.value.why


def test_a_handful_of_pale_photos_is_no_error() -> None:
    check_range(image_set([120] * 7))
    with pytest.raises(ConfigError):
        check_range(image_set([120] * 8))


def test_loading_checks_the_range(tmp_path: Path) -> None:
    for index in range(8):
        save(tmp_path / f"{index}.png", np.full((8, 8, 3), 120, np.uint8))
    with pytest.raises(ConfigError, match="too little of the range"):
        load_images(tmp_path, resolution=8)


# --- which pictures a step sees -------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.floats(0, 0.99), st.integers(0, 2**40))
@settings(derandomize=True, deadline=None)
def test_split_parts_are_disjoint_and_complete(n: int, fraction: float, seed: int) -> None:
    train, held = holdout_split(n, fraction, seed)
    assert sorted(train + held) == list(range(n))
    assert (train, held) == (sorted(train), sorted(held))
    if n and fraction == 0:
        assert held == []
    if n >= 1:
        assert train
    if n >= 2 and fraction > 0:
        assert held


def test_split_is_the_same_for_ever() -> None:
    # Sorted by the SHA-256 of "7/holdout/<index>" the ten indices are 2 9 3 4 0 8 7 1 6 5: the first two are held out.
    assert holdout_split(10, 0.2, 7) == ([0, 1, 3, 4, 5, 6, 7, 8], [2, 9])
    assert len(holdout_split(404, 0.1, 0)[1]) == 40
    assert holdout_split(100, 0.1, 1)[1] != holdout_split(100, 0.1, 2)[1]


def test_split_hardly_moves_when_a_picture_is_added() -> None:
    before, after = (set(holdout_split(n, 0.1, 3)[1]) for n in (200, 201))
    assert len(before - after) <= 1


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_share_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="held-out share"):
        holdout_split(10, fraction, 0)


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(1, 16), st.integers(1, 12))
@settings(derandomize=True, deadline=None)
def test_every_epoch_shows_every_picture_once(n: int, seed: int, batch: int, steps: int) -> None:
    seen: list[int] = []
    for step in range(steps):
        indices = shuffled_indices(n, seed, step * batch, batch)
        assert len(indices) == batch
        seen += indices
    for epoch in range(len(seen) // n):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))
    tail = Counter(seen[len(seen) // n * n :])
    assert all(times == 1 for times in tail.values())


def test_order_is_a_function_of_seed_and_images_seen() -> None:
    assert shuffled_indices(50, 1, 37, 20) == shuffled_indices(50, 1, 0, 57)[37:]
    assert shuffled_indices(50, 1, 0, 50) != shuffled_indices(50, 2, 0, 50)
    assert shuffled_indices(50, 1, 0, 50) != shuffled_indices(50, 1, 50, 50)  # each epoch has its own order


def test_one_picture_fills_any_batch() -> None:
    assert shuffled_indices(1, 0, 5, 4) == [0, 0, 0, 0]


@given(st.integers(2, 50), st.integers(0, 2**40), st.integers(0, 10**6), st.data())
@settings(derandomize=True, deadline=None)
def test_other_image_differs(n: int, seed: int, step: int, drawn: st.DataObject) -> None:
    indices = drawn.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=16))
    others = other_indices(indices, n, seed, step)
    assert len(others) == len(indices)
    assert all(other != index and 0 <= other < n for index, other in zip(indices, others, strict=True))
    assert others == other_indices(indices, n, seed, step)


def test_other_image_is_any_other() -> None:
    # 9 others, 9000 draws: each is expected 1000 times, with a standard deviation of 30.
    counts = Counter(other_indices([3] * 9000, 10, 0, 0))
    assert set(counts) == set(range(10)) - {3}
    assert min(counts.values()) > 850
    assert other_indices([3] * 50, 10, 0, 0) != other_indices([3] * 50, 10, 0, 1)


def test_single_image_is_its_own_partner() -> None:
    assert other_indices([0, 0], 1, 0, 0) == [0, 0]
