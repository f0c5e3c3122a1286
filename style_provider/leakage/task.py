"""Files and sets of pictures to what is attacked (P-73)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from modify_fl.config import Budget, Runtime
from modify_fl.console import Console
from modify_fl.data import ImageSet, load_images
from modify_fl.datasets import StyleData
from modify_fl.errors import ConfigError
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.spaces import Spaces
from modify_fl.progress import duration
from modify_fl.training.runtime import resolve
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from style_provider.holdout import HoldoutNote, one_of_each, weights_digest
from style_provider.leakage.attack import audit
from style_provider.leakage.limits import judge, read_limits
from style_provider.leakage.material import Material, Reference
from style_provider.leakage.planning import planned
from style_provider.leakage.report import Told
from style_provider.standin import stand_in

__all__ = ["Request", "load_material", "load_public_photos", "open_style", "run_audit"]

_DRAWN_PHOTOS = 200


@dataclass(frozen=True, kw_only=True)
class Request:
    """How an audit is made."""

    seed: int
    """Of everything that is drawn."""
    budget: Budget | None = None
    """About a time; without one the attacks have their standard form."""
    threads: int | None = None
    """Compute threads; the cores this process may use if none."""
    date: datetime | None = None
    """When it is said to be made; today if none (B-6)."""


def load_public_photos(photos: str | None, resolution: int) -> ImageSet:
    """Return photos as any reader has; drawn faces where none are named.

    Raises:
        ConfigError: There are fewer than two.
        DataError: They cannot be read.
    """
    limit = _DRAWN_PHOTOS if photos in {None, "synthetic"} else None
    found = load_images(photos or "synthetic", resolution=resolution, look="photo", limit=limit)
    if len(found) < 2:
        raise ConfigError("an audit needs two public photos or more", got=str(len(found)), fix="name more, or none")
    return found


def load_material(
    bundle: Path,
    images: ImageSet,
    photos: ImageSet,
    *,
    note: HoldoutNote,
    trust: TrustStore,
    seed: int,
    now: datetime | None = None,
) -> Material:
    """Verify and load a bundle as a reader would, and match it with the pictures of its run.

    Both sides are compared by one image of each work.

    Args:
        bundle: A plain ``.mdfy`` file.
        images: The style images as ``package`` had them.
        photos: Public photos.
        note: Which of the images were trained on.
        trust: The keys that are accepted.
        seed: Of everything that is drawn.
        now: The time to check validity against; now if none.

    Raises:
        ProtocolError: The bundle does not verify.
        ConfigError: Another run made its weights.
        DataError: The images are not those of the run.
    """
    style = open_style(bundle, trust, now)
    if note.weights != weights_digest(style.manifest):
        raise ConfigError(
            "this bundle was not made by that run", why="its weights are not those that the run's folder names",
            fix="name the run's folder with --run",
        )  # fmt: skip
    trained, held = note.find(images)
    identity = style.manifest.provenance.training.losses.identity.name
    found = Instruments.find(trained_identity=identity)
    return Material(
        style=style, trained=trained, members=_one_of_each(trained), held=_one_of_each(held), photos=photos,
        spaces=Spaces(lpips=found.lpips, face=found.face),
        reference=Reference.find(style), seed=seed,
    )  # fmt: skip


def _one_of_each(images: ImageSet) -> ImageSet:
    return images.subset(one_of_each(images, range(len(images))))


def open_style(bundle: Path, trust: TrustStore, now: datetime | None = None) -> LoadedStyle:
    """Go through the door that every reader goes through; leaves no trace in the trust store."""
    with open_bundle(bundle, trust=trust, now=now or datetime.now(UTC), identity=stand_in(bundle, trust)) as opened:
        return load_style(opened, record=False)


def run_audit(material: Material, request: Request, *, folder: Path, style_data: StyleData, console: Console) -> Told:
    """Attack, and compare with the limits.

    Args:
        material: What is attacked.
        request: How.
        folder: Private folder of the provider for what was done so far.
        style_data: Class of the images.
        console: Shows progress.

    Raises:
        InterruptedRunError: A signal asked for a stop; the same call goes on.
    """
    resolve(Runtime(device="cpu", threads=request.threads, precision="fp32"))
    limits = read_limits()
    plan = planned(material, request.budget, folder)
    if request.budget and plan.least > request.budget.amount:
        console.warn(
            f"measuring every image takes about {duration(plan.least)} alone; the audit takes longer than "
            f"{duration(request.budget.amount)}, and draws and completes as little as it can"
        )
    result = audit(plan, folder, console.emit)
    verdict = judge(result.findings, style_data, limits, held_out=len(material.held))
    today = f"{request.date or datetime.now(UTC):%Y-%m-%d}"
    return Told(
        material=plan.material, result=result, verdict=verdict, style_data=style_data, limits=limits, date=today
    )
