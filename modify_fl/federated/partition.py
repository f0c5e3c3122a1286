"""One set of photos as the photos of several sites that differ from each other.

Photos are put into as many clusters as there are sites, by their colours and light,
and each cluster is dealt out in shares drawn from a Dirichlet distribution: a small
concentration gives every site photos of its own kind, a large one makes sites alike.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.streams import generator

__all__ = ["deal_out"]

_SIDE = 8  # pixels that a photo is reduced to before it is compared
_PASSES = 20
_TRIES = 100
_FEWEST = 2
_TOGETHER = 256


def deal_out(photos: ImageSet, sites: int, *, concentration: float, seed: int) -> list[list[int]]:
    """Return the indices of the photos of each site, ascending; every photo is at one site.

    Args:
        photos: All photos.
        sites: How many sites.
        concentration: Of the Dirichlet distribution, above 0.
        seed: Of clusters and shares.

    Raises:
        ConfigError: There are too few photos for so many sites, or the concentration is too small.
    """
    if not concentration > 0:
        raise ConfigError(f"the concentration must be above 0, got {concentration}")
    if len(photos) < _FEWEST * sites:
        raise ConfigError(f"{len(photos)} photos are too few for {sites} sites", fix="name fewer sites or more photos")
    draws = np.random.default_rng(generator(seed, "sites", 0).initial_seed())
    clusters = _clusters(_small(photos), sites, seed)
    for _ in range(_TRIES):
        dealt: list[list[int]] = [[] for _ in range(sites)]
        for cluster in range(sites):
            members = draws.permutation(np.flatnonzero(clusters == cluster))
            shares = draws.dirichlet([concentration] * sites)
            cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
            for site, part in enumerate(np.split(members, cuts)):
                dealt[site] += [int(index) for index in part]
        if min(map(len, dealt)) >= _FEWEST:
            return [sorted(indices) for indices in dealt]
    raise ConfigError(
        f"a concentration of {concentration:g} leaves a site without photos", fix="use a larger one, or fewer sites"
    )


def _small(photos: ImageSet) -> Tensor:
    """Return the photos as a few colours each, float32 [N, 3 * 8 * 8]."""
    parts = [list(range(at, min(at + _TOGETHER, len(photos)))) for at in range(0, len(photos), _TOGETHER)]
    return torch.cat([functional.adaptive_avg_pool2d(photos.batch(part), _SIDE).flatten(1) for part in parts])


def _clusters(points: Tensor, count: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each point by k-means, from points that lie far from each other (k-means++)."""
    draws = generator(seed, "sites", 1)
    centres = points[torch.randint(len(points), (1,), generator=draws)]
    while len(centres) < count:
        far = torch.cdist(points, centres).min(1).values.square() + 1e-12
        centres = torch.cat([centres, points[torch.multinomial(far, 1, generator=draws)]])
    for _ in range(_PASSES):
        nearest = torch.cdist(points, centres).argmin(1)
        centres = torch.stack(
            [points[nearest == at].mean(0) if bool((nearest == at).any()) else centres[at] for at in range(count)]
        )
    return torch.cdist(points, centres).argmin(1).numpy()
