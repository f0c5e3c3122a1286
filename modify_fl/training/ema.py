"""Exponential moving average of weights (M-29)."""

import torch
from torch import nn

__all__ = ["ema_decay", "update_ema"]


def ema_decay(step: int, *, batch: int, half_life: int) -> float:
    """Return beta after ``step`` steps (M-29).

    Args:
        step: Steps taken so far, from 0.
        batch: Images per step.
        half_life: Images after which a weight counts half.

    Returns:
        min(0.5^(batch / half_life), (1 + step) / (10 + step)): early weights,
        which are noise, are forgotten sooner.
    """
    steady: float = 0.5 ** (batch / half_life)
    return min(steady, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(average: nn.Module, current: nn.Module, beta: float) -> None:
    """Move every parameter of ``average`` towards ``current`` by 1 - beta; copy buffers.

    Args:
        average: Network that holds the average; changed in place.
        current: Network of the same structure.
        beta: Share of the old average that stays, 0 to 1; 0 copies exactly.
    """
    for old, new in zip(average.parameters(), current.parameters(), strict=True):
        if beta == 0:
            old.copy_(new)
        else:
            old.lerp_(new, 1 - beta)
    for kept, new_buffer in zip(average.buffers(), current.buffers(), strict=True):
        kept.copy_(new_buffer)
