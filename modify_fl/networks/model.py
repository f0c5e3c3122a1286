"""The style model: E, D, M and the offset, and how codes are put together (M-17, M-25, M-26).

Letters: N batch, n rows, k first style row, xi style rows, W width of a row, Z
width of the noise, R resolution.
"""

import math
from typing import Self

import torch
from torch import Tensor, nn

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.encoder import build_encoder
from modify_fl.networks.layers import seeded
from modify_fl.networks.remapping import Remapping
from modify_fl.networks.synthesis import Generator, Noise

__all__ = ["StyleModel", "StyleOffset", "blend_weights", "truncate"]


class StyleOffset(nn.Module):
    """The average code ``w_avg``, a module of its own so that it can be frozen alone (M-17)."""

    def __init__(self, config: NetworkConfig) -> None:
        """Start at 0, [n, W]."""
        super().__init__()
        self.w_avg = nn.Parameter(torch.zeros(config.n_styles, config.w_dim))

    def forward(self, delta: Tensor) -> Tensor:
        """Add the average code to [N, n, W]."""
        return delta + self.w_avg


def blend_weights(n_styles: int, xi: int, *, strength: float = 1.0, width: int = 0) -> Tensor:
    """Return how much of each row comes from the style (M-26).

    Args:
        n_styles: n, rows of a code.
        xi: Rows that the style reaches, counted from the last.
        strength: Largest weight, in [0, 1].
        width: Rows over which the weight rises; 0 is the hard cut.

    Returns:
        float32 [n]: 0 below row n - xi; then for j < width
        strength * (0.5 - 0.5 cos(pi (j + 1) / (width + 1))), then ``strength``.

    Raises:
        ConfigError: ``strength`` is outside [0, 1], or ``width`` is negative.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength must lie between 0 and 1, got {strength}")
    if width < 0:
        raise ConfigError(f"the width of the blend must not be negative, got {width}")
    rise = [0.5 - 0.5 * math.cos(math.pi * (j + 1) / (width + 1)) for j in range(width)]
    rows = [0.0] * (n_styles - xi) + [strength * b for b in [*rise, *[1.0] * n_styles][:xi]]
    return torch.tensor(rows)


def truncate(style_rows: Tensor, mean: Tensor, psi: float) -> Tensor:
    """Shrink M(z) towards its mean (M-26).

    Args:
        style_rows: w_z, [N, xi, W].
        mean: Mean of w_z over z, [xi, W].
        psi: ``truncation_psi`` in [0, 1]; 1 changes nothing, 0 gives the mean.

    Returns:
        [N, xi, W].

    Raises:
        ConfigError: ``psi`` is outside [0, 1].
    """
    if not 0 <= psi <= 1:
        raise ConfigError(f"truncation_psi must lie between 0 and 1, got {psi}")
    return style_rows if psi == 1 else mean + psi * (style_rows - mean)


class StyleModel(nn.Module):
    """What a style bundle carries besides its discriminator."""

    def __init__(self, config: NetworkConfig, *, seed: int = 0) -> None:
        """Draw weights from torch's current random state, and D's fixed noise from ``seed``."""
        super().__init__()
        self.resolution, self.n_styles, self.split = config.resolution, config.n_styles, config.split
        self.generator = Generator(config, seed=seed)
        self.encoder: nn.Module = build_encoder(config)
        self.offset = StyleOffset(config)
        self.remapping = Remapping(config)

    @classmethod
    def build(cls, config: NetworkConfig, seed: int) -> Self:
        """Return a model whose every tensor depends on nothing but the arguments."""
        with seeded(seed, "style-model"):
            return cls(config, seed=seed)

    def encode(self, pictures: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Return E(x), offset included (M-17).

        Args:
            pictures: [N, 3, R, R] in [-1, 1].
            encoder: E' instead of the model's own E.

        Returns:
            Codes, float32 [N, n, W].
        """
        codes: Tensor = self.offset((encoder or self.encoder)(pictures))
        return codes

    def remap(self, z: Tensor) -> Tensor:
        """Return M(z): noise, float32 [N, Z], to style rows, float32 [N, xi, W]."""
        rows: Tensor = self.remapping(z)
        return rows

    def decode(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """Return D(w): codes, float32 [N, n, W], to pictures, float32 [N, 3, R, R], not clamped."""
        pictures: Tensor = self.generator(w_plus, noise=noise)
        return pictures

    def fuse(self, w_plus: Tensor, style_rows: Tensor) -> Tensor:
        """Put the style rows behind the content rows (equation 3, M-8).

        Args:
            w_plus: Codes of E, [N, n, W].
            style_rows: w_z, or style rows of a reference, [N, xi, W].

        Returns:
            {w_l, w_z}, [N, n, W].

        Raises:
            ShapeError: The shapes do not fit this model and each other.
        """
        self._check(w_plus, style_rows)
        return torch.cat([w_plus[:, : self.split], style_rows], 1)  # [N, n, W]

    def blend(
        self, w_plus: Tensor, style_rows: Tensor, *, xi: int | None = None, strength: float = 1.0, width: int = 0
    ) -> Tensor:
        """Mix codes and style rows of the same index (M-25, M-26).

        Args:
            w_plus: Codes of E', [N, n, W].
            style_rows: w_z, [N, xi, W].
            xi: xi', rows that the style reaches: 0 (none) to the model's own xi,
                which is also the default.
            strength: Largest share of the style, in [0, 1].
            width: Rows over which the share rises; 0 is the hard cut, 2 the
                usual soft one with shares 0.25, 0.75, 1.

        Returns:
            [N, n, W]; equal to ``fuse`` for the defaults.

        Raises:
            ConfigError: ``xi`` is negative or above the model's own, or
                ``strength`` or ``width`` is out of range.
            ShapeError: The shapes do not fit this model and each other.
        """
        self._check(w_plus, style_rows)
        trained = self.n_styles - self.split
        xi = trained if xi is None else xi
        if not 0 <= xi <= trained:
            raise ConfigError(
                f"xi must lie between 0 and {trained}, the value this style was trained with, got {xi}",
                fix="a larger xi needs a style that was packaged with it",
            )
        weights = blend_weights(self.n_styles, xi, strength=strength, width=width).to(w_plus)
        share = weights[self.split :, None]  # [xi, 1]
        mixed = (1 - share) * w_plus[:, self.split :] + share * style_rows  # [N, xi, W]
        return torch.cat([w_plus[:, : self.split], mixed], 1)  # [N, n, W]

    def _check(self, w_plus: Tensor, style_rows: Tensor) -> None:
        expected = (len(w_plus), self.n_styles - self.split, w_plus.shape[-1])
        if w_plus.shape[1:-1] != (self.n_styles,) or style_rows.shape != expected:
            raise ShapeError(
                f"expected codes [N, {self.n_styles}, W] and style rows [N, {self.n_styles - self.split}, W],"
                f" got {tuple(w_plus.shape)} and {tuple(style_rows.shape)}"
            )
