"""Where vaults are, and which one belongs to some photos (P-40, P-42, P-43).

::

    <data folder>/vaults/secret             key of all fingerprints (P-47)
    <data folder>/vaults/<id>/ledger.jsonl  what was spent, one line each
    <data folder>/vaults/<id>/photos.json   where the photos are
    <data folder>/vaults/<id>/private/      previews of the photos (P-38)
    <data folder>/vaults/unprotected/       what left while its photos had no vault (``loose``)
    <photo folder>/.modify-vault.json       id, and number of the last line

The marker tells a ledger that was put back from an old backup from the present
one. Photos in a ZIP file, or in a folder that cannot be written, have none: their
vault is known by their path, or by a keyed hash of their contents.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from modify_fl.errors import DataError, PrivacyBudgetError
from modify_fl.privacy.fingerprints import load_secret, take_fingerprints
from modify_fl.privacy.records import Ledger, damaged
from protocol.canonical import dump_json, parse_json
from protocol.errors import ProtocolError, StorageError
from protocol.schema import Bound, Count, Hex64, decode, encode
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, read_file, storage_errors

__all__ = [
    "MARKER",
    "Address",
    "Marker",
    "Place",
    "can_hold_marker",
    "data_folder",
    "find_place",
    "held_vaults",
    "places",
    "require_photos",
    "vaults_folder",
]

MARKER = ".modify-vault.json"
"""Name of the marker in the photo folder; hidden, and no picture."""

_APPLICATION = "modify-fl"
_LEDGER = "ledger.jsonl"
_LEDGER_LIMIT = 1 << 28
_ADDRESS = "photos.json"
_SMALL = 1 << 13
_FORMAT = 1


def data_folder() -> Path:
    """Return the folder for what programs keep: ``$MODIFY_DATA_DIR``, or the system's own place."""
    chosen = os.environ.get("MODIFY_DATA_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs  # noqa: PLC0415 - only when nothing was chosen

    return platformdirs.user_data_path(_APPLICATION)


def vaults_folder() -> Path:
    """Return the folder of all vaults of this user."""
    return data_folder() / "vaults"


@contextmanager
def held_vaults() -> Iterator[Path]:
    """Make the folder of all vaults, and keep other programs from adding one for the length of a block."""
    folder = vaults_folder()
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive_lock(folder / "lock"):
        yield folder


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What the photo folder says about its vault (P-42)."""

    format: int = _FORMAT
    vault: Annotated[str, Bound(pattern=r"[0-9a-f-]{36}")]
    sequence: Count

    @classmethod
    def read(cls, photos: Path) -> "Marker | None":
        """Return the marker of a photo folder; ``None`` where it has none.

        Raises:
            PrivacyBudgetError: It is damaged, or of another version.
            StorageError: It cannot be read.
        """
        path = photos / MARKER
        if not photos.is_dir() or not os.path.lexists(path):
            return None
        try:
            marker = decode(cls, parse_json(read_file(path, limit=_SMALL), member=MARKER), member=MARKER)
        except StorageError:
            raise
        except ProtocolError as error:
            raise damaged(f"the marker {path} is not what this program writes") from error
        if marker.format != _FORMAT:
            raise damaged(f"the marker {path} is of version {marker.format}, this program knows {_FORMAT}")
        return marker

    def write(self, photos: Path) -> None:
        """Put the marker into a photo folder, whole or not at all.

        Raises:
            StorageError: It cannot be written.
        """
        with atomic_writer(photos / MARKER, overwrite=True) as stream:
            stream.write(dump_json(encode(self)))


@dataclass(frozen=True, kw_only=True)
class Address:
    """How a vault finds its photos again, apart from the ledger so that damage to one leaves the other."""

    photos: Annotated[str, Bound(longest=4096)]
    """Where they were when the vault was made, as a ``file:`` address."""
    commitment: Hex64 | None = None
    """Keyed hash of their contents, where their place cannot hold a marker (P-42)."""

    @property
    def path(self) -> str:
        """The place, for people."""
        return unquote(urlsplit(self.photos).path)


@dataclass(frozen=True)
class Place:
    """The private folder of one vault, mode 0700."""

    folder: Path

    @property
    def vault(self) -> str:
        """Id of the vault."""
        return self.folder.name

    @property
    def address(self) -> Address:
        """How the vault finds its photos again.

        Raises:
            PrivacyBudgetError: The file that says so is damaged.
            StorageError: It cannot be read.
        """
        path = self.folder / _ADDRESS
        data = read_file(path, limit=_SMALL, private=True)
        try:
            return decode(Address, parse_json(data, member=_ADDRESS), member=_ADDRESS)
        except ProtocolError as error:
            raise damaged(f"{path} is not what this program writes") from error

    def open_for(self, ledger: Ledger, address: Address) -> None:
        """Make the vault; the address comes last, since a vault without one does not count.

        Raises:
            StorageError: It cannot be written.
        """
        with storage_errors(self.folder):
            self.folder.mkdir(mode=0o700)
        self.write(ledger)
        with atomic_writer(self.folder / _ADDRESS, mode=PRIVATE) as stream:
            stream.write(dump_json(encode(address)))

    def read(self) -> Ledger:
        """Read the ledger.

        Raises:
            PrivacyBudgetError: It is missing, damaged or of another vault (P-43).
            StorageError: It cannot be read.
        """
        path = self.folder / _LEDGER
        if not path.exists():
            raise damaged(f"{path} is missing")
        try:
            ledger = Ledger.parse(read_file(path, limit=_LEDGER_LIMIT, private=True))
        except PrivacyBudgetError as error:
            error.why = f"{path} was changed by something else; what was spent is not known for certain"
            raise
        if ledger.opening.vault != self.vault:
            raise damaged(f"{path} belongs to another vault")
        return ledger

    def write(self, ledger: Ledger) -> None:
        """Replace the ledger by one with more lines; file and folder are on the disk when this returns (P-41).

        A kill leaves the old or the new one, so a line that is cut short is never this program's work.

        Raises:
            StorageError: It cannot be written; the old one stays.
        """
        with atomic_writer(self.folder / _LEDGER, mode=PRIVATE, overwrite=True) as stream:
            stream.write(ledger.to_bytes())


def places() -> tuple[Place, ...]:
    """Return all vaults of this user, by id; one that was never finished is none."""
    folder = vaults_folder()
    with storage_errors(folder):
        found = sorted(path.parent for path in folder.glob(f"*/{_ADDRESS}"))
    return tuple(map(Place, found))


def require_photos(photos: Path) -> Path:
    """Return the full path of a photo folder or ZIP file.

    Raises:
        DataError: There is neither.
    """
    place = photos.resolve()
    if not place.is_dir() and not place.is_file():
        raise DataError(f"there is no folder or ZIP file {photos}", fix="name the photos themselves, not a data set")
    return place


def can_hold_marker(photos: Path) -> bool:
    """Return whether a marker can be put beside the photos: not into a ZIP file or a read-only folder."""
    if not photos.is_dir():
        return False
    try:
        with tempfile.TemporaryFile(dir=photos):
            return True
    except OSError:
        return False


def find_place(photos: Path) -> tuple[Place, Marker | None] | None:
    """Return the vault of some photos, and their marker if they have one; ``None`` where there is no vault.

    Args:
        photos: From ``require_photos``.

    Raises:
        PrivacyBudgetError: The marker names a vault that is not on this machine,
            or was taken out of the photo folder.
    """
    marker = Marker.read(photos)
    if marker is not None:
        place = Place(vaults_folder() / marker.vault)
        if not place.folder.is_dir():
            raise damaged(f"{place.folder} is missing, but {photos / MARKER} names it")
        return place, marker
    known = [place for place in places() if place.address.photos == photos.as_uri()]
    known = known or _with_contents_of(photos)
    for place in known:
        if place.address.commitment is None:
            raise _without_marker(photos, place)
    return (known[0], None) if known else None


def _with_contents_of(photos: Path) -> list[Place]:
    committed = [place for place in places() if place.address.commitment is not None]
    if not committed:
        return []
    contents = take_fingerprints(photos, load_secret(vaults_folder())).commitment
    return [place for place in committed if place.address.commitment == contents]


def _without_marker(photos: Path, place: Place) -> PrivacyBudgetError:
    return PrivacyBudgetError(
        f"the marker {photos / MARKER} is missing, and these photos have the vault {place.vault}",
        why="without it nobody can tell whether the ledger is the latest one, so nothing more may be spent",
        fix="put the marker back from a backup; if these are other photos, move them into another folder",
    )
