"""Keyed fingerprints of photos: which vaults hold the same files (P-42, P-47).

A fingerprint is an HMAC of the bytes of a file with a secret of this user, so a
stolen list is no membership oracle. It finds exact copies only, no photo that
was saved again. Nothing made here ever leaves this machine (P-37).
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modify_fl.datasets import open_pictures
from modify_fl.errors import DataError
from protocol.errors import StorageError
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["Fingerprints", "load_secret", "overlaps", "read_fingerprints", "take_fingerprints"]

_SECRET_BYTES = 32
_HEX = 32  # 128 bits of the HMAC: no two photos share them by chance
_LIMIT = 1 << 28
_NAME = "fingerprints.json"


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of the photos in one place."""

    values: frozenset[str]
    """One for each different file."""
    commitment: str
    """HMAC over all of them, hex: stands for the contents as a whole (P-42)."""

    def save(self, vault: Path) -> None:
        """Keep these, and all that were kept before, in the folder of a vault.

        Raises:
            StorageError: The file cannot be read or written.
        """
        every = sorted(self.values | read_fingerprints(vault))
        with atomic_writer(vault / _NAME, mode=PRIVATE, overwrite=True) as stream:
            stream.write(json.dumps(every).encode())


def load_secret(vaults: Path) -> bytes:
    """Return the user's secret, and make it at first use.

    Raises:
        StorageError: It cannot be read or written, or is damaged.
        KeyFileError: Others could read it.
    """
    path = vaults / "secret"
    if not path.exists():
        try:
            with atomic_writer(path, mode=PRIVATE) as stream:
                stream.write(os.urandom(_SECRET_BYTES))
        except StorageError:
            if not path.exists():  # else another process was faster
                raise
    secret = read_file(path, limit=_SECRET_BYTES, private=True)
    if len(secret) != _SECRET_BYTES:
        raise StorageError(f"{path} is damaged", why=f"it must hold {_SECRET_BYTES} bytes", fix="restore it")
    return secret


def take_fingerprints(photos: Path | str, secret: bytes) -> Fingerprints:
    """Read every photo once.

    Args:
        photos: A folder or a ZIP file, read as ``adapt`` reads it; as text, also the name of a data set.
        secret: From ``load_secret``.

    Raises:
        DataError: There is no such place, or no picture in it.
    """
    values = frozenset(_values(photos, secret))
    joined = "".join(sorted(values)).encode()
    return Fingerprints(values, hmac.new(secret, joined, hashlib.sha256).hexdigest())


def _values(photos: Path | str, secret: bytes) -> Iterator[str]:
    with open_pictures(photos) as files:
        for name in files.names:
            try:
                data = files.read(name)
            except (DataError, OSError):
                continue  # whoever trains says which photo cannot be read (U-45)
            yield hmac.new(secret, data, hashlib.sha256).hexdigest()[:_HEX]


def overlaps(mine: frozenset[str], folders: Iterable[Path]) -> dict[str, int]:
    """Return how many of the photos were fingerprinted in other folders too, by the name of the folder.

    Args:
        mine: Fingerprints of the photos at hand.
        folders: Each holds a list of fingerprints.
    """
    shared = {folder.name: len(mine & read_fingerprints(folder)) for folder in folders}
    return {name: count for name, count in shared.items() if count}


def read_fingerprints(folder: Path) -> frozenset[str]:
    """Return the fingerprints that were kept in a folder; none where there is no list.

    Raises:
        StorageError: It cannot be read, or is damaged.
    """
    path = folder / _NAME
    if not path.exists():
        return frozenset()
    try:
        return frozenset(map(str, json.loads(read_file(path, limit=_LIMIT))))
    except (ValueError, TypeError) as error:
        raise StorageError(f"{path} is damaged", why="it is not a list", fix="delete it: it is made anew") from error
