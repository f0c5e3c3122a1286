"""What may be chosen in training with privacy, and why other choices are refused (P-20 to P-30).

Nothing here imports torch. The numbers that decide the guarantee stand in
``settings``; these here decide how well it learns. Choices with a single sound
value are fields all the same, so that whoever asks for another value, by
``--set private.NAME=VALUE`` or in code, is told the reason.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from modify_fl.errors import ConfigError
from modify_fl.recipes import require, require_choice

__all__ = ["DP_SCHEDULES", "PrivateConfig", "Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length of a run under a name."""

    batch: int
    """B0."""
    steps: int
    """T."""


DP_SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "default": Schedule(batch=256, steps=500),
        "quick": Schedule(batch=128, steps=50),
    }
)
"""``default`` is that of P-52; ``quick`` takes a twentieth of its gradients."""

# For each choice: what is sound, and for what somebody might ask instead, the reason against it.
_CHOICES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "critic": (
        ("frozen", "none"),
        {
            "trained": "a critic that learns from private photos carries them into the gradients of others, "
            "although it never leaves (P-20, P-21)",
            "private": "noise on the critic alone does not help: the encoder reads the photos too (P-21)",
        },
    ),
    "loss": (
        ("per-sample",),
        {"batch": "a norm, a mean of scores or a statistic over the batch lets photos change each other's loss (P-22)"},
    ),
    "normalisation": (
        ("group",),
        {"batch": "batch normalisation lets one photo move the sum by more than C (P-23, P-24)"},
    ),
    "decoder_noise": (("const",), {"random": "the decoder's noise is a constant of the bundle (P-25)"}),
    "preparation": (
        ("one-crop",),
        {
            "deduplicated": "removing duplicates makes one photo decide about another (P-26)",
            "filtered": "an outlier filter makes one photo decide about another (P-26)",
            "balanced": "balancing uses statistics of the private photos (P-26)",
        },
    ),
    "augmentation": (
        ("views",),
        {
            "rows": "extra rows for flipped photos double the sensitivity; use --augmentations (P-17)",
            "adaptive": "an augmentation that follows the critic's success depends on the whole batch (P-22)",
            "mixed": "mixing photos of a batch puts one into the loss of another (P-22)",
        },
    ),
    "sampling": (
        ("poisson",),
        {
            "shuffled": "accounting for Poisson sampling understates what shuffled batches spend (P-13)",
            "fixed": "a fixed batch size is not the sampling that the accounting is for (P-13)",
            "truncated": "a batch that is cut to fit memory is not a Poisson sample (P-13)",
        },
    ),
    "clipping": (
        ("fixed",),
        {"adaptive": "a bound that follows the gradients' norms releases those norms without a charge (P-16)"},
    ),
    "length": (
        ("fixed",),
        {
            "early-stop": "stopping by a private loss is a release that nobody charged (P-27)",
            "best": "choosing the best checkpoint by a private loss is a release that nobody charged (P-27)",
            "plateau": "a learning rate that follows a private loss is a release that nobody charged (P-27)",
        },
    ),
    "metrics": (
        ("none",),
        {"private": "a metric of private photos may leave as a charged, noisy mean only; none is offered (P-28)"},
    ),
    "accountant": (
        ("rdp", "prv"),
        {
            "gdp": "the GDP accountant reports less than what is spent (P-33)",
            "clt": "the GDP accountant, under its other name, reports less than what is spent (P-33)",
        },
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrivateConfig:
    """Recipe of stage 2 with privacy, beside the weights of equation 7; tuned on public faces (P-30)."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """What moves the weights by the noisy gradient; post-processing, free of charge."""
    learning_rate: float = 1e-4
    """Its rate, constant."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates."""
    ema: float = 0.999
    """Largest decay of the averaged weights that are released; 0 releases the last ones."""
    critic: str = "frozen"
    """The bundle's critic, never trained, or ``none``."""
    loss: str = "per-sample"
    """One loss per photo."""
    normalisation: str = "group"
    """Of the encoder."""
    decoder_noise: str = "const"
    """Of D."""
    preparation: str = "one-crop"
    """From a file to at most one picture, by itself."""
    augmentation: str = "views"
    """Views of a photo are averaged before clipping."""
    sampling: str = "poisson"
    """How photos are drawn."""
    clipping: str = "fixed"
    """How C is chosen: before the run."""
    length: str = "fixed"
    """T is fixed in advance."""
    metrics: str = "none"
    """No figure of private photos is computed for a report."""
    accountant: str = "rdp"
    """RDP is the account of record; ``prv`` may report besides."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value is out of range, or unsound; the sentence says why.
        """
        require_choice("private.optimizer", self.optimizer, ("adam", "sgd"))
        require(
            0 < self.learning_rate < math.inf,
            f"private.learning_rate must be a number above 0, got {self.learning_rate}",
        )
        require(all(0 <= b < 1 for b in self.betas), f"private.betas must lie in [0, 1), got {self.betas}")
        require(0 <= self.ema < 1, f"private.ema must lie in [0, 1), got {self.ema}")
        for name, (sound, refused) in _CHOICES.items():
            got = getattr(self, name)
            if got in sound:
                continue
            raise ConfigError(
                f"private.{name} cannot be {got}",
                why=refused.get(got, "no such choice is known to be sound"),
                fix=f"use {' or '.join(sound)}",
            )
