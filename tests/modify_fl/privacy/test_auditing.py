"""Audits of the real mechanism: two worlds on every commit, one run among the slow tests (P-61, P-63)."""

import dataclasses

import pytest
import torch

from modify_fl.errors import ConfigError, PrivacyBudgetError
from modify_fl.privacy.auditing import AuditWorld, audit_one_run, epsilon_lower_bound, separation
from modify_fl.privacy.settings import DpSettings, Engine

ALWAYS = DpSettings(
    n_public=1, batch=1, steps=1, noise_multiplier=0.5, max_grad_norm=0.3, sampling_rate=1.0, delta=1e-5
)  # fmt: skip
RUN = DpSettings(n_public=2000, batch=256, steps=500, noise_multiplier=4.12)


def free(steps: int) -> None:
    """No ledger: what is audited here is the mechanism."""


def test_two_worlds_are_apart_by_one_over_sigma() -> None:
    # P-61: 10000 steps in each world at sigma 0.5. mu = 2 has standard error sqrt(2 + 2) / 100 = 0.02; 5 % are 5 of it.
    # Noise smaller by the root of 2 would give 2.83.
    assert separation(ALWAYS, trials=10_000, charge=free) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("engine", ["micro", "opacus"])
def test_canaries_have_orthonormal_clipped_gradients(engine: Engine) -> None:
    world = AuditWorld(dataclasses.replace(ALWAYS, engine=engine), canaries=50)
    assert world.engine.size >= 20 * 50
    gradients = torch.stack(list(world.engine.clipped((world.canary(i) for i in range(50)), 0)))
    expected = torch.zeros_like(gradients)
    expected[range(50), [world.where(i) for i in range(50)]] = ALWAYS.max_grad_norm
    torch.testing.assert_close(gradients, expected)


def test_other_photos_are_clipped_and_always_the_same() -> None:
    world = AuditWorld(ALWAYS, canaries=2)
    assert torch.equal(world.other(3), world.other(3))
    (gradient,) = world.engine.clipped(iter([world.other(3)]), 0)
    assert float(gradient.norm()) == pytest.approx(ALWAYS.max_grad_norm)


@pytest.mark.parametrize(
    ("guesses", "correct", "low", "high"),
    [
        (1000, 500, 0.0, 0.0),  # coin flips show nothing
        (100, 100, 3.0, 4.0),  # all right: (e^eps / (1 + e^eps))^100 >= 0.05 / 6 begins at eps = 3.02
        (1000, 700, 0.5, 0.85),  # ln(0.7 / 0.3) = 0.85 is the point estimate
        (10, 0, 0.0, 0.0),
    ],
)
def test_the_bound_is_that_of_the_binomial(guesses: int, correct: int, low: float, high: float) -> None:
    bound = epsilon_lower_bound(canaries=1000, guesses=guesses, correct=correct, delta=0.0, error=0.05 / 6)
    assert low <= bound <= high


def test_delta_lowers_the_bound() -> None:
    bounds = [
        epsilon_lower_bound(canaries=1000, guesses=500, correct=450, delta=delta, error=0.01) for delta in (0.0, 1e-4)
    ]
    assert 0 < bounds[1] < bounds[0]


def test_the_ledger_is_charged_for_every_step() -> None:
    paid: list[int] = []
    short = dataclasses.replace(RUN, steps=3)
    audit_one_run(short, canaries=20, units=40, charge=paid.append, progress=lambda step: None)
    assert paid == [1, 1, 1]


def test_a_budget_that_is_gone_stops_the_audit() -> None:
    def refuse(steps: int) -> None:
        raise PrivacyBudgetError("nothing is left")

    with pytest.raises(PrivacyBudgetError):
        audit_one_run(RUN, canaries=20, units=40, charge=refuse)


@pytest.mark.parametrize("canaries", [1, 41])
def test_the_number_of_canaries_must_make_sense(canaries: int) -> None:
    with pytest.raises(ConfigError, match="number of canaries"):
        audit_one_run(RUN, canaries=canaries, units=40, charge=free)


def test_a_run_without_much_noise_is_seen_through() -> None:
    naked = dataclasses.replace(RUN, steps=5, noise_multiplier=0.01, sampling_rate=1.0)
    found = audit_one_run(naked, canaries=200, units=200, charge=free)
    assert found.epsilon_lower > 3
    assert found.correct >= 0.95 * found.guesses  # the coins need not have fallen half and half


@pytest.mark.slow
def test_the_right_build_stays_below_its_claim() -> None:
    # The accept band of P-63 is 0.6 to 1.6 for the mean; one run has a standard deviation of about 0.2.
    found = audit_one_run(RUN, canaries=1000, units=2000, charge=free)
    assert 0.2 < found.epsilon_lower < 3
