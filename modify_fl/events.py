"""What a training run reports.

The library emits events and never prints (style rule: the library logs, the
command line prints). An event holds figures and sentences only: no pixels, no
latents, no file names of photos (P-37).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Emit", "EventKind", "TrainingEvent"]

EventKind = Literal["start", "tick", "warning", "snapshot", "checkpoint", "resume", "phase", "done"]


@dataclass(frozen=True, kw_only=True)
class TrainingEvent:
    """One report of a run."""

    kind: EventKind
    """What happened."""
    phase: str = ""
    """Part of the schedule, such as ``"reconstruct"`` or ``"remap"``."""
    step: int = 0
    """Optimiser steps taken so far."""
    images_seen: int = 0
    """Images seen so far, shown as kimg."""
    images_total: int = 0
    """Images at the end of the run."""
    seconds: float = 0.0
    """Training time so far, summed over all resumed parts, in seconds."""
    images_per_second: float = 0.0
    """Pace since the last tick."""
    eta_seconds: float = 0.0
    """Estimated time left, in seconds."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Means since the last tick, by name; non-negative losses in their own units."""
    message: str = ""
    """One plain sentence for people; empty for ticks."""


Emit = Callable[[TrainingEvent], None]
