"""P-32 to P-35, P-54: the account agrees with an independent one, and errs on the safe side only."""

import json
import math
import subprocess
import sys
from dataclasses import asdict

import dp_accounting
import pytest
from dp_accounting import pld
from opacus.accountants.analysis.rdp import get_privacy_spent

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy import accounting
from modify_fl.privacy.accounting import (
    ORDERS,
    Segment,
    best_epsilon,
    epsilon_of,
    noise_multiplier_for,
    order_for,
    prv_epsilon,
    rdp_of,
    require_delta,
    rounded_up,
)

DELTA = 1e-5
# P-33: q, sigma, T, and what RDP, PRV and PLD give there.
MEASURED = [
    ((0.002, 0.57, 20000), (8.10, 7.07, 7.06)),
    ((0.032, 1.11, 2000), (8.64, 7.96, 7.95)),
    ((0.128, 1.89, 500), (8.67, 8.02, 8.005)),
]
# P-54: n, B0, and sigma at epsilon 1, 3, 8 as printed there (T = 500).
SIGMA = [
    (100, 100, "91.3", "33.4", "14.3"),
    (200, 128, "58.8", "21.4", "9.18"),
    (500, 256, "46.9", "17.2", "7.36"),
    (1000, 256, "23.4", "8.67", "3.76"),
    (2000, 256, "11.9", "4.41", "2.01"),
    (5000, 256, "4.84", "1.92", "1.03"),
    (10000, 1024, "9.38", "3.57", "1.67"),
]
COST = [(256, 100, "1.14"), (64, 100, "0.65"), (128, 100, "0.81"), (256, 250, "1.53"), (256, 500, "2.01")]


def segment(q: float, sigma: float, steps: int) -> Segment:
    return Segment(sampling_rate=q, noise_multiplier=sigma, steps=steps)


def order(part: Segment, delta: float = DELTA) -> str:
    """What the child of PRV is told."""
    return json.dumps({"segments": [asdict(part)], "delta": delta})


def pld_epsilon(part: Segment) -> float:
    """The independent account: privacy loss distributions of dp-accounting, pessimistic."""
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    gaussian = dp_accounting.GaussianDpEvent(part.noise_multiplier)
    step = gaussian if part.sampling_rate == 1 else dp_accounting.PoissonSampledDpEvent(part.sampling_rate, gaussian)
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, part.steps))
    return float(accountant.get_epsilon(DELTA))


