"""Photos that are in more than one place: other vaults, releases without a vault, public faces (P-39, P-47, P-51).

Everything here goes by keyed fingerprints, so it finds exact copies only. Those of
a vault are of all photos that it ever held, since what was charged is about them all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modify_fl.datasets import DATASETS
from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.fingerprints import load_secret, overlaps, read_fingerprints, take_fingerprints
from modify_fl.privacy.loose import loose_releases
from modify_fl.privacy.places import Place, places, require_photos, vaults_folder
from modify_fl.privacy.records import Ledger, Release

__all__ = ["Sharing", "require_public", "sharing_of", "warn_of_overlaps"]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What some of a vault's photos went into besides."""

    ledgers: tuple[Ledger, ...]
    """Of other vaults that hold some of them."""
    unprotected: tuple[Release, ...]
    """What left without protection, while it was made of some of them."""


def sharing_of(vault: str) -> Sharing:
    """Return what some of the photos of a vault went into besides, as of now.

    Args:
        vault: Its id.

    Raises:
        PrivacyBudgetError: The ledger of such a vault, or a record, cannot be relied on.
        StorageError: A file cannot be read.
    """
    mine = read_fingerprints(vaults_folder() / vault)
    ledgers = tuple(other.read() for other in _others(Place(vaults_folder() / vault)))
    loose = tuple(item.line for item in loose_releases() if item.shares(mine))
    recorded = (entry for ledger in ledgers for entry in ledger.releases if entry.reason is not None)
    return Sharing(ledgers=ledgers, unprotected=(*recorded, *loose))


def _others(place: Place) -> dict[Place, int]:
    """Return the other vaults that hold some photos of this one, and how many."""
    others = {other.vault: other for other in places() if other != place}
    found = overlaps(read_fingerprints(place.folder), (other.folder for other in others.values()))
    return {others[vault]: count for vault, count in found.items()}


def warn_of_overlaps(place: Place) -> tuple[str, ...]:
    """Say which other vaults hold some of the photos too (P-47).

    Args:
        place: Vault of the photos.
    """
    return tuple(
        f"{count} of these photos are in the vault {other.vault} too ({other.address.path}): what is spent there "
        "and here adds up, in every statement, but each budget counts its own only"
        for other, count in _others(place).items()
    )


def require_public(faces: str, photos: Path) -> None:
    """Refuse public faces among which there are photos of a vault: they train E' without noise (P-51).

    Args:
        faces: Folder, ZIP file or name of a data set.
        photos: The photos of the run.

    Raises:
        DataError: There is no such place, or no picture in it.
        PrivacyBudgetError: The places overlap, or a picture is in a vault, or among the photos of the run.
        StorageError: A list of fingerprints cannot be read.
    """
    source = require_photos(photos)
    if faces not in DATASETS:
        place = Path(faces).resolve()
        if place == source or place in source.parents or source in place.parents:
            raise _private(f"the public faces {faces} and the photos {photos} are in one place")
    elif not DATASETS[faces].url and faces != "demo":
        return  # drawn anew
    secret = load_secret(vaults_folder())
    public, known = take_fingerprints(faces, secret), _known(take_fingerprints(source, secret).values)
    if count := len(public.values & known):
        raise _private(f"{count} of the public faces {faces} are photos of a vault")


def _known(mine: Iterable[str]) -> frozenset[str]:
    return frozenset(mine).union(*(read_fingerprints(place.folder) for place in places()))


def _private(what: str) -> PrivacyBudgetError:
    return PrivacyBudgetError(
        what,
        why="public faces train the adapter without noise, and leave with it",
        fix="name faces with --public that nobody has to protect, or leave the option out",
    )
