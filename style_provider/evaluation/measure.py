"""How well a bundle paints: protocols P1 and, without unpaired baselines, P2 (M-44 to M-48).

Photos are painted batch by batch and forgotten; what stays is features,
embeddings and the indices of the pictures that the report shows.

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.data import to_uint8
from modify_fl.events import Emit, TrainingEvent
from modify_fl.metrics.collector import LABELS, Collector
from modify_fl.metrics.colour import recolour
from modify_fl.metrics.distances import floor
from modify_fl.metrics.figures import Estimate, Measurement, mean_estimate, unavailable
from modify_fl.metrics.identity import PairHistogram
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import Comparison, compare_nearest, compare_reconstructions
from modify_fl.style import Style
from style_provider.evaluation.task import Evaluation, record
from style_provider.holdout import split

__all__ = ["COLUMNS", "RECONSTRUCTION", "Findings", "evaluate_style", "evaluate_styles", "held_out"]

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
    likeness: PairHistogram | None = None
    """Cosines of the face network over all pairs; none without it."""
    seeds: tuple["Findings", ...] = ()
    """Findings of each training seed, where these are of several together (M-46)."""


def evaluate_style(task: Evaluation, instruments: Instruments, emit: Emit) -> Findings:
    """Compute all figures of one bundle; see ``evaluate_styles``."""
    return evaluate_styles([task], instruments, emit)[0]


def evaluate_styles(tasks: Sequence[Evaluation], instruments: Instruments, emit: Emit) -> tuple[Findings, ...]:
    """Compute all figures of bundles that are measured on the same pictures.

    Photos, reference and baselines are measured once for all of them.

    Args:
        tasks: What to measure, at least one; all with the same pictures, styles and seed.
        instruments: The measuring networks that are there.
        emit: Told after each batch.

    Returns:
        Findings for each of ``tasks``, in their order.
    """
    first = tasks[0]
    plain, reference = Collector(instruments=instruments), Collector(instruments=instruments)
    coloured, *styled = (Collector(instruments=instruments, seeds=first.seeds) for _ in range(1 + len(tasks)))
    clock = _Clock(len(first.photos) + len(first.target), emit)
    for chunk in _chunks(len(first.photos), first.style.resolution):
        plain.add(to_uint8(first.photos.batch(chunk))[:, None])  # [B, 1, R, R, 3]
        coloured.add(recolour(first.photos, first.target, chunk, count=len(first.seeds), seed=first.seed))
        for task, collector in zip(tasks, styled, strict=True):
            collector.add(task.paint_each(chunk))
        clock.advance(len(chunk))
    for chunk in _chunks(len(first.target), first.style.resolution):
        if instruments.inception is not None:
            reference.add(to_uint8(first.target.batch(chunk))[:, None])
        clock.advance(len(chunk))
    clock.say("computing distances and intervals")
    target = reference.features
    beside = {
        "floor": _floor(first, target, instruments),
        "photos": plain.distances(target, seed=first.seed),
        "colour": _all_figures(coloured, plain, target, first.seed),
    }
    return tuple(
        _findings(task, collector, plain, _all_figures(collector, plain, target, task.seed), beside)
        for task, collector in zip(tasks, styled, strict=True)
    )


def _findings(
    task: Evaluation, styled: Collector, plain: Collector, figures: Mapping[str, Measurement],
    beside: Mapping[str, Mapping[str, Measurement]],
) -> Findings:  # fmt: skip
    instruments = styled.instruments
    own, nearest = _reconstructions(task, instruments)
    return Findings(
        columns={"style": figures, **beside}, reconstruction=own, nearest=nearest,
        worst=styled.least_alike(plain, _WORST), record=record(task, instruments),
        warnings=_warnings(instruments, figures), likeness=styled.likeness(plain),
    )  # fmt: skip


def _all_figures(
    pictures: Collector, plain: Collector, target: torch.Tensor | None, seed: int
) -> dict[str, Measurement]:
    distances, diversity = pictures.distances(target, seed=seed), pictures.diversity(seed=seed)
    return {**distances, **diversity, **pictures.identity(plain, seed=seed)}


def held_out(task: Evaluation) -> tuple[list[int], list[int]]:
    """Return the style images that ``package`` trained on and those it held out (M-44).

    The split is a function of the images, of how many were held out and of the
    run's seed, all known again here; it is right only for the same set.
    Where a reference was kept out of every training, it serves instead.

    Returns:
        Indices of both; the second is empty where the manifest names no held-out image.
    """
    manifest = task.style.loaded.manifest
    counts = {figure.samples for figure in manifest.evaluation if figure.samples}
    held = min(counts, default=0)
    total = len(task.styles)
    if not 0 < held < total:
        return list(range(total)), []
    return split(task.styles, held, manifest.provenance.training.seed)


def _chunks(count: int, resolution: int) -> Iterator[list[int]]:
    size = max(1, min(16, _BATCH_PIXELS // resolution**2))
    for start in range(0, count, size):
        yield list(range(start, min(start + size, count)))


def _floor(task: Evaluation, target: torch.Tensor | None, instruments: Instruments) -> dict[str, Measurement]:
    if target is None:
        nothing = unavailable(instruments.missing.get("inception", "no features"))
        found: tuple[Estimate, Estimate] = (nothing, nothing)
    else:
        found = floor(target, seed=task.seed)
    half = len(task.target) // 2
    return {
        key: Measurement.of(LABELS[key], estimate, n=half, reference=half, resolution=task.style.resolution)
        for key, estimate in zip(("kid", "fid"), found, strict=True)
    }


def _reconstructions(
    task: Evaluation, instruments: Instruments
) -> tuple[dict[str, Measurement], dict[str, Measurement]]:
    trained, held = held_out(task)
    if not held and task.reference is None:
        why = unavailable("the bundle names no held-out style image, or fewer images were given than were held out")
        rows = {
            key: Measurement.of(label, why, n=0, resolution=task.style.resolution)
            for key, label in RECONSTRUCTION.items()
        }
        return rows, rows
    images, lpips = task.reference or task.styles.subset(held), instruments.lpips
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
