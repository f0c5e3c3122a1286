"""What the stages hand to each other and to the bundle writer.

``Encapsulated`` leaves stage 1, becomes a ``.mdfy`` file and comes back as
``LoadedStyle`` after verification; ``Adapted`` leaves stage 2 and becomes a
``.mdfa`` file. Pictures are in none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from modify_fl.config import CriticConfig, NetworkConfig, Preset, Subset
from modify_fl.faces.align import template_digest
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import NetRecord
from protocol.manifest import Manifest
from protocol.verified import Verification

__all__ = ["Adapted", "Encapsulated", "LoadedStyle", "Mode", "PhotoAdapted", "TrainingSummary"]

Mode = Literal["offline", "online", "test-time"]


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What is said about a run in its manifest and report."""

    images_seen: int
    """Images over the whole run."""
    steps: int
    """Optimiser steps."""
    seconds: float
    """Training time, summed over resumed parts."""
    seed: int
    """The run's seed."""
    perceptual: NetRecord
    """What the perceptual term was (M-43)."""
    identity: NetRecord
    """What the identity term was (M-43)."""
    compute: str
    """Device, threads and precision, in words."""
    init: str = "scratch"
    """Where stage 1 started: ``scratch``, or name and digest of the weights (M-23)."""


@dataclass(frozen=True, kw_only=True)
class Encapsulated:
    """The result of stage 1."""

    model: StyleModel
    """E, D, M and the offset; averaged weights where the preset averages; on the CPU, frozen."""
    discriminator: Discriminator
    """Dis at the end of the run, on the CPU, frozen."""
    preset: Preset
    """All settings."""
    summary: TrainingSummary
    """Length, losses and place of the run."""
    folder: Path
    """The run's folder."""


@dataclass(frozen=True, kw_only=True)
class LoadedStyle:
    """A verified style bundle as networks."""

    model: StyleModel
    """E, D, M and the offset; on the CPU, frozen, evaluation mode."""
    discriminator: Discriminator | None
    """The bundle's critic, where it ships one."""
    network: NetworkConfig
    """Sizes of the networks."""
    critic: CriticConfig
    """How the critic was trained, kept in stage 2 (M-33)."""
    bundle: Verification
    """Where they came from: the signed facts, without a second copy of the weights."""

    @property
    def manifest(self) -> Manifest:
        """The signed manifest."""
        return self.bundle.manifest

    @property
    def digest(self) -> str:
        """Payload digest, hex: the identity of the bundle (B-13)."""
        return self.bundle.payload_digest

    @property
    def aligned_like_ours(self) -> bool:
        """Whether its faces stand as ``faces.align`` puts them (U-62).

        A bundle that does not say was made when there was one template only.
        """
        return self.manifest.model.alignment_sha256 in {None, template_digest()}


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """The result of stage 2."""

    tensors: Mapping[str, Tensor]
    """Trained part of E' by name, float32, on the CPU."""
    mode: Mode
    """How it was trained (M-34)."""
    subset: Subset
    """Which part was trained (M-38)."""
    summary: TrainingSummary
    """Length, losses and place of the run."""
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    """The trained factor of each update of low rank, ``<layer>.up.weight``: what a federation averages."""


@dataclass(frozen=True, kw_only=True)
class PhotoAdapted:
    """The result of test-time training on one photo (M-35)."""

    adapted: Adapted
    """E' for this photo alone."""
    encoder: nn.Module
    """E', ready for use, on the CPU."""
    first_loss: float
    """Equation 7 without its adversarial term before the first step."""
    last_loss: float
    """The same after the last step."""
