"""AUC with its interval, rates, and the choice of the strongest score (P-77, P-78)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modify_fl.errors import ShapeError
from modify_fl.metrics.separation import auc, chance_half_width, hit_rate, separation, strongest


def test_auc_counts_pairs_and_ties_half() -> None:
    # Pairs of (1, 3) and (0, 1, 2): 1 beats 0, ties with 1; 3 beats all: (1 + 0.5 + 3) / 6.
    assert auc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0])) == pytest.approx(4.5 / 6)


def test_power_is_that_of_the_rule() -> None:
    """P-78: 134 against 134 give about 0.07."""
    assert chance_half_width(134, 134) == pytest.approx(0.069, abs=0.001)
    assert chance_half_width(0, 10) == math.inf


@given(st.floats(0, 1), st.integers(2, 500), st.integers(2, 500))
def test_interval_holds_the_value_and_never_shrinks_to_a_point(share: float, first: int, second: int) -> None:
    cut = round(share * first)
    members = torch.cat([torch.ones(cut), torch.full((first - cut,), -1.0)])
    found = separation(members, torch.zeros(second))
    assert 0 <= found.low <= found.auc <= found.high <= 1
    assert found.high - found.low > 1e-4


def test_interval_covers_what_it_should() -> None:
    """200 draws of two normals whose true AUC is 0.76: the interval holds it in about 95 % of them."""
    draws = torch.Generator().manual_seed(0)
    truth = 0.5 * (1 + math.erf(1 / 2))  # P(N(1, 1) > N(0, 1))
    held = 0
    for _ in range(200):
        found = separation(torch.randn(60, generator=draws) + 1, torch.randn(40, generator=draws))
        held += found.low <= truth <= found.high
    assert 181 <= held <= 199  # binomial, four standard deviations below and one above


def test_few_images_are_too_weak_unless_they_show_something() -> None:
    few = torch.arange(12.0)
    assert separation(few, few).weak
    assert not separation(few + 100, few).weak  # an AUC of 1 is a finding with 12 images too
    many = torch.arange(200.0)
    assert not separation(many, many).weak


def test_hit_rate_keeps_its_false_positives() -> None:
    others = torch.arange(100.0)
    found = hit_rate(torch.tensor([88.0, 89.0, 91.0, 200.0]), others, 0.1)
    assert found.value == 0.5  # above 89, which leaves ten of a hundred others above it: 91 and 200
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
    nothing = hit_rate(torch.ones(5), torch.ones(99), 0.01)
    assert nothing.value is None
    assert "100" in nothing.note
    for value in (0.0, 1.0):
        sure = hit_rate(torch.full((5,), 1000 * value), others, 0.1)
        assert sure.value == value


def test_strongest_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    """Forty useless scores: the best of them looks good where it was chosen, and is chance where it was not."""
    draws = torch.Generator().manual_seed(1)
    scores = {str(i): (torch.randn(40, generator=draws), torch.randn(40, generator=draws)) for i in range(40)}
    flattered = max(auc(*pair) for pair in scores.values())
    found = strongest(scores)
    assert found is not None
    assert flattered > 0.6
    assert found.separation.low < 0.5 < found.separation.high
    good = strongest({**scores, "good": (torch.randn(40, generator=draws) + 2, torch.randn(40, generator=draws))})
    assert good is not None
    assert good.names == ("good", "good")
    assert good.separation.low > 0.8
    assert strongest({"one": (torch.ones(1), torch.ones(9))}) is None


def test_scores_must_be_numbers() -> None:
    with pytest.raises(ShapeError):
        auc(torch.tensor([float("nan")]), torch.ones(2))
    with pytest.raises(ShapeError):
        auc(torch.empty(0), torch.ones(2))
