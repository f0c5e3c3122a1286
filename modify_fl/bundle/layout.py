"""Which networks, and which tensors of each, a style bundle holds (P-6, M-20)."""

import torch
from torch import nn

from modify_fl.config import NetworkConfig
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.encoder import fold_gains
from modify_fl.networks.model import StyleModel

__all__ = ["ARCHITECTURE", "CRITIC", "NETWORKS", "Table", "first_difference", "tables"]

ARCHITECTURE = "modify-stylegan2-fpn/1"
"""The one architecture this package builds."""

CRITIC = "discriminator"
"""The network that need not go along (P-82)."""

NETWORKS = ("encoder", "generator", "offset", "remapping")
"""The networks of every style bundle, as ``StyleModel`` names them; one weight file each."""

Table = dict[str, tuple[int, ...]]
"""Name to shape of each tensor of one network."""


def tables(network: NetworkConfig, *, with_critic: bool) -> dict[str, Table]:
    """Return the tensor table of each network of a configuration; nothing is allocated."""
    with torch.device("meta"):
        model = StyleModel(network)
        fold_gains(model.encoder)  # the paper's encoder has fewer tensors once folded (M-20)
        parts: dict[str, nn.Module] = {name: getattr(model, name) for name in NETWORKS}
        if with_critic:
            parts[CRITIC] = Discriminator(network)
    return {name: {k: tuple(v.shape) for k, v in part.state_dict().items()} for name, part in parts.items()}


def first_difference(got: Table, expected: Table) -> str | None:
    """Return the first tensor by name that one of two tables lacks or shapes differently."""
    return min((name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name)), default=None)
