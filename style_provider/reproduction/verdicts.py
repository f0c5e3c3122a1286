"""Does a direction of M-47 hold? Computed from figures and their intervals, never written by hand.

``holds``: the order is the expected one and the intervals do not touch.
``within intervals``: they do, so these figures cannot tell. ``does not hold``:
the order is the other one and the intervals do not touch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from modify_fl.metrics.figures import Measurement

__all__ = ["Direction", "Verdict", "about_equal", "below", "monotone"]

Verdict = Literal["holds", "within intervals", "does not hold", "not available"]

_DIGITS: Mapping[str, int] = {"KID x 1000": 1, "FID": 1}
_DIGITS_ELSE = 3


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One expected direction and what came out."""

    claim: str
    """What is expected, in words."""
    verdict: Verdict
    """Whether it came out."""
    figures: str
    """The figures that decide."""
    gate: bool = True
    """Whether it is an acceptance (M-47), or only reported."""

    @property
    def sentence(self) -> str:
        """The direction in one sentence."""
        return f"{self.claim}: {self.verdict}{'' if self.gate else ' (reported, no gate)'}. {self.figures}."


def below(
    key: str, lower: tuple[str, Measurement], higher: tuple[str, Measurement], *, gate: bool = True
) -> Direction:  # fmt: skip
    """Tell whether one figure is below another.

    Args:
        key: What is compared, as printed.
        lower: Name and figure of what should be below.
        higher: Name and figure of what should be above.
        gate: As in ``Direction``.
    """
    return Direction(
        claim=f"{key}: {lower[0]} below {higher[0]}", verdict=_order(lower[1], higher[1]),
        figures=_listed([lower, higher]), gate=gate,
    )  # fmt: skip


def about_equal(key: str, one: tuple[str, Measurement], other: tuple[str, Measurement]) -> Direction:
    """Tell whether two figures are about equal: their intervals touch."""
    order = _order(one[1], other[1])
    verdicts: dict[Verdict, Verdict] = {
        "within intervals": "holds", "not available": "not available",
        "holds": "does not hold", "does not hold": "does not hold",
    }  # fmt: skip
    return Direction(
        claim=f"{key}: {one[0]} about equal to {other[0]}", verdict=verdicts[order], figures=_listed([one, other])
    )


def monotone(key: str, steps: Sequence[tuple[str, Measurement]], along: str, *, rising: bool) -> Direction:
    """Tell whether a figure rises, or falls, from step to step.

    It holds where all values are in order and first and last do not touch; it
    does not hold where any step is against the order beyond its intervals, or
    the ends are.

    Args:
        key: What is compared, as printed.
        steps: Names and figures in order, at least two.
        along: What the steps are of, as printed.
        rising: Whether it should rise.
    """
    ordered = [figure for _, figure in (steps if rising else steps[::-1])]
    orders = [_order(a, b) for a, b in pairwise(ordered)]
    ends = _order(ordered[0], ordered[-1])
    if "not available" in orders:
        verdict: Verdict = "not available"
    elif "does not hold" in [*orders, ends]:
        verdict = "does not hold"
    else:
        in_order = all((a.value or 0.0) <= (b.value or 0.0) for a, b in pairwise(ordered))
        verdict = "holds" if in_order and ends == "holds" else "within intervals"
    word = "rises" if rising else "falls"
    return Direction(claim=f"{key} {word} with {along}", verdict=verdict, figures=_listed(steps))


def _order(lower: Measurement, higher: Measurement) -> Verdict:
    """Compare two figures; a figure without interval is its own interval."""
    if lower.value is None or higher.value is None:
        return "not available"
    low_end, high_start = (lower.value if lower.high is None else lower.high), _low(higher)
    if lower.value < higher.value and low_end < high_start:
        return "holds"
    high_end = higher.value if higher.high is None else higher.high
    if lower.value > higher.value and high_end < _low(lower):
        return "does not hold"
    return "within intervals"


def _low(figure: Measurement) -> float:
    return (figure.value or 0.0) if figure.low is None else figure.low


def _listed(steps: Sequence[tuple[str, Measurement]]) -> str:
    return "; ".join(f"{name} {figure.text(_DIGITS.get(figure.name, _DIGITS_ELSE))}" for name, figure in steps)
