"""A second critic, which judges the features of LPIPS's network instead of pixels (ADR 7).

A frozen network that knows pictures is quicker to tell painted from blurred than
one that learns it from a few hundred pictures. The critic lives in stage 1 only:
it never gets into a bundle, and without LPIPS weights there is none.

Source: projected GANs, Sauer et al. 2021; hinge loss and spectral norm, Miyato et
al. 2018.

Letters: B global batch, b a portion of it, R resolution, C channels of a level.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from modify_fl.augment import augment, draw_augmentation
from modify_fl.networks.layers import seeded
from modify_fl.perceptual import Lpips
from modify_fl.streams import generator
from modify_fl.training.portions import Portions
from modify_fl.training.runtime import Compute

__all__ = ["FeatureCritic", "FeatureHeads"]

_WIDTH = 64
_SIDE_MIN = 128


class FeatureHeads(nn.Module):
    """A small network on each level of the features; their norms are bounded by 1."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        """Draw weights from torch's current random state.

        Args:
            channels: C of each level.
        """
        super().__init__()
        self.levels = nn.ModuleList(_head(count) for count in channels)
        self.eval()  # the estimate of the norms moves in ``advance`` only

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the mean score of each picture, float32 [b].

        Args:
            features: Unit length over channels, float32 [b, C, h, w] for each level.
        """
        return self.scores(features, lambda score: score)

    def scores(self, features: list[Tensor], shape: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean over levels and places of ``shape`` of the score there, float32 [b]."""
        found = [
            shape(head(level * level.shape[1] ** 0.5).float()).flatten(1).mean(1)
            for head, level in zip(self.levels, features, strict=True)
        ]
        return torch.stack(found).mean(0)

    @torch.no_grad()
    def advance(self) -> None:
        """Improve the estimate of every norm by one power iteration; once a step, however the batch is cut."""
        self.train()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _ = layer.weight  # reading it in training mode is the iteration
        self.eval()


def _head(channels: int) -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, _WIDTH, 1)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(_WIDTH, 1, 1)),
    )  # fmt: skip


class FeatureCritic:
    """The heads, their optimiser and both sides of the loss."""

    def __init__(self, lpips: Lpips, *, learning_rate: float, seed: int, compute: Compute, portions: Portions) -> None:
        """Draw heads from the seed.

        Args:
            lpips: Its features are judged.
            learning_rate: Adam rate of the heads.
            seed: The run's seed.
            compute: Device and precision.
            portions: How the batch is cut; every draw is made for the whole batch.
        """
        self.lpips, self.seed, self.compute, self.portions = lpips, seed, compute, portions
        with seeded(seed, "feature-critic"):
            self.heads = FeatureHeads(tuple(head.shape[1] for head in lpips.heads)).to(compute.device)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=learning_rate, betas=(0.0, 0.99))

    def generator_loss(self, fake: Tensor, step: int, part: slice) -> Tensor:
        """Return minus the score, float32 [b].

        Args:
            fake: Generated images with gradient, float32 [b, 3, R, R].
            step: Training step; names the augmentation draws.
            part: Their place in the global batch.
        """
        with self.compute.autocast():
            score: Tensor = self.heads(self._features(fake, "features-generator", step, part))
        return -score

    def train_step(self, real: Callable[[slice], Tensor], fake: Tensor, step: int) -> dict[str, Tensor]:
        """Take one optimiser step of the heads.

        Args:
            real: Returns the real images of a portion of the global batch, float32 [b, 3, R, R].
            fake: Generated images, this process's share of the batch; their gradient is cut.
            step: Training step; names the draws.

        Returns:
            ``dis_features``, the hinge loss, float32 [].
        """
        fake = fake.detach()
        self.heads.advance()

        def work(part: slice) -> dict[str, Tensor]:
            with self.compute.autocast():
                good = self._features(real(part), "features-real", step, part)
                bad = self._features(fake[self.portions.inside(part)], "features-fake", step, part)
                loss = self.heads.scores(good, lambda s: functional.relu(1 - s)).mean()
                loss = loss + self.heads.scores(bad, lambda s: functional.relu(1 + s)).mean()
            (loss * self.portions.weight(part)).backward()  # type: ignore[no-untyped-call]
            return {"dis_features": loss.detach()}

        figures = self.portions.mean(self.portions.each(work, begin=self.optimizer.zero_grad))
        self.portions.ranks.add([p.grad for p in self.heads.parameters() if p.grad is not None])
        if figures["dis_features"].isfinite():  # a broken step is skipped (M-53)
            self.optimizer.step()
        return figures

    def _features(self, images: Tensor, stream: str, step: int, part: slice) -> list[Tensor]:
        """Return features of augmented pictures; small ones are enlarged, so that a level keeps some places."""
        whole = draw_augmentation(self.portions.batch, generator(self.seed, stream, step))
        images = augment(images, whole.at(part))
        if images.shape[-1] < _SIDE_MIN:
            images = functional.interpolate(images, size=_SIDE_MIN, mode="bilinear", align_corners=False)
        return self.lpips.features(images)
