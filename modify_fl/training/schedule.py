"""The course of stage 1 as a function of images seen (M-27, M-29, M-30).

The clock never enters here: a budget in minutes is turned into images once,
before the first step.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from modify_fl.config import EncapsulationConfig

__all__ = ["Phase", "Schedule"]

Phase = Literal["reconstruct", "adversarial", "remap"]

_RATE_FLOOR = 0.05


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Image counts at which the parts of stage 1 begin; multiples of the batch."""

    batch: int
    """Images per step."""
    discriminator_start: int
    """Dis trains from here on (M-29)."""
    identity_start: int
    """The identity term takes part from here on (ADR 4)."""
    ramp_start: int
    """The adversarial weight rises from here on."""
    ramp_end: int
    """The adversarial weight has its full value from here on."""
    remap_start: int
    """Phase B begins (M-27)."""
    total: int
    """The run ends."""

    @classmethod
    def plan(cls, config: EncapsulationConfig, images: int) -> Self:
        """Lay the parts of ``config`` over about ``images`` images, at least two steps."""
        steps = max(2, round(images / config.batch))
        reconstruct, ramp, _, remap = config.parts
        remap_start = steps - min(steps - 1, max(1, round(remap * steps))) if remap else steps
        marks = [config.discriminator_start, config.identity_start, reconstruct, reconstruct + ramp]
        early = [min(remap_start, round(mark * steps)) * config.batch for mark in marks]
        return cls(
            batch=config.batch,
            discriminator_start=early[0],
            identity_start=early[1],
            ramp_start=early[2],
            ramp_end=early[3],
            remap_start=remap_start * config.batch,
            total=steps * config.batch,
        )

    def phase(self, images_seen: int) -> Phase:
        """Return what the step after ``images_seen`` images trains."""
        if images_seen >= self.remap_start:
            return "remap"
        return "adversarial" if images_seen >= self.ramp_start else "reconstruct"

    def identity(self, images_seen: int) -> bool:
        """Return whether the identity term takes part."""
        return images_seen >= self.identity_start

    def adversary(self, images_seen: int) -> float:
        """Return the share of lambda_adv^r in force, 0 to 1 (M-29)."""
        if images_seen < self.ramp_start:
            return 0.0
        length = max(1, self.ramp_end - self.ramp_start)
        return min(1.0, (images_seen - self.ramp_start) / length) if self.ramp_end > self.ramp_start else 1.0

    def rate(self, images_seen: int) -> float:
        """Return the factor of the learning rate: cosine to 5 %, restarted in phase B."""
        start, end = (0, self.remap_start) if images_seen < self.remap_start else (self.remap_start, self.total)
        part = (images_seen - start) / max(1, end - start)
        return _RATE_FLOOR + (1 - _RATE_FLOOR) * (0.5 + 0.5 * math.cos(math.pi * part))

    def jump_to_remap(self, images_seen: int) -> Self:
        """Return the schedule that enters phase B now and keeps its length (M-30)."""
        return replace(
            self, remap_start=images_seen, total=images_seen + self.total - self.remap_start,
            ramp_start=min(self.ramp_start, images_seen), ramp_end=min(self.ramp_end, images_seen),
        )  # fmt: skip
