"""Runs of stage 2: adapt the encoder to a set of photos, or to one photo (equation 7, M-33 to M-39)."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from modify_fl.artifacts import Adapted, LoadedStyle, Mode, PhotoAdapted
from modify_fl.config import Budget, Runtime, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, DataError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.estimate import RunEstimate, peak_memory
from modify_fl.training.loop import best_step, train
from modify_fl.training.ranks import Ranks
from modify_fl.training.runs import begin_run, joined_run
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.stage2 import Deliver, Stylization

__all__ = ["adapt", "adapt_to_photo", "estimate", "photo_seed"]


def _plan(
    trainer: Callable[[], Stylization], budget: Budget | None, *, mode: Mode, config: StylizationConfig,
    ranks: Ranks,
) -> int:  # fmt: skip
    """Turn a budget, or the preset's number of steps, into images (M-30)."""
    batch = config.batch if mode == "offline" else 1
    if budget is None:
        return batch * (config.steps if mode == "offline" else config.online_steps)
    if budget.kind != "seconds":
        return max(1, round(budget.amount * (batch if budget.kind == "steps" else 1)))
    start = time.monotonic()
    per_step = best_step(trainer().step, ranks)
    left = max(budget.amount - (time.monotonic() - start), budget.amount / 2)
    return max(1, round(left / per_step)) * batch


def adapt(
    style: LoadedStyle, photos: ImageSet, *, mode: Literal["offline", "online"], config: StylizationConfig,
    budget: Budget | None, seed: int, runtime: Runtime, nets: PerceptualNets, folder: Path, emit: Emit,
    fresh: bool = False, deliver: Deliver | None = None, real: ImageSet | None = None,
) -> Adapted:  # fmt: skip
    """Adapt the encoder to a set of photos, or go on with the run in ``folder``.

    Source: equation 7 of the paper; M-33 to M-38.

    Args:
        style: The verified bundle; its networks are proved unchanged at the end.
        photos: The photos at the bundle's resolution.
        mode: ``"offline"`` shuffles; ``"online"`` takes one photo per step in order of arrival.
        config: Weights, rates, subset.
        budget: Length of the run; the preset's number of steps where none is given.
        seed: Of everything that is drawn.
        runtime: Device, threads, precision.
        nets: LPIPS and the face network, where found.
        folder: Home of the run, private to the photos' owner (P-38).
        emit: Takes every report.
        fresh: Throw away what is in ``folder`` and start anew.
        deliver: As in ``Stylization``; online mode only.
        real: As in ``Stylization``; nothing but the unpaired baseline has any (M-45).

    Returns:
        The trained part of E'.

    Raises:
        ConfigError: The run in ``folder`` had other settings, or another process holds it.
        DataError: There are no photos.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        TrainingDivergedError: The run became unstable (M-53).
    """
    if not len(photos):
        raise DataError("there is no photo to adapt to", fix="name a folder that holds pictures")
    with joined_run(folder, emit) as (ranks, emit):  # noqa: PLR1704 - from here on the first process speaks alone
        if ranks.size > 1 and mode != "offline":
            raise ConfigError("the online mode is one process", why="it takes one photo after another (M-56)")
        settings = {
            "stage": "stylization", "mode": mode, "config": asdict(config), "budget": str(budget), "seed": seed,
            "bundle": style.digest, "images": photos.digest, "perceptual": nets.perceptual.name,
            "identity": nets.identity.name, **({} if real is None else {"real": real.digest}),
        }  # fmt: skip

        def trainer(compute: Compute, total: int = 1, deliver: Deliver | None = None) -> Stylization:
            return Stylization(
                style, photos, mode=mode, config=config, total=total, seed=seed, compute=compute, nets=nets,
                deliver=deliver, real=real, ranks=ranks,
            )  # fmt: skip

        def announce(compute: Compute) -> None:
            crew = f" in each of {ranks.size} processes" if ranks.size > 1 else ""
            emit(TrainingEvent(kind="start", message=f"computing on {compute}{crew}"))
            for warning in nets.warnings:
                emit(TrainingEvent(kind="warning", message=warning))

        total, compute = begin_run(
            folder, settings, runtime=runtime, fresh=fresh, ranks=ranks, announce=announce,
            plan=lambda compute: _plan(lambda: trainer(compute), budget, mode=mode, config=config, ranks=ranks),
        )  # fmt: skip
        stage = trainer(compute, total, deliver)
        seconds = train(stage, folder, emit, ranks)
        return stage.result(seconds)


