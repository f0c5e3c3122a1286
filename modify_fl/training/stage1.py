"""The trainer of stage 1: networks, one step, checkpoint (M-27 to M-29).

Phase A trains E, D, the offset and Dis; phase B freezes them, all but Dis, and
trains M. In presets with an average, only averaged weights leave stage 1.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.augment import flip
from modify_fl.base.start import Start
from modify_fl.config import Preset
from modify_fl.data import ImageSet, other_indices, shuffled_indices
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.training.adversary import Adversary
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.diagnostics import SampleBoard
from modify_fl.training.ema import ema_decay, update_ema
from modify_fl.training.runtime import Compute
from modify_fl.training.schedule import Schedule
from modify_fl.training.terms import ImageTerms

__all__ = ["Encapsulation"]

_FEATURE_HALF_LIFE = 1000
_MOMENT_DRAWS = 4096
_OVERRUN = 1.1
_RIGHT_STEPS = 200
_RIGHT_MAX = 0.98


class Encapsulation:
    """The trainer of stage 1: state, one step, checkpoint."""

    def __init__(
        self, images: ImageSet, *, preset: Preset, schedule: Schedule, seed: int, compute: Compute,
        nets: PerceptualNets, deadline: float | None = None, start: Start | None = None,
    ) -> None:  # fmt: skip
        """Build networks from the seed, or from ``start``, and fresh optimisers.

        Args:
            images: The style set at the preset's resolution.
            preset: All settings.
            schedule: Image counts of the parts.
            seed: Of weights, order, noise and augmentation.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            deadline: Seconds that the whole run may take; none without a time budget.
            start: Weights to begin with, of the preset's sizes.
        """
        self.images, self.preset, self.config = images, preset, preset.encapsulation
        self.schedule, self.seed, self.compute, self.deadline = schedule, seed, compute, deadline
        self.step_count = self.images_seen = 0
        self.dis_right = 0.5  # share of pictures that Dis told right, over about 200 steps (M-54)
        model, critic = StyleModel.build(preset.network, seed), build_discriminator(preset.network, seed)
        if start is not None:
            start.apply(model, critic)
        critic.freeze(self.config.freeze_d)
        self.model, self.discriminator = compute.place(model), compute.place(critic)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        self.features = None if nets.lpips else copy.deepcopy(self.discriminator).requires_grad_(requires_grad=False)
        self.style_mean = torch.zeros_like(self.model.remapping.offset)
        self.style_std = torch.ones_like(self.style_mean)
        self._build_optimizers(nets)
        self.board = SampleBoard(images, preset.network, seed)

    def _build_optimizers(self, nets: PerceptualNets) -> None:
        config, betas = self.config, self.config.adversarial_betas
        content = [
            *self.model.encoder.parameters(),
            *self.model.generator.parameters(),
            *self.model.offset.parameters(),
        ]
        critic = [value for value in self.discriminator.parameters() if value.requires_grad]
        fused = self.compute.device.type in {"cpu", "cuda"}
        self.optimizers = {
            "content": torch.optim.Adam(content, lr=config.learning_rate, betas=config.betas, fused=fused),
            "remapping": torch.optim.Adam(
                self.model.remapping.parameters(), lr=config.remap_learning_rate, betas=betas, fused=fused
            ),
            "discriminator": torch.optim.Adam(critic, lr=config.learning_rate, betas=betas, fused=fused),
        }
        self.adversary = Adversary(
            discriminator=self.discriminator, optimizer=self.optimizers["discriminator"], config=config.critic,
            seed=self.seed, compute=self.compute,
        )  # fmt: skip
        self.terms = ImageTerms(
            nets=nets, features=self.features, compute=self.compute, lambda_r=config.lambda_r,
            lambda_l1=config.lambda_l1, lambda_lp=config.lambda_lp, lambda_id=config.lambda_id,
        )  # fmt: skip

    @property
    def images_total(self) -> int:
        """Images at the end of the run."""
        return self.schedule.total

    @property
    def phase(self) -> str:
        """Part of the schedule that the next step belongs to."""
        return self.schedule.phase(self.images_seen)

    # One step -----------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Take one step of phase A or B; see ``Trainer``."""
        if self.images_seen == self.schedule.remap_start:
            self._enter_remap()
        self._set_rates()
        indices = shuffled_indices(len(self.images), self.seed, self.images_seen, self.config.batch)
        others = other_indices(indices, len(self.images), self.seed, self.step_count)
        pictures, real = self._batch(indices, "flip"), self._batch(others, "flip-other")
        figures = self._remap(pictures, real) if self.phase == "remap" else self._reconstruct(pictures, real)
        self.step_count += 1
        self.images_seen += self.config.batch
        return figures

    def _batch(self, indices: list[int], stream: str) -> Tensor:
        batch = flip(self.images.batch(indices), generator(self.seed, stream, self.step_count))
        return batch.to(device=self.compute.device, memory_format=torch.channels_last)

    def _set_rates(self) -> None:
        factor = self.schedule.rate(self.images_seen) if self.config.cosine else 1.0
        base = {"remapping": self.config.remap_learning_rate}
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = factor * base.get(name, self.config.learning_rate)

    def _reconstruct(self, pictures: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Phase A: equations 1 and 2 for E, D and the offset, then Dis."""
        with self.compute.autocast():
            output = self.model.decode(self.model.encode(pictures)).float()
        due = self.schedule.identity(self.images_seen) and self.step_count % self.config.identity_every == 0
        terms = self.terms(pictures, output, identity_scale=self.config.identity_every if due else 0)
        figures = {name: value.mean() for name, value in terms.items()}
        total = torch.stack(list(figures.values())).sum()
        weight = self.config.lambda_adv_r * self.schedule.adversary(self.images_seen)
        if weight:
            figures["adv"] = self.adversary.generator_loss(output, self.step_count).mean()
            total = total + weight * figures["adv"]
        self._descend("content", total)
        self._average("encoder", "generator", "offset")
        if self.features is not None or self.images_seen >= self.schedule.discriminator_start:
            figures |= self._train_discriminator(real, output)
        if self.features is not None:
            beta = ema_decay(self.step_count, batch=self.config.batch, half_life=_FEATURE_HALF_LIFE)
            update_ema(self.features, self.discriminator, beta)
        figures["r"] = figures["r"] / self.config.lambda_r if self.config.lambda_r else figures["r"]
        return {name: value.detach() for name, value in figures.items()}

    def _remap(self, pictures: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Phase B: equations 3 to 5 for M, then Dis; E and D carry gradient but do not move."""
        config, split = self.config, self.preset.network.split
        noise = torch.randn(
            len(pictures), self.preset.network.z_dim, generator=generator(self.seed, "z", self.step_count)
        )
        with self.compute.autocast():
            with torch.no_grad():
                content = self.model.encode(pictures)
            style_rows = self.model.remap(noise.to(pictures.device))
            restyled = self.model.decode(self.model.fuse(content, style_rows)).float()
            recovered = self.model.encode(restyled)[:, split:]  # [B, xi, W]
        figures = {
            "swap": losses.swap(style_rows, recovered).mean(),
            "adv_z": self.adversary.generator_loss(restyled, self.step_count).mean(),
        }
        total = config.lambda_swap * figures["swap"] + config.lambda_adv_z * figures["adv_z"]
        if config.lambda_mom:
            figures["mom"] = losses.moments(style_rows, self.style_mean, self.style_std)
            total = total + config.lambda_mom * figures["mom"]
        self._descend("remapping", total)
        self._average("remapping")
        figures |= self._train_discriminator(real, restyled)
        return {name: value.detach() for name, value in figures.items()}

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        figures = self.adversary.train_step(real, fake, self.step_count)
        self.dis_right += (float(figures["dis_right"]) - self.dis_right) / _RIGHT_STEPS
        return figures

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if torch.nn.utils.get_total_norm(gradients).isfinite():  # a broken step is skipped (M-53)
            optimizer.step()

    def _average(self, *parts: str) -> None:
        half_life = self.config.ema_half_life
        beta = ema_decay(self.step_count, batch=self.config.batch, half_life=half_life) if half_life else 0.0
        for part in parts:
            update_ema(getattr(self.average, part), getattr(self.model, part), beta)

    # Phase B begins -----------------------------------------------------------

    @torch.no_grad()
    def _enter_remap(self) -> None:
        """Put averaged weights in force, measure the style set, start M with its moments (M-28, ADR 5)."""
        self.model.load_state_dict(self.average.state_dict())
        self._freeze_content()
        codes = [self._style_codes(start) for start in range(0, len(self.images), self.config.batch)]
        rows = torch.cat(codes)  # [N, xi, W]
        self.style_mean, self.style_std = rows.mean(0), rows.std(0) if len(rows) > 1 else torch.zeros_like(rows[0])
        z = torch.randn(_MOMENT_DRAWS, self.preset.network.z_dim, generator=generator(self.seed, "z-moments"))
        self.model.remapping.match(z.to(self.compute.device), rows)
        update_ema(self.average.remapping, self.model.remapping, 0.0)

    def _freeze_content(self) -> None:
        """Freeze E, D and the offset; statistics of the paper's encoder stop moving too (M-20, M-27)."""
        for part in (self.model.encoder, self.model.generator, self.model.offset):
            part.eval().requires_grad_(requires_grad=False)

    def _style_codes(self, start: int) -> Tensor:
        indices = list(range(start, min(start + self.config.batch, len(self.images))))
        pictures = self.images.batch(indices).to(self.compute.device)
        with self.compute.autocast():
            return self.model.encode(pictures)[:, self.preset.network.split :].float()

    # Checkpoint and reports ---------------------------------------------------

    def _modules(self) -> dict[str, torch.nn.Module]:
        found = {"model": self.model, "average": self.average, "discriminator": self.discriminator}
        return found | ({"features": self.features} if self.features is not None else {})

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """See ``Trainer``."""
        optimizers = {f"adam-{name}": optimizer_tensors(o) for name, o in self.optimizers.items()}
        style = {"mean": self.style_mean, "std": self.style_std}
        return module_tensors(self._modules()) | {k: v for k, v in optimizers.items() if v} | {"style": style}

    def values(self) -> dict[str, object]:
        """See ``Trainer``."""
        return {"schedule": asdict(self.schedule)}

    def restore(self, saved: Checkpoint) -> None:
        """See ``Trainer``."""
        for name, module in self._modules().items():
            module.load_state_dict(dict(saved.tensors[name]))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, saved.tensors.get(f"adam-{name}", {}))
        self.style_mean, self.style_std = (saved.tensors["style"][k].to(self.compute.device) for k in ("mean", "std"))
        self.step_count, self.images_seen = saved.step, int(str(saved.values["images_seen"]))
        self.schedule = Schedule(**saved.values["schedule"])  # type: ignore[arg-type]
        if self.images_seen > self.schedule.remap_start:
            self._freeze_content()

    def snapshot(self, folder: Path) -> tuple[str, ...]:
        """See ``Trainer``."""
        if not self.board.due(self.images_seen, self.config.batch, self.images_total):
            return ()
        warnings = self.board.write(self.average, self.terms, folder, self.images_seen, remapped=self.phase == "remap")
        if self.dis_right > _RIGHT_MAX:
            warnings += (
                f"Dis tells {self.dis_right:.0%} of the pictures right (M-54): double gamma or halve the rate",
            )
        return warnings

    def at_pace(self, seconds: float) -> str:
        """Jump to phase B once where the time budget would be exceeded by a tenth (M-30)."""
        if self.deadline is None or self.phase == "remap" or not self.images_seen:
            return ""
        if seconds * self.images_total / self.images_seen <= _OVERRUN * self.deadline:
            return ""
        remaining = seconds / self.images_seen * (self.schedule.total - self.schedule.remap_start)
        if seconds + remaining < self.deadline:
            return ""
        self.schedule, self.deadline = self.schedule.jump_to_remap(self.images_seen), None
        return f"the pace fell: phase B starts now, after {self.images_seen / 1000:.1f} kimg"
