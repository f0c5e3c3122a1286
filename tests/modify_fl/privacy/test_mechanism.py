"""One step of DP-SGD: charged first, Poisson, public divisor, noise on nothing (P-12, P-13, P-41, P-61)."""

import dataclasses

import dpkit
import pytest
import torch
from scipy import stats
from torch import Tensor

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.mechanism import Mechanism
from modify_fl.privacy.settings import DpSettings

SETTINGS = DpSettings(n_public=100, batch=4, steps=3, noise_multiplier=2.0, max_grad_norm=0.5)


def mechanism(count: int, settings: DpSettings = SETTINGS, **parts: object) -> Mechanism:
    engine = dpkit.engine(max_grad_norm=settings.max_grad_norm)
    units = dpkit.pictures(max(count, 1))
    given = {"engine": engine, "units": lambda index, step: units[index], "count": count, "charge": lambda steps: None}
    return Mechanism(settings, **(given | parts))  # type: ignore[arg-type]


def test_a_step_without_a_charge_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="only after pay"):
        mechanism(2).step(0)


def test_a_payment_covers_its_steps_and_no_more() -> None:
    made = mechanism(0)
    made.pay(2)
    made.step(0)
    made.step(1)
    with pytest.raises(RuntimeError, match="only after pay"):
        made.step(2)


def test_a_refused_charge_pays_for_nothing() -> None:
    def refuse(steps: int) -> None:
        raise PrivacyBudgetError(f"no budget for {steps} steps")

    made = mechanism(2, charge=refuse)
    with pytest.raises(PrivacyBudgetError, match="no budget for 5 steps"):
        made.pay(5)
    with pytest.raises(RuntimeError, match="only after pay"):
        made.step(0)


def test_no_photo_is_read_before_the_charge() -> None:
    told: list[str] = []

    def read(index: int, step: int) -> Tensor:
        told.append("read")
        return dpkit.pictures(1)[0]

    settings = dataclasses.replace(SETTINGS, sampling_rate=1.0)
    made = mechanism(2, settings, units=read, charge=lambda steps: told.append("charged"))
    made.pay(1)
    made.step(0)
    assert told == ["charged", "read", "read"]


def test_an_empty_batch_is_noise_and_is_charged() -> None:
    # |u|^2 B0^2 / (sigma C)^2 is chi-squared with d degrees of freedom; two-sided test at 1e-4.
    paid: list[int] = []
    made = mechanism(0, charge=paid.append)
    made.pay(1)
    update = made.step(0)
    scale = SETTINGS.noise_multiplier * SETTINGS.max_grad_norm / SETTINGS.batch
    tail = stats.chi2.cdf(float((update / scale).square().sum()), update.numel())
    assert 5e-5 < tail < 1 - 5e-5
    assert paid == [1]


def test_the_divisor_is_public() -> None:
    # With all 9 units in and next to no noise, |B0 u| is at most 9 C and above 4 C: nobody divided by 9.
    settings = dataclasses.replace(SETTINGS, sampling_rate=1.0, noise_multiplier=1e-9)
    made = mechanism(9, settings)
    made.pay(1)
    total = dpkit.engine(max_grad_norm=0.5).clipped_sum(iter(dpkit.pictures(9)), 0)
    torch.testing.assert_close(made.step(0) * settings.batch, total, rtol=1e-3, atol=1e-5)


def test_one_photo_more_changes_no_public_number() -> None:
    # P-12: q, B0 and T are the user's, whatever the number of photos.
    before, after = mechanism(8), mechanism(9)
    for made in (before, after):
        assert made._sampler.sampling_rate == SETTINGS.sampling_rate == 0.04
        assert (made._settings.batch, made._settings.steps) == (4, 3)
