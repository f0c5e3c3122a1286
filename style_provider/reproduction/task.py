"""What a reproduction compares, and with which settings (M-45, M-47).

Two sets are trained on, two are only measured with: style images of the
reference and held-out photos. A picture that stands on both sides is refused,
because every figure would be flattered by it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from modify_fl.config import Budget, Preset, Runtime
from modify_fl.console import Console
from modify_fl.data import ImageSet, to_uint8
from modify_fl.errors import ConfigError, DataError
from modify_fl.metrics.instruments import Instruments
from modify_fl.perceptual import PerceptualNets
from style_provider.starts import Origin

__all__ = ["EXPERIMENTS", "Experiment", "Material", "Reproduction", "ablation"]

Experiment = Literal["table1", "swap", "xi", "modes"]

EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)
"""The rows of M-47."""

_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class Material:
    """Four sets of pictures of one resolution."""

    styles: ImageSet
    """Style images to train on."""
    reference: ImageSet
    """Style images that nothing is trained on: what pictures are compared with."""
    photos: ImageSet
    """Photos to adapt to."""
    held_out: ImageSet
    """Photos that nothing is trained on: what is painted and measured."""

    def check(self) -> None:
        """Refuse sets that are too small or that share pictures.

        Raises:
            DataError: A set has fewer than two pictures, or one picture is in two sets.
        """
        for name, images in self._sets().items():
            if len(images) < _FEWEST:
                raise DataError(f"{name} needs two pictures or more", got=str(len(images)), fix="add pictures")
        trained = _digests(self.styles) | _digests(self.photos)
        for name in ("--reference", "--held-out"):
            shared = trained & _digests(self._sets()[name])
            if shared:
                raise DataError(
                    f"{len(shared)} pictures of {name} are trained on too", why="its figures would be flattered",
                    fix=f"take them out of --dataset and --photos, or out of {name}",
                )  # fmt: skip

    def _sets(self) -> dict[str, ImageSet]:
        return {
            "--dataset": self.styles, "--reference": self.reference, "--photos": self.photos,
            "--held-out": self.held_out,
        }  # fmt: skip

    def record(self) -> dict[str, object]:
        """Return number and digest of each set (M-48)."""
        return {
            name.removeprefix("--"): {"images": len(images), "digest": images.digest}
            for name, images in self._sets().items()
        }


def _digests(images: ImageSet) -> set[bytes]:
    return {hashlib.sha256(to_uint8(images.batch([index])).tobytes()).digest() for index in range(len(images))}


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A checked request."""

    material: Material
    """The pictures."""
    preset: Preset
    """All settings, with the recipe that belongs to the start."""
    origin: Origin
    """Where stage 1 starts (M-23)."""
    budget: Budget
    """Length of stage 1."""
    adapt_budget: Budget
    """Length of stage 2, offline and online; test-time has its own number of steps (M-34)."""
    seeds: tuple[int, ...]
    """Training seeds (M-46)."""
    styles: tuple[int, ...]
    """Styles painted for each photo."""
    runtime: Runtime
    """Device, threads, precision."""
    folder: Path
    """Runs, results of units, and reports; private to whoever holds the pictures (P-38)."""
    nets: PerceptualNets
    """Networks to train with."""
    instruments: Instruments
    """Networks to measure with."""
    console: Console
    """Shows progress."""

    def __post_init__(self) -> None:
        """Check what no part checks alone."""
        if self.budget.kind != self.adapt_budget.kind:
            raise ConfigError(
                f"{self.budget} and {self.adapt_budget} cannot be added",
                why="the StarGAN gets as much as both stages together",
                fix="give --budget and --adapt-budget in the same unit",
            )

    @property
    def baseline_budget(self) -> Budget:
        """Length of a baseline that has one stage: that of both stages together (M-45)."""
        return replace(self.budget, amount=self.budget.amount + self.adapt_budget.amount)

    def preset_with(self, xi: int | None) -> Preset:
        """Return the preset with another cut; its own without one."""
        return self.preset if xi is None else replace(self.preset, network=replace(self.preset.network, xi=xi))

    def settings(self) -> Mapping[str, object]:
        """Return what the results in the folder depend on; training seeds are not among it, more may be added."""
        return {
            "preset": asdict(self.preset), "init": self.origin.words, "budget": str(self.budget),
            "adapt_budget": str(self.adapt_budget), "styles": list(self.styles), "pictures": self.material.record(),
            "trained_with": {"perceptual": self.nets.perceptual.name, "identity": self.nets.identity.name},
            "measured_with": {name: record.sha256 for name, record in self.instruments.records.items()},
        }  # fmt: skip


def ablation(n_styles: int) -> tuple[int, int, int]:
    """Return the three cuts of the last column of M-24.

    Args:
        n_styles: n, rows of a code: 8 at 32 px to 18 at 1024 px.
    """
    middle = n_styles // 2
    step = 2 if middle <= 5 else 3
    return middle - step, middle, middle + step
