"""Pictures that show the same work: near-duplicates, mirrored ones among them (P-72).

Two pictures belong together where what is finer than an eighth of them
correlates by 0.85 or more, at the same place or shifted by a thirty-second.
Of 404 different oil portraits two pairs reach that; of 134 that exist at two sizes all do.

Legend of shapes: N pictures, B batch, R resolution.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor

from modify_fl.data import ImageSet
from modify_fl.metrics.spaces import high_pass

__all__ = ["works"]

_ALIKE = 0.85
_BATCH = 256
_SHIFTED_UP_TO = 5000
_OBJECT = re.compile(r"(\d+)-\d\d")
"""MetFaces: number of the object and of the face on it."""


def works(images: ImageSet) -> list[int]:
    """Return for every picture the number of its work: the first picture that shows the same.

    Args:
        images: N pictures.

    Returns:
        N indices; a picture that is like no earlier one has its own.
    """
    roots = list(range(len(images)))

    def find(index: int) -> int:
        while roots[index] != index:
            roots[index] = roots[roots[index]]
            index = roots[index]
        return index

    for one, other in [*_alike(images), *_named_alike(images.names)]:
        low, high = sorted((find(one), find(other)))
        roots[high] = low
    return [find(index) for index in range(len(images))]


def _named_alike(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of faces that were cut from one object, as the names of MetFaces say."""
    first: dict[str, int] = {}
    pairs = []
    for index, name in enumerate(names):
        found = _OBJECT.fullmatch(PurePosixPath(name).stem)
        if found:
            pairs.append((first.setdefault(found[1], index), index))
    return pairs


def _alike(images: ImageSet) -> list[tuple[int, int]]:
    total = len(images)
    if not total:
        return []
    parts = [range(at, min(at + _BATCH, total)) for at in range(0, total, _BATCH)]
    known = torch.cat([high_pass(images.batch(part)) for part in parts])  # [N, 1024]
    pairs = []
    for part in parts:
        best = torch.full((len(part), total), -1.0)
        for moved in _moved(images.batch(part), shifted=total <= _SHIFTED_UP_TO):
            best = torch.maximum(best, high_pass(moved) @ known.T)  # [B, N]
        pairs += [(part.start + a, b) for a, b in (best >= _ALIKE).nonzero().tolist() if b < part.start + a]
    return pairs


def _moved(pictures: Tensor, *, shifted: bool) -> list[Tensor]:
    """Return pictures and their mirror images, at their place and, if wanted, shifted by a thirty-second."""
    step = max(1, pictures.shape[-1] // 32)
    offsets = (-step, 0, step) if shifted else (0,)
    both = (pictures, pictures.flip(-1))
    return [picture.roll((y, x), (2, 3)) for picture in both for y in offsets for x in offsets]
