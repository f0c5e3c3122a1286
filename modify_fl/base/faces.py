"""People whom nobody has met: faces that a base draws from the moments of its codes (ADR 7).

Codes of photos are close to a Gaussian; a draw from it, decoded, is a face that
is nobody's. Stage 1 paints these faces, so that D and M learn to paint photos
before they ever see one, and a provider needs none.

Letters: N codes, n rows, W width, r rank, R resolution.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.networks.synthesis import Generator
from modify_fl.streams import generator

__all__ = ["RANK", "FaceCodes"]

RANK = 128
"""r: directions kept; of the first base they hold 97 % of the variance."""

_SPREAD = 0.9
_BATCH = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCodes:
    """Mean and main directions of the codes of many photos."""

    mean: Tensor
    """float32 [n, W]."""
    factor: Tensor
    """Directions, each as long as the codes' standard deviation along it, float32 [r, n, W]."""

    @classmethod
    def measure(cls, codes: Tensor) -> Self:
        """Return the moments of codes; directions that so few codes cannot show are 0.

        Args:
            codes: E(x) of photos, float32 [N, n, W], N at least 2.

        Raises:
            ShapeError: There are fewer than two.
        """
        if codes.ndim != 3 or len(codes) < 2:
            raise ShapeError("moments need codes", expected="[N, n, W], N at least 2", got=str(list(codes.shape)))
        mean = codes.mean(0)
        _, lengths, directions = torch.linalg.svd((codes - mean).flatten(1), full_matrices=False)
        found = lengths[:RANK, None] / (len(codes) - 1) ** 0.5 * directions[:RANK]  # [at most r, n W]
        factor = torch.zeros(RANK, found.shape[1])
        factor[: len(found)] = found
        return cls(mean=mean, factor=factor.view(RANK, *mean.shape))

    def draw(self, count: int, seed: int) -> Tensor:
        """Return codes of ``count`` people, float32 [count, n, W]; a little closer to the mean than real ones."""
        z = torch.randn(count, len(self.factor), generator=generator(seed, "faces"))
        return self.mean + torch.einsum("nr,rij->nij", z * _SPREAD, self.factor)

    @torch.no_grad()
    def paint(self, decoder: Generator, count: int, seed: int) -> Tensor:
        """Return faces as the base shows them.

        Args:
            decoder: D of the base, on the CPU.
            count: How many.
            seed: Of the draws.

        Returns:
            uint8 [count, 3, R, R].
        """
        codes = self.draw(count, seed)
        pictures = [decoder(codes[at : at + _BATCH]) for at in range(0, count, _BATCH)]
        return torch.cat(pictures).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
