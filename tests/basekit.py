"""A tiny base model: random weights, written as an export would write them."""

from pathlib import Path

import torch
from torch import Tensor

from modify_fl.base.card import BaseCard, Source
from modify_fl.base.export import write_base
from modify_fl.base.faces import FaceCodes
from modify_fl.base.start import MODEL_PARTS
from modify_fl.config import CriticConfig, NetworkConfig
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel

TINY_NETWORK = NetworkConfig(
    resolution=32, w_dim=16, z_dim=16, channel_base=256, channel_max=16, enc_base=256, enc_max=16, pyramid=16,
    trunk=16, remap_layers=4, remap_width=16,
)  # fmt: skip
"""What ``programs.TINY`` makes of quick-64."""


def tiny_card(folder: Path, network: NetworkConfig = TINY_NETWORK, *, name: str = "tiny", seen: int = 80) -> BaseCard:
    """Return a record without a digest."""
    return BaseCard(
        name=name, network=network, critic=CriticConfig(), images_seen=seen, images_planned=160, steps=20, seed=3,
        init="scratch", perceptual="lpips-alex", identity="none", weights={"r": 0.8, "id": 0.0}, remapped=False,
        sources=(Source(name="drawn faces", licence="Apache-2.0", held_out=4),), licence="Apache-2.0", folder=folder,
    )  # fmt: skip


def tiny_base(folder: Path, network: NetworkConfig = TINY_NETWORK, *, name: str = "tiny", seed: int = 77) -> BaseCard:
    """Write a base with weights drawn from ``seed`` into ``folder`` and return its record."""
    model, critic = StyleModel.build(network, seed), build_discriminator(network, seed)
    model.offset.w_avg.data.fill_(0.25)  # no draw ever gives that
    states = {part: getattr(model, part).state_dict() for part in MODEL_PARTS}
    states |= {"discriminator": critic.state_dict(), "faces": tiny_faces(network)}
    return write_base(tiny_card(folder, network, name=name), states)


def tiny_faces(network: NetworkConfig = TINY_NETWORK) -> dict[str, Tensor]:
    """Return moments of codes that were drawn, not encoded."""
    codes = torch.randn(40, network.n_styles, network.w_dim, generator=torch.Generator().manual_seed(5))
    faces = FaceCodes.measure(codes)
    return {"mean": faces.mean, "factor": faces.factor}
