"""Stage 1: encapsulate a style in E, D, M and Dis (equation 6, M-27 to M-31).

Plans the length of a run, keeps its record and hands over what ``Encapsulation`` trained.
"""

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
from modify_fl.training.estimate import RunEstimate, peak_memory
from modify_fl.training.loop import best_step, train
from modify_fl.training.ranks import Ranks
from modify_fl.training.runs import begin_run, joined_run
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.schedule import Schedule
from modify_fl.training.stage1 import Encapsulation

__all__ = ["Encapsulation", "encapsulate", "estimate", "plan_images"]

_SCRATCH = "scratch"
_TYPICAL = 1.1
"""A usual step against the best of a few."""
_NEVER = 10**9


def _probe(
    images: ImageSet, *, preset: Preset, seed: int, compute: Compute, nets: PerceptualNets, ranks: Ranks
) -> tuple[dict[str, float], int | None]:
    """Time one step with nothing, the identity term, the adversary, and of phase B, each on a throwaway trainer.

    Returns:
        Seconds of a step by part, and the smallest portion that memory forced, if it did.
    """
    every_step = replace(preset, encapsulation=replace(preset.encapsulation, identity_every=1))
    never = dict.fromkeys(("discriminator_start", "identity_start", "ramp_start", "ramp_end", "remap_start"), _NEVER)
    from_start = {
        "plain": (),
        "identity": ("identity_start",),
        "adversary": ("discriminator_start", "ramp_start", "ramp_end"),
        "remap": ("remap_start",),
    }
    seconds, cuts = {}, []
    for part, marks in from_start.items():
        schedule = Schedule(batch=preset.encapsulation.batch, total=_NEVER, **(never | dict.fromkeys(marks, 0)))
        trainer = Encapsulation(
            images, preset=every_step, schedule=schedule, seed=seed, compute=compute, nets=nets, ranks=ranks
        )
        seconds[part] = best_step(trainer.step, ranks)
        cuts += [trainer.portions.cut] if trainer.portions.cut else []
        del trainer  # two at once would be more than a run needs
    return seconds, min(cuts, default=None)


def _step_seconds(config: EncapsulationConfig, cost: dict[str, float]) -> float:
    """Return the mean time of a step over the whole schedule."""
    phase_a = 1 - config.parts[3]
    identity = max(0.0, phase_a - config.identity_start) / config.identity_every
    adversary = phase_a - min(config.discriminator_start, config.parts[0])
    extra = identity * (cost["identity"] - cost["plain"]) + adversary * (cost["adversary"] - cost["plain"])
    return phase_a * cost["plain"] + extra + config.parts[3] * cost["remap"]


def plan_images(
    budget: Budget, images: ImageSet, *, preset: Preset, seed: int, compute: Compute, nets: PerceptualNets,
    ranks: Ranks | None = None,
) -> int:  # fmt: skip
    """Turn a budget into images, by a probe of at most a minute where it is a time (M-30)."""
    if budget.kind != "seconds":
        return _images(budget, preset.encapsulation, step_seconds=0.0, spent=0.0)
    begin = time.monotonic()
    pace, _ = _probe(images, preset=preset, seed=seed, compute=compute, nets=nets, ranks=ranks or Ranks())
    step_seconds = _step_seconds(preset.encapsulation, pace)
    return _images(budget, preset.encapsulation, step_seconds=step_seconds, spent=time.monotonic() - begin)


def _images(budget: Budget, config: EncapsulationConfig, *, step_seconds: float, spent: float) -> int:
    if budget.kind != "seconds":
        return round(budget.amount * (config.batch if budget.kind == "steps" else 1))
    left = max(budget.amount - spent, budget.amount / 2)
    return max(2, round(left / (_TYPICAL * step_seconds))) * config.batch


def estimate(
    images: ImageSet, *, preset: Preset, budget: Budget, seed: int, runtime: Runtime, nets: PerceptualNets,
    start: Start | None = None,
) -> RunEstimate:  # fmt: skip
    """Measure what ``encapsulate`` with these arguments would take; nothing is written (U-34).

    Arguments as in ``encapsulate``. The starting weights decide the recipe, and
    no time: the steps are taken with the seed's.
    """
    preset = preset.for_start(given=start is not None and start.complete)
    _check_frozen(preset.encapsulation, start)
    compute, begin = resolve(runtime), time.monotonic()
    pace, micro = _probe(images, preset=preset, seed=seed, compute=compute, nets=nets, ranks=Ranks())
    step_seconds = _step_seconds(preset.encapsulation, pace)
    wanted = _images(budget, preset.encapsulation, step_seconds=step_seconds, spent=time.monotonic() - begin)
    total = Schedule.plan(preset.encapsulation, wanted).total
    steps = total // preset.encapsulation.batch
    host, device = peak_memory(compute.device)
    return RunEstimate(
        images=total, steps=steps, seconds=steps * _TYPICAL * step_seconds, host_bytes=host, device_bytes=device,
        micro=micro, compute=str(compute),
    )  # fmt: skip


def encapsulate(
    images: ImageSet, *, preset: Preset, budget: Budget, seed: int, runtime: Runtime, nets: PerceptualNets,
    folder: Path, emit: Emit, fresh: bool = False, start: Start | None = None, unseen: ImageSet | None = None,
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
        unseen: Held-out images; only the recipe's ``stop_gap`` looks at them, and nothing is trained on them.

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
    with joined_run(folder, emit) as (ranks, emit):  # noqa: PLR1704 - from here on the first process speaks alone
        settings = {
            "stage": "encapsulation", "preset": asdict(preset), "budget": str(budget), "seed": seed,
            "images": images.digest, "perceptual": nets.perceptual.name, "identity": nets.identity.name,
            "init": init,
        }  # fmt: skip

        def plan(compute: Compute) -> int:
            return plan_images(budget, images, preset=preset, seed=seed, compute=compute, nets=nets, ranks=ranks)

        def announce(compute: Compute) -> None:
            crew = f" in each of {ranks.size} processes" if ranks.size > 1 else ""
            _say(emit, f"computing on {compute}{crew}, starting from {init}", nets.warnings)

        total, compute = begin_run(
            folder, settings, runtime=runtime, fresh=fresh, ranks=ranks, announce=announce, plan=plan
        )
        trainer = Encapsulation(
            images, preset=preset, schedule=Schedule.plan(preset.encapsulation, total), seed=seed, compute=compute,
            nets=nets, deadline=budget.amount if budget.kind == "seconds" else None, start=start, ranks=ranks,
            unseen=unseen,
        )  # fmt: skip
        seconds = train(trainer, folder, emit, ranks)
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
