"""Photos as units of privacy (P-9, P-10, P-17)."""

import pytest
import torch

from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.training.views import PhotoUnits, group_photos, shared_share

NAMES = ("ann/1.png", "ann/2.png", "bob/1.png")


def test_an_image_is_a_unit_of_its_own() -> None:
    assert group_photos(NAMES, "image") == [[0], [1], [2]]


def test_a_folder_is_a_person() -> None:
    assert group_photos(NAMES, "person") == [[0, 1], [2]]


def test_a_list_names_persons() -> None:
    assert group_photos(("a.png", "b.png"), "person", {"a.png": "x", "b.png": "x"}) == [[0, 1]]


@pytest.mark.parametrize("persons", [None, {"a.png": "x"}])
def test_a_photo_of_nobody_is_refused(persons: dict[str, str] | None) -> None:
    with pytest.raises(ConfigError, match="must say whose it is"):
        group_photos(("a.png", "b.png"), "person", persons)


def test_a_photo_of_nobody_is_left_out_where_the_set_is_not_judged() -> None:
    assert group_photos(("a.png", *NAMES), "person", judged=False) == [[1, 2], [3]]
    assert group_photos(("a.png",), "person", judged=False) == []


def test_shared_folders_are_noticed() -> None:
    assert shared_share(NAMES) == pytest.approx(2 / 3)
    assert shared_share(("a.png", "b.png")) == 0.0
    assert shared_share(()) == 0.0


def units(photos: ImageSet, groups: list[list[int]], **changes: int) -> PhotoUnits:
    return PhotoUnits(photos, groups, **({"seed": 1, "augmentations": 1, "per_person": 4} | changes))


def test_one_view_is_the_photo(photos: ImageSet) -> None:
    assert torch.equal(units(photos, [[2]])(0, 5), photos.batch([2]))


def test_views_are_the_photo_and_k_minus_1_others(photos: ImageSet) -> None:
    made = units(photos, [[2]], augmentations=4)
    views = made(0, 5)
    assert views.shape == (4, *photos.batch([2]).shape[1:])
    assert torch.equal(views[:1], photos.batch([2]))
    assert torch.equal(views, made(0, 5))
    assert not torch.equal(views, made(0, 6))


def test_at_most_m_photos_of_a_person_take_part(photos: ImageSet) -> None:
    made = units(photos, [[0, 1, 2, 3, 4]], per_person=2)
    chosen = [made(0, step) for step in range(8)]
    assert all(len(views) == 2 for views in chosen)
    assert any(not torch.equal(chosen[0], views) for views in chosen)  # others at other steps


def test_what_a_unit_shows_does_not_depend_on_its_place(photos: ImageSet) -> None:
    # A unit more before it changes nothing: the draws follow from its own pixels.
    alone = units(photos, [[3, 4, 5]], augmentations=3, per_person=2)
    later = units(photos, [[0], [5, 4, 3]], augmentations=3, per_person=2)
    a, b = alone(0, 7), later(1, 7)
    assert {bytes(v.numpy()) for v in a} == {bytes(v.numpy()) for v in b}
