"""The one training loop, for stage 1 and stage 2.

In order: done?, step, report, snapshot, checkpoint, stop? Everything was
validated before the first step; resuming is the same call again (M-52).
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from modify_fl.errors import ConfigError, InterruptedRunError, TrainingDivergedError
from modify_fl.events import Emit, EventKind, TrainingEvent
from modify_fl.training import checkpoint
from modify_fl.training.checkpoint import Checkpoint
from modify_fl.training.interrupt import StopRequest
from modify_fl.training.ranks import Ranks

__all__ = ["Trainer", "best_step", "differences", "open_record", "run_lock", "train"]

_PROBE_STEPS = 6
_PROBE_SECONDS = 15.0
_AGREE_STEPS = 500
_REPORT_STEPS = 10
_CHECKPOINT_SECONDS = 120.0
_BAD_STEPS_MAX = 3
_BLOWUP = 3.0
_SMOOTHING = 0.99


class Trainer(Protocol):
    """What the loop needs of a stage."""

    step_count: int
    """Optimiser steps taken."""
    images_seen: int
    """Images seen."""

    @property
    def images_total(self) -> int:
        """Images at the end of the run."""

    @property
    def phase(self) -> str:
        """Name of the part of the schedule that the next step belongs to."""

    def step(self) -> Mapping[str, Tensor]:
        """Take one step and return figures for the report, float32 [] each; ``r`` is the unweighted L_r."""

    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return all tensors that a checkpoint needs, by group."""

    def values(self) -> Mapping[str, object]:
        """Return all else that a checkpoint needs, as JSON."""

    def restore(self, saved: Checkpoint) -> None:
        """Take over the state of a checkpoint."""

    def snapshot(self, folder: Path) -> tuple[str, ...]:
        """Write sample pictures when due; return what is to be told after this step, one sentence each (M-54, U-10)."""

    def at_pace(self, seconds: float) -> str:
        """Adapt the schedule to the pace where the budget is a time (M-30); return what changed, or nothing."""


def best_step(step: Callable[[], object], ranks: Ranks | None = None) -> float:
    """Return the shortest time of a few steps, at most about fifteen seconds of them, in seconds (M-30).

    The shortest, because a moment in which something else runs on the machine
    would otherwise cut a whole run short; if that moment lasts, the loop notices
    (``Trainer.at_pace``).

    Args:
        step: Takes a step.
        ranks: The processes that take it together; they stop together.
    """
    times: list[float] = []
    ranks = ranks or Ranks()
    while len(times) < _PROBE_STEPS and not ranks.any(said=sum(times) > _PROBE_SECONDS):
        start = time.monotonic()
        step()
        times.append(time.monotonic() - start)
    return min(times)


def open_record(folder: Path, settings: Mapping[str, object], *, fresh: bool) -> dict[str, object] | None:
    """Compare ``settings`` with those of the run in ``folder``, where there is one.

    Returns:
        The run's record (``settings`` and ``planned``), or nothing for a new run.

    Raises:
        ConfigError: The run was started with other settings; each difference is listed (U-35).
    """
    path = folder / "config.json"
    if fresh or not path.is_file():
        return None
    record: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    old, new = record["settings"], json.loads(json.dumps(dict(settings)))
    found = differences(old, new)
    if found:
        raise ConfigError(
            "this run was started with other settings", why="; ".join(found),
            fix="repeat the old settings to go on, or add --fresh to start anew",
        )  # fmt: skip
    return record


