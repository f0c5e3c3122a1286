"""Identity of pictures and photos (M-44)."""

import pytest
import torch
from torch.nn import functional

from modify_fl.errors import ShapeError
from modify_fl.metrics.identity import cosines, identity_auc, identity_cosine, pair_histogram, wins


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_pictures_equal_to_their_photos_are_perfect() -> None:
    photos = unit(5, 8)
    same = photos[:, None].expand(-1, 3, -1)
    assert identity_cosine(photos, same, seed=0).value == pytest.approx(1)
    assert identity_auc(photos, same, seed=0).value == 1


def test_auc_is_a_count_over_all_pairs() -> None:
    """Against three nested loops; one picture is equally near to two photos and counts half."""
    photos, pictures = unit(6, 4, seed=1), unit(6, 3, 4, seed=2)
    photos[1] = photos[0]
    count = total = 0.0
    for i in range(6):
        for j in range(6):
            for s in range(3):
                if i != j:
                    near = float((photos[i] * pictures[i, s]).sum())
                    far = float((photos[j] * pictures[i, s]).sum())
                    count += 1 if near > far else 0.5 if near == far else 0
                    total += 1
    found = identity_auc(photos, pictures, seed=0)
    assert found.value == pytest.approx(count / total)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.high <= 1
    assert wins(photos, pictures)[0, 1] == 0.5


def test_pictures_of_nobody_are_chance() -> None:
    found = identity_auc(unit(60, 64, seed=1), unit(60, 4, 64, seed=2), seed=0)
    assert found.value == pytest.approx(0.5, abs=0.1)


def test_cosine_is_per_photo_and_style() -> None:
    photos, pictures = unit(2, 4), unit(2, 3, 4, seed=1)
    expected = functional.cosine_similarity(photos[:, None], pictures, dim=2)
    assert torch.allclose(cosines(photos, pictures), expected)
    with pytest.raises(ShapeError):
        cosines(photos, pictures[:1])


def test_one_photo_has_no_auc() -> None:
    assert identity_auc(unit(1, 4), unit(1, 2, 4), seed=0).value is None


def test_histogram_counts_every_pair_once() -> None:
    """Against three nested loops, in bins of 0.5; a cosine of exactly 1 belongs to the last bin."""
    photos, pictures = unit(6, 4, seed=1), unit(6, 3, 4, seed=2)
    pictures[0, 0] = photos[0]
    own, others = [0] * 4, [0] * 4
    for i in range(6):
        for j in range(6):
            for s in range(3):
                place = min(3, int((float((photos[j] * pictures[i, s]).sum()) + 1) // 0.5))
                (own if i == j else others)[place] += 1
    found = pair_histogram(photos, pictures, bins=4)
    assert (found.own, found.others) == (tuple(own), tuple(others))
    assert (sum(found.own), sum(found.others)) == (6 * 3, 6 * 5 * 3)
    with pytest.raises(ShapeError):
        pair_histogram(photos[:5], pictures)
