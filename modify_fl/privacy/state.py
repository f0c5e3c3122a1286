"""What is known of a vault without holding it, checked against its marker (P-42, P-43)."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.places import Place, find_place, require_photos
from modify_fl.privacy.records import Ledger, damaged

__all__ = ["VaultState", "read_vault"]


@dataclass(frozen=True, kw_only=True)
class VaultState:
    """What is known of a vault without holding it."""

    place: Place
    photos: Path
    ledger: Ledger
    marked: bool
    """Whether a marker in the photo folder guards the ledger against old backups (P-42)."""

    @property
    def vault(self) -> str:
        """Id of the vault."""
        return self.place.vault


def read_vault(photos: Path) -> VaultState:
    """Return the state of the vault of some photos, without waiting for a run that holds it.

    Raises:
        DataError: There is no such place.
        PrivacyBudgetError: The photos have no vault, or its ledger is missing,
            damaged, cut short or older than the marker (P-43).
        StorageError: A file cannot be read.
    """
    folder = require_photos(photos)
    found = find_place(folder)
    if found is None:
        raise PrivacyBudgetError(
            f"{photos} has no vault",
            why="a budget must be set before differential privacy can spend it (P-46)",
            fix=f"run content-client privacy init --photos {shlex.quote(str(photos))} --epsilon 8 --delta 1e-5",
        )
    place, marker = found
    ledger = place.read()
    if marker is not None and marker.sequence > ledger.sequence:
        raise damaged(
            f"it ends with line {ledger.sequence + 1}, and the photo folder has seen line {marker.sequence + 1}"
        )
    return VaultState(place=place, photos=folder, ledger=ledger, marked=marker is not None)