def rounds_to(value: float, printed: str) -> bool:
    """Whether ``value`` is ``printed`` to its last digit; a half may go either way."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-digits + 1e-9


@pytest.mark.parametrize(("setting", "figures"), MEASURED)
def test_accountants_agree_on_the_settings_of_the_design(
    setting: tuple[float, float, int], figures: tuple[float, float, float]
) -> None:
    part, (rdp, prv, independent) = segment(*setting), figures
    by_rdp, by_prv, by_pld = epsilon_of([part], DELTA), accounting._prv_in_child(order(part)), pld_epsilon(part)
    assert abs(by_prv - by_pld) <= 0.05
    assert by_rdp >= by_pld
    assert (round(by_rdp, 2), round(by_prv, 2)) == (rdp, prv)
    assert by_pld == pytest.approx(independent, abs=0.01)


@pytest.mark.parametrize(("photos", "batch", "one", "three", "eight"), [SIGMA[4], SIGMA[5]])
def test_noise_multiplier_is_that_of_the_table(photos: int, batch: int, one: str, three: str, eight: str) -> None:
    for epsilon, printed in ((1, one), (3, three), (8, eight)):
        assert rounds_to(noise_multiplier_for(epsilon, DELTA, batch / photos, 500), printed), (epsilon, printed)


@pytest.mark.slow
@pytest.mark.parametrize(("photos", "batch", "one", "three", "eight"), SIGMA)
def test_whole_table_is_reproduced_and_checked_by_an_independent_account(
    photos: int, batch: int, one: str, three: str, eight: str
) -> None:
    for epsilon, printed in ((1, one), (3, three), (8, eight)):
        q = batch / photos
        sigma = noise_multiplier_for(epsilon, DELTA, q, 500)
        assert rounds_to(sigma, printed), (epsilon, printed, sigma)
        part = segment(q, sigma, 500)
        independent = pld_epsilon(part)
        assert epsilon_of([part], DELTA) >= independent
        assert abs(accounting._prv_in_child(order(part)) - independent) <= 0.05


@pytest.mark.parametrize(("batch", "steps", "printed"), COST)
def test_cost_figures_at_2000_photos_are_reproduced(batch: int, steps: int, printed: str) -> None:
    assert rounds_to(noise_multiplier_for(8, DELTA, batch / 2000, steps), printed)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 3.0, 8.0, 50.0])
def test_noise_is_enough_and_hardly_more_than_enough(epsilon: float) -> None:
    sigma = noise_multiplier_for(epsilon, DELTA, 0.05, 200)
    reached = epsilon_of([segment(0.05, sigma, 200)], DELTA)
    assert epsilon - 0.02 * min(1, epsilon) <= reached <= epsilon
    assert epsilon_of([segment(0.05, sigma * 0.9, 200)], DELTA) > reached


def test_no_noise_is_enough_for_an_epsilon_that_delta_alone_exceeds() -> None:
    with pytest.raises(PrivacyBudgetError, match="no noise brings 10 steps below epsilon 1"):
        noise_multiplier_for(1.0, DELTA, 0.1, 10, orders=(3.7,))


def test_conversion_from_rdp_is_that_of_opacus() -> None:
    """``status`` must not import Opacus (U-31), so the one line of its conversion stands here too."""
    rdp = rdp_of(segment(0.128, 2.0, 500))
    theirs, their_order = get_privacy_spent(orders=list(ORDERS), rdp=list(rdp), delta=DELTA)
    ours, our_order = best_epsilon(rdp, DELTA)
    assert (ours, our_order) == (pytest.approx(float(theirs), rel=1e-12), float(their_order))


def test_more_steps_spend_more_and_more_noise_spends_less() -> None:
    spent = [epsilon_of([segment(0.1, 2.0, steps)], DELTA) for steps in (0, 1, 10, 100)]
    assert spent[1:] == sorted(spent[1:])
    assert epsilon_of([segment(0.1, 3.0, 100)], DELTA) < spent[-1]
    assert epsilon_of([], DELTA) == 0


def test_equal_segments_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """P-45: fifty blocks of one schedule cost no more to account for than one."""
    asked: list[Segment] = []
    monkeypatch.setattr(accounting, "rdp_of", lambda part: asked.append(part) or rdp_of(part))
    blocks = epsilon_of([segment(0.1, 2.0, 2)] * 50, DELTA)
    assert asked == [segment(0.1, 2.0, 100)]
    assert blocks == epsilon_of([segment(0.1, 2.0, 100)], DELTA)


def test_composition_of_different_segments_is_at_least_each_and_at_most_their_sum() -> None:
    first, second = segment(0.1, 2.0, 100), segment(0.05, 1.5, 50)
    alone = [epsilon_of([part], DELTA) for part in (first, second)]
    assert max(alone) < epsilon_of([first, second], DELTA) <= sum(alone)


@pytest.mark.parametrize("name", ["GDP", "gdp", "CLT"])
def test_gdp_is_refused(name: str) -> None:
    with pytest.raises(PrivacyBudgetError, match="not used here") as caught:
        epsilon_of([segment(0.002, 0.57, 20000)], DELTA, accountant=name)
    assert "P-33" in caught.value.why


def test_prv_runs_in_a_child() -> None:
    part = segment(0.128, 2.0, 500)
    # The child has threads of its own, so sums of floats may differ in their last digit.
    assert prv_epsilon([part], DELTA, seconds=500) == pytest.approx(accounting._prv_in_child(order(part)), rel=1e-9)


@pytest.mark.parametrize(("tighter", "reported"), [(7.0, 7.0), (9.0, None), (None, None)])
def test_prv_only_lowers_the_account(
    monkeypatch: pytest.MonkeyPatch, tighter: float | None, reported: float | None
) -> None:
    part = segment(0.128, 2.0, 500)
    monkeypatch.setattr(accounting, "prv_epsilon", lambda _segments, _delta: tighter)
    assert epsilon_of([part], DELTA, accountant="PRV") == reported or epsilon_of([part], DELTA)


def test_prv_that_takes_too_long_does_not_count() -> None:
    assert prv_epsilon([segment(0.128, 2.0, 500)], DELTA, seconds=0.01) is None


@pytest.mark.parametrize("printed", ["", "NaN", "Infinity", "-1", "0", "[]", "null"])
def test_prv_that_returns_nonsense_does_not_count(monkeypatch: pytest.MonkeyPatch, printed: str) -> None:
    def child(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, stdout=printed)

    monkeypatch.setattr(subprocess, "run", child)
    assert prv_epsilon([segment(0.1, 2.0, 10)], DELTA) is None


def test_prv_that_fails_in_its_child_does_not_count() -> None:
    """It refuses a delta near the precision of its numbers; opacus 591, 601 and 637 end as errors too."""
    with pytest.raises(ValueError, match="Floating point errors"):
        accounting._prv_in_child(order(segment(0.1, 2.0, 10), delta=1e-18))
    assert prv_epsilon([segment(0.1, 2.0, 10)], 1e-18, seconds=500) is None


@pytest.mark.parametrize(("delta", "photos"), [(1e-5, 100_000), (0.01, 100), (0.0, 10), (math.nan, 10)])
def test_delta_must_be_below_one_over_n(delta: float, photos: int) -> None:
    require_delta(9e-6, 100_000)
    with pytest.raises(PrivacyBudgetError, match="delta must be below"):
        require_delta(delta, photos)


def test_orders_that_opacus_cannot_compute_never_decide() -> None:
    """A fractional order whose series loses its digits counts as infinite, not as free."""
    values = rdp_of(segment(0.5, 0.1, 1))
    assert all(0 <= value <= 1e15 for value in values)
    assert epsilon_of([segment(0.5, 0.1, 1)], DELTA) > 50


@pytest.mark.parametrize(("epsilon", "order"), [(8.0, 3.7), (3.0, 7.4), (1.0, 18.0)])
def test_order_of_a_vault_is_the_best_one_of_the_default_schedule(epsilon: float, order: float) -> None:
    assert order_for(epsilon, DELTA) == order


def test_importing_the_account_brings_in_neither_torch_nor_opacus() -> None:
    code = "import sys, modify_fl.privacy.accounting as a; sys.exit({'torch', 'opacus'} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("epsilon", "digits", "shown"),
    [(3.3735, 2, 3.38), (3.37, 2, 3.37), (3.37000001, 2, 3.38), (0.0, 2, 0.0), (8.0, 4, 8.0), (3.37341, 4, 3.3735)],
)
def test_a_printed_epsilon_is_rounded_up(epsilon: float, digits: int, shown: float) -> None:
    assert rounded_up(epsilon, digits) == shown
