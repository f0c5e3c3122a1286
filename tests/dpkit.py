"""A tiny encoder under privacy, its loss, and losses with the defects that DP-SGD must not have (P-60)."""

import copy
from typing import TYPE_CHECKING, cast

import torch
from basekit import TINY_NETWORK
from stylekit import bare_style
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig, Subset
from modify_fl.networks.encoder import fold_gains
from modify_fl.ops import minibatch_std
from modify_fl.privacy.engine import GradientEngine, build_engine
from modify_fl.privacy.loss_nets import LossNets
from modify_fl.privacy.settings import Engine
from modify_fl.training.subsets import open_subset

if TYPE_CHECKING:
    from modify_fl.networks.discriminator import Discriminator

SHAPE = (3, TINY_NETWORK.resolution, TINY_NETWORK.resolution)


class PixelLoss(LossNets):
    """Mean square between x and D(E'(x)), minus 0.01 Dis: the shape of equation 7 without pretrained networks."""

    def __init__(self) -> None:
        super().__init__()
        style = bare_style(TINY_NETWORK)
        self.decoder, self.critic = (
            copy.deepcopy(style.model.generator),
            copy.deepcopy(cast("Discriminator", style.discriminator)),
        )
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        out: Tensor = self.decoder(codes, noise="const")
        return self.distance(photos, out) - 0.01 * self.realism(out)

    def distance(self, photos: Tensor, out: Tensor) -> Tensor:
        return (photos - out).square().flatten(1).mean(1)

    def realism(self, out: Tensor) -> Tensor:
        return self.critic(out)[:, 0]


class TrainingFace(PixelLoss):
    """R with batch normalisation in training mode (P-24): put back there behind the container's back."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.face = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.eval().requires_grad_(requires_grad=False)

    def distance(self, photos: Tensor, out: Tensor) -> Tensor:
        for module in self.face:
            module.training = True
        try:
            return 1 - functional.cosine_similarity(self.face(photos), self.face(out))
        finally:
            for module in self.face:
                module.training = False


class MinibatchStd(PixelLoss):
    """Dis with the minibatch standard deviation (P-22)."""

    def realism(self, out: Tensor) -> Tensor:
        return 100 * minibatch_std(out, len(out))[:, -1].mean((1, 2))


class BatchNorm(PixelLoss):
    """One norm over the whole batch tensor, spread over its pictures (P-22)."""

    def distance(self, photos: Tensor, out: Tensor) -> Tensor:
        return (photos - out).norm().expand(len(photos)) / len(photos)


class Relativistic(PixelLoss):
    """RaGAN: each score relative to the mean of the batch (P-22)."""

    def realism(self, out: Tensor) -> Tensor:
        score = self.critic(out)[:, 0]
        return 100 * functional.logsigmoid(score - score.mean())


class PrivateCritic(PixelLoss):
    """The critic takes a step on the private pictures before it judges them (P-20, P-21)."""

    def realism(self, out: Tensor) -> Tensor:
        critic = copy.deepcopy(self.critic).requires_grad_()
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
        (-critic(out.detach()).mean()).backward()
        optimizer.step()
        return 100 * critic.requires_grad_(requires_grad=False)(out)[:, 0]


COUPLED = (TrainingFace, MinibatchStd, BatchNorm, Relativistic, PrivateCritic)


def encoder(subset: Subset = "all", network: NetworkConfig = TINY_NETWORK) -> nn.Module:
    """Return a folded tiny encoder whose ``subset`` asks for gradients; low-rank factors away from 0."""
    made = copy.deepcopy(bare_style(network).model.encoder)
    fold_gains(made)
    open_subset(made, subset, "ab" * 32)
    if subset == "lora":
        draws = torch.Generator().manual_seed(3)
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(torch.randn(parameter.shape, generator=draws) / 10)
    return made


def engine(
    kind: Engine = "micro", *, subset: Subset = "all", loss: LossNets | None = None, max_grad_norm: float = 1e-2,
    chunk: int = 16,
) -> GradientEngine:  # fmt: skip
    """Return an engine over a tiny encoder; C is small, so that gradients are clipped."""
    return build_engine(kind, encoder(subset), loss or PixelLoss(), max_grad_norm=max_grad_norm, chunk=chunk)


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    """Return ``count`` units of one random picture each, float32 [1, 3, R, R]."""
    drawn = torch.rand(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return list(drawn)
