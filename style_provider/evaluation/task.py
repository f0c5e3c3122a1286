"""What an evaluation measures, and what its figures depend on (M-44, M-48).

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.data import ImageSet, to_uint8
from modify_fl.errors import ConfigError
from modify_fl.metrics.figures import FILTER
from modify_fl.metrics.instruments import Instruments
from modify_fl.style import Style, own_styles
from modify_fl.styles import Controls, seeded
from protocol.schema import encode

__all__ = ["Evaluation", "record"]

_PACKAGES = ("modify-fl", "torch", "torchvision", "torch-fidelity", "lpips", "facenet-pytorch", "numpy", "pillow")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A checked request."""

    style: Style
    """The verified bundle, with its adapter."""
    styles: ImageSet
    """The style images that the bundle was made from, those it held out among them."""
    photos: ImageSet
    """Photos that nothing was trained on."""
    seeds: tuple[int, ...]
    """Styles of the first photo; the next ones count on from there (``own_styles``)."""
    seed: int
    """Of subsets, bootstrap and baselines."""
    xi: int | None
    """Rows that the style takes; as trained if none (M-25)."""
    adapter_digest: str | None = None
    """Payload digest of the adapter, hex; none without one."""
    reference: ImageSet | None = None
    """Style images kept out of every training; where there are none, ``styles`` is the reference (M-44)."""

    @property
    def target(self) -> ImageSet:
        """What distances, floor and colour transfer take as the style."""
        return self.styles if self.reference is None else self.reference

    def check(self) -> None:
        """Refuse what the style cannot do before anything is measured.

        Raises:
            ConfigError: ``xi`` is larger than the style was trained for.
        """
        trained = self.style.loaded.network.style_rows
        if self.xi is not None and self.xi > trained:
            raise ConfigError(
                f"this style was trained for at most {trained} rows (M-25)", expected=f"0 to {trained}",
                got=str(self.xi), fix=f"choose --xi {trained} or less",
            )  # fmt: skip

    @property
    def style_numbers(self) -> str:
        """First and last style of the measured pictures (M-48); every photo has its own (``own_styles``)."""
        return f"seeds {self.seeds[0]} to {own_styles(len(self.photos) - 1, self.seeds)[-1]}"

    def paint_each(self, indices: list[int]) -> Pixels:
        """Return photos in styles of their own, as they would be saved; what figures are taken of (M-44).

        Args:
            indices: Photos, B of them.

        Returns:
            uint8 [B, S, R, R, 3].
        """
        seeds = [own_styles(index, self.seeds) for index in indices]
        return to_uint8(self.style.paint_each(self.photos.batch(indices), seeds=seeds, xi=self.xi))

    def paint(self, indices: list[int], seeds: tuple[int, ...]) -> Pixels:
        """Return photos in some styles, as they would be saved.

        Args:
            indices: Photos, B of them.
            seeds: Styles, S of them.

        Returns:
            uint8 [B, S, R, R, 3].
        """
        painted = self.style.paint(self.photos.batch(indices), seeded(seeds), Controls(xi=self.xi))  # [S, B, 3, R, R]
        return to_uint8(painted.transpose(0, 1))


def record(task: Evaluation, instruments: Instruments) -> dict[str, object]:
    """Return what the figures depend on (M-48)."""
    loaded, manifest = task.style.loaded, task.style.loaded.manifest
    training = manifest.provenance.training
    return {
        "bundle": {"digest": loaded.digest, "name": manifest.bundle.name, "version": manifest.bundle.version},
        "adapter": task.adapter_digest,
        "style_images": {"images": len(task.styles), "digest": task.styles.digest},
        "reference": {
            "images": len(task.target), "digest": task.target.digest, "kept_out": task.reference is not None,
        },
        "photos": {"images": len(task.photos), "digest": task.photos.digest},
        "resolution": task.style.resolution, "filter": FILTER, "format": "PNG: 8 bits a channel",
        "xi_trained": training.xi, "xi": loaded.network.style_rows if task.xi is None else task.xi,
        "blend_width": 0, "style_seeds": task.style_numbers, "seed": task.seed, "training_seed": training.seed,
        "networks": {name: {"name": net.name, "sha256": net.sha256} for name, net in instruments.records.items()},
        "losses": encode(training.losses), "dp": encode(manifest.privacy.dp),
        "software": {"python": platform.python_version(), **_versions()},
        "device": f"cpu, {torch.get_num_threads()} threads, {platform.machine()}",
    }  # fmt: skip


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
