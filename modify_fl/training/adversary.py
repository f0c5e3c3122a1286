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
from modify_fl.training.portions import Portions
from modify_fl.training.runtime import Compute

__all__ = ["Adversary"]


@dataclass(kw_only=True)
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
    portions: Portions
    """How the batch is cut; every draw is made for the whole batch, so that cutting changes none."""

    def generator_loss(self, fake: Tensor, step: int, part: slice) -> Tensor:
        """Return -Dis(fake) in the form of M-7, float32 [b].

        Args:
            fake: Generated images with gradient, float32 [b, 3, R, R].
            step: Training step; names the augmentation draws.
            part: Their place in the global batch.
        """
        with self.compute.autocast():
            score = self._view("augment-generator", step, part)(fake)
        return losses.adversarial_generator(score, self.config.adversary)

    def train_step(self, real: Callable[[slice], Tensor], fake: Tensor, step: int) -> dict[str, Tensor]:
        """Take one optimiser step of Dis with weight 1 (M-6) and, when due, its penalty.

        Args:
            real: Returns the real images of a portion of the global batch, float32 [b, 3, R, R].
            fake: Generated images, this process's share of the batch, float32 [B / processes, 3, R, R];
                their gradient is cut.
            step: Training step; names the draws.

        Returns:
            Figures for the report: ``dis``, ``dis_real``, ``dis_fake``,
            ``dis_right`` (share of pictures told right) and, when due,
            ``penalty``; each float32 [].
        """
        fake, ranks = fake.detach(), self.portions.ranks

        def work(part: slice) -> tuple[dict[str, Tensor], Tensor, Tensor]:
            return self._train_part(real(part), fake[self.portions.inside(part)], step, part)

        done = self.portions.each(work, begin=self.optimizer.zero_grad)
        figures = self.portions.mean([found for found, _, _ in done])
        good = ranks.gather(self.portions.join([scores for _, scores, _ in done]))
        bad = ranks.gather(self.portions.join([scores for _, _, scores in done]))
        figures["dis_right"] = _share_right(good, bad, self.config.adversary)
        ranks.add([p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None])
        if (figures["dis"] + figures.get("penalty", 0.0)).isfinite():  # a broken step is skipped (M-53)
            self.optimizer.step()
        return figures

    def _train_part(
        self, real: Tensor, fake: Tensor, step: int, part: slice
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Add the gradients of one portion; return its figures and both scores, float32 [b, 1]."""
        see_real, see_fake = (self._view(f"augment-{side}", step, part) for side in ("real", "fake"))
        with self.compute.autocast():
            good, bad = see_real(real), see_fake(fake)
        loss = losses.adversarial_discriminator(good, bad, self.config.adversary).mean()
        figures = {"dis": loss, "dis_real": good.float().mean(), "dis_fake": bad.float().mean()}
        if step % self.config.penalty_every == 0:
            figures["penalty"] = self._penalty(real, fake, see_real, step, part)
            loss = loss + figures["penalty"]
        (loss * self.portions.weight(part)).backward()  # type: ignore[no-untyped-call]
        found = {name: value.detach() for name, value in figures.items()}
        return found, good.detach().float(), bad.detach().float()

    def _penalty(self, real: Tensor, fake: Tensor, score: Callable[[Tensor], Tensor], step: int, part: slice) -> Tensor:
        """Return the weighted penalty, float32 []; no autocast here (M-7)."""
        if self.config.adversary == "wgan-lp":
            mix = torch.rand(self.portions.batch, generator=generator(self.seed, "mix", step))[part].to(real)
            return self.config.penalty * losses.lipschitz_penalty(score, real, fake, mix).mean()
        return self.config.penalty_every * self.config.penalty * losses.r1_penalty(score, real).mean()

    def _view(self, stream: str, step: int, part: slice) -> Callable[[Tensor], Tensor]:
        """Return Dis behind one fixed augmentation, as drawn for this portion of the global batch."""
        if not self.config.augment:
            return self.discriminator
        draws = draw_augmentation(self.portions.batch, generator(self.seed, stream, step)).at(part)
        return lambda images: self.discriminator(augment(images, draws))


def _share_right(good: Tensor, bad: Tensor, kind: Kind) -> Tensor:
    """Return the share of pictures on their own side of the border, float32 [] (M-54).

    The border is 0 for logistic losses and the middle of both means for a critic
    whose scores have no zero.
    """
    border = (good.mean() + bad.mean()) / 2 if kind == "wgan-lp" else torch.zeros_like(good.mean())
    return ((good > border).float().mean() + (bad < border).float().mean()) / 2
