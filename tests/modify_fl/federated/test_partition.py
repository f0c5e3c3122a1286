"""One set of photos as sites that differ: every photo once, by the seed, and as far apart as asked for."""

import numpy as np
import pytest
import torch

from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.federated.partition import deal_out


def photos(count: int, kinds: int = 3, side: int = 16) -> ImageSet:
    """Pictures of a few kinds that differ by their colour, and a little among themselves."""
    draws = torch.Generator().manual_seed(5)
    base = torch.tensor([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[torch.arange(count) % kinds]
    noise = torch.randint(0, 40, (count, 3, side, side), generator=draws)
    pictures = (base[:, :, None, None] + noise).to(torch.uint8)
    pictures[:, :, 0, 0], pictures[:, :, 0, 1] = 0, 255  # all of the range is used (M-1)
    return ImageSet.of(pictures, [f"p{at}.png" for at in range(count)])


def spread(dealt: list[list[int]], kinds: int = 3) -> float:
    """How far the mixtures of the sites are from each other: 0 where alike, 1 where each has its own kind."""
    shares = np.array([[sum(at % kinds == kind for at in part) / len(part) for kind in range(kinds)] for part in dealt])
    return float(np.abs(shares - shares.mean(0)).sum(1).mean() / (2 - 2 / kinds))


@pytest.mark.parametrize("sites", [2, 3, 5])
def test_every_photo_is_at_one_site(sites: int) -> None:
    dealt = deal_out(photos(60), sites, concentration=1.0, seed=1)
    assert len(dealt) == sites
    assert sorted(at for part in dealt for at in part) == list(range(60))
    assert all(part == sorted(part) and len(part) >= 2 for part in dealt)


def test_the_seed_decides() -> None:
    first, again, other = (deal_out(photos(60), 3, concentration=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_concentration_is_how_alike_sites_are() -> None:
    far = np.mean([spread(deal_out(photos(90), 3, concentration=0.2, seed=seed)) for seed in range(8)])
    near = np.mean([spread(deal_out(photos(90), 3, concentration=500.0, seed=seed)) for seed in range(8)])
    assert near < 0.15
    assert far > 0.4


def test_what_cannot_be_dealt_is_refused() -> None:
    for count, sites, concentration, sentence in (
        (5, 3, 1.0, "too few for 3 sites"), (60, 3, 0.0, "above 0"), (60, 3, float("nan"), "above 0"),
        (8, 4, 1e-6, "leaves a site without photos"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            deal_out(photos(count), sites, concentration=concentration, seed=0)
