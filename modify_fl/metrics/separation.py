"""How well a score tells two groups of pictures apart (P-77, P-78).

A score is larger for pictures that look more like members of the training set.
Nothing here is drawn: intervals have closed forms, and halves are the even and
the odd positions.

Legend of shapes: M members, N others.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.stats import beta
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.metrics.figures import Estimate, unavailable

__all__ = [
    "WEAK",
    "Separation",
    "Strongest",
    "auc",
    "chance_half_width",
    "hit_rate",
    "separation",
    "share_interval",
    "strongest",
]

WEAK = 0.1
"""Half-width of the interval of an AUC above which nothing can be told (P-78)."""

_Z = 1.959963984540054
_TAIL = 0.05
_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class Separation:
    """An AUC, its 95 % interval, and whether the numbers suffice to tell anything."""

    auc: float
    """P(score of a member > score of another), ties counting half; 0.5 is chance."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""
    members: int
    """M."""
    others: int
    """N."""

    @property
    def chance(self) -> float:
        """Half-width of the interval of an AUC of 0.5 with as many pictures: the power of the test (P-78)."""
        return chance_half_width(self.members, self.others)

    @property
    def weak(self) -> bool:
        """Whether the test could hardly have found anything, and did not: that counts as not measured (P-78)."""
        return self.chance > WEAK and self.low <= 0.5


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """The strongest of several scores; each half of the pictures is judged by the choice of the other."""

    names: tuple[str, str]
    """Chosen on the first half and on the second."""
    separation: Separation
    """Mean over both halves of the AUC that the other half's choice reaches."""


def auc(members: Tensor, others: Tensor) -> float:
    """Return P(member > other) + P(equal) / 2.

    Args:
        members: Scores, float [M].
        others: Scores, float [N].

    Raises:
        ShapeError: A group is empty, or a score is no number.
    """
    first, second = members.double().flatten(), others.double().flatten()
    if not len(first) or not len(second) or not (first.isfinite().all() and second.isfinite().all()):
        raise ShapeError("an AUC needs finite scores of both groups", got=f"{len(first)} and {len(second)}")
    ordered = second.sort().values
    below = torch.searchsorted(ordered, first, right=False).double()
    up_to = torch.searchsorted(ordered, first, right=True).double()
    return float((below + up_to).sum() / (2 * len(first) * len(second)))


def _variance(value: float, members: int, others: int) -> float:
    """Variance of an AUC (Hanley and McNeil 1982, with the mean group size of Newcombe 2006, method 5)."""
    mean = (members + others) / 2 - 1
    spread = 1 + mean * ((1 - value) / (2 - value) + value / (1 + value))
    return value * (1 - value) * spread / (members * others)


def _bound(value: float, members: int, others: int, *, upper: bool) -> float:
    """Return where the score interval ends: the AUC whose own 95 % just reaches ``value``."""
    inside, outside = value, 1.0 if upper else 0.0
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        reach = _Z * math.sqrt(_variance(middle, members, others))
        inside, outside = (middle, outside) if abs(middle - value) <= reach else (inside, middle)
    return inside


def separation(members: Tensor, others: Tensor) -> Separation:
    """Return the AUC of two groups with its 95 % interval.

    The interval is Newcombe's score interval (2006, method 5): it stays within
    [0, 1] and does not shrink to a point where the groups do not overlap.

    Args:
        members: Scores, float [M], M at least 1.
        others: Scores, float [N], N at least 1.

    Raises:
        ShapeError: A group is empty, or a score is no number.
    """
    return _around(auc(members, others), len(members), len(others))


def _around(value: float, members: int, others: int) -> Separation:
    low, high = (_bound(value, members, others, upper=upper) for upper in (False, True))
    return Separation(auc=value, low=low, high=high, members=members, others=others)


def chance_half_width(members: int, others: int) -> float:
    """Return the half-width of the 95 % interval of an AUC of 0.5: 0.069 for 134 and 134 (P-78)."""
    return _Z * math.sqrt(_variance(0.5, members, others)) if members and others else math.inf


def hit_rate(members: Tensor, others: Tensor, false_positives: float) -> Estimate:
    """Return the share of members found where a given share of others is found too.

    The threshold is an order statistic of the others; the interval is that of
    Clopper and Pearson over the members, with the threshold taken as given.

    Args:
        members: Scores, float [M].
        others: Scores, float [N]; too few of them make the rate unavailable.
        false_positives: Share of the others above the threshold, in (0, 0.5].
    """
    allowed = math.floor(false_positives * len(others) + 1e-9)
    if not allowed or not len(members):
        return unavailable(f"it needs {math.ceil(1 / false_positives)} held-out images or more")
    threshold = others.double().sort(descending=True).values[allowed]
    # Above it are as many others as allowed, or fewer where scores are tied: the rate is kept, never exceeded.
    count, total = int((members.double() > threshold).sum()), len(members)
    low, high = share_interval(count, total)
    return Estimate(value=count / total, low=low, high=high)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of Clopper and Pearson for ``count`` of ``total``."""
    low = float(beta.ppf(_TAIL / 2, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - _TAIL / 2, count + 1, total - count)) if count < total else 1.0
    return low, high


def strongest(scores: Mapping[str, tuple[Tensor, Tensor]]) -> Strongest | None:
    """Choose the score with the largest AUC on one half and measure it on the other, both ways (P-77).

    Choosing and measuring on the same pictures would flatter the attack: of many
    useless scores one always looks good. With both ways every picture is measured
    once, so the interval is that of all of them.

    Args:
        scores: Members' and others' scores by name, float [M] and [N]; a score may know fewer pictures than another.

    Returns:
        Nothing where no score has two pictures of each group.
    """
    usable = {name: pair for name, pair in scores.items() if min(map(len, pair)) >= 2}
    if not usable:
        return None
    halves = [{name: (a[k::2], b[k::2]) for name, (a, b) in usable.items()} for k in (0, 1)]
    chosen = [max(usable, key=lambda name, half=half: auc(*half[name])) for half in halves]  # type: ignore[misc]
    reached = [auc(*halves[1][chosen[0]]), auc(*halves[0][chosen[1]])]
    counts = [min(len(usable[name][side]) for name in chosen) for side in (0, 1)]
    return Strongest(names=(chosen[0], chosen[1]), separation=_around(sum(reached) / 2, counts[0], counts[1]))
