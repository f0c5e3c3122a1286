"""The trainer of the compact StarGAN v2: networks, one step, checkpoint (M-45).

Source: Choi et al. 2020, equations 1 to 6. Deviations, all to save compute on
small machines: the target is always the other domain; styles come from the
mapping network in even steps and from reference pictures in odd ones; the
second picture of the diversity term carries no gradient; R1 is taken at every
16th step. Discriminator augmentation and averaged weights are those of stage 1,
so that small sets hurt both alike.

Letters: B batch, R resolution, S width of a style code, Z width of the noise.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.augment import augment, draw_augmentation, flip
from modify_fl.baselines.stargan import PAINTING, PHOTO, StarGan, StarGanSizes
from modify_fl.config import Adversary
from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.streams import generator
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.ema import ema_decay, update_ema
from modify_fl.training.runtime import Compute

__all__ = ["StarGanConfig", "StarGanTrainer"]

_KIND: Adversary = "logistic-r1"
_MAKERS = ("generator", "mapping", "encoder")


@dataclass(frozen=True, kw_only=True)
class StarGanConfig:
    """Recipe; weights are those of the paper."""

    batch: int = 8
    """Pictures per step, an even number: half of each domain."""
    lambda_style: float = 1.0
    """Weight of equation 2, style reconstruction."""
    lambda_diversity: float = 1.0
    """Weight of equation 3, style diversification; falls linearly to 0 over the run."""
    lambda_cycle: float = 1.0
    """Weight of equation 4, cycle consistency."""
    penalty: float = 1.0
    """Gamma of R1."""
    penalty_every: int = 16
    """Steps between two penalties; R1 is scaled up by this number."""
    learning_rate: float = 3e-4
    """Adam rate; the paper's 1e-4 is for a run that is fifty times as long."""
    mapping_rate: float = 3e-5
    """Adam rate of the mapping network, smaller as in the paper."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decay rates."""
    ema_half_life: int = 2000
    """Half-life of the averaged weights in images."""


