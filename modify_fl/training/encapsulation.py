"""Stage 1: encapsulate a style in E, D, M and Dis (equation 6, M-27 to M-31).

Phase A trains E, D, the offset and Dis; phase B freezes them, all but Dis, and
trains M. In presets with an average, only averaged weights leave this module.
"""

import copy
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.artifacts import Encapsulated, TrainingSummary
from modify_fl.augment import flip
from modify_fl.config import Budget, EncapsulationConfig, Preset, Runtime
from modify_fl.data import ImageSet, other_indices, shuffled_indices
from modify_fl.events import Emit, TrainingEvent
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.training.adversary import Adversary
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.diagnostics import SampleBoard
from modify_fl.training.ema import ema_decay, update_ema
from modify_fl.training.loop import best_step, open_record, run_lock, train
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.schedule import Schedule
from modify_fl.training.terms import ImageTerms

__all__ = ["Encapsulation", "encapsulate", "plan_images"]

_FEATURE_HALF_LIFE = 1000
_MOMENT_DRAWS = 4096
_OVERRUN = 1.1
_RIGHT_STEPS = 200
_RIGHT_MAX = 0.98
_TYPICAL = 1.1
"""A usual step against the best of a few."""
_NEVER = 10**9


class Encapsulation:
    """The trainer of stage 1: state, one step, checkpoint."""

    def __init__(
        self, images: ImageSet, *, preset: Preset, schedule: Schedule, seed: int, compute: Compute,
        nets: PerceptualNets, deadline: float | None = None,
    ) -> None:  # fmt: skip
        """Build networks and optimisers from the seed.

        Args:
            images: The style set at the preset's resolution.
            preset: All settings.
            schedule: Image counts of the parts.
            seed: Of weights, order, noise and augmentation.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            deadline: Seconds that the whole run may take; none without a time budget.
        """
        self.images, self.preset, self.config = images, preset, preset.encapsulation
        self.schedule, self.seed, self.compute, self.deadline = schedule, seed, compute, deadline
        self.step_count = self.images_seen = 0
        self.dis_right = 0.5  # share of pictures that Dis told right, over about 200 steps (M-54)
        self.model = compute.place(StyleModel.build(preset.network, seed))
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        self.discriminator = compute.place(build_discriminator(preset.network, seed))
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
        fused = self.compute.device.type in {"cpu", "cuda"}
        self.optimizers = {
            "content": torch.optim.Adam(content, lr=config.learning_rate, betas=config.betas, fused=fused),
            "remapping": torch.optim.Adam(
                self.model.remapping.parameters(), lr=config.remap_learning_rate, betas=betas, fused=fused
            ),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), lr=config.learning_rate, betas=betas, fused=fused
            ),
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


def _probe(images: ImageSet, *, preset: Preset, seed: int, compute: Compute, nets: PerceptualNets) -> dict[str, float]:
    """Time one step with nothing, the identity term, the adversary, and of phase B, each on a throwaway trainer."""
    every_step = replace(preset, encapsulation=replace(preset.encapsulation, identity_every=1))
    never = dict.fromkeys(("discriminator_start", "identity_start", "ramp_start", "ramp_end", "remap_start"), _NEVER)
    from_start = {
        "plain": (),
        "identity": ("identity_start",),
        "adversary": ("discriminator_start", "ramp_start", "ramp_end"),
        "remap": ("remap_start",),
    }
    seconds = {}
    for part, marks in from_start.items():
        schedule = Schedule(batch=preset.encapsulation.batch, total=_NEVER, **(never | dict.fromkeys(marks, 0)))
        trainer = Encapsulation(images, preset=every_step, schedule=schedule, seed=seed, compute=compute, nets=nets)
        seconds[part] = best_step(trainer.step)
    return seconds


def _step_seconds(config: EncapsulationConfig, cost: dict[str, float]) -> float:
    """Return the mean time of a step over the whole schedule."""
    phase_a = 1 - config.parts[3]
    identity = max(0.0, phase_a - config.identity_start) / config.identity_every
    adversary = phase_a - min(config.discriminator_start, config.parts[0])
    extra = identity * (cost["identity"] - cost["plain"]) + adversary * (cost["adversary"] - cost["plain"])
    return phase_a * cost["plain"] + extra + config.parts[3] * cost["remap"]


