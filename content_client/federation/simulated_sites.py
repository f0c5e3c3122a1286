"""Sites of a simulation: their photos, and what trains on them."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from content_client.adaptation import read_photos
from content_client.private.request import PrivateRequest, unit_groups
from modify_fl.artifacts import LoadedStyle
from modify_fl.config import StylizationConfig
from modify_fl.console import Console
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.federated.partition import deal_out
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.simulation import OpenSite, PrivateSite
from modify_fl.federated.site import Held, OpenTraining, PrivateTraining, Training
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault
from modify_fl.training.private import PrivateTask
from modify_fl.training.runtime import Compute
from modify_fl.training.views import PhotoUnits

__all__ = [
    "REASON",
    "Ground",
    "deal_grounds",
    "open_sites",
    "private_sites",
    "read_grounds",
    "require_different",
    "source_of",
]

REASON = "a simulation on one machine without privacy; the weights stay here"
"""Why nothing is guaranteed, and why that is all right (P-3)."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The photos of one site."""

    name: str
    """For messages on this machine only."""
    photos: ImageSet
    """At the style's resolution."""
    source: Path | None
    """Where they are, if they are a folder or file of their own."""


def read_grounds(style: LoadedStyle, folders: Sequence[Path], console: Console, *, align: bool) -> list[Ground]:
    """Read the photos of each site.

    Raises:
        ConfigError: There are fewer than two folders, or one twice.
        DataError: Photos cannot be used.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ConfigError("a federation needs two sites or more, each with photos of its own",
                          fix="add --site DIR for each, or use --sites N --photos DIR")  # fmt: skip
    return [
        Ground(name=folder.name, photos=read_photos(style, folder, console, align=align), source=folder)
        for folder in folders
    ]


def deal_grounds(photos: ImageSet, sites: int, *, concentration: float, seed: int) -> list[Ground]:
    """Deal out one set of photos to sites that differ from each other.

    Raises:
        ConfigError: There are too few photos, or fewer than two sites.
    """
    if sites < 2:
        raise ConfigError("a federation needs two sites or more", fix="use --sites 3")
    parts = deal_out(photos, sites, concentration=concentration, seed=seed)
    return [
        Ground(name=f"part {at}", photos=photos.subset(part), source=None) for at, part in enumerate(parts, start=1)
    ]


def source_of(ground: Ground) -> Path:
    """Return the folder of a site.

    Raises:
        ConfigError: It was dealt out of another.
    """
    if ground.source is None:
        raise ConfigError(
            "with --privacy dp every site is a folder of its own",
            why="a budget belongs to the photos of one site",
            fix="name them with --site DIR, each made a vault by content-client privacy init",
        )
    return ground.source


def require_different(grounds: Sequence[Ground]) -> None:
    """Refuse a photo that is at two sites: the claims of both would add up (P-34).

    Raises:
        ConfigError: There is one.
    """
    owner: dict[str, str] = {}
    for ground in grounds:
        for index in range(len(ground.photos)):
            pixels = hashlib.sha256(ground.photos.batch([index]).numpy().tobytes()).hexdigest()
            if owner.setdefault(pixels, ground.name) != ground.name:
                raise ConfigError(
                    f"{owner[pixels]} and {ground.name} hold the same photo",
                    why="what is claimed of each site holds side by side only for different photos (P-34)",
                    fix="leave the photo at one of them",
                )


# Sites ----------------------------------------------------------------------------------


def open_sites(
    style: LoadedStyle, grounds: Sequence[Ground], plan: FederationPlan, *, config: StylizationConfig, seed: int,
    compute: Compute, nets: PerceptualNets,
) -> list[Training]:  # fmt: skip
    """Return what trains for each site, without privacy; all share one set of networks.

    Args:
        style: The verified style.
        grounds: Photos of each site.
        plan: The public numbers.
        config: Weights of equation 7.
        seed: A site's own is this plus its number.
        compute: Device and precision.
        nets: LPIPS and the face network, where found.
    """
    shared = OpenTraining(
        style, grounds[0].photos, plan, config=config, seed=seed, compute=compute, nets=nets, reason=REASON
    )
    return [
        OpenSite(training=shared, photos=ground.photos, seed=seed + number)
        for number, ground in enumerate(grounds, start=1)
    ]


def private_sites(
    task: PrivateTask, request: PrivateRequest, grounds: Sequence[Ground], plan: FederationPlan, *, compute: Compute,
    nets: PerceptualNets, console: Console,
) -> list[Training]:  # fmt: skip
    """Return what trains for each site under the budget of its vault; all share one set of networks.

    Args:
        task: What to train, with the numbers of the plan.
        request: What was asked for.
        grounds: Photos of each site, each a vault.
        plan: The public numbers.
        compute: Device and precision.
        nets: LPIPS and the face network, where found.
        console: Shows warnings.

    Raises:
        ConfigError: Photos do not say whose they are.
        PrivacyBudgetError: A site has no vault.
    """
    places = [(_units(task, request, ground, console), _held(source_of(ground), console)) for ground in grounds]
    training = PrivateTraining(task, places[0][0], plan, hold=places[0][1], compute=compute, nets=nets)
    return [PrivateSite(training=training, units=units, hold=hold) for units, hold in places]


def _units(task: PrivateTask, request: PrivateRequest, ground: Ground, console: Console) -> PhotoUnits:
    settings = task.settings
    groups = unit_groups(ground.photos.names, request, settings.unit, console)
    return PhotoUnits(
        ground.photos, groups, seed=task.seed, augmentations=settings.augmentations, per_person=settings.per_person
    )


def _held(source: Path, console: Console) -> Held:
    @contextmanager
    def hold(run: str) -> Iterator[Vault]:
        with Vault.open(source, run=run) as vault:
            for warning in vault.warnings:
                console.warn(warning)
            yield vault

    return hold
