"""The discriminator's side of equations 2, 5 and 7, for both stages (M-6, M-7)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from modify_fl import losses
from modify_fl.augment import augment, draw_augmentation
from modify_fl.config import Adversary as Kind
from modify_fl.config import CriticConfig
from modify_fl.networks.discriminator import Discriminator
from modify_fl.streams import generator
from modify_fl.training.runtime import Compute

__all__ = ["Adversary"]


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """A discriminator, how it is trained and what the generator side sees of it."""

    discriminator: Discriminator
    """Dis."""
    optimizer: Optimizer
    """Adam over Dis alone."""
    config: CriticConfig
    """Form of the loss, penalty, augmentation."""
    seed: int
    """The run's seed."""
    compute: Compute
    """Device and precision."""

    def generator_loss(self, fake: Tensor, step: int) -> Tensor:
        """Return -Dis(fake) in the form of M-7, float32 [B].

        Args:
            fake: Generated images with gradient, float32 [B, 3, R, R].
            step: Training step; names the augmentation draws.
        """
        with self.compute.autocast():
            score = self._view("augment-generator", step, len(fake))(fake)
        return losses.adversarial_generator(score, self.config.adversary)

    def train_step(self, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """Take one optimiser step of Dis with weight 1 (M-6) and, when due, its penalty.

        Args:
            real: Real images, float32 [B, 3, R, R].
            fake: Generated images, same shape; their gradient is cut.
            step: Training step; names the draws.

        Returns:
            Figures for the report: ``dis``, ``dis_real``, ``dis_fake``,
            ``dis_right`` (share of pictures told right) and, when due,
            ``penalty``; each float32 [].
        """
        fake = fake.detach()
        see_real, see_fake = (self._view(f"augment-{side}", step, len(real)) for side in ("real", "fake"))
        with self.compute.autocast():
            good, bad = see_real(real), see_fake(fake)
        loss = losses.adversarial_discriminator(good, bad, self.config.adversary).mean()
        figures = {"dis": loss, "dis_real": good.float().mean(), "dis_fake": bad.float().mean()}
        figures["dis_right"] = _share_right(good.detach().float(), bad.detach().float(), self.config.adversary)
        if step % self.config.penalty_every == 0:
            figures["penalty"] = self._penalty(real, fake, step, see_real)
            loss = loss + figures["penalty"]
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if loss.isfinite():  # a broken step is skipped (M-53)
            self.optimizer.step()
        return {name: value.detach() for name, value in figures.items()}

    def _penalty(self, real: Tensor, fake: Tensor, step: int, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the weighted penalty, float32 []; no autocast here (M-7)."""
        if self.config.adversary == "wgan-lp":
            mix = torch.rand(len(real), generator=generator(self.seed, "mix", step)).to(real)
            return self.config.penalty * losses.lipschitz_penalty(score, real, fake, mix).mean()
        return self.config.penalty_every * self.config.penalty * losses.r1_penalty(score, real).mean()

    def _view(self, stream: str, step: int, batch: int) -> Callable[[Tensor], Tensor]:
        """Return Dis behind one fixed augmentation."""
        if not self.config.augment:
            return self.discriminator
        draws = draw_augmentation(batch, generator(self.seed, stream, step))
        return lambda images: self.discriminator(augment(images, draws))


def _share_right(good: Tensor, bad: Tensor, kind: Kind) -> Tensor:
    """Return the share of pictures on their own side of the border, float32 [] (M-54).

    The border is 0 for logistic losses and the middle of both means for a critic
    whose scores have no zero.
    """
    border = (good.mean() + bad.mean()) / 2 if kind == "wgan-lp" else torch.zeros_like(good.mean())
    return ((good > border).float().mean() + (bad < border).float().mean()) / 2
