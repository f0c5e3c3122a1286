"""Distances between two sets of features: KID and FID (M-44, M-46).

Legend of shapes: N pictures of the measured set, N = P S with P photos and S
pictures each, photo by photo; Q pictures of the reference; d features, k the
smaller of Q and d; B bootstrap draws.
"""

import torch
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.metrics.figures import Estimate, interval_around, pair_draws, photo_weights, unavailable
from modify_fl.streams import generator

__all__ = ["FEW", "fid", "floor", "frechet_distance", "kid", "squared_mmd"]

FEW = 2048
"""Below so many pictures KID is the primary figure and FID carries a warning (M-46)."""

_SUBSETS, _SUBSET_SIZE = 100, 100
_FID_DRAWS = 100
_BLOCK = 64
_FLOOR_DRAWS = 10


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel (x y / d + 1)^3.

    Source: Binkowski et al. 2018, equation 4 (M-44). Can be negative.

    Args:
        x: float [N, d], N at least 2.
        y: float [Q, d], Q at least 2.
    """
    inner = [_off_diagonal_mean(_kernel(z, z)) for z in (x.double(), y.double())]
    return inner[0] + inner[1] - 2 * float(_kernel(x.double(), y.double()).mean())


def kid(features: Tensor, reference: Tensor, *, photos: int, seed: int) -> Estimate:
    """Return KID x 1000: the mean over 100 subsets of min(100, N, Q) (M-44).

    The interval resamples photos in the statistic over all pairs and leaves the
    reference as it is.

    Args:
        features: float [P S, d], photo by photo.
        reference: float [Q, d].
        photos: P.
        seed: Of the subsets and the bootstrap.

    Raises:
        ShapeError: The rows do not belong to ``photos`` photos, or the widths differ.
    """
    per_photo = _check(features, reference, photos)
    if min(len(features), len(reference)) < 2:
        return unavailable("KID needs two pictures or more in both sets")
    value = 1000 * _subset_mean(features, reference, seed)
    if photos < 2:
        return Estimate(value=value, note="no interval: it needs two photos or more")
    draws = 1000 * _kid_draws(features.double(), reference.double(), per_photo, seed)
    return interval_around(value, draws, shift=True)


def fid(features: Tensor, reference: Tensor, *, photos: int, seed: int) -> Estimate:
    """Return the Frechet distance between the Gaussians of both sets (M-44).

    It is called FID only where the features are those of the 2015 Inception (M-46).

    Args:
        features: float [P S, d], photo by photo.
        reference: float [Q, d].
        photos: P.
        seed: Of the bootstrap.

    Returns:
        The estimate; below 2048 pictures its note says that the value is biased.

    Raises:
        ShapeError: The rows do not belong to ``photos`` photos, or the widths differ.
    """
    _check(features, reference, photos)
    few = min(len(features), len(reference))
    if few < 2:
        return unavailable("FID needs two pictures or more in both sets")
    note = f"biased: {few} pictures are fewer than {FEW}, compare KID (M-46)" if few < FEW else ""
    value = frechet_distance(features, reference)
    if photos < 2:
        return Estimate(value=value, note=note)
    draws = _fid_draws(features.double(), reference.double(), photos, seed)
    return interval_around(value, draws, shift=True, note=note)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return |m_x - m_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2) in its eigenvalue form.

    Source: Heusel et al. 2017; U-14. With S_y = B^T B, the eigenvalues of S_x S_y
    that are not 0 are those of B S_x B^T: real, never negative, also for sets
    smaller than d.

    Args:
        x: float [N, d], N at least 2.
        y: float [Q, d], Q at least 2.
    """
    x, y = x.double(), y.double()
    mean, factor = y.mean(0), _factor(y)
    weights = torch.ones(len(x), dtype=torch.float64)
    return _distance(x, weights, mean, factor, (x - mean) @ factor.T)


def floor(reference: Tensor, *, seed: int) -> tuple[Estimate, Estimate]:
    """Return KID x 1000 and FID between two random halves of a set, 10 draws (M-45).

    Args:
        reference: float [Q, d].
        seed: Of the halves.

    Returns:
        KID x 1000 and FID: means over the draws; their ends are the lowest and the highest draw.
    """
    half = len(reference) // 2
    if half < 2:
        return (unavailable("the floor needs four pictures or more"),) * 2
    kids, fids = [], []
    for draw in range(_FLOOR_DRAWS):
        order = torch.randperm(len(reference), generator=generator(seed, "floor", draw))
        one, other = reference[order[:half]], reference[order[half : 2 * half]]
        kids.append(1000 * _subset_mean(one, other, seed + draw))
        fids.append(frechet_distance(one, other))
    note = f"two random halves of {half}; lowest and highest of {_FLOOR_DRAWS} draws"
    return _range(kids, note), _range(fids, f"{note}; FID of smaller sets is larger")


