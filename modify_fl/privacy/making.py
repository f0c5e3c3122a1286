"""How photos get a vault, once (P-45 to P-47)."""

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from modify_fl.datasets import open_pictures
from modify_fl.errors import ConfigError, PrivacyBudgetError
from modify_fl.privacy.accounting import ORDERS, order_for, overhead, require_delta
from modify_fl.privacy.fingerprints import load_secret, take_fingerprints
from modify_fl.privacy.loose import LooseRelease, loose_releases
from modify_fl.privacy.places import (
    MARKER,
    Address,
    Marker,
    Place,
    can_hold_marker,
    find_place,
    held_vaults,
    places,
    require_photos,
)
from modify_fl.privacy.records import Ledger, Opening, Release
from modify_fl.privacy.settings import Unit
from modify_fl.privacy.sharing import warn_of_overlaps
from modify_fl.privacy.state import VaultState
from protocol.storage import storage_errors

__all__ = ["make_vault"]

_SHARE = 0.05  # of the photos in one sub-folder, above which they may be of one person (P-9)


def make_vault(
    photos: Path, *, epsilon_max: float, delta: float, unit: Unit, order: float | None
) -> tuple[VaultState, tuple[str, ...]]:
    """Make the vault of some photos; see ``Vault.create``."""
    if not (0 < epsilon_max < float("inf") and 0 < delta < 1):
        raise ConfigError(f"no budget: epsilon {epsilon_max:g} at delta {delta:g}", fix="use --epsilon 8 --delta 1e-5")
    folder = require_photos(photos)
    _refuse_second(folder)  # now, because the best order takes a while; and again under the lock
    order = order_for(epsilon_max, delta) if order is None else order
    if epsilon_max <= overhead(order, delta):
        raise ConfigError(f"epsilon {epsilon_max:g} at delta {delta:g} leaves nothing to spend", fix="allow more")
    opening = Opening(
        vault=str(uuid.uuid4()), unit=unit, epsilon_max=epsilon_max, delta=delta, order=order, orders=ORDERS
    )
    with held_vaults() as vaults:
        _refuse_second(folder)
        secret = load_secret(vaults)
        mine = take_fingerprints(folder, secret)
        require_delta(delta, max(1, len(mine.values)))
        marked = can_hold_marker(folder)
        place, ledger, left = Place(vaults / opening.vault), Ledger.begin(opening), loose_releases()
        gone = [item for item in left if item.photos == folder.as_uri() or item.shares(mine.values)]
        for item in gone:
            ledger = ledger.extended(item.line)
        address = Address(photos=folder.as_uri(), commitment=None if marked else mine.commitment)
        place.open_for(ledger, address)
        mine.save(place.folder)
        if marked:
            Marker(vault=place.vault, sequence=ledger.sequence).write(folder)
    warnings = (*_warn_of_releases(left, gone), *warn_of_overlaps(place), *_warn_of_people(folder, unit))
    return VaultState(place=place, photos=folder, ledger=ledger, marked=marked), warnings


def _refuse_second(photos: Path) -> None:
    """Refuse a second vault for the same photos; take away what an interrupted ``create`` left."""
    for place in places():
        unfinished = place.address.photos == photos.as_uri() and place.address.commitment is None
        if unfinished and not (photos / MARKER).exists() and _is_as_made(place.read()):
            with storage_errors(place.folder):
                shutil.rmtree(place.folder)
    found = find_place(photos)
    if found:
        raise PrivacyBudgetError(
            f"{photos} has the vault {found[0].vault}",
            why="a budget is set once (P-46)",
            fix="run content-client privacy status, or privacy budget --raise-to E --reason TEXT",
        )


def _is_as_made(ledger: Ledger) -> bool:
    """Return whether nothing was written since the vault was made: all that it holds is kept elsewhere too."""
    loose = {item.release for item in loose_releases()}
    return all(isinstance(entry, Release) and entry.release in loose for entry in ledger.entries[1:])


def _warn_of_releases(left: Sequence[LooseRelease], gone: Sequence[LooseRelease]) -> Iterator[str]:
    """Say what left without protection while these photos, or photos that nobody named, had no vault (P-39)."""
    for item in gone:
        yield f"{item.release}, made of these photos, left without privacy ({item.reason}): nothing can be claimed"
    for item in left:
        if item.photos is None:
            yield (
                f"{item.release} left without privacy ({item.reason}), and nobody said of which photos it was made: if "
                "of these, every claim about them will be false"
            )


def _warn_of_people(photos: Path, unit: Unit) -> tuple[str, ...]:
    """Say so where many photos may be of one person, and are protected one by one only (P-9)."""
    with open_pictures(photos) as files:
        folders = Counter(str(PurePosixPath(name).parent) for name in files.names)
    shares = {name: count / folders.total() for name, count in folders.items() if name != "."}
    if unit == "person" or max(shares.values(), default=0.0) <= _SHARE:
        return ()
    most = max(shares, key=lambda name: shares[name])
    warning = (
        f"{100 * shares[most]:.0f} % of the photos are in the sub-folder {most}: if they show one person, unit image "
        "protects each photo but not the person; use --unit person"
    )
    return (warning,)