def estimate(
    style: LoadedStyle, photos: ImageSet, *, mode: Mode, config: StylizationConfig, budget: Budget | None, seed: int,
    runtime: Runtime, nets: PerceptualNets,
) -> RunEstimate:  # fmt: skip
    """Measure what ``adapt``, or ``adapt_to_photo`` for every photo, would take; nothing is written (U-34).

    Arguments as in ``adapt``. In test-time mode the budget has no meaning.
    """
    compute = resolve(runtime)
    used = replace(config, subset="all") if mode == "test-time" else config
    stage = Stylization(style, photos, mode=mode, config=used, total=1, seed=seed, compute=compute, nets=nets)
    per_step = best_step(stage.step)
    if mode == "test-time":
        images = len(photos) * config.test_time_steps
    elif budget is not None and budget.kind == "seconds":
        images = max(1, round(budget.amount / per_step)) * stage.batch
    else:
        images = _plan(lambda: stage, budget, mode=mode, config=config, ranks=stage.ranks)
    steps = -(-images // stage.batch)
    host, device = peak_memory(compute.device)
    return RunEstimate(
        images=images, steps=steps, seconds=steps * per_step, host_bytes=host, device_bytes=device,
        micro=stage.portions.cut, compute=str(compute),
    )  # fmt: skip


def photo_seed(seed: int, photo: Tensor) -> int:
    """Return the seed of a photo's own run, from the run's seed and the pixels (M-35)."""
    pixels = hashlib.sha256(photo.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()
    return int(hashlib.sha256(f"{seed}/{pixels}".encode()).hexdigest()[:12], 16)


def adapt_to_photo(
    style: LoadedStyle, photo: Tensor, *, config: StylizationConfig, seed: int, compute: Compute, nets: PerceptualNets
) -> PhotoAdapted:  # fmt: skip
    """Adapt the encoder to one photo with fresh optimisers (M-34, M-35).

    Source: equation 7 of the paper, "test-time training".

    Args:
        style: The verified bundle; every photo starts from it.
        photo: float32 [1, 3, R, R] in [-1, 1].
        config: Weights and rates; ``test_time_steps`` steps over the whole encoder.
        seed: The run's seed; the photo's own follows from it and the pixels, so
            the result does not depend on the photos that came before.
        compute: Device and precision.
        nets: LPIPS and the face network, where found.

    Returns:
        E' for this photo, with its loss before and after.

    Raises:
        DataError: ``photo`` is not one picture.
    """
    if photo.ndim != 4 or len(photo) != 1:
        raise DataError(f"expected one picture of shape [1, 3, R, R], got {tuple(photo.shape)}")
    single = _OnePhoto(photo)
    stage = Stylization(
        style, single, mode="test-time", config=replace(config, subset="all"),  # type: ignore[arg-type]
        total=config.test_time_steps, seed=photo_seed(seed, photo), compute=compute, nets=nets,
    )  # fmt: skip
    start = time.monotonic()
    first = _image_loss(stage, photo)
    for _ in range(config.test_time_steps):
        stage.step()
    last = _image_loss(stage, photo)
    encoder = stage.encoder.to("cpu").to(memory_format=torch.contiguous_format)
    return PhotoAdapted(
        adapted=stage.result(time.monotonic() - start), encoder=encoder.eval().requires_grad_(requires_grad=False),
        first_loss=first, last_loss=last,
    )  # fmt: skip


class _OnePhoto:
    """The part of ``ImageSet`` that the trainer reads, for one photo in memory."""

    def __init__(self, photo: Tensor) -> None:
        self.photo = photo

    def __len__(self) -> int:
        return 1

    def batch(self, indices: list[int]) -> Tensor:
        return self.photo.expand(len(indices), -1, -1, -1)


@torch.no_grad()
def _image_loss(stage: Stylization, photo: Tensor) -> float:
    photo = photo.to(stage.compute.device)
    output = stage.stylize(photo)
    return float(
        torch.stack([*stage.terms(photo, output).values(), *stage.terms.likeness(photo, output).values()]).sum()
    )