def differences(old: object, new: object, name: str = "") -> list[str]:
    """Return where two JSON values differ, one sentence each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{name}.{k}" if name else k)]
    return [] if old == new else [f"{name} was {old}, now {new}"]


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        ConfigError: Another process trains in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            _lock(descriptor)
        except OSError as error:
            raise ConfigError(
                "another process trains in this run folder", why="its lock is held", fix="wait for it, or end it"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:  # pragma: no cover - Windows
        import msvcrt  # noqa: PLC0415

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _Meter:
    """Means since the last report, pace and divergence (M-53)."""

    def __init__(self, seconds: float, images: int) -> None:
        self.before, self.start = seconds, time.monotonic()
        self.sums: dict[str, tuple[Tensor, int]] = {}
        self.mark = (self.start, images)
        self.bad, self.average, self.best = 0, math.nan, math.inf

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def add(self, figures: Mapping[str, Tensor]) -> None:
        for name, value in figures.items():
            total, count = self.sums.get(name, (torch.zeros_like(value), 0))
            self.sums[name] = (total + value, count + 1)
        self._watch(figures)

    def _watch(self, figures: Mapping[str, Tensor]) -> None:
        finite = all(bool(value.isfinite()) for value in figures.values())
        self.bad = 0 if finite else self.bad + 1
        if self.bad >= _BAD_STEPS_MAX:
            raise TrainingDivergedError(f"{self.bad} steps in a row had a loss that is not finite")
        if "r" not in figures or not finite:
            return
        now = float(figures["r"])
        self.average = now if math.isnan(self.average) else _SMOOTHING * self.average + (1 - _SMOOTHING) * now
        self.best = min(self.best, self.average)
        if self.average > _BLOWUP * self.best:
            raise TrainingDivergedError(
                "the reconstruction error rose to three times its best",
                expected=f"below {_BLOWUP * self.best:.4f}", got=f"{self.average:.4f}",
            )  # fmt: skip

    def report(self, images: int) -> tuple[dict[str, float], float]:
        now, (then, seen) = time.monotonic(), self.mark
        self.mark = (now, images)
        values = {name: float(total) / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return values, (images - seen) / max(now - then, 1e-9)


def train(
    trainer: Trainer, folder: Path, emit: Emit, ranks: Ranks | None = None, *,
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
) -> float:  # fmt: skip
    """Run ``trainer`` to its end, from its checkpoint where there is one.

    Args:
        trainer: A stage, ready for its first step.
        folder: The run's folder; checkpoints and samples go there.
        emit: Takes every report.
        ranks: The processes that train together; the first one writes (M-56).
        checkpoint_seconds: Time between two checkpoints; 0 saves after every step.

    Returns:
        Training time over all parts of the run, in seconds, as the last checkpoint has it: the same at every repeat.

    Raises:
        InterruptedRunError: A signal asked for a stop; a checkpoint was saved.
        TrainingDivergedError: The run became unstable (M-53); the last good checkpoint stands.
        MemoryShortError: Memory does not suffice for a single image (U-10).
    """
    ranks = ranks or Ranks()
    seconds = _resume(trainer, folder, emit, ranks)
    begun = trainer.images_seen
    meter, saved, phase = _Meter(seconds, begun), time.monotonic(), trainer.phase

    def tell(kind: EventKind, message: str = "", values: Mapping[str, float] | None = None, pace: float = 0.0) -> None:
        left = (trainer.images_total - trainer.images_seen) / pace if pace else 0.0
        emit(
            TrainingEvent(
                kind=kind, phase=trainer.phase, step=trainer.step_count, images_seen=trainer.images_seen,
                images_total=trainer.images_total, seconds=meter.seconds, images_per_second=pace,
                eta_seconds=left, values=values or {}, message=message,
            )
        )  # fmt: skip

    with StopRequest() as stop:
        while trainer.images_seen < trainer.images_total:
            meter.add(trainer.step())

            if trainer.step_count % _REPORT_STEPS == 0:
                values, pace = meter.report(trainer.images_seen)
                tell("tick", values=values, pace=pace)
                if change := trainer.at_pace(ranks.number(meter.seconds)):
                    tell("warning", change)
            if trainer.phase != phase:
                phase = trainer.phase
                meter.average, meter.best = math.nan, math.inf
                tell("phase", phase)
            for warning in trainer.snapshot(folder / "samples") if ranks.leads else ():
                tell("warning", warning)

            stopping = _agreed(trainer, ranks, stop=stop.requested)
            if stopping or time.monotonic() - saved > checkpoint_seconds:
                _save(trainer, folder, meter.seconds, ranks)
                saved = time.monotonic()
                tell("checkpoint")
            if stopping:
                raise InterruptedRunError(
                    f"stopped after {trainer.step_count} steps", why="a signal asked for it; a checkpoint was saved"
                )
    ranks.require_agreement(trainer.tensors())
    if trainer.images_seen > begun:  # a finished run that is called again took no longer: its time decides an audit
        seconds = meter.seconds
        _save(trainer, folder, seconds, ranks)
    tell("done", f"{trainer.images_seen / 1000:.1f} kimg in {seconds / 60:.1f} minutes")
    return seconds


def _agreed(trainer: Trainer, ranks: Ranks, *, stop: bool) -> bool:
    """Compare weights every now and then (M-56); return whether a process was asked to stop."""
    if trainer.step_count % _AGREE_STEPS == 0:
        ranks.require_agreement(trainer.tensors())
    return ranks.any(said=stop)


def _resume(trainer: Trainer, folder: Path, emit: Emit, ranks: Ranks) -> float:
    saved = checkpoint.load(folder)
    step = saved.step if saved else 0
    if ranks.any(said=step != ranks.number(step)):
        raise ConfigError(
            "the processes do not see the same checkpoint", why=f"this one finds step {step}",
            fix="put the run into a folder that all machines share",
        )  # fmt: skip
    if saved is None:
        return 0.0
    trainer.restore(saved)
    seconds = float(str(saved.values["seconds"]))
    before = int(str(saved.values.get("processes", 1)))
    crew = f" with {ranks.size} process(es) instead of {before}" if before != ranks.size else ""
    emit(
        TrainingEvent(
            kind="resume", step=trainer.step_count, images_seen=trainer.images_seen, seconds=seconds,
            images_total=trainer.images_total, message=f"going on after step {trainer.step_count}{crew}",
        )
    )  # fmt: skip
    return seconds


def _save(trainer: Trainer, folder: Path, seconds: float, ranks: Ranks) -> None:
    if not ranks.leads:
        return
    values = {
        **trainer.values(), "images_seen": trainer.images_seen, "seconds": seconds, "processes": ranks.size,
    }  # fmt: skip
    checkpoint.save(folder, Checkpoint(step=trainer.step_count, tensors=trainer.tensors(), values=values))
