"""When phase A of stage 1 ends before its time: no time is left, or the images are learnt by heart (M-30, P-82)."""

from collections.abc import Callable
from dataclasses import dataclass

from modify_fl.data import ImageSet
from modify_fl.training.schedule import Schedule

__all__ = ["EarlyEnd"]

_OVERRUN = 1.1
_GAP_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class EarlyEnd:
    """Two reasons, each a sentence where it holds and empty where it does not."""

    deadline: float | None
    """Seconds that the whole run may take; none without a time budget."""
    gap: float
    """How many times worse held-out images may be reconstructed; 0 asks for nothing."""
    images: ImageSet
    """The style set."""
    unseen: ImageSet | None
    """Held-out images."""

    def late(self, schedule: Schedule, images_seen: int, seconds: float) -> str:
        """Say that the deadline would be missed by a tenth, and phase B must begin to be ready by then (M-30).

        Args:
            schedule: That of the run.
            images_seen: So far.
            seconds: Training time so far.
        """
        if self.deadline is None or not images_seen:
            return ""
        if seconds * schedule.total / images_seen <= _OVERRUN * self.deadline:
            return ""
        remaining = seconds / images_seen * (schedule.total - schedule.remap_start)
        if seconds + remaining < self.deadline:
            return ""
        return f"the pace fell: phase B starts now, after {images_seen / 1000:.1f} kimg"

    def learnt(self, step: int, error: Callable[[ImageSet], float]) -> str:
        """Say that held-out images are much worse reconstructed than those trained on (P-82).

        Args:
            step: Steps so far; looked at every 200.
            error: Returns how badly a set is reconstructed.
        """
        if not self.gap or step % _GAP_STEPS or self.unseen is None or not len(self.unseen):
            return ""
        known, unknown = error(self.images), error(self.unseen)
        if unknown < self.gap * known:
            return ""
        return f"held-out images are {unknown / known:.2f} times worse reconstructed: phase B starts now (P-82)"
