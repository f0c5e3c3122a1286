"""Public settings of DP-SGD: everything that decides the guarantee, and nothing about the photos (P-7, P-12).

Every number is given by the user or follows from other given numbers. None may
be derived from the true number of photos: with q and B0 computed from it, one
photo more rescaled every update by a tenth.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from modify_fl.errors import ConfigError
from modify_fl.recipes import require, require_choice

__all__ = ["NOT_STATED", "DpSettings", "Engine", "Unit"]

NOT_STATED = "not stated"
"""What was tuned on private photos, where nobody said so: a program cannot know (P-2, P-30)."""

Unit = Literal["image", "person"]
Engine = Literal["micro", "opacus"]

_AUGMENTATIONS_MAX = 64


@dataclass(frozen=True, kw_only=True)
class DpSettings:
    """One DP-SGD schedule: T steps of the subsampled Gaussian mechanism."""

    epsilon: float | None = None
    """The epsilon that ``noise_multiplier`` was computed for; none where the noise was given."""
    delta: float = 1e-5
    """Delta of the claim, below ``1 / n_public`` (P-35)."""
    n_public: int
    """Number of units as the user states it: public, best rounded; the true number is never read (P-12)."""
    batch: int = 256
    """B0, the public divisor of every noisy sum."""
    steps: int = 500
    """T, releases of the run; fixed in advance (P-27)."""
    sampling_rate: float = 0.0
    """q, the probability of each unit to be in a step; ``batch / n_public`` where it is 0."""
    noise_multiplier: float
    """sigma, standard deviation of the noise over ``max_grad_norm``."""
    max_grad_norm: float = 1.0
    """C, bound on the gradient of one unit; tuned on public data (P-16)."""
    unit: Unit = "image"
    """What is protected as one (P-9)."""
    augmentations: int = 1
    """K, views of an image that are averaged before clipping (P-17)."""
    per_person: int = 4
    """m, images of one person that are averaged before clipping; unit ``person`` only (P-10)."""
    engine: Engine = "micro"
    """Which backend computes per-unit gradients; both give the same sums (P-15)."""

    def __post_init__(self) -> None:
        """Check every field and fill in ``sampling_rate``.

        Raises:
            ConfigError: A number is out of range; delta is not below 1 / n_public (P-35).
        """
        require_choice("unit", self.unit, get_args(Unit))
        require_choice("engine", self.engine, get_args(Engine))
        for name in ("n_public", "batch", "steps", "augmentations", "per_person"):
            got = getattr(self, name)
            require(isinstance(got, int) and got >= 1, f"{name} must be a whole number of at least 1, got {got}")
        for name in ("noise_multiplier", "max_grad_norm", "delta"):
            got = getattr(self, name)
            require(math.isfinite(got) and got > 0, f"{name} must be a number above 0, got {got}")
        require(
            self.epsilon is None or (math.isfinite(self.epsilon) and self.epsilon > 0),
            f"epsilon must be a number above 0, got {self.epsilon}",
        )
        if self.sampling_rate == 0:
            object.__setattr__(self, "sampling_rate", self.batch / self.n_public)
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError(
                f"the sampling rate must lie between 0 and 1, got {self.sampling_rate:g}",
                why="every step takes each unit with probability batch / n_public (P-12)",
                fix="make --batch at most --n-public",
            )
        if not self.delta < 1 / self.n_public:
            raise ConfigError(
                f"delta must be below 1 / n_public = {1 / self.n_public:g}, got {self.delta:g}",
                why="with a larger delta, publishing one photo whole would satisfy the claim (P-35)",
                fix="use --delta 1e-5, or a tenth of 1 / n_public",
            )
        require(
            self.augmentations <= _AUGMENTATIONS_MAX,
            f"augmentations must be at most {_AUGMENTATIONS_MAX}, got {self.augmentations}",
        )
