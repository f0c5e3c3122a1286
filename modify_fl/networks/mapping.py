"""Mapping network of StyleGAN2: noise becomes one style vector.

The method trains without it; it serves to read checkpoints whose average code
has to be computed (M-22).

Letters: N batch, Z width of the noise, W width of a style vector.
"""

import torch
from torch import Tensor, nn

from modify_fl import streams
from modify_fl.errors import ConfigError
from modify_fl.networks.layers import EqualLinear
from modify_fl.ops import pixel_norm

__all__ = ["MappingNetwork"]

_LR_MUL = 0.01


class MappingNetwork(nn.Module):
    """PixelNorm and a cascade of equalised layers, every one activated."""

    def __init__(self, w_dim: int = 512, layers: int = 8) -> None:
        """Draw the weights.

        Args:
            w_dim: W, which is also Z.
            layers: Number of fully connected layers, at least 1.

        Raises:
            ConfigError: There is no layer.
        """
        super().__init__()
        if layers < 1:
            raise ConfigError(f"a mapping network needs one layer or more, got {layers}")
        self.layers = nn.Sequential(*(EqualLinear(w_dim, w_dim, lr_mul=_LR_MUL, activate=True) for _ in range(layers)))
        self.w_dim = w_dim

    def forward(self, z: Tensor) -> Tensor:
        """Map noise, float32 [N, Z], to style vectors, float32 [N, W]."""
        w: Tensor = self.layers(pixel_norm(z))
        return w

    def average(self, count: int = 10_000, *, seed: int = 0) -> Tensor:
        """Return the mean style vector over fixed noise (M-22).

        Args:
            count: Number of draws.
            seed: Of the noise.

        Returns:
            float32 [W], without gradient.
        """
        z = torch.randn(count, self.w_dim, generator=streams.generator(seed, "w-average"))
        with torch.no_grad():
            w: Tensor = self(z.to(next(self.parameters())))
        return w.mean(0)
