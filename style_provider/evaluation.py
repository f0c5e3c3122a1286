"""How well a bundle paints: protocols P1 and, without unpaired baselines, P2 (M-44 to M-48).

Photos are painted batch by batch and forgotten; what stays is features,
embeddings and the indices of the pictures that the report shows.

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.data import holdout_split, to_uint8
from modify_fl.events import Emit, TrainingEvent
from modify_fl.metrics.collector import LABELS, Collector
from modify_fl.metrics.colour import reinhard
from modify_fl.metrics.distances import floor
from modify_fl.metrics.figures import Estimate, Measurement, mean_estimate, unavailable
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import Comparison, compare_nearest, compare_reconstructions
from modify_fl.streams import generator
from modify_fl.style import Style
from style_provider.evaluation_task import Evaluation, record

__all__ = ["COLUMNS", "RECONSTRUCTION", "Findings", "evaluate_style", "held_out"]

COLUMNS: Mapping[str, str] = {
    "style": "style", "floor": "floor", "photos": "raw photos", "colour": "colour transfer",
}  # fmt: skip
"""What is measured, in the order of the table: the style, and what its figures stand beside (M-45)."""

RECONSTRUCTION: Mapping[str, str] = {"lpips": "LPIPS", "psnr": "PSNR (dB)", "l1": "L1"}
"""Figures of D(E(y)) on held-out style images."""

_BATCH_PIXELS = 8 * 256 * 256
_WORST = 8

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an evaluation found."""

    columns: Mapping[str, Mapping[str, Measurement]]
    """Figures of P1 by the keys of ``COLUMNS``; a column has those that make sense for it."""
    reconstruction: Mapping[str, Measurement]
    """Figures of D(E(y)), by the keys of ``RECONSTRUCTION``."""
    nearest: Mapping[str, Measurement]
    """The same for the training picture that is most like y."""
    worst: list[int]
    """Photos whose pictures are least like them, worst first."""
    record: Mapping[str, object]
    """What the figures depend on (M-48)."""
    warnings: tuple[str, ...]
    """What the user must be told."""


def evaluate_style(task: Evaluation, instruments: Instruments, emit: Emit) -> Findings:
    """Compute all figures.

    Args:
        task: What to measure.
        instruments: The measuring networks that are there.
        emit: Told after each batch.
    """
    styled, coloured = (Collector(instruments=instruments, seeds=task.seeds) for _ in range(2))
    plain, reference = Collector(instruments=instruments), Collector(instruments=instruments)
    clock = _Clock(len(task.photos) + len(task.styles), emit)
    for chunk in _chunks(len(task.photos), task.style.resolution):
        photos = to_uint8(task.photos.batch(chunk))  # [B, R, R, 3]
        plain.add(photos[:, None])
        styled.add(task.paint(chunk, task.seeds))
        coloured.add(_recolour(task, chunk))
        clock.advance(len(chunk))
    for chunk in _chunks(len(task.styles), task.style.resolution):
        if instruments.inception is not None:
            reference.add(to_uint8(task.styles.batch(chunk))[:, None])
        clock.advance(len(chunk))
    clock.say("computing distances and intervals")
    target, seed = reference.features, task.seed
    columns = {
        "style": {
            **styled.distances(target, seed=seed), **styled.diversity(seed=seed), **styled.identity(plain, seed=seed)
        },
        "floor": _floor(task, target, instruments),
        "photos": plain.distances(target, seed=seed),
        "colour": {
            **coloured.distances(target, seed=seed), **coloured.diversity(seed=seed),
            **coloured.identity(plain, seed=seed),
        },
    }  # fmt: skip
    own, nearest = _reconstructions(task, instruments)
    return Findings(
        columns=columns, reconstruction=own, nearest=nearest, worst=styled.least_alike(plain, _WORST),
        record=record(task, instruments), warnings=_warnings(instruments, columns["style"]),
    )  # fmt: skip