def _range(draws: list[float], note: str) -> Estimate:
    return Estimate(value=sum(draws) / len(draws), low=min(draws), high=max(draws), note=note)


def _check(features: Tensor, reference: Tensor, photos: int) -> int:
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ShapeError(
            "both sets of features must have one width", expected="[N, d] and [Q, d]",
            got=f"{list(features.shape)} and {list(reference.shape)}",
        )  # fmt: skip
    if photos < 1 or len(features) % photos:
        raise ShapeError(
            "features must come photo by photo", expected=f"a multiple of {photos} rows", got=str(len(features))
        )
    return len(features) // photos


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    values: Tensor = (x @ y.T / x.shape[1] + 1) ** 3  # [N, Q]
    return values


def _off_diagonal_mean(kernel: Tensor) -> float:
    count = len(kernel)
    return float((kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1)))


def _subset_mean(x: Tensor, y: Tensor, seed: int) -> float:
    size = min(_SUBSET_SIZE, len(x), len(y))
    total = 0.0
    for subset in range(_SUBSETS):
        draw = generator(seed, "kid", subset)
        total += squared_mmd(
            x[torch.randperm(len(x), generator=draw)[:size]], y[torch.randperm(len(y), generator=draw)[:size]]
        )
    return total / _SUBSETS


def _kid_draws(x: Tensor, y: Tensor, per_photo: int, seed: int) -> Tensor:
    photos = len(x) // per_photo
    within = torch.empty(photos, photos, dtype=torch.float64)
    across = torch.empty(photos, dtype=torch.float64)
    for start in range(0, photos, _BLOCK):
        part = x[start * per_photo : (start + _BLOCK) * per_photo]
        count = len(part) // per_photo
        # Sums of the kernel over the pictures of two photos.
        blocks = _kernel(part, x).reshape(count, per_photo, photos, per_photo)
        within[start : start + count] = blocks.sum((1, 3))
        across[start : start + count] = _kernel(part, y).sum(1).reshape(count, per_photo).sum(1)
    own = _self_kernel(x).reshape(photos, per_photo).sum(1)  # [P]
    within -= torch.diag(own)  # a picture is not paired with itself
    counts = torch.full_like(within, per_photo**2) - per_photo * torch.eye(photos, dtype=torch.float64)
    weights = photo_weights(photos, seed=seed)  # [B, P]
    mixed = weights @ across / (photos * per_photo * len(y))  # [B]
    return pair_draws(within, counts, weights) + _off_diagonal_mean(_kernel(y, y)) - 2 * mixed


def _self_kernel(x: Tensor) -> Tensor:
    values: Tensor = (x.square().sum(1) / x.shape[1] + 1) ** 3  # [N]
    return values


def _factor(y: Tensor) -> Tensor:
    """Return B [k, d] with B^T B the covariance of ``y``."""
    centred: Tensor = (y - y.mean(0)) / (len(y) - 1) ** 0.5
    if len(y) <= y.shape[1]:
        return centred
    reduced: Tensor = torch.linalg.qr(centred, mode="r").R  # [d, d]
    return reduced


def _fid_draws(x: Tensor, y: Tensor, photos: int, seed: int) -> Tensor:
    mean, factor = y.mean(0), _factor(y)
    projected = (x - mean) @ factor.T  # [N, k]
    weights = photo_weights(photos, seed=seed, draws=_FID_DRAWS).repeat_interleave(len(x) // photos, 1)  # [B, N]
    return torch.tensor([_distance(x, row, mean, factor, projected) for row in weights], dtype=torch.float64)


def _distance(x: Tensor, weights: Tensor, mean: Tensor, factor: Tensor, projected: Tensor) -> float:
    """Return the Frechet distance of ``x``, each row taken ``weights`` times.

    Args:
        x: float64 [N, d].
        weights: float64 [N], whole numbers with sum N.
        mean: Of the reference, [d].
        factor: Of the reference's covariance, [k, d].
        projected: (x - mean) times the factor, [N, k].
    """
    count = float(weights.sum())
    own = weights @ x / count  # [d]
    spread = float(weights @ (x - own).square().sum(1)) / (count - 1)
    centred = (projected - weights @ projected / count) * (weights / (count - 1)).sqrt()[:, None]  # [N, k]
    # Of the two products with the same eigenvalues the smaller one is taken.
    square = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    root = float(torch.linalg.eigvalsh(square).clamp_min(0).sqrt().sum())
    return float((own - mean).square().sum()) + spread + float(factor.square().sum()) - 2 * root
