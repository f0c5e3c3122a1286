"""What left without protection while its photos had no vault (P-39).

::

    <data folder>/vaults/unprotected/<release>/fingerprints.json  which photos it was made of, keyed (P-47)
    <data folder>/vaults/unprotected/<release>/release.json       id, reason, and where the photos were

A vault that is made of these photos later begins with such a release in its ledger,
so that no statement about them is a claim.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.fingerprints import load_secret, overlaps, take_fingerprints
from modify_fl.privacy.places import vaults_folder
from modify_fl.privacy.records import Release
from protocol.canonical import dump_json, parse_json
from protocol.errors import ProtocolError
from protocol.schema import Bound, Line, Text, decode, encode
from protocol.storage import PRIVATE, atomic_writer, read_file, storage_errors

__all__ = ["LooseRelease", "loose_releases"]

_FOLDER = "unprotected"
_RECORD = "release.json"
_SMALL = 1 << 15


@dataclass(frozen=True, kw_only=True)
class LooseRelease:
    """Something that left without protection, made of photos without a vault."""

    release: Line
    """Id of what left."""
    reason: Text
    """Why it left without differential privacy."""
    photos: Annotated[str, Bound(longest=4096)] | None = None
    """Where its photos were, as a ``file:`` address; nothing where nobody said so."""

    @property
    def folder(self) -> Path:
        """Its own folder, beside the vaults."""
        return vaults_folder() / _FOLDER / self.release

    @property
    def line(self) -> Release:
        """The same as a line of a ledger."""
        return Release(release=self.release, reason=self.reason)

    def keep(self, photos: Path | None) -> None:
        """Write it down; the record comes last, and the caller releases nothing before it is there.

        Args:
            photos: What it was made of, where that is known.

        Raises:
            DataError: There is no picture.
            StorageError: It cannot be written.
        """
        mine = None if photos is None else take_fingerprints(photos, load_secret(vaults_folder()))
        with storage_errors(self.folder):
            self.folder.parent.mkdir(mode=0o700, exist_ok=True)
            self.folder.mkdir(mode=0o700)
        if mine is not None:
            mine.save(self.folder)
        with atomic_writer(self.folder / _RECORD, mode=PRIVATE) as stream:
            stream.write(dump_json(encode(self)))

    def shares(self, mine: frozenset[str]) -> bool:
        """Return whether it was made of one of the photos with these fingerprints."""
        return bool(overlaps(mine, [self.folder]))


def loose_releases() -> tuple[LooseRelease, ...]:
    """Return all of them, by id.

    Raises:
        PrivacyBudgetError: A record is damaged.
        StorageError: One cannot be read.
    """
    folder = vaults_folder() / _FOLDER
    with storage_errors(folder):
        found = sorted(folder.glob(f"*/{_RECORD}"))
    return tuple(map(_read, found))


def _read(path: Path) -> LooseRelease:
    data = read_file(path, limit=_SMALL, private=True)
    try:
        loose = decode(LooseRelease, parse_json(data, member=_RECORD), member=_RECORD)
    except ProtocolError as error:
        raise _damaged(path) from error
    if loose.release != path.parent.name:
        raise _damaged(path)
    return loose


def _damaged(path: Path) -> PrivacyBudgetError:
    return PrivacyBudgetError(
        f"{path} is not what this program writes",
        why="it says what left without differential privacy, and without it no claim can be relied on",
        fix="put it back from a backup",
    )
