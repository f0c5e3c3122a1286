"""Verdicts are computed from figures and intervals (M-46, M-47)."""

import pytest

from modify_fl.metrics.figures import Estimate, Measurement
from style_provider.reproduction.measure import pooled
from style_provider.reproduction.task import ablation
from style_provider.reproduction.verdicts import about_equal, below, monotone


def figure(value: float | None, spread: float | None = 1.0, name: str = "KID x 1000") -> Measurement:
    known = value is not None and spread is not None
    low, high = (value - spread, value + spread) if known else (None, None)  # type: ignore[operator]
    return Measurement.of(name, Estimate(value=value, low=low, high=high), n=4, resolution=32)


@pytest.mark.parametrize(
    ("lower", "higher", "verdict"),
    [
        (figure(1), figure(5), "holds"),  # [0, 2] and [4, 6]
        (figure(5), figure(1), "does not hold"),
        (figure(1), figure(2.5), "within intervals"),  # [0, 2] and [1.5, 3.5]
        (figure(2.5), figure(1), "within intervals"),
        (figure(1), figure(3), "within intervals"),  # they touch at 2
        (figure(1, None), figure(2, None), "holds"),  # nothing but values
        (figure(None), figure(2), "not available"),
    ],
)
def test_below(lower: Measurement, higher: Measurement, verdict: str) -> None:
    found = below("KID", ("ours", lower), ("theirs", higher))
    assert found.verdict == verdict
    assert found.sentence.startswith(f"KID: ours below theirs: {verdict}.")
    assert "ours " + lower.text(1) in found.sentence


def test_reported_directions_say_so() -> None:
    assert "(reported, no gate)" in below("KID", ("a", figure(1)), ("b", figure(9)), gate=False).sentence


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [(1.0, 2.0, "holds"), (1.0, 9.0, "does not hold"), (9.0, 1.0, "does not hold"), (None, 1.0, "not available")],
)
def test_about_equal(one: float | None, other: float, verdict: str) -> None:
    assert about_equal("cosine", ("a", figure(one)), ("b", figure(other))).verdict == verdict


@pytest.mark.parametrize(
    ("values", "rising", "verdict"),
    [
        ((1, 5, 9), True, "holds"),
        ((9, 5, 1), False, "holds"),
        ((1, 5, 4, 9), True, "within intervals"),  # one step back, not beyond its intervals
        ((4, 5), True, "within intervals"),  # in order, but the ends touch
        ((1, 9, 5), True, "does not hold"),  # one step back beyond its intervals
        ((9, 5, 1), True, "does not hold"),
        ((5, 4.5, 4, 3.5, 3, 2.5, 2), True, "does not hold"),  # small steps back add up
        ((1, None, 9), True, "not available"),
    ],
)
def test_monotone(values: tuple[float | None, ...], rising: bool, verdict: str) -> None:
    steps = [(f"xi {index}", figure(value)) for index, value in enumerate(values)]
    assert monotone("cosine", steps, "xi", rising=rising).verdict == verdict


def test_seeds_are_taken_together() -> None:
    """M-46: the mean, and the hull of all intervals; one seed without a value leaves none."""
    found = pooled([figure(1), figure(4), figure(7)])
    assert (found.value, found.low, found.high) == (4, 0, 8)
    assert pooled([figure(2)]) == figure(2)
    assert pooled([figure(1, None), figure(3, None)]).low is None
    assert pooled([figure(1), figure(None)]).value is None


@pytest.mark.parametrize(
    ("resolution", "cuts"),
    [(32, (2, 4, 6)), (64, (3, 5, 7)), (128, (3, 6, 9)), (256, (4, 7, 10)), (512, (5, 8, 11)), (1024, (6, 9, 12))],
)
def test_ablation_is_that_of_the_table(resolution: int, cuts: tuple[int, ...]) -> None:
    """The last column of M-24."""
    assert ablation(2 * (resolution.bit_length() - 1) - 2) == cuts