def held_out(task: Evaluation) -> tuple[list[int], list[int]]:
    """Return the style images that ``package`` trained on and those it held out (M-44).

    The split is a function of the number of images and of the run's seed, both
    known again here; it is right only for the same set, in the same number.

    Returns:
        Indices of both; the second is empty where the manifest names no held-out image.
    """
    manifest = task.style.loaded.manifest
    counts = {figure.samples for figure in manifest.evaluation if figure.samples}
    held = min(counts, default=0)
    total = len(task.styles)
    if not 0 < held < total:
        return list(range(total)), []
    return holdout_split(total, held / total, manifest.provenance.training.seed)


def _chunks(count: int, resolution: int) -> Iterator[list[int]]:
    size = max(1, min(16, _BATCH_PIXELS // resolution**2))
    for start in range(0, count, size):
        yield list(range(start, min(start + size, count)))


def _recolour(task: Evaluation, chunk: list[int]) -> Pixels:
    """Give each photo the colours of as many random style images as there are styles, [B, S, R, R, 3]."""
    rows = []
    for index in chunk:
        picks = torch.randint(len(task.styles), (len(task.seeds),), generator=generator(task.seed, "colour", index))
        photo = task.photos.batch([index]).expand(len(task.seeds), -1, -1, -1)  # [S, 3, R, R]
        rows.append(to_uint8(reinhard(photo, task.styles.batch(picks.tolist()))))
    return np.stack(rows)


def _floor(task: Evaluation, target: torch.Tensor | None, instruments: Instruments) -> dict[str, Measurement]:
    if target is None:
        nothing = unavailable(instruments.missing.get("inception", "no features"))
        found: tuple[Estimate, Estimate] = (nothing, nothing)
    else:
        found = floor(target, seed=task.seed)
    half = len(task.styles) // 2
    return {
        key: Measurement.of(LABELS[key], estimate, n=half, reference=half, resolution=task.style.resolution)
        for key, estimate in zip(("kid", "fid"), found, strict=True)
    }


def _reconstructions(
    task: Evaluation, instruments: Instruments
) -> tuple[dict[str, Measurement], dict[str, Measurement]]:
    trained, held = held_out(task)
    if not held:
        why = unavailable("the bundle names no held-out style image, or fewer images were given than were held out")
        rows = {
            key: Measurement.of(label, why, n=0, resolution=task.style.resolution)
            for key, label in RECONSTRUCTION.items()
        }
        return rows, rows
    images, lpips = task.styles.subset(held), instruments.lpips
    own = compare_reconstructions(images, Style(task.style.loaded).reconstruct, lpips)  # E itself, M-44
    near = compare_nearest(images, task.styles.subset(trained), lpips)
    return _measured(own, task, "", instruments), _measured(near, task, f"of {len(trained)} images", instruments)


def _measured(comparison: Comparison, task: Evaluation, note: str, instruments: Instruments) -> dict[str, Measurement]:
    found = {}
    for key, label in RECONSTRUCTION.items():
        values = getattr(comparison, key)
        if values is None:
            estimate = unavailable(instruments.missing["lpips"])
        else:
            estimate = mean_estimate(values, seed=task.seed, note=note)
        found[key] = Measurement.of(label, estimate, n=len(comparison.l1), resolution=task.style.resolution)
    return found


def _warnings(instruments: Instruments, figures: Mapping[str, Measurement]) -> tuple[str, ...]:
    found = [f"not available: {why}" for why in instruments.missing.values()]
    if "biased" in figures["fid"].note:
        found.append(f"FID is {figures['fid'].note}")
    return tuple(found)


class _Clock:
    """Turns pictures done into progress events."""

    def __init__(self, total: int, emit: Emit) -> None:
        self._total, self._emit, self._start, self._done = total, emit, time.monotonic(), 0

    def advance(self, count: int) -> None:
        self._done += count
        spent = max(time.monotonic() - self._start, 1e-9)
        pace = self._done / spent
        left = (self._total - self._done) / pace if pace else math.inf
        self._emit(TrainingEvent(
            kind="tick", phase="evaluate", step=self._done, images_seen=self._done, images_total=self._total,
            seconds=spent, images_per_second=pace, eta_seconds=left,
        ))  # fmt: skip

    def say(self, message: str) -> None:
        self._emit(TrainingEvent(kind="done", message=message))
