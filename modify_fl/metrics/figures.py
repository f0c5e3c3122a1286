"""One measured figure, and its interval over photos (M-46, M-48).

Every figure is resampled over *photos*, never over pictures: the pictures that
were made from one photo are not independent of each other. The draws are a
function of the seed alone (M-52).

Legend of shapes: P photos, B bootstrap draws.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.streams import generator

__all__ = [
    "FILTER", "Estimate", "Measurement", "interval_around", "mean_estimate", "pair_draws", "pair_estimate",
    "photo_weights", "unavailable",
]  # fmt: skip

FILTER = "antialiased bicubic"
"""The one resize path (M-49)."""

_DRAWS = 1000
_CONFIDENCE = 0.95
_ONE_PHOTO = "no interval: it needs two photos or more"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and how sure it is."""

    value: float | None
    """None where it is not available; never 0 instead (M-43)."""
    low: float | None = None
    """Lower end of the interval; none where there is none."""
    high: float | None = None
    """Upper end."""
    note: str = ""
    """What a reader must know, or why there is no value."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A figure with all that it depends on (M-48)."""

    name: str
    """As printed, such as ``KID x 1000``."""
    value: float | None
    """None where it is not available; never 0 instead (M-43)."""
    low: float | None
    """Lower end of the 95 % interval; none where there is none."""
    high: float | None
    """Upper end."""
    n: int
    """Pictures that were measured."""
    reference: int | None
    """Pictures they were compared with, where they were compared with a set."""
    resolution: int
    """Side of the pictures in pixels, before any network's own resizing."""
    filter: str
    """How they got this size (M-49)."""
    seeds: tuple[int, ...]
    """Styles that were drawn for each photo, and nothing where none was."""
    note: str = ""
    """What a reader must know, or why there is no value."""

    @classmethod
    def of(
        cls, name: str, estimate: Estimate, *, n: int, resolution: int, reference: int | None = None,
        seeds: tuple[int, ...] = (),
    ) -> "Measurement":  # fmt: skip
        """Give an estimate its name and its circumstances."""
        return cls(
            name=name, value=estimate.value, low=estimate.low, high=estimate.high, note=estimate.note, n=n,
            reference=reference, resolution=resolution, filter=FILTER, seeds=seeds,
        )  # fmt: skip

    def text(self, digits: int) -> str:
        """Return the figure as people read it: ``12.3 [11.8, 12.9]``, or ``not available``."""
        if self.value is None:
            return "not available"
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def unavailable(why: str) -> Estimate:
    """Return the estimate of a figure that cannot be computed (M-43)."""
    return Estimate(value=None, note=f"not available: {why}")


def photo_weights(photos: int, *, seed: int, draws: int = _DRAWS) -> Tensor:
    """Draw ``photos`` photos with replacement, ``draws`` times.

    Args:
        photos: P, at least 1.
        seed: Of the stream ``bootstrap``.
        draws: B.

    Returns:
        How often each photo was drawn, float64 [B, P]; every row sums to P.
    """
    chosen = torch.randint(photos, (draws, photos), generator=generator(seed, "bootstrap"))  # [B, P]
    counts = torch.zeros(draws, photos, dtype=torch.float64)
    return counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))


def interval_around(value: float, draws: Tensor, *, shift: bool = False, note: str = "") -> Estimate:
    """Return ``value`` with the middle 95 % of ``draws``.

    Args:
        value: The figure on all photos.
        draws: The figure on each bootstrap sample, float64 [B]; NaN where a sample has none.
        shift: Move the draws so that their mean is the value. For distances between
            distributions: they grow when photos are drawn twice, and the plain
            percentiles of FID can leave its value outside.
        note: Goes into the estimate.
    """
    known = draws[draws.isfinite()]
    if not len(known):
        return Estimate(value=value, note=note)
    moved = known + (value - known.mean()) if shift else known
    tail = (1 - _CONFIDENCE) / 2
    low, high = (float(torch.quantile(moved, part)) for part in (tail, 1 - tail))
    return Estimate(value=value, low=low, high=high, note=note)


def mean_estimate(values: Tensor, *, seed: int, note: str = "") -> Estimate:
    """Return the mean of one value per photo.

    Args:
        values: float [P].
        seed: Of the bootstrap.
        note: Goes into the estimate.
    """
    photos = len(values)
    if photos == 0:
        return unavailable("there is nothing to measure")
    values = values.to(torch.float64)
    mean = float(values.mean())
    if photos < 2:
        return Estimate(value=mean, note=_joined(note, _ONE_PHOTO))
    return interval_around(mean, photo_weights(photos, seed=seed) @ values / photos, note=note)


def pair_estimate(sums: Tensor, counts: Tensor, *, seed: int, note: str = "") -> Estimate:
    """Return the mean over pairs of photos, resampled over photos.

    A pair of a photo with its own copy is never counted, so drawing a photo
    twice does not make the photos look more alike than they are.

    Args:
        sums: Sum of the values of all pairs between two photos, float64 [P, P].
        counts: Number of these pairs, float64 [P, P].
        seed: Of the bootstrap.
        note: Goes into the estimate.
    """
    if sums.shape != counts.shape or sums.ndim != 2 or sums.shape[0] != sums.shape[1]:
        raise ShapeError("sums and counts are [P, P]", expected="[P, P]", got=f"{list(sums.shape)}")
    if float(counts.sum()) == 0:
        return unavailable("it needs two photos or more")
    value = float(sums.sum() / counts.sum())
    return interval_around(value, pair_draws(sums, counts, photo_weights(len(sums), seed=seed)), note=note)


def pair_draws(sums: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pairs for each bootstrap sample, float64 [B].

    Args:
        sums: As in ``pair_estimate``.
        counts: As in ``pair_estimate``.
        weights: From ``photo_weights``, [B, P].
    """
    above = ((weights @ sums) * weights).sum(1)  # [B]
    below = ((weights @ counts) * weights).sum(1)  # [B]
    return above / below  # 0 / 0, one photo drawn every time, is NaN and left out


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
