"""Whether a stylized photo is still of the same person (M-44, U-73).

Legend of shapes: P photos, S pictures of each, d width of an embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.metrics.figures import Estimate, mean_estimate, pair_estimate

__all__ = ["PairHistogram", "cosines", "identity_auc", "identity_cosine", "pair_histogram", "wins"]

_BINS = 40


@dataclass(frozen=True, kw_only=True)
class PairHistogram:
    """Cosines between pictures and photos, counted in equal bins from -1 to 1."""

    own: tuple[int, ...]
    """Pairs of a picture and its own photo."""
    others: tuple[int, ...]
    """Pairs of a picture and the photo of somebody else."""


def cosines(photos: Tensor, pictures: Tensor) -> Tensor:
    """Return the cosine between each picture and its own photo, [P, S].

    Args:
        photos: Unit embeddings of the photos, float [P, d].
        pictures: Unit embeddings of what was made of them, float [P, S, d].

    Raises:
        ShapeError: The two do not belong together.
    """
    if photos.ndim != 2 or pictures.ndim != 3 or len(photos) != len(pictures):
        raise _unrelated(photos, pictures)
    return (photos[:, None] * pictures).sum(2)


def identity_cosine(photos: Tensor, pictures: Tensor, *, seed: int) -> Estimate:
    """Return the mean cosine between a picture and its own photo (M-44).

    Args:
        photos: Unit embeddings, float [P, d], of a network that was not trained on.
        pictures: Unit embeddings, float [P, S, d].
        seed: Of the bootstrap.
    """
    return mean_estimate(cosines(photos, pictures).mean(1), seed=seed)


def wins(photos: Tensor, pictures: Tensor) -> Tensor:
    """Return how often a picture is nearer to its own photo than to another one.

    Args:
        photos: Unit embeddings, float [P, d].
        pictures: Unit embeddings, float [P, S, d].

    Returns:
        float64 [P, P]: at (i, j) the share of the S pictures of photo i with a
        larger cosine to photo i than to photo j; a tie counts half. The diagonal is 0.
    """
    own = cosines(photos, pictures)  # [P, S]
    table = torch.empty(len(photos), len(photos), dtype=torch.float64)
    for i, (near, row) in enumerate(zip(own, pictures, strict=True)):
        far = (photos[None] * row[:, None]).sum(2)  # [S, P]
        better = (near[:, None] > far).double() + 0.5 * (near[:, None] == far).double()
        table[i] = better.mean(0)
    return table.fill_diagonal_(0)


def identity_auc(photos: Tensor, pictures: Tensor, *, seed: int) -> Estimate:
    """Return P(cos(picture, own photo) > cos(picture, another photo)) over all pairs.

    1 is a person who is always recognised among the photos, 0.5 is chance.

    Args:
        photos: Unit embeddings, float [P, d].
        pictures: Unit embeddings, float [P, S, d].
        seed: Of the bootstrap.
    """
    table = wins(photos, pictures)
    counts = torch.ones_like(table).fill_diagonal_(0)
    return pair_estimate(table, counts, seed=seed)


def pair_histogram(photos: Tensor, pictures: Tensor, *, bins: int = _BINS) -> PairHistogram:
    """Count the cosines of all pairs; what the AUC sums up in one number.

    Args:
        photos: Unit embeddings, float [P, d].
        pictures: Unit embeddings, float [P, S, d].
        bins: Of equal width from -1 to 1.

    Raises:
        ShapeError: The two do not belong together.
    """
    if photos.ndim != 2 or pictures.ndim != 3 or len(photos) != len(pictures):
        raise _unrelated(photos, pictures)
    own, others = torch.zeros(bins, dtype=torch.long), torch.zeros(bins, dtype=torch.long)
    for i, row in enumerate(pictures):
        table = row @ photos.T  # [S, P]
        mine = _counts(table[:, i], bins)
        own += mine
        others += _counts(table, bins) - mine
    return PairHistogram(own=tuple(own.tolist()), others=tuple(others.tolist()))


def _counts(values: Tensor, bins: int) -> Tensor:
    place = ((values.double() + 1) * (bins / 2)).floor().long().clamp(0, bins - 1)
    return torch.bincount(place.flatten(), minlength=bins)


def _unrelated(photos: Tensor, pictures: Tensor) -> ShapeError:
    return ShapeError(
        "embeddings of photos and pictures must belong together", expected="[P, d] and [P, S, d]",
        got=f"{list(photos.shape)} and {list(pictures.shape)}",
    )  # fmt: skip
