"""Who paints the held-out photos of a reproduction: a style, a style for each photo, the baseline.

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.baselines.stargan import PAINTING, StarGan
from modify_fl.data import to_uint8
from modify_fl.streams import generator
from modify_fl.style import Style, own_styles
from style_provider.reproduction.task import Reproduction

__all__ = ["Painter", "PhotoPainter", "StarGanPainter", "StylePainter"]

Pixels = NDArray[np.uint8]


class Painter(ABC):
    """Paints held-out photos; one row of a table."""

    @abstractmethod
    def painted(self, indices: Sequence[int]) -> Pixels:
        """Return photos in all styles, uint8 [B, S, R, R, 3]."""

    def plain(self, indices: Sequence[int]) -> Pixels | None:  # noqa: ARG002 - for those who can
        """Return D(E'(x)), the pictures without M, uint8 [B, R, R, 3]; nothing where there is no such thing."""
        return None


@dataclass(frozen=True, kw_only=True)
class StylePainter(Painter):
    """A style, with its own E or with an adapted E'."""

    task: Reproduction
    """Photos and styles."""
    style: Style
    """What paints."""
    xi: int | None = None
    """Rows that the style takes; as trained if none (M-25)."""

    def painted(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        photos = self.task.material.held_out.batch(indices)
        seeds = [own_styles(index, self.task.styles) for index in indices]
        return to_uint8(self.style.paint_each(photos, seeds=seeds, xi=self.xi))

    def plain(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        return to_uint8(self.style.reconstruct(self.task.material.held_out.batch(indices)))


@dataclass(frozen=True, kw_only=True)
class PhotoPainter(Painter):
    """A style whose encoder is adapted to each photo anew (M-35); the pictures of each photo are a unit."""

    photo: Callable[[int], Mapping[str, Tensor]]
    """Gives ``painted`` and ``plain`` of the photo of that number, uint8 [S, R, R, 3] and [R, R, 3]."""

    def painted(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        return np.stack([self.photo(index)["painted"].numpy() for index in indices])

    def plain(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        return np.stack([self.photo(index)["plain"].numpy() for index in indices])


@dataclass(frozen=True, kw_only=True)
class StarGanPainter(Painter):
    """The baseline; a style number is the same noise whatever the photo."""

    task: Reproduction
    """Photos and styles."""
    net: StarGan
    """Averaged networks."""

    @torch.no_grad()
    def painted(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        photos = self.task.material.held_out.batch(indices)
        target = torch.full((len(photos),), PAINTING)
        rows = []
        for column in zip(*(own_styles(index, self.task.styles) for index in indices), strict=True):
            z = [torch.randn(1, self.net.sizes.z_dim, generator=generator(number, "style")) for number in column]
            rows.append(self.net(photos, self.net.draw(torch.cat(z), target)))
        return to_uint8(torch.stack(rows, 1))  # [B, S, R, R, 3]
