"""The trainable part of E' in stage 2: heads, low-rank updates, or all of it (M-38)."""

import copy

import torch
from torch import Tensor, nn

from modify_fl.config import NetworkConfig, Subset
from modify_fl.errors import ConfigError
from modify_fl.networks.encoder import build_encoder, fold_gains
from modify_fl.networks.lora import LORA_RANK, add_lora, merge_lora

__all__ = ["adapter_tensors", "count_trainable", "open_subset", "trainable_names"]


def trainable_names(encoder: nn.Module, subset: Subset) -> tuple[str, ...]:
    """Return the names of the encoder's tensors that an adapter of ``subset`` holds, sorted (M-38).

    Args:
        encoder: E, without updates of low rank.
        subset: ``"heads"`` for the per-row heads, ``"lora"`` for the weights of
            all linear layers, which the merged updates change, ``"all"`` for
            every parameter.

    Raises:
        ConfigError: The encoder has no such part.
    """
    if subset == "lora":
        names = [f"{name}.weight" for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    else:
        names = [n for n, _ in encoder.named_parameters() if subset == "all" or n.startswith("heads.")]
    if not names:
        raise ConfigError(f"this encoder has no part called {subset}", fix="use --subset all")
    return tuple(sorted(names))


def open_subset(encoder: nn.Module, subset: Subset, digest: str) -> tuple[str, ...]:
    """Let exactly the parameters of ``subset`` ask for gradients; in place.

    Args:
        encoder: E', a copy of E that belongs to the caller.
        subset: Which part will be trained.
        digest: Payload digest of the bundle, hexadecimal; the seed of the fixed factors.

    Returns:
        What ``trainable_names`` returns.

    Raises:
        ConfigError: The encoder has no such part.
    """
    names = trainable_names(encoder, subset)
    if subset == "lora":
        add_lora(encoder, digest)
        return names
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name in names)
    return names


def adapter_tensors(encoder: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return what an adapter holds: the tensors called ``names``, updates merged, float32 copies on the CPU."""
    merged = copy.deepcopy(encoder)
    merge_lora(merged)
    state = merged.state_dict()
    return {name: state[name].detach().cpu().contiguous().clone() for name in names}


def count_trainable(network: NetworkConfig, subset: Subset) -> int:
    """Return the number of parameters that stage 2 trains (M-38); nothing is allocated.

    Args:
        network: Sizes of the networks.
        subset: Which part would be trained.

    Raises:
        ConfigError: The encoder has no such part.
    """
    with torch.device("meta"):
        encoder = build_encoder(network)
        fold_gains(encoder)
    names = trainable_names(encoder, subset)
    if subset == "lora":
        return sum(LORA_RANK * encoder.get_parameter(name).shape[0] for name in names)
    return sum(encoder.get_parameter(name).numel() for name in names)
