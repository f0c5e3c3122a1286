"""Which style a picture gets, and how strongly (M-25, M-26).

A choice is one style: drawn from a seed, between two seeds, mixed from two, or
taken from a picture that the user owns. Each knows its style rows and the mark
that stands for it in file names.

Letters: xi style rows, W width of a row, R resolution.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.errors import ConfigError
from modify_fl.faces.decode import fit_square
from modify_fl.networks.model import StyleModel, truncate
from modify_fl.streams import generator

__all__ = [
    "Between",
    "Controls",
    "Mixed",
    "Reference",
    "Seeded",
    "StyleChoice",
    "between",
    "draw_noise",
    "draw_rows",
    "from_pixels",
    "seeded",
]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """How a style is applied; the same for all pictures of a run."""

    xi: int | None = None
    """Rows that the style takes, 0 to the trained number, which is used unless set (M-25)."""
    strength: float = 1.0
    """Share of the style in these rows, 0 to 1 (M-26)."""
    width: int = 0
    """Rows over which the cut is blended; 0 is a hard cut."""
    truncation: float = 1.0
    """psi: 1 keeps M(z), 0 gives M's offset, which all seeds share (M-26)."""
    preserve_color: bool = False
    """Give the painted face the colours of the photo: mean and spread of L*, a*, b* (U-9)."""

    def __post_init__(self) -> None:
        """Check what needs no style."""
        for name in ("strength", "truncation"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {value:g}")
        if self.width < 0:
            raise ConfigError(f"the width of the blend must not be negative, got {self.width}")

    def check(self, trained: int) -> None:
        """Refuse more rows than a style was trained for.

        Args:
            trained: xi of the style.

        Raises:
            ConfigError: ``xi`` is negative or larger.
        """
        if self.xi is not None and not 0 <= self.xi <= trained:
            raise ConfigError(
                f"this style was trained for at most {trained} rows (M-25)", expected=f"0 to {trained}",
                got=str(self.xi), fix=f"choose an xi of {trained} or less",
            )  # fmt: skip


class StyleChoice(ABC):
    """One style."""

    @property
    @abstractmethod
    def mark(self) -> str:
        """What stands for it in file names, such as ``s7``."""

    @property
    def identity(self) -> str:
        """What tells it from every other style; the mark where that is enough."""
        return self.mark

    @abstractmethod
    def rows(self, model: StyleModel, truncation: float = 1.0) -> Tensor:
        """Return its style rows, float32 [1, xi, W].

        Args:
            model: Networks of the style.
            truncation: psi of M-26.
        """


@dataclass(frozen=True)
class Seeded(StyleChoice):
    """M(z) with z drawn from a seed: the same number is the same style for every photo."""

    seed: int
    """Names the style, 0 or more."""

    @property
    def mark(self) -> str:
        """``s7``."""
        return f"s{self.seed}"

    def rows(self, model: StyleModel, truncation: float = 1.0) -> Tensor:
        """See ``StyleChoice``."""
        return draw_rows(model, self.seed, truncation)


@dataclass(frozen=True)
class Between(StyleChoice):
    """A point on the way from one drawn style to another, straight in the space of M(z)."""

    first: int
    """Seed at share 0."""
    second: int
    """Seed at share 1."""
    share: float
    """Place on the way, 0 to 1."""

    @property
    def mark(self) -> str:
        """``s3to7-50``, the share in percent."""
        return f"s{self.first}to{self.second}-{100 * self.share:03.0f}"

    def rows(self, model: StyleModel, truncation: float = 1.0) -> Tensor:
        """See ``StyleChoice``."""
        first, second = (draw_rows(model, seed, truncation) for seed in (self.first, self.second))
        return torch.lerp(first, second, self.share)


@dataclass(frozen=True)
class Mixed(StyleChoice):
    """The coarse rows of one drawn style and the fine rows of another (style mixing)."""

    coarse: int
    """Seed of the first rows."""
    fine: int
    """Seed of the others."""
    count: int | None = None
    """Rows of the first; half of them unless set."""

    @property
    def mark(self) -> str:
        """``s3x7``, with the number of rows where it was chosen."""
        return f"s{self.coarse}x{self.fine}" + ("" if self.count is None else f"-{self.count}")

    def rows(self, model: StyleModel, truncation: float = 1.0) -> Tensor:
        """See ``StyleChoice``.

        Raises:
            ConfigError: The style has fewer rows than ``count``.
        """
        coarse, fine = (draw_rows(model, seed, truncation) for seed in (self.coarse, self.fine))
        total = coarse.shape[1]
        count = total // 2 if self.count is None else self.count
        if not 0 <= count <= total:
            raise ConfigError(f"a style has {total} rows to mix", expected=f"0 to {total}", got=str(count))
        return torch.cat([coarse[:, :count], fine[:, count:]], 1)


@dataclass(frozen=True, eq=False)
class Reference(StyleChoice):
    """The style rows of a picture that the user owns, E(reference)[:, k:] (M-26)."""

    name: str
    """What stands for it in file names."""
    face: NDArray[np.uint8]
    """The aligned picture, uint8 [S, S, 3]; of any size, brought to that of the style."""

    @property
    def mark(self) -> str:
        """``r`` and the name."""
        return f"r-{self.name}"

    @property
    def identity(self) -> str:
        """The mark and a digest of the pixels."""
        return f"{self.mark} {hashlib.sha256(self.face.tobytes()).hexdigest()}"

    @torch.no_grad()
    def rows(self, model: StyleModel, truncation: float = 1.0) -> Tensor:
        """See ``StyleChoice``; encoded by the style's own E, not by an adapted one."""
        picture = from_pixels(fit_square(self.face, model.resolution)[None])  # [1, 3, R, R]
        rows = model.encode(picture)[:, model.split :]
        return truncate(rows, model.remapping.offset, truncation)


@torch.no_grad()
def draw_rows(model: StyleModel, seed: int, truncation: float = 1.0) -> Tensor:
    """Return M(z) for the style number ``seed``, float32 [1, xi, W].

    Args:
        model: Networks of the style.
        seed: Names the style.
        truncation: psi; 1 keeps M(z), 0 gives M's offset.
    """
    return truncate(model.remap(draw_noise(model, seed)), model.remapping.offset, truncation)


def draw_noise(model: StyleModel, seed: int) -> Tensor:
    """Return z of the style number ``seed``, float32 [1, Z], standard normal."""
    return torch.randn(1, model.remapping.z_dim, generator=generator(seed, "style"))


def from_pixels(pixels: NDArray[np.uint8]) -> Tensor:
    """Turn pixels, uint8 [B, R, R, 3], into pictures of the network, float32 [B, 3, R, R] in [-1, 1] (M-1)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def seeded(seeds: Sequence[int]) -> tuple[Seeded, ...]:
    """Return the drawn styles of these numbers."""
    return tuple(Seeded(seed) for seed in seeds)


def between(first: int, second: int, count: int) -> tuple[Between, ...]:
    """Return ``count`` styles on the way from one seed to another, both ends included.

    Raises:
        ConfigError: ``count`` is below 2.
    """
    if count < 2:
        raise ConfigError("a way between two styles needs two pictures or more", got=str(count), fix="set --styles 5")
    return tuple(Between(first, second, step / (count - 1)) for step in range(count))
