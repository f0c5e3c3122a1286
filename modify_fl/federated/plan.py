"""``plan.json``: the public numbers on which all agree before the first round (F-10, F-12, P-7).

The coordinator writes a plan, each site accepts one copy of it, and trains by that
copy: a message names round, run and bundle, and no number of training. Nothing here
imports torch or Flower.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from modify_fl.config import Subset
from modify_fl.privacy.settings import DpSettings, Unit
from modify_fl.recipes import require, require_choice
from protocol.canonical import dump_json, parse_json
from protocol.schema import Bound, Hex64, Positive, decode, encode
from protocol.storage import atomic_writer, read_file

__all__ = ["PLAN_FILE", "FederationPlan", "PrivatePlan", "read_plan", "update_norm", "write_plan"]

PLAN_FILE = "plan.json"
"""Name of the file in a kit and in a site's folder."""

_LARGEST = 1 << 16
_MOST_MASKED = 1000  # the sum of their numbers fits into 32 bits
_Number = Annotated[float, Bound(low=0)]


@dataclass(frozen=True, kw_only=True)
class PrivatePlan:
    """Numbers of DP-SGD on every site; each site charges its own ledger for them (P-12, P-41)."""

    n_public: Positive
    """Number of units of a site, rounded and public; fixes the sampling rate."""
    batch: Positive
    """B0, the public divisor of every noisy sum."""
    noise_multiplier: _Number
    """sigma."""
    max_grad_norm: _Number = 1.0
    """C, bound on the gradient of one unit."""
    delta: _Number = 1e-5
    """Of the claim of every site."""
    unit: Unit = "image"
    """What is protected as one."""
    augmentations: Positive = 1
    """K, views of a photo that are averaged before clipping."""


@dataclass(frozen=True, kw_only=True)
class FederationPlan:
    """All numbers of one federation; checked when built."""

    bundle: Hex64
    """Payload digest of the style."""
    adapter_schema: Hex64
    """Digest of names and shapes of the tensors that travel."""
    fab_sha256: Hex64
    """Digest of the Flower app (F-7)."""
    subset: Subset
    """Which part of the encoder is trained (M-38)."""
    rounds: Positive
    """Rounds of the whole run."""
    local_steps: Positive
    """K, optimiser steps of a site in one round."""
    batch: Positive = 8
    """Photos of a step without privacy."""
    learning_rate: _Number = 1e-5
    """Adam rate of a site, constant."""
    fedprox_mu: _Number = 0.0
    """Weight of the proximal term of FedProx; 0 is FedAvg."""
    max_update_norm: _Number
    """Longest update of a site that counts in full; a longer one is shortened to it (F-19)."""
    sites: Positive
    """How many sites take part; the coordinator waits for all of them (F-21)."""
    quorum: Positive = 3
    """Fewest accepted replies that make a round (F-20)."""
    wait_seconds: _Number = 600.0
    """Longest wait for sites before a round (F-21)."""
    round_seconds: _Number = 900.0
    """Longest wait for the replies of a round (F-21)."""
    secagg: bool = False
    """Whether updates are masked, so that the coordinator reads their sum only; experimental (F-28)."""
    private: PrivatePlan | None = None
    """Numbers of differential privacy; nothing is guaranteed about photos without them."""
    version: Literal[1] = 1
    """Of this file."""

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            ConfigError: A number makes no sense.
        """
        require_choice("subset", self.subset, get_args(Subset))
        for name in ("rounds", "local_steps", "batch", "sites", "quorum"):
            got = getattr(self, name)
            require(1 <= got <= _LARGEST, f"{name} must lie between 1 and {_LARGEST}, got {got}")
        for name in ("learning_rate", "max_update_norm", "wait_seconds", "round_seconds"):
            got = getattr(self, name)
            require(math.isfinite(got) and got > 0, f"{name} must be a number above 0, got {got}")
        require(0 <= self.fedprox_mu < math.inf, f"fedprox_mu must not be negative, got {self.fedprox_mu}")
        require(
            self.quorum <= self.sites, f"a quorum of {self.quorum} cannot be reached by {self.sites} sites",
            "lower the quorum, or invite more sites",
        )  # fmt: skip
        require(
            not self.secagg or (self.quorum >= 3 and self.sites <= _MOST_MASKED),
            f"secure aggregation needs a quorum of 3 or more and {_MOST_MASKED} sites at most, "
            f"got {self.quorum} of {self.sites}",
            "let more sites take part, or do without it",
        )  # fmt: skip
        self.settings()

    @property
    def steps(self) -> int:
        """T, steps of a site over all rounds."""
        return self.rounds * self.local_steps

    def settings(self) -> DpSettings | None:
        """Return the schedule that a site charges for over all rounds; nothing without privacy.

        Raises:
            ConfigError: A number is out of range.
        """
        if self.private is None:
            return None
        part = self.private
        return DpSettings(
            delta=part.delta, n_public=part.n_public, batch=part.batch, steps=self.steps,
            noise_multiplier=part.noise_multiplier, max_grad_norm=part.max_grad_norm, unit=part.unit,
            augmentations=part.augmentations,
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return ``plan.json``: canonical, so that equal plans have equal digests."""
        return dump_json(encode(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read ``plan.json``.

        Raises:
            MalformedBundleError: It is not strict JSON, or has other fields.
            ConfigError: A number makes no sense.
        """
        return decode(cls, parse_json(data, member=PLAN_FILE), member=PLAN_FILE)

    @property
    def digest(self) -> str:
        """SHA-256 of ``plan.json``, hex: what a site accepted."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def read_plan(path: Path) -> FederationPlan:
    """Read a plan.

    Args:
        path: ``plan.json``, or the folder that holds it.

    Raises:
        StorageError: It cannot be read.
        MalformedBundleError: It is not strict JSON, or has other fields.
        ConfigError: A number makes no sense.
    """
    file = path / PLAN_FILE if path.is_dir() else path
    return FederationPlan.from_bytes(read_file(file, limit=1 << 16))


def write_plan(plan: FederationPlan, folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``plan.json`` into ``folder`` and return its path.

    Raises:
        StorageError: It exists, or cannot be written.
    """
    path = folder / PLAN_FILE
    with atomic_writer(path, overwrite=overwrite) as stream:
        stream.write(plan.to_bytes())
    return path


def update_norm(*, learning_rate: float, local_steps: int, parameters: int) -> float:
    """Return a bound on the update of a round that an honest site keeps, two digits.

    Adam moves no parameter by more than about its rate in a step, so K steps move d
    parameters by K times the rate times the root of d at most. A site that sends
    more has nothing to add in this way, and is shortened to it (F-19).

    Args:
        learning_rate: Of Adam.
        local_steps: K.
        parameters: d.
    """
    return float(f"{learning_rate * local_steps * math.sqrt(parameters):.1e}")
