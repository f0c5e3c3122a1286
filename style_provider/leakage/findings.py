"""Figures of an audit: names, values, intervals, and what was not measured (P-74 to P-78).

How many images there are is published as a band only (P-83), so exact numbers stand apart from the notes, and
what is published is rounded: from an exact AUC and its interval both numbers could be computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from scipy.stats import beta
from torch import Tensor

from modify_fl.metrics.figures import Estimate
from modify_fl.metrics.separation import Separation, Strongest, hit_rate, separation, share_interval, strongest
from style_provider.leakage.copies import Neighbours
from style_provider.leakage.material import ENOUGH

__all__ = [
    "COMPLETION", "COPY_RATE", "EXTRACTED", "HEADLINES", "MEMBERSHIP", "MEMBERSHIP_TPR", "RATED", "SURE",
    "THREE_SAMPLE", "Finding", "Scores", "attack_findings", "closest", "copy_findings",
]  # fmt: skip

COPY_RATE = "copy rate"
THREE_SAMPLE = "three-sample AUC"
EXTRACTED = "extracted images"
COMPLETION = "completion AUC"
MEMBERSHIP = "membership AUC"
MEMBERSHIP_TPR = "membership TPR at FPR 1 %"
HEADLINES = (COPY_RATE, THREE_SAMPLE, EXTRACTED, COMPLETION, MEMBERSHIP, MEMBERSHIP_TPR)
"""The figures that have limits (P-79), in the order of the card."""

RATED = 100
"""Held-out images from which on a rate at FPR 1 % can be measured (P-77)."""
SURE = 59
"""Held-out images, one of each work, from which on no copy rate is too weak to tell: chance gives at most 5 % of it."""

_DIGITS = 3
_PERCENTILE = 0.01
_CHANCE = 0.05
"""Copy rate that chance alone may reach before fewer held-out images than ``SURE`` count as too weak."""
_RATES = ((0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"))
_FEW = f"fewer than {ENOUGH} images on one side"

Scores = Mapping[str, tuple[Tensor, Tensor]]
"""Scores by attack: those of training images, float [M], and of held-out images, float [N]."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure of an audit; as JSON it is its own dictionary."""

    name: str
    """As printed; one of ``HEADLINES``, or a figure beside them."""
    value: float | None
    """None where it was not measured; never 0 instead (M-43)."""
    low: float | None = None
    """Lower end of the 95 % interval, where there is one."""
    high: float | None = None
    """Upper end."""
    weak: bool = False
    """Whether so few images tell nothing: counts as not measured (P-78)."""
    chance: float | None = None
    """What chance alone exceeds in one audit of twenty, where that is known; up to it nothing is found (ADR 16)."""
    note: str = ""
    """What a reader must know, or why there is no value."""
    numbers: str = ""
    """How many images it rests on, for the provider alone."""

    @classmethod
    def missing(cls, name: str, why: str) -> Self:
        """Return the finding of what was not measured."""
        return cls(name=name, value=None, note=why)

    @classmethod
    def of_separation(cls, name: str, found: Separation, note: str = "") -> Self:
        """Return the finding of an AUC, its power stated (P-78)."""
        power = f"chance is 0.5 +- {found.chance:.2f}"
        return cls(
            name=name, value=found.auc, low=found.low, high=found.high, weak=found.weak,
            note=f"{power}; {note}" if note else power, numbers=f"{found.members} against {found.others} images",
        )  # fmt: skip

    @classmethod
    def of_estimate(cls, name: str, found: Estimate, note: str = "") -> Self:
        """Return the finding of a share."""
        return cls(name=name, value=found.value, low=found.low, high=found.high, note=found.note or note)

    @property
    def measured(self) -> bool:
        """Whether the figure says anything."""
        return self.value is not None and not self.weak

    def text(self) -> str:
        """Return value and interval as people read them."""
        if self.value is None:
            return "not measured"
        percent = self.name == COPY_RATE or "TPR" in self.name
        values = map(_rounded, (self.value, self.low, self.high))  # what is published reads the same
        words = [
            "" if v is None else f"{v:.0f}" if self.name == EXTRACTED else f"{v:.1%}" if percent else f"{v:.2f}"
            for v in values
        ]
        interval = f" [{words[1]}, {words[2]}]" if words[1] else ""
        return f"{words[0]}{interval}{' (too weak to tell)' if self.weak else ''}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name as they are published: rounded, without exact numbers of images."""
        return {key: value for key, value in asdict(self.published()).items() if key != "numbers"}

    def published(self) -> Self:
        """Return what may be read by anybody."""
        return replace(
            self, value=_rounded(self.value), low=_rounded(self.low), high=_rounded(self.high),
            chance=_rounded(self.chance), numbers="",
        )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


# Copies -----------------------------------------------------------------------


def copy_findings(near: Neighbours) -> list[Finding]:
    """Return the figures of P-74 and P-75: the largest over the spaces first, then those of each space.

    Args:
        near: What ``measure_copies`` found.
    """
    names = tuple(near.to_trained)
    rates = {name: _copy_rate(near, name) for name in names}
    three = {name: _three_sample(near, name) for name in names}
    return [
        _largest(COPY_RATE, rates), _largest(THREE_SAMPLE, three), _extracted(near),
        *rates.values(), *three.values(), *(_nearer(near, name) for name in names),
    ]  # fmt: skip


