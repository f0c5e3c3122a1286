"""Stage 1: encapsulate a style in E, D, M and Dis (equation 6, M-27 to M-31).

Plans the length of a run, keeps its record and hands over what ``Encapsulation`` trained.
"""

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from modify_fl.artifacts import Encapsulated, TrainingSummary
from modify_fl.base.start import Start
from modify_fl.config import Budget, EncapsulationConfig, Preset, Runtime
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.loop import best_step, open_record, run_lock, train
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.schedule import Schedule
from modify_fl.training.stage1 import Encapsulation

__all__ = ["Encapsulation", "encapsulate", "plan_images"]

_SCRATCH = "scratch"
_TYPICAL = 1.1
"""A usual step against the best of a few."""
_NEVER = 10**9


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
    folder: Path, emit: Emit, fresh: bool = False, start: Start | None = None,
) -> Encapsulated:  # fmt: skip
    """Train stage 1, or go on with the run in ``folder``.

    Source: equation 6 of the paper; M-27 to M-31; starts: M-23, ADR 6.

    Args:
        images: The style set, at the preset's resolution.
        preset: All settings; with a complete start its recipe ``from_base`` is in force, where it has one.
        budget: Length of the run; a time becomes images once, before the first step.
        seed: Of everything that is drawn; equal arguments give equal weights on one machine (M-40).
        runtime: Device, threads, precision.
        nets: LPIPS and the face network, where found.
        folder: Home of the run: record, checkpoints, samples. Used by one process at a time.
        emit: Takes every report.
        fresh: Throw away what is in ``folder`` and start anew.
        start: Weights that E, D, the offset, M, Dis and the average begin with; the seed's where there is none.

    Returns:
        The trained networks, ready to be packed.

    Raises:
        ConfigError: The run in ``folder`` had other settings or another start, another process holds it, or blocks
            of Dis are to stay frozen that no start has trained.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        TrainingDivergedError: The run became unstable (M-53).
    """
    preset = preset.for_start(given=start is not None and start.complete)
    _check_frozen(preset.encapsulation, start)
    init = start.label if start else _SCRATCH
    with run_lock(folder):
        settings = {
            "stage": "encapsulation", "preset": asdict(preset), "budget": str(budget), "seed": seed,
            "images": images.digest, "perceptual": nets.perceptual.name, "identity": nets.identity.name,
            "init": init,
        }  # fmt: skip
        record = open_record(folder, settings, fresh=fresh)
        if record is None:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            shutil.rmtree(folder / "samples", ignore_errors=True)
        planned = record["planned"] if record else None
        compute = resolve(runtime, bf16=planned["bf16"] if planned else None)  # type: ignore[index]
        _say(emit, f"computing on {compute}, starting from {init}", nets.warnings)
        if planned is None:
            total = plan_images(budget, images, preset=preset, seed=seed, compute=compute, nets=nets)
            planned = {"images": total, "bf16": compute.bf16, "threads": compute.threads}
            text = json.dumps({"settings": settings, "planned": planned}, indent=1)
            (folder / "config.json").write_text(text, encoding="utf-8")
        schedule = Schedule.plan(preset.encapsulation, planned["images"])  # type: ignore[index]
        deadline = budget.amount if budget.kind == "seconds" else None
        trainer = Encapsulation(
            images,
            preset=preset,
            schedule=schedule,
            seed=seed,
            compute=compute,
            nets=nets,
            deadline=deadline,
            start=start,
        )
        seconds = train(trainer, folder, emit)
        return _finish(trainer, seconds, nets, folder, init)


def _check_frozen(config: EncapsulationConfig, start: Start | None) -> None:
    if config.freeze_d and not (start and start.complete):
        raise ConfigError(
            f"{config.freeze_d} blocks of Dis are to stay frozen, but nothing has trained them",
            fix="start from a base model, or set freeze_d=0",
        )


def _say(emit: Emit, start: str, warnings: tuple[str, ...]) -> None:
    emit(TrainingEvent(kind="start", message=start))
    for warning in warnings:
        emit(TrainingEvent(kind="warning", message=warning))


def _finish(trainer: Encapsulation, seconds: float, nets: PerceptualNets, folder: Path, init: str) -> Encapsulated:
    def still(module: torch.nn.Module) -> torch.nn.Module:
        module = module.to("cpu").to(memory_format=torch.contiguous_format)
        return module.eval().requires_grad_(requires_grad=False)

    summary = TrainingSummary(
        images_seen=trainer.images_seen, steps=trainer.step_count, seconds=seconds, seed=trainer.seed,
        perceptual=nets.perceptual, identity=nets.identity, compute=str(trainer.compute), init=init,
    )  # fmt: skip
    return Encapsulated(
        model=still(trainer.average),  # type: ignore[arg-type]
        discriminator=still(trainer.discriminator),  # type: ignore[arg-type]
        preset=trainer.preset, summary=summary, folder=folder,
    )  # fmt: skip
