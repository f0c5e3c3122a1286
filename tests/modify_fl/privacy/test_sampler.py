"""The Poisson sampler: rate, independence, edge cases, no seed (P-12, P-13, P-61)."""

import os

import numpy as np
import pytest
import torch

from modify_fl.errors import ConfigError
from modify_fl.privacy.sampler import PoissonSampler

UNITS, STEPS, RATE = 60, 4000, 0.3


def take() -> np.ndarray:
    """Return which of 60 units were in each of 4000 steps, bool [4000, 60]."""
    sampler, taken = PoissonSampler(RATE), np.zeros((STEPS, UNITS), bool)
    for row in taken:
        row[sampler.draw(UNITS)] = True
    return taken


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    return take()


def test_each_unit_is_drawn_at_the_rate(draws: np.ndarray) -> None:
    # The mean of 4000 draws has standard error sqrt(.3 * .7 / 4000); 4.5 of them for the worst of 60 units.
    rate = draws.mean(0)
    assert np.abs(rate - RATE).max() < 4.5 * (RATE * (1 - RATE) / STEPS) ** 0.5
    assert abs(draws.mean() - RATE) < 4 * (RATE * (1 - RATE) / draws.size) ** 0.5


def test_units_are_drawn_independently(draws: np.ndarray) -> None:
    # With a fixed batch size, or by shuffling, covariances would all be -q(1-q)/(n-1) = -0.0036; here the mean of
    # 1770 of them has standard error q(1-q) / sqrt(4000 * 1770) = 7.9e-5.
    covariance = np.cov(draws.T.astype(float))
    pairs = covariance[np.triu_indices(UNITS, 1)]
    assert abs(pairs.mean()) < 5 * RATE * (1 - RATE) / (STEPS * len(pairs)) ** 0.5


def test_the_number_of_units_varies_as_a_binomial(draws: np.ndarray) -> None:
    # Variance n q (1 - q) = 12.6; a variance over 4000 steps has relative standard error sqrt(2 / 4000).
    sizes = draws.sum(1)
    assert sizes.var() == pytest.approx(UNITS * RATE * (1 - RATE), rel=5 * (2 / STEPS) ** 0.5)


def test_steps_are_independent_of_each_other(draws: np.ndarray) -> None:
    now, then = draws[:-1].astype(float), draws[1:].astype(float)
    lagged = ((now - RATE) * (then - RATE)).mean()
    assert abs(lagged) < 5 * RATE * (1 - RATE) / now.size**0.5


def test_edge_cases() -> None:
    assert PoissonSampler(1.0).draw(5) == [0, 1, 2, 3, 4]
    assert PoissonSampler(0.5).draw(0) == []
    assert PoissonSampler(1e-12).draw(100) == []


def test_no_seed_repeats_a_draw() -> None:
    def draw() -> list[int]:
        torch.manual_seed(1)
        return PoissonSampler(0.5).draw(200)

    assert draw() != draw()


def test_bytes_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\xff" * size)
    assert PoissonSampler(0.999999).draw(4) == []
    monkeypatch.setattr(os, "urandom", bytes)
    assert PoissonSampler(1e-9).draw(4) == [0, 1, 2, 3]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_outside_0_and_1_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="sampling rate"):
        PoissonSampler(rate)
