"""A style without a bundle, for tests that start a process of their own."""

from typing import cast

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import CriticConfig, NetworkConfig
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel


class _Bare:
    """What stage 2 reads of a style."""

    def __init__(self, network: NetworkConfig) -> None:
        self.network, self.digest, self.critic = network, "0" * 64, CriticConfig(penalty_every=2)
        self.model, self.discriminator = StyleModel.build(network, 1), build_discriminator(network, 1)


def bare_style(network: NetworkConfig) -> LoadedStyle:
    """Return networks as the seed draws them in place of a verified style."""
    return cast("LoadedStyle", _Bare(network))
