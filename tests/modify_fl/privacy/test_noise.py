"""Noise of DP-SGD: its distribution, its source, its grid, its edge cases (P-18, P-61)."""

import os

import pytest
import torch
from scipy import stats

from modify_fl.errors import ConfigError
from modify_fl.privacy.noise import GRID, add_noise, standard_normal


@pytest.fixture(scope="module")
def million() -> torch.Tensor:
    return standard_normal(1_000_000)


def test_standard_deviation_within_half_a_percent(million: torch.Tensor) -> None:
    # Standard error of the deviation: 1 / sqrt(2e6) = 0.07 %.
    assert float(million.std()) == pytest.approx(1.0, rel=5e-3)
    assert abs(float(million.mean())) < 5e-3


def test_distribution_is_normal_to_the_tails(million: torch.Tensor) -> None:
    assert stats.kstest(million.numpy(), "norm").pvalue > 1e-4
    beyond = int((million.abs() > 4).sum())  # 63 of a million expected, standard error 8
    assert 63 - 5 * 8 < beyond < 63 + 5 * 8


def test_numbers_are_independent(million: torch.Tensor) -> None:
    lagged = float((million[:-1] * million[1:]).mean())
    assert abs(lagged) < 5e-3
    chunks = million[: 1 << 16], million[1 << 16 : 2 << 16]  # two keys
    assert abs(float((chunks[0] * chunks[1]).mean())) < 5 / (1 << 16) ** 0.5


def test_no_seed_repeats_noise() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(1)
        return add_noise(torch.zeros(50, dtype=torch.float64), noise_multiplier=1.0, max_grad_norm=1.0)

    assert not torch.equal(draw(), draw())


def test_keys_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    assert torch.equal(standard_normal(100), standard_normal(100))


def test_noise_has_the_stated_deviation_around_the_sum() -> None:
    total = torch.full((200_000,), 7.0, dtype=torch.float64)
    noisy = add_noise(total, noise_multiplier=1.5, max_grad_norm=0.2)
    assert float(noisy.std()) == pytest.approx(1.5 * 0.2, rel=1e-2)
    assert float(noisy.mean()) == pytest.approx(7.0, abs=5 * 0.3 / 200_000**0.5)


def test_the_released_sum_lies_on_the_grid() -> None:
    bound = 0.25  # a power of two, so that multiples are exact
    noisy = add_noise(torch.rand(1000, dtype=torch.float64), noise_multiplier=1.0, max_grad_norm=bound)
    steps = noisy / (GRID * bound)
    assert torch.equal(steps, steps.round())


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["noise_multiplier", "max_grad_norm"])
def test_no_noise_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        add_noise(
            torch.zeros(2, dtype=torch.float64), **({"noise_multiplier": 1.0, "max_grad_norm": 1.0} | {name: value})
        )


@pytest.mark.parametrize("total", [torch.tensor([float("nan")]).double(), torch.zeros(2)])
def test_a_sum_that_is_not_finite_float64_is_refused(total: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="finite float64"):
        add_noise(total, noise_multiplier=1.0, max_grad_norm=1.0)


def test_an_empty_sum_stays_empty() -> None:
    assert add_noise(torch.zeros(0, dtype=torch.float64), noise_multiplier=1.0, max_grad_norm=1.0).numel() == 0