class StarGanTrainer:
    """State, one step, checkpoint; see ``Trainer`` of the loop."""

    phase = "stargan"

    def __init__(
        self, photos: ImageSet, styles: ImageSet, *, sizes: StarGanSizes, config: StarGanConfig, total: int, seed: int,
        compute: Compute,
    ) -> None:  # fmt: skip
        """Build networks from the seed, and fresh optimisers.

        Args:
            photos: One domain, at the resolution of ``sizes``.
            styles: The other one, at the same resolution.
            sizes: Of the networks.
            config: Weights and rates.
            total: Images at the end of the run.
            seed: Of weights, order, noise and augmentation.
            compute: Device and precision.
        """
        self.sets, self.config, self.total, self.seed, self.compute = (photos, styles), config, total, seed, compute
        self.step_count = self.images_seen = 0
        self.model = compute.place(StarGan.build(sizes, seed))
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        rates = dict.fromkeys((*_MAKERS, "discriminator"), config.learning_rate) | {"mapping": config.mapping_rate}
        self.optimizers = {
            name: torch.optim.Adam(getattr(self.model, name).parameters(), lr=rate, betas=config.betas)
            for name, rate in rates.items()
        }
        half = config.batch // 2
        self.sources = torch.tensor([PHOTO] * half + [PAINTING] * half, device=compute.device)  # [B]
        self.targets = 1 - self.sources  # [B]

    @property
    def images_total(self) -> int:
        """Images at the end of the run."""
        return self.total

    # One step -----------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Take one step of G, F and E, then one of Dis; see ``Trainer``."""
        pictures = self._batch()
        latent = self.step_count % 2 == 0
        styles = [self._styles(latent, side) for side in ("first", "second")]
        with self.compute.autocast():
            fake = self.model(pictures, styles[0])
        terms = self._maker_terms(pictures, fake, styles)
        total = torch.stack(list(terms.values())).sum()
        # With reference pictures only G moves, as in the paper.
        self._descend(_MAKERS if latent else ("generator",), total)
        self._average()
        terms |= self._judge(pictures, fake.detach())
        self.step_count += 1
        self.images_seen += self.config.batch
        return {name: value.detach() for name, value in terms.items()}

    def _batch(self) -> Tensor:
        """Return the pictures of a step, half photos, half style images, float32 [B, 3, R, R]."""
        seen, half = self.images_seen // 2, self.config.batch // 2
        chosen = [images.batch(shuffled_indices(len(images), self.seed, seen, half)) for images in self.sets]
        return self._placed(torch.cat(chosen), "flip")

    def _references(self, stream: str) -> Tensor:
        """Return random pictures of the target domains, float32 [B, 3, R, R]."""
        draw, half = generator(self.seed, stream, self.step_count), self.config.batch // 2
        chosen = [images.batch(torch.randint(len(images), (half,), generator=draw).tolist()) for images in self.sets]
        return self._placed(torch.cat(chosen[::-1]), f"flip-{stream}")

    def _placed(self, pictures: Tensor, stream: str) -> Tensor:
        flipped = flip(pictures, generator(self.seed, stream, self.step_count))
        return flipped.to(device=self.compute.device, memory_format=torch.channels_last)

    def _styles(self, latent: bool, side: str) -> Tensor:  # noqa: FBT001 - one of two ways
        """Return style codes of the target domains, float32 [B, S]: from noise, or from reference pictures."""
        with self.compute.autocast():
            if latent:
                draw = generator(self.seed, f"z-{side}", self.step_count)
                z = torch.randn(self.config.batch, self.model.sizes.z_dim, generator=draw)  # [B, Z]
                code = self.model.draw(z.to(self.compute.device), self.targets)
            else:
                code = self.model.style_of(self._references(f"reference-{side}"), self.targets)
        return code.float()

    def _maker_terms(self, pictures: Tensor, fake: Tensor, styles: list[Tensor]) -> dict[str, Tensor]:
        """Return the weighted terms of equations 1 to 4, float32 [] each."""
        config, left = self.config, 1 - self.images_seen / self.total
        with self.compute.autocast():
            recovered = self.model.style_of(fake, self.targets)
            with torch.no_grad():
                other = self.model(pictures, styles[1])
            back = self.model(fake, self.model.style_of(pictures, self.sources))
            score = self._view("generator")(fake, self.targets)
        return {
            "adv": losses.adversarial_generator(score, _KIND).mean(),
            "style": config.lambda_style * (recovered.float() - styles[0]).abs().mean(),
            "diversity": -config.lambda_diversity * left * losses.absolute(other, fake).mean(),
            "cycle": config.lambda_cycle * losses.absolute(pictures, back).mean(),
        }

    def _judge(self, pictures: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Take one step of Dis: equation 1 and, when due, R1."""
        see_real, see_fake = self._view("real"), self._view("fake")
        with self.compute.autocast():
            good, bad = see_real(pictures, self.sources), see_fake(fake, self.targets)
        loss = losses.adversarial_discriminator(good, bad, _KIND).mean()
        figures = {"dis": loss}
        if self.step_count % self.config.penalty_every == 0:
            slope = losses.r1_penalty(lambda at: see_real(at, self.sources), pictures)
            figures["penalty"] = self.config.penalty_every * self.config.penalty * slope.mean()
        self._descend(("discriminator",), torch.stack(list(figures.values())).sum())
        return figures

    def _view(self, stream: str) -> Callable[[Tensor, Tensor], Tensor]:
        """Return Dis behind one fixed augmentation."""
        draws = draw_augmentation(self.config.batch, generator(self.seed, f"augment-{stream}", self.step_count))
        return lambda images, domains: self.model.score(augment(images, draws), domains)

    def _descend(self, names: tuple[str, ...], loss: Tensor) -> None:
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for name in names for p in getattr(self.model, name).parameters()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if torch.nn.utils.get_total_norm(gradients).isfinite():  # a broken step is skipped (M-53)
            for name in names:
                self.optimizers[name].step()

    def _average(self) -> None:
        beta = ema_decay(self.step_count, batch=self.config.batch, half_life=self.config.ema_half_life)
        for name in _MAKERS:
            update_ema(getattr(self.average, name), getattr(self.model, name), beta)

    # Checkpoint and result ----------------------------------------------------

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model, "average": self.average}

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """See ``Trainer``."""
        optimizers = {f"adam-{name}": optimizer_tensors(o) for name, o in self.optimizers.items()}
        return module_tensors(self._modules()) | {k: v for k, v in optimizers.items() if v}

    def values(self) -> dict[str, object]:
        """See ``Trainer``."""
        return {}

    def restore(self, saved: Checkpoint) -> None:
        """See ``Trainer``."""
        for name, module in self._modules().items():
            module.load_state_dict(dict(saved.tensors[name]))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, saved.tensors.get(f"adam-{name}", {}))
        self.step_count, self.images_seen = saved.step, int(str(saved.values["images_seen"]))

    def snapshot(self, folder: Path) -> tuple[str, ...]:  # noqa: ARG002 - pictures of photos are not written (P-38)
        """See ``Trainer``."""
        return ()

    def at_pace(self, seconds: float) -> str:  # noqa: ARG002 - the schedule has no part that could begin sooner
        """See ``Trainer``."""
        return ""
