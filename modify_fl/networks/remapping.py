"""Remapping network M: noise becomes the style rows of a code (M-21).

PixelNorm, ``remap_layers`` equalised layers with leaky ReLU, and one linear
layer more: an activated last layer would push every output to one side. The
offset starts at 0 here; whoever has an average code sets it to ``w_avg[k:]``
(M-17).

Letters: N batch, Z width of the noise, xi style rows, W width of a row.
"""

import itertools

import torch
from torch import Tensor, nn

from modify_fl.config import NetworkConfig
from modify_fl.errors import ShapeError
from modify_fl.networks.layers import EqualLinear
from modify_fl.ops import float32_region, pixel_norm, widen

__all__ = ["Remapping"]

_FLAT = 1e-4
"""Features whose spread is below this share of the largest are not blown up by whitening."""


class Remapping(nn.Module):
    """The multi-layer perceptron M."""

    def __init__(self, config: NetworkConfig) -> None:
        """Draw weights from torch's current random state."""
        super().__init__()
        self.z_dim, self._rows = config.z_dim, (config.style_rows, config.w_dim)
        widths = [config.z_dim, *(config.remap_width for _ in range(config.remap_layers))]
        self.layers = nn.Sequential(
            *(
                EqualLinear(inputs, outputs, lr_mul=config.remap_lr_mul, activate=True)
                for inputs, outputs in itertools.pairwise(widths)
            )
        )
        self.last = EqualLinear(widths[-1], config.style_rows * config.w_dim, lr_mul=config.remap_lr_mul)
        self.offset = nn.Parameter(torch.zeros(self._rows))

    def forward(self, z: Tensor) -> Tensor:
        """Return w_z = M(z).

        Args:
            z: Standard normal noise, float32 [N, Z].

        Returns:
            Style rows, float32 [N, xi, W], offset included.

        Raises:
            ShapeError: ``z`` is not [N, Z].
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ShapeError(f"expected noise [N, {self.z_dim}], got {tuple(z.shape)}")
        with float32_region(z):
            z = pixel_norm(widen(z))
        rows: Tensor = self.last(self.layers(z))  # [N, xi W]
        return widen(rows).reshape(-1, *self._rows) + self.offset  # [N, xi, W]

    @torch.no_grad()
    def match(self, z: Tensor, rows: Tensor) -> None:
        """Set the last layer and the offset so that M(z) has mean and covariance of ``rows`` (ADR 5).

        The features before the last layer are whitened over ``z`` and sent to the
        principal directions of ``rows``, the strongest first; where ``rows`` vary
        in more directions than there are features, the weakest are left out.

        Args:
            z: Standard normal noise, float32 [K, Z], K well above the width of M.
            rows: Style rows of the style set, float32 [N, xi, W].
        """
        target = rows.flatten(1)  # [N, xi W]
        centre = target.mean(0)
        _, strength, directions = torch.linalg.svd(target - centre, full_matrices=False)  # [r], [r, xi W]
        features = self.layers(pixel_norm(z))  # [K, H]
        middle = features.mean(0)
        _, scale, axes = torch.linalg.svd(features - middle, full_matrices=False)  # [H], [H, H]
        count = min(len(scale), len(strength), max(0, len(target) - 1))
        white = axes[:count] * ((len(z) - 1) ** 0.5 / scale[:count].clamp_min(_FLAT * scale[0]))[:, None]  # [r', H]
        spread = strength[:count] / max(1, len(target) - 1) ** 0.5  # [r']
        weight = directions[:count].T @ (spread[:, None] * white)  # [xi W, H]
        self.last.assign(weight, -(weight @ middle))
        self.offset.copy_(centre.reshape(self._rows))