def _largest(name: str, found: Mapping[str, Finding]) -> Finding:
    known = {space: finding for space, finding in found.items() if finding.value is not None}
    if not known:
        return Finding.missing(name, next(iter(found.values())).note)
    space = max(known, key=lambda space: known[space].value or 0)
    best = known[space]
    note = f"largest of {len(known)} spaces: {space}; {best.note}"
    return replace(best, name=name, note=note)


def _copy_rate(near: Neighbours, space: str) -> Finding:
    """Share of drawn pictures nearer to a training image than the 1st percentile of real to real (P-74)."""
    name, floor = f"{COPY_RATE}, {space}", near.floor[space]
    if len(floor) < ENOUGH:
        return Finding.missing(name, f"the floor needs {ENOUGH} held-out images")
    place = max(1, round(_PERCENTILE * len(floor)))  # the k-th smallest of H
    threshold = floor.sort().values[place - 1]
    drawn = near.to_trained[space]
    count, total = int((drawn < threshold).sum()), len(drawn)
    # A place in a random order: what chance alone gives in nineteen of twenty audits.
    usual = float(beta.ppf(0.95, place, len(floor) + 1 - place))
    low, high = share_interval(count, total)
    return Finding(
        name=name, value=count / total, low=low, high=high, weak=usual > _CHANCE and low <= usual, chance=usual,
        note=f"{total} drawn; chance gives up to {usual:.1%}", numbers=f"{len(floor)} held-out images",
    )  # fmt: skip


def _three_sample(near: Neighbours, space: str) -> Finding:
    """P(a drawn picture is nearer to a training image than a held-out image is) (P-74)."""
    name, floor = f"{THREE_SAMPLE}, {space}", near.floor[space]
    if len(floor) < ENOUGH:
        return Finding.missing(name, f"the floor needs {ENOUGH} held-out images")
    apart = separation(-near.to_trained[space], -floor)
    # Pictures that are clearly farther than new images are no copies, however few images say so.
    return replace(Finding.of_separation(name, apart), weak=apart.weak and apart.high >= 0.5)


def _nearer(near: Neighbours, space: str) -> Finding:
    """P(a drawn picture is nearer to the training images than to as many held-out ones): blur cancels out."""
    name, others = f"nearer to training images, {space}", near.to_held[space]
    if len(near.floor[space]) < ENOUGH:
        return Finding.missing(name, f"it needs {ENOUGH} held-out images")
    own = near.to_fellows[space]
    share = float((own < others).double().mean() + (own == others).double().mean() / 2)
    return Finding(name=name, value=share, note="as many of each, one draw; 0.5 is no difference")


def _extracted(near: Neighbours) -> Finding:
    limits = ", ".join(f"{tau:.3f} in {name}" for name, tau in near.tau.items())
    drawn = len(next(iter(near.to_trained.values())))
    return Finding(name=EXTRACTED, value=float(len(near.extracted)), note=f"of {drawn} drawn pictures; tau {limits}")


# Members against held-out -----------------------------------------------------


def attack_findings(scores: Scores, *, why_not: str = "") -> list[Finding]:
    """Return the figures of P-76 and P-77.

    Args:
        scores: Of every attack that was made.
        why_not: Why none was, where there is none.
    """
    usable = {name: pair for name, pair in scores.items() if min(map(len, pair)) >= ENOUGH}
    done = [Finding.of_separation(f"AUC, {name}", separation(*pair)) for name, pair in usable.items()]
    best = strongest(usable)
    if best is None:
        why = why_not or _FEW
        return [Finding.missing(name, why) for name in (COMPLETION, MEMBERSHIP, MEMBERSHIP_TPR)] + done
    completion = usable.get("completion")
    first = (
        Finding.missing(COMPLETION, why_not or "no image was completed")
        if completion is None
        else Finding.of_separation(COMPLETION, separation(*completion))
    )
    return [first, *_membership(usable, best), *done]


def _membership(scores: Scores, best: Strongest) -> list[Finding]:
    chosen = " and ".join(dict.fromkeys(best.names))
    note = f"strongest: {chosen}, each half judged by the choice of the other"
    name = _rated(scores, best)
    rates = [
        Finding.of_estimate(f"membership TPR at FPR {words}", hit_rate(*scores[name], rate), f"score: {name}")
        for rate, words in _RATES
    ]
    rates.sort(key=lambda finding: finding.name != MEMBERSHIP_TPR)
    return [Finding.of_separation(MEMBERSHIP, best.separation, note), *rates, _control(scores, best)]


def _rated(scores: Scores, best: Strongest) -> str:
    """Return the score whose rates are told: the strongest of those that know most images, as small rates need them.

    Rates are of one score: the choice of the half with more images decides which.
    """
    most = max(sum(map(len, pair)) for pair in scores.values())
    whole = {name: pair for name, pair in scores.items() if sum(map(len, pair)) == most}
    return (strongest(whole) or best).names[0]


def _control(scores: Scores, best: Strongest) -> Finding:
    """Held-out images against held-out images: an AUC that must be about 0.5 (P-78)."""
    others = scores[best.names[0]][1]
    found = separation(others[::2], others[1::2])
    wrong = "" if found.low <= 0.5 <= found.high else "the interval misses 0.5: do not trust this audit"
    control = Finding.of_separation("control AUC, held-out against held-out", found, wrong)
    return replace(control, weak=False)


def closest(near: Neighbours, space: str, count: int) -> Sequence[int]:
    """Return the drawn pictures that are nearest to a training image, nearest first."""
    found: list[int] = near.to_trained[space].argsort(stable=True)[:count].tolist()
    return found
