"""Whom stage 1 paints besides the style pictures themselves (ADR 7).

The last pictures of every batch lend their style rows to guests: people whom the
base drew, else the other pictures of the batch.

Letters: B global batch, R resolution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modify_fl.augment import flip
from modify_fl.config import NetworkConfig
from modify_fl.streams import generator

__all__ = ["Guests"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Guests:
    """Faces to paint, how many of a batch, and where codes are cut; all drawn from the seed."""

    people: Tensor | None
    """Faces that are nobody's, uint8 [N, 3, R, R] on the CPU; none where nothing draws them."""
    batch: int
    """B."""
    share: float
    """Part of the batch that lends its style, 0 to 1."""
    spread: int
    """The cut lies at most so many rows from that of the network."""
    network: NetworkConfig
    """Sizes."""
    seed: int
    """The run's seed."""

    def invite(self, pictures: Tensor, step: int) -> Tensor:
        """Return a guest for each picture: drawn people, else the picture before.

        Args:
            pictures: The global batch, float32 [B, 3, R, R] on the CPU.
            step: Training step; names the draws.

        Returns:
            Same shape.
        """
        if self.people is None:
            return pictures.roll(1, 0)
        draws = generator(self.seed, "guests", step)
        chosen = torch.randint(len(self.people), (len(pictures),), generator=draws)
        return flip(self.people[chosen].float().div(127.5).sub(1), draws)

    def mixed(self, pictures: Tensor, step: int) -> Tensor:
        """Return the batch with drawn people in the places that lend their style; unchanged without any."""
        if self.people is None:
            return pictures
        kept = self.batch - round(self.share * self.batch)
        return torch.cat([pictures[:kept], self.invite(pictures, step)[kept:]])

    def count(self, part: slice) -> int:
        """Return how many pictures of a portion of the batch lend their style: its last ones."""
        first = self.batch - round(self.share * self.batch)
        return max(0, int(part.stop) - max(int(part.start), first))

    def cut(self, step: int) -> int:
        """Return the first style row of this step, between 1 and n - 1."""
        draw = torch.randint(2 * self.spread + 1, (), generator=generator(self.seed, "mix-cut", step))
        return min(max(self.network.split - self.spread + int(draw), 1), self.network.n_styles - 1)
