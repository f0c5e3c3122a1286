"""Figures and their intervals over photos (M-43, M-46)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modify_fl.errors import ShapeError
from modify_fl.metrics.figures import (
    FILTER,
    Measurement,
    interval_around,
    mean_estimate,
    pair_estimate,
    photo_weights,
    unavailable,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(photos=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_draw_has_as_many_photos(photos: int, seed: int) -> None:
    weights = photo_weights(photos, seed=seed, draws=20)
    assert weights.shape == (20, photos)
    assert torch.equal(weights.sum(1), torch.full((20,), float(photos), dtype=torch.float64))
    assert torch.equal(weights, photo_weights(photos, seed=seed, draws=20))


def test_interval_of_a_mean_is_that_of_statistics() -> None:
    """Of 400 normal values the standard error is s / 20, and 95 % lie within 1.96 of them."""
    values = normal(400)
    found = mean_estimate(values, seed=0)
    assert found.value == pytest.approx(float(values.mean()))
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.1)
    assert found.low < found.value < found.high


def test_one_photo_has_a_value_and_no_interval() -> None:
    found = mean_estimate(torch.tensor([0.25]), seed=0, note="a note")
    assert (found.value, found.low, found.high) == (0.25, None, None)
    assert found.note == "a note; no interval: it needs two photos or more"


def test_nothing_measured_is_no_zero() -> None:
    assert mean_estimate(torch.empty(0), seed=0).value is None
    assert pair_estimate(torch.zeros(1, 1), torch.zeros(1, 1), seed=0).value is None


def test_pairs_leave_a_photo_drawn_twice_alone() -> None:
    """Were a photo paired with its own copy, the diagonal of zeros would pull the mean of ones down."""
    ones = torch.ones(6, 6, dtype=torch.float64).fill_diagonal_(0)
    found = pair_estimate(ones, ones, seed=3)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_pairs_must_be_a_square() -> None:
    with pytest.raises(ShapeError):
        pair_estimate(torch.zeros(2, 3), torch.zeros(2, 3), seed=0)


def test_samples_without_a_value_are_left_out() -> None:
    draws = torch.tensor([float("nan"), 1.0, 3.0], dtype=torch.float64)
    shifted = interval_around(10.0, draws, shift=True)
    assert shifted.low == pytest.approx(9.05)  # 2.5 % of the way from 9 to 11
    assert shifted.high == pytest.approx(10.95)
    assert interval_around(1.0, draws[:1]).low is None


def test_measurement_reads_as_people_write() -> None:
    known = Measurement.of("KID x 1000", mean_estimate(torch.tensor([1.0, 1.0]), seed=0), n=2, resolution=64)
    assert known.text(2) == "1.00 [1.00, 1.00]"
    assert known.filter == FILTER
    missing = Measurement.of("FID", unavailable("no weights"), n=2, resolution=64)
    assert missing.text(1) == "not available"
    assert (missing.value, missing.note) == (None, "not available: no weights")
    single = Measurement.of("L1", mean_estimate(torch.tensor([0.5]), seed=0), n=1, resolution=64)
    assert single.text(1) == "0.5"
