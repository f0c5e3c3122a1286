"""The course of a training run, read from its ``metrics.jsonl`` (U-71).

A run may have been stopped, killed and resumed; what a resumed run computed
again counts once, as it was computed last.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from modify_fl.charts import Band, Point
from modify_fl.errors import DataError

__all__ = ["LOSSES", "PACE", "Course", "read_course"]

LOSSES: Mapping[str, str] = {
    "r": "reconstruction L_r", "l1": "L1", "lp": "perceptual L_lp", "id": "identity L_id", "adv": "adversarial (E, D)",
    "swap": "swap L_swap", "adv_z": "adversarial (M)", "mom": "moments of M", "dis": "loss of Dis",
    "dis_real": "Dis on real pictures", "dis_fake": "Dis on painted pictures", "dis_right": "share Dis tells right",
    "penalty": "gradient penalty",
}  # fmt: skip
"""What the figures of a run mean, in the order of the page; others follow under their own names."""

PACE = "images per second"
"""Name of the pace beside the losses."""

_FILE = "metrics.jsonl"
_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run reported while it trained."""

    name: str
    """Name of its folder."""
    series: Mapping[str, tuple[Point, ...]]
    """By what is drawn: kimg and value, ascending, at most 200 points, each the mean of its neighbours."""
    phases: tuple[Band, ...]
    """Parts of the schedule, in kimg."""


def read_course(folder: Path) -> Course:
    """Read the reports of a run.

    Args:
        folder: Of the run, such as ``style.mdfy.run``.

    Raises:
        DataError: There is no report of progress in it.
    """
    try:
        text = (folder / _FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_course(folder, str(error)) from error
    ticks = _ticks(text)
    if not ticks:
        raise _no_course(folder, "it reports no progress yet")
    found: dict[str, list[Point]] = {name: [] for name in LOSSES}
    pace: list[Point] = []
    for tick in ticks:
        place = tick.images_seen / 1000
        pace.append((place, tick.images_per_second))
        for name, value in tick.values.items():
            found.setdefault(name, []).append((place, value))
    series = {LOSSES.get(name, name): _thinned(points) for name, points in found.items() if _finite(points)}
    return Course(name=folder.resolve().name, series={**series, PACE: _thinned(pace)}, phases=_phases(ticks))


def _no_course(folder: Path, why: str) -> DataError:
    return DataError(
        f"no course of a training in {folder}", why=why, fix="give the folder that package wrote, such as a.mdfy.run"
    )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line, as ``MetricsLog`` writes it."""

    kind: str
    phase: str
    step: int
    images_seen: int
    images_per_second: float
    values: Mapping[str, float]


def _ticks(text: str) -> list[_Line]:
    """Return the ticks that count: those that a resumed run took back are left out."""
    kept: list[_Line] = []
    for line in _lines(text):
        if line.kind == "resume":
            kept = [tick for tick in kept if tick.step <= line.step]
        elif line.kind == "tick":
            kept.append(line)
    return kept


def _lines(text: str) -> Iterator[_Line]:
    for row in text.splitlines():
        try:
            line = json.loads(row)
            yield _Line(
                kind=line["kind"], phase=line["phase"], step=int(line["step"]), images_seen=int(line["images_seen"]),
                images_per_second=float(line["images_per_second"]),
                values={name: math.nan if value is None else float(value) for name, value in line["values"].items()},
            )  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # a killed run leaves half a line behind


def _finite(points: Sequence[Point]) -> bool:
    return any(math.isfinite(value) for _, value in points)


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    known = [point for point in points if math.isfinite(point[1])]
    size = max(1, math.ceil(len(known) / _POINTS))
    groups = [known[start : start + size] for start in range(0, len(known), size)]
    return tuple((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups)


def _phases(ticks: Sequence[_Line]) -> tuple[Band, ...]:
    starts = [(ticks[0].phase, 0.0)]
    for before, after in pairwise(ticks):
        if after.phase != before.phase:
            starts.append((after.phase, before.images_seen / 1000))
    ends = [*(start for _, start in starts[1:]), ticks[-1].images_seen / 1000]
    return tuple(Band(label=name, start=start, end=end) for (name, start), end in zip(starts, ends, strict=True))
