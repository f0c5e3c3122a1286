"""Figures in LPIPS: diversity over z, and reconstruction beside the nearest picture (M-44).

Legend of shapes: S pictures of one photo, N held-out pictures, T training
pictures, C near candidates, R resolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl import losses
from modify_fl.data import ImageSet
from modify_fl.errors import ShapeError
from modify_fl.perceptual import Lpips

__all__ = ["Comparison", "compare", "compare_nearest", "compare_reconstructions", "pairwise_lpips"]

_BATCH = 16
_THUMB = 16
_CANDIDATES = 8


@torch.no_grad()
def pairwise_lpips(lpips: Lpips, pictures: Tensor) -> float:
    """Return the mean LPIPS over all pairs of pictures of one photo (M-44).

    Args:
        lpips: The network.
        pictures: float32 [S, 3, R, R] in [-1, 1], S at least 2.

    Raises:
        ShapeError: There are fewer than two pictures.
    """
    if len(pictures) < 2:
        raise ShapeError("diversity is between two pictures or more", expected="2 or more", got=str(len(pictures)))
    # Each picture goes through the network once, not once per pair.
    levels = lpips.features(pictures)
    one, other = zip(*combinations(range(len(pictures)), 2), strict=True)
    total = torch.zeros(len(one))
    for level, head in zip(levels, lpips.heads, strict=True):
        for pair, (i, j) in enumerate(zip(one, other, strict=True)):
            total[pair] += float(((level[i] - level[j]).square() * head[0]).sum(0).mean())
    return float(total.double().mean())


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far pictures are from others, one value a picture."""

    l1: Tensor
    """Mean absolute difference in [-1, 1] units, float [N]."""
    psnr: Tensor
    """Peak signal-to-noise ratio in dB, peak 2, float [N]."""
    lpips: Tensor | None
    """Perceptual distance, float [N]; none where the network is not there (M-43)."""

    @classmethod
    def join(cls, parts: Sequence["Comparison"]) -> "Comparison":
        """Put comparisons one after the other."""
        found = [part.lpips for part in parts if part.lpips is not None]
        return cls(
            l1=torch.cat([part.l1 for part in parts]), psnr=torch.cat([part.psnr for part in parts]),
            lpips=torch.cat(found) if len(found) == len(parts) else None,
        )  # fmt: skip


@torch.no_grad()
def compare(target: Tensor, output: Tensor, lpips: Lpips | None) -> Comparison:
    """Compare pictures with others, one by one.

    Args:
        target: float32 [N, 3, R, R] in [-1, 1].
        output: The same shape and range.
        lpips: The network, where found.
    """
    return Comparison(
        l1=losses.absolute(target, output),
        psnr=10 * torch.log10(4 / losses.reconstruction(target, output).clamp_min(1e-12)),
        lpips=None if lpips is None else lpips(target, output).cpu(),
    )


def compare_reconstructions(
    images: ImageSet, reconstruct: Callable[[Tensor], Tensor], lpips: Lpips | None
) -> Comparison:
    """Compare pictures with D(E(y)) (M-44).

    Args:
        images: Held-out style images, N of them, at least one.
        reconstruct: y to D(E(y)), both float32 [B, 3, R, R] in [-1, 1].
        lpips: The network, where found.
    """
    parts = []
    for start in range(0, len(images), _BATCH):
        target = images.batch(range(start, min(start + _BATCH, len(images))))
        parts.append(compare(target, reconstruct(target).clamp(-1, 1), lpips))
    return Comparison.join(parts)


@torch.no_grad()
def compare_nearest(images: ImageSet, training: ImageSet, lpips: Lpips | None) -> Comparison:
    """Compare pictures with the training picture that is most like them.

    What D(E(y)) must beat to be more than a memory of the training set. Of the 8
    training pictures that are nearest as thumbnails of 16 pixels, the one with
    the least LPIPS counts, without the network the one with the least L1.

    Args:
        images: Held-out style images, N of them, at least one.
        training: Those that were trained on, T of them, at least one.
        lpips: The network, where found.
    """
    small = _thumbnails(training)  # [T, 3 * 256]
    parts = []
    for index, thumb in enumerate(_thumbnails(images)):
        near = (small - thumb).square().sum(1).argsort(stable=True)[:_CANDIDATES].tolist()  # C of them
        candidates = training.batch(near)  # [C, 3, R, R]
        found = compare(images.batch([index]).expand_as(candidates), candidates, lpips)
        best = int((found.l1 if found.lpips is None else found.lpips).argmin())
        parts.append(Comparison(
            l1=found.l1[best : best + 1], psnr=found.psnr[best : best + 1],
            lpips=None if found.lpips is None else found.lpips[best : best + 1],
        ))  # fmt: skip
    return Comparison.join(parts)


def _thumbnails(images: ImageSet) -> Tensor:
    parts = [
        functional.adaptive_avg_pool2d(images.batch(range(start, min(start + _BATCH, len(images)))), _THUMB).flatten(1)
        for start in range(0, len(images), _BATCH)
    ]
    return torch.cat(parts)