def plan_images(
    budget: Budget, images: ImageSet, *, preset: Preset, seed: int, compute: Compute, nets: PerceptualNets
) -> int:
    """Turn a budget into images, by a probe of at most a minute where it is a time (M-30)."""
    config = preset.encapsulation
    if budget.kind != "seconds":
        return round(budget.amount * (config.batch if budget.kind == "steps" else 1))
    begin = time.monotonic()
    pace = _probe(images, preset=preset, seed=seed, compute=compute, nets=nets)
    left = max(budget.amount - (time.monotonic() - begin), budget.amount / 2)
    return max(2, round(left / (_TYPICAL * _step_seconds(config, pace)))) * config.batch


def encapsulate(
    images: ImageSet, *, preset: Preset, budget: Budget, seed: int, runtime: Runtime, nets: PerceptualNets,
    folder: Path, emit: Emit, fresh: bool = False,
) -> Encapsulated:  # fmt: skip
    """Train stage 1, or go on with the run in ``folder``.

    Source: equation 6 of the paper; M-27 to M-31.

    Args:
        images: The style set, at the preset's resolution.
        preset: All settings.
        budget: Length of the run; a time becomes images once, before the first step.
        seed: Of everything that is drawn; equal arguments give equal weights on one machine (M-40).
        runtime: Device, threads, precision.
        nets: LPIPS and the face network, where found.
        folder: Home of the run: record, checkpoints, samples. Used by one process at a time.
        emit: Takes every report.
        fresh: Throw away what is in ``folder`` and start anew.

    Returns:
        The trained networks, ready to be packed.

    Raises:
        ConfigError: The run in ``folder`` had other settings, or another process holds it.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        TrainingDivergedError: The run became unstable (M-53).
    """
    with run_lock(folder):
        settings = {
            "stage": "encapsulation", "preset": asdict(preset), "budget": str(budget), "seed": seed,
            "images": images.digest, "perceptual": nets.perceptual.name, "identity": nets.identity.name,
        }  # fmt: skip
        record = open_record(folder, settings, fresh=fresh)
        if record is None:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            shutil.rmtree(folder / "samples", ignore_errors=True)
        planned = record["planned"] if record else None
        compute = resolve(runtime, bf16=planned["bf16"] if planned else None)  # type: ignore[index]
        _say(emit, f"computing on {compute}", nets.warnings)
        if planned is None:
            total = plan_images(budget, images, preset=preset, seed=seed, compute=compute, nets=nets)
            planned = {"images": total, "bf16": compute.bf16, "threads": compute.threads}
            text = json.dumps({"settings": settings, "planned": planned}, indent=1)
            (folder / "config.json").write_text(text, encoding="utf-8")
        schedule = Schedule.plan(preset.encapsulation, planned["images"])  # type: ignore[index]
        deadline = budget.amount if budget.kind == "seconds" else None
        trainer = Encapsulation(
            images, preset=preset, schedule=schedule, seed=seed, compute=compute, nets=nets, deadline=deadline
        )
        seconds = train(trainer, folder, emit)
        return _finish(trainer, seconds, nets, folder)


def _say(emit: Emit, start: str, warnings: tuple[str, ...]) -> None:
    emit(TrainingEvent(kind="start", message=start))
    for warning in warnings:
        emit(TrainingEvent(kind="warning", message=warning))


def _finish(trainer: Encapsulation, seconds: float, nets: PerceptualNets, folder: Path) -> Encapsulated:
    def still(module: torch.nn.Module) -> torch.nn.Module:
        module = module.to("cpu").to(memory_format=torch.contiguous_format)
        return module.eval().requires_grad_(requires_grad=False)

    summary = TrainingSummary(
        images_seen=trainer.images_seen, steps=trainer.step_count, seconds=seconds, seed=trainer.seed,
        perceptual=nets.perceptual, identity=nets.identity, compute=str(trainer.compute),
    )  # fmt: skip
    return Encapsulated(
        model=still(trainer.average),  # type: ignore[arg-type]
        discriminator=still(trainer.discriminator),  # type: ignore[arg-type]
        preset=trainer.preset, summary=summary, folder=folder,
    )  # fmt: skip
