"""Training of the compact StarGAN v2, in the same loop as both stages of the method (M-45)."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from modify_fl.baselines.stargan import StarGan, StarGanSizes
from modify_fl.baselines.trainer import StarGanConfig, StarGanTrainer
from modify_fl.config import Budget, Runtime
from modify_fl.data import ImageSet
from modify_fl.errors import DataError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.training.loop import best_step, run_lock, train
from modify_fl.training.ranks import Ranks
from modify_fl.training.runs import begin_run
from modify_fl.training.runtime import Compute

__all__ = ["train_stargan"]

_NEVER = 10**9
_TYPICAL = 1.1
"""A usual step against the best of a few, as in stage 1."""


def train_stargan(
    photos: ImageSet, styles: ImageSet, *, sizes: StarGanSizes, config: StarGanConfig, budget: Budget, seed: int,
    runtime: Runtime, folder: Path, emit: Emit,
) -> tuple[StarGan, float]:  # fmt: skip
    """Train the baseline, or go on with the run in ``folder``.

    Args:
        photos: Photos at the resolution of ``sizes``.
        styles: Style images at the same resolution; both sets are in one place here, unlike in the method.
        sizes: Of the networks.
        config: Weights and rates.
        budget: Length of the run; a time becomes images once, before the first step (M-30).
        seed: Of everything that is drawn.
        runtime: Device, threads, precision.
        folder: Home of the run.
        emit: Takes every report.

    Returns:
        The averaged networks, on the CPU, frozen; and the training time in seconds.

    Raises:
        ConfigError: The run in ``folder`` had other settings, or another process holds it.
        DataError: A set is empty.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        TrainingDivergedError: The run became unstable (M-53).
    """
    if not (len(photos) and len(styles)):
        raise DataError("StarGAN v2 needs photos and style images", got=f"{len(photos)} and {len(styles)}")
    settings = {
        "stage": "stargan", "sizes": asdict(sizes), "config": asdict(config), "budget": str(budget), "seed": seed,
        "photos": photos.digest, "styles": styles.digest,
    }  # fmt: skip

    def trainer(total: int, compute: Compute) -> StarGanTrainer:
        return StarGanTrainer(photos, styles, sizes=sizes, config=config, total=total, seed=seed, compute=compute)

    with run_lock(folder):
        total, compute = begin_run(
            folder, settings, runtime=runtime, fresh=False, ranks=Ranks(),
            announce=lambda compute: emit(TrainingEvent(kind="start", message=f"computing on {compute}")),
            plan=lambda compute: _plan(lambda: trainer(_NEVER, compute), budget, config.batch),
        )  # fmt: skip
        stage = trainer(total, compute)
        seconds = train(stage, folder, emit)
    average = stage.average.to("cpu").to(memory_format=torch.contiguous_format)
    return average, seconds


def _plan(trainer: Callable[[], StarGanTrainer], budget: Budget, batch: int) -> int:
    """Turn a budget into images, at least two steps (M-30)."""
    if budget.kind != "seconds":
        return max(2 * batch, round(budget.amount * (batch if budget.kind == "steps" else 1)))
    start = time.monotonic()
    per_step = best_step(trainer().step)
    left = max(budget.amount - (time.monotonic() - start), budget.amount / 2)
    return max(2, round(left / (_TYPICAL * per_step))) * batch
