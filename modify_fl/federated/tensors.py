"""The tensors that travel, in and out of an encoder (F-16, M-38)."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Subset
from modify_fl.training.subsets import adapter_tensors, open_subset, trainable_names

__all__ = ["Shortened", "first_tensors", "merged_tensors", "put", "shortened", "taken"]

_PREFIX = "encoder."


def taken(encoder: nn.Module) -> dict[str, Tensor]:
    """Return copies of what an encoder trains, by the names under which it travels, float32 on the CPU."""
    return {
        _PREFIX + name: parameter.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, parameter in sorted(encoder.named_parameters())
        if parameter.requires_grad
    }


@torch.no_grad()
def put(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set what an encoder trains; names and shapes were checked."""
    parameters = dict(encoder.named_parameters())
    for name, value in tensors.items():
        parameters[name.removeprefix(_PREFIX)].copy_(value)


def first_tensors(style: LoadedStyle, subset: Subset) -> dict[str, Tensor]:
    """Return the model before the first round: the encoder of the bundle, updates of low rank at 0."""
    return taken(_opened(style, subset))


def merged_tensors(style: LoadedStyle, subset: Subset, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what an adapter holds of ``tensors``: tensors of the bundle's encoder by their short names."""
    encoder = _opened(style, subset)
    put(encoder, tensors)
    return adapter_tensors(encoder, trainable_names(style.model.encoder, subset))


def _opened(style: LoadedStyle, subset: Subset) -> nn.Module:
    encoder = copy.deepcopy(style.model.encoder)
    open_subset(encoder, subset, style.digest)
    return encoder


@dataclass(frozen=True, kw_only=True)
class Shortened:
    """An update that is no longer than a bound."""

    tensors: Mapping[str, Tensor]
    """Start plus update, float32."""
    norm: float
    """Euclidean norm of the update as it was."""
    kept: float
    """The same after it was shortened."""


def shortened(tensors: Mapping[str, Tensor], start: Mapping[str, Tensor], bound: float) -> Shortened:
    """Scale an update down to a bound (F-19).

    Args:
        tensors: Start plus update; finite.
        start: Where the update started, same names and shapes.
        bound: Largest Euclidean norm over all tensors together.

    Returns:
        The tensors themselves where the update is within the bound.
    """
    updates = {name: value.double() - start[name].double() for name, value in tensors.items()}
    norm = float(torch.stack([update.square().sum() for update in updates.values()]).sum().sqrt())
    if norm <= bound:
        return Shortened(tensors=tensors, norm=norm, kept=norm)
    scaled = {name: (start[name].double() + update * (bound / norm)).float() for name, update in updates.items()}
    return Shortened(tensors=scaled, norm=norm, kept=bound)
