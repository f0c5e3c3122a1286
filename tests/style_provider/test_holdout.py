"""Images set aside before training (P-72)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modify_fl.data import ImageSet, load_images
from modify_fl.errors import ConfigError, DataError
from style_provider.holdout import HoldoutNote, one_of_each, split, usual_count


def drawn(count: int) -> ImageSet:
    return load_images("synthetic", resolution=32, look="painting", limit=count)


@pytest.mark.parametrize(("total", "held"), [(12, 3), (100, 25), (404, 100), (1336, 134), (2, 0), (5, 1)])
def test_usual_count_is_that_of_the_rule(total: int, held: int) -> None:
    """P-72: max(10 %, min(100, 25 %))."""
    assert usual_count(total) == held


def test_the_same_split_comes_out_of_the_number_that_came_out() -> None:
    """``evaluate`` knows the number alone."""
    images = drawn(40)
    twice = ImageSet.of(torch.cat([images.images, images.images[:10]]), [f"{i}.png" for i in range(50)])
    for count in range(1, 12):
        trained, held = split(twice, count, 3)
        assert sorted(trained + held) == list(range(50))
        assert len(held) >= count
        assert split(twice, len(held), 3) == (trained, held)
        assert split(twice, count, 4) != (trained, held)


def test_a_work_is_never_on_both_sides() -> None:
    images = drawn(20)
    twice = ImageSet.of(torch.cat([images.images, images.images.flip(-1)]), [f"{i}.png" for i in range(40)])
    for seed in range(5):
        trained, held = split(twice, 9, seed)
        assert not {i % 20 for i in trained} & {i % 20 for i in held}


def test_a_large_work_stays_in_training() -> None:
    images = drawn(10)
    many = ImageSet.of(torch.cat([images.images, *[images.images[:1]] * 10]), [f"{i}.png" for i in range(20)])
    for seed in range(5):
        assert 0 not in split(many, 5, seed)[1]


def test_two_images_always_stay() -> None:
    assert len(split(drawn(4), 4, 0)[0]) == 2
    assert split(drawn(3), 0, 0) == ([0, 1, 2], [])
    with pytest.raises(DataError, match="two images"):
        split(drawn(1), 0, 0)


def test_note_finds_the_images_again_in_any_order(tmp_path: Path) -> None:
    images = drawn(8)
    replace(HoldoutNote.of(images, [0, 2, 3, 4, 6], [1, 5, 7]), weights="a" * 64).write(tmp_path)
    note = HoldoutNote.read(tmp_path)
    assert note.weights == "a" * 64
    assert (tmp_path / "holdout.json").stat().st_mode & 0o077 == 0
    trained, held = note.find(images.subset([7, 6, 5, 4, 3, 2, 1, 0]))
    assert torch.equal(held.images, images.images[[1, 5, 7]])
    assert len(trained) == 5
    with pytest.raises(DataError, match="1 of the 8 images"):
        note.find(images.subset(range(7)))


def test_note_that_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        HoldoutNote.read(tmp_path)
    (tmp_path / "holdout.json").write_text('{"trained": 3}')
    with pytest.raises(ConfigError, match="cannot read"):
        HoldoutNote.read(tmp_path)


def test_one_image_of_each_work_is_kept() -> None:
    """P-82; a work whose first image is held out keeps its first trained one."""
    images = drawn(6)
    twice = ImageSet.of(torch.cat([images.images, images.images[:3]]), [f"{i}.png" for i in range(9)])
    assert one_of_each(twice, range(9)) == list(range(6))
    assert one_of_each(twice, [3, 4, 6, 7]) == [3, 4, 6, 7]
