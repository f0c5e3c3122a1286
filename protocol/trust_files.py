"""Where a trust store keeps its two records: a folder, or memory (B-43).

Rules kept here: files have mode 0600 and are replaced atomically, one file for one
change; whoever changes something holds the lock; a damaged file refuses. The
state is made before the first pin, so that pins without a state mean that it got
lost; of whom it told is kept in the one that is made in its place (B-42).
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from protocol.errors import ProtocolError, problem
from protocol.history import MAX_STATE, History, dump_history, parse_history
from protocol.pins import MAX_PINS, Provider, dump_pins, parse_pins
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, read_file, storage_errors

__all__ = ["Folder", "Memory"]

_Record = TypeVar("_Record")


class Memory:
    """Both records in memory, for threads of one process."""

    def __init__(self, providers: tuple[Provider, ...]) -> None:
        """Start with these providers and no history."""
        self._providers, self._history = providers, History()
        self._lock = threading.Lock()

    def lock(self) -> AbstractContextManager[object]:
        """Return what keeps others from writing for the length of a block."""
        return self._lock

    def providers(self) -> tuple[Provider, ...]:
        """Return the accepted providers."""
        return self._providers

    def history(self) -> History:
        """Return what was seen and taken back."""
        return self._history

    def put_providers(self, providers: tuple[Provider, ...]) -> None:
        """Replace the accepted providers; the lock must be held."""
        dump_pins(providers)  # refuses what a file could not keep
        self._providers = providers

    def put_history(self, history: History) -> None:
        """Replace what was seen and taken back; the lock must be held."""
        dump_history(history)
        self._history = history


class Folder:
    """Both records as files. Every question reads them again, so a change by another program counts at once."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; it need not exist, and is made when something is written.

        Args:
            folder: Where ``pins.json`` and ``state.json`` are.
        """
        self._folder = folder
        self._pins, self._state = folder / "pins.json", folder / "state.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder, and keep other programs from writing for the length of a block.

        Raises:
            StorageError: E_IO, the folder cannot be made or written.
        """
        with storage_errors(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive_lock(self._folder / "lock"):
            yield

    def providers(self) -> tuple[Provider, ...]:
        """Return the accepted providers.

        Raises:
            KeyFileError: E_KEYFILE, the file is damaged or open to others.
            StorageError: E_IO, it cannot be read.
        """
        advice = "move the file away and pin the keys again"
        found = _read(self._pins, parse_pins, limit=MAX_PINS, advice=advice)
        return () if found is None else found

    def history(self) -> History:
        """Return what was seen and taken back; where the file got lost, of whom that was (B-42).

        Raises:
            KeyFileError: E_KEYFILE, the file is damaged or open to others.
            StorageError: E_IO, it cannot be read.
        """
        advice = "move the file away; revocations and releases seen before are forgotten then, so update at once"
        found = _read(self._state, parse_history, limit=MAX_STATE, advice=advice)
        if found is not None:
            return found
        return History(reset=tuple(provider.provider_id for provider in self.providers()))

    def put_providers(self, providers: tuple[Provider, ...]) -> None:
        """Replace the accepted providers; the lock must be held.

        Raises:
            KeyFileError: E_KEYFILE, they could not be read back.
            StorageError: E_IO, the file cannot be written.
        """
        data = dump_pins(providers)
        if not _exists(self._state):
            self.put_history(self.history())
        _replace(self._pins, data)

    def put_history(self, history: History) -> None:
        """Replace what was seen and taken back; the lock must be held.

        Raises:
            KeyFileError: E_KEYFILE, it could not be read back.
            StorageError: E_IO, the file cannot be written.
        """
        _replace(self._state, dump_history(history))


def _exists(path: Path) -> bool:
    with storage_errors(path):
        return path.exists()


def _read(path: Path, parse: Callable[[bytes], _Record], *, limit: int, advice: str) -> _Record | None:
    if not _exists(path):
        return None
    data = read_file(path, limit=limit, private=True)
    try:
        return parse(data)
    except ProtocolError as error:
        raise problem("E_KEYFILE", detail=f"{path} is damaged: {error}", fix=advice) from error


def _replace(path: Path, data: bytes) -> None:
    with atomic_writer(path, mode=PRIVATE, overwrite=True) as stream:
        stream.write(data)
