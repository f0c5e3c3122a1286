"""Low-rank updates of the encoder's linear layers (M-38).

Every ``nn.Linear`` of E becomes x -> W x + B A x. A is fixed and follows from
the bundle's digest, so all clients of one bundle share it and averaging their B
is exact; B starts at 0, so that E' starts as E to the last bit, and is the only
trained part. What leaves is the merged weight W + B A: an ordinary tensor of the
encoder, which readers check and load without knowing about ranks.

Letters: N batch, I and O columns in and out, r rank.
"""

import torch
from torch import Tensor, nn

from modify_fl.streams import generator

__all__ = ["LORA_RANK", "LoraLinear", "add_lora", "merge_lora"]

LORA_RANK = 8
"""Rank of every update."""


class LoraLinear(nn.Module):
    """A fixed linear layer with a trainable update of low rank; plain layers inside, so hooks see each (M-19)."""

    def __init__(self, base: nn.Linear, draws: torch.Generator, rank: int = LORA_RANK) -> None:
        """Wrap ``base``, which stays the same object.

        Args:
            base: W and its bias; frozen from now on.
            draws: Gives A, float32 [r, I]. Its entries have variance 1 / r: a
                step of Adam then moves an entry of B A about as far as one of W
                would move, and one learning rate serves all subsets.
            rank: r.
        """
        super().__init__()
        like = base.weight
        self.base = base.requires_grad_(requires_grad=False)
        self.down = nn.Linear(base.in_features, rank, bias=False, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            self.down.weight.copy_(torch.randn(rank, base.in_features, generator=draws) / rank**0.5)
            self.up.weight.zero_()
        self.down.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I] to [N, O]."""
        y: Tensor = self.base(x) + self.up(self.down(x))
        return y

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain layer that computes the same, its weight W + B A rounded once."""
        plain = nn.Linear(
            self.base.in_features, self.base.out_features, bias=self.base.bias is not None,
            device=self.base.weight.device, dtype=self.base.weight.dtype,
        )  # fmt: skip
        update = self.up.weight.double() @ self.down.weight.double()  # [O, I]
        plain.weight.copy_(self.base.weight.double() + update)
        if self.base.bias is not None:
            plain.bias.copy_(self.base.bias)
        return plain.requires_grad_(requires_grad=False)


def add_lora(encoder: nn.Module, digest: str) -> None:
    """Put a ``LoraLinear`` around every linear layer of ``encoder``; in place.

    Args:
        encoder: E', its gains folded; nothing in it but B will ask for a gradient.
        digest: Payload digest of the bundle, hexadecimal: the seed of A (M-38).
    """
    encoder.requires_grad_(requires_grad=False)
    for name, layer in [(n, m) for n, m in encoder.named_modules() if isinstance(m, nn.Linear)]:
        parent = encoder.get_submodule(name.rpartition(".")[0])
        wrapped = LoraLinear(layer, generator(int(digest, 16), f"lora/{name}")).train(layer.training)
        setattr(parent, name.rpartition(".")[2], wrapped)


def merge_lora(encoder: nn.Module) -> None:
    """Replace every ``LoraLinear`` of ``encoder`` by the plain layer it amounts to; in place."""
    for name, layer in [(n, m) for n, m in encoder.named_modules() if isinstance(m, LoraLinear)]:
        setattr(encoder.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layer.merged())
