"""The networks behind the loss of DP-SGD, and the two properties they must have (P-22, P-24).

A network in training mode, with batch normalisation say, lets photos reach each
other's gradients: one photo then moved the sum by 2.43 C instead of C.
"""

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn

from modify_fl.errors import ConfigError

__all__ = ["LossNets"]


class LossNets(nn.Module, ABC):
    """Everything that the loss computes with besides E': frozen, in evaluation mode, and staying so (P-24)."""

    @abstractmethod
    def forward(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        """Return one loss per picture, float32 [B]; the loss of a picture depends on no other picture (P-22).

        Args:
            photos: x, float32 [B, 3, R, R] in [-1, 1].
            codes: E'(x), float32 [B, n, W]; the only way from E' into the loss (P-14).
            step: Training step, public; names the draws of public randomness.
        """

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - torch's signature
        """Stay in evaluation mode whatever is asked (P-24)."""
        return super().train(mode=False)

    def require_frozen(self) -> None:
        """Refuse networks that could learn from photos, or let them see each other.

        Raises:
            ConfigError: A parameter asks for a gradient, or a module is in training mode (P-24).
        """
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                raise ConfigError(
                    f"the loss network {name.partition('.')[0]} is trainable",
                    why=f"{name} would learn from private photos and carry them into others' gradients (P-21, P-24)",
                    fix="freeze it: with privacy, nothing but the encoder is trained on photos",
                )
        for name, module in self.named_modules():
            if module.training:
                raise ConfigError(
                    f"the loss network {name or 'as a whole'} is in training mode",
                    why="statistics of the batch would let one photo change the gradients of others (P-24)",
                    fix="call eval() on it",
                )
