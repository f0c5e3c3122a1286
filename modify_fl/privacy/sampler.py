"""Poisson sampling from the operating system's generator (P-12, P-13).

Guarantees: each unit is in a step with probability q, independently of all
others and of all other steps, by draws that nobody can predict or repeat. q is
a public setting; the number of units is only ever used to draw for each of them.
Never shuffling, never a fixed batch size: with those, accounting for Poisson
sampling errs on the unsafe side. Nothing here is logged.

| case | result |
|---|---|
| no unit is drawn | an empty list: the step adds noise alone, and is charged |
| q = 1 | all units |
| no units at all | an empty list |
"""

import os

import numpy as np

from modify_fl.errors import ConfigError

__all__ = ["PoissonSampler"]

_BITS = 53
_WORD = 8


class PoissonSampler:
    """Draws the units of a step."""

    def __init__(self, sampling_rate: float) -> None:
        """Keep q.

        Raises:
            ConfigError: q is outside (0, 1].
        """
        if not 0 < sampling_rate <= 1:
            raise ConfigError(f"the sampling rate must lie between 0 and 1, got {sampling_rate}")
        self.sampling_rate = sampling_rate

    def draw(self, units: int) -> list[int]:
        """Return which of ``units`` take part in this step, ascending; often none, sometimes all."""
        words = np.frombuffer(os.urandom(_WORD * units), dtype="<u8") >> np.uint64(64 - _BITS)
        # A multiple of 2^-53 below 1; at q = 1 every one of them is smaller.
        return np.flatnonzero(words * 2.0**-_BITS < self.sampling_rate).tolist()
