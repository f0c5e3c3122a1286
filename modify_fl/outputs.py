"""Where results go: nothing is replaced unasked (U-40), and a folder that is not there is made.

A command looks before any work, when nothing may be written yet (U-34), and makes
the folder with the first thing it writes.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from modify_fl.errors import ConfigError
from protocol.errors import StorageError
from protocol.storage import storage_errors

__all__ = ["make_folder", "refuse_existing", "require_folder"]


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Stop before any work where a result would replace a file (U-40).

    Raises:
        StorageError: A path exists and ``overwrite`` was not given.
    """
    existing = [] if overwrite else [path for path in paths if os.path.lexists(path)]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise StorageError(
            f"{existing[0]}{more} exist{'s' if len(existing) == 1 else ''}",
            why="results are never replaced silently", fix="choose another --out, or add --overwrite",
        )  # fmt: skip


def require_folder(folder: Path) -> None:
    """Stop before any work where a folder neither is nor can be made; nothing is made yet.

    Raises:
        ConfigError: A file is in its place, or in that of a folder above it.
    """
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise ConfigError(f"{there} is no folder", why=f"results would go into {folder}", fix="choose another --out")


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it, where they are not there.

    Raises:
        StorageError: E_IO, it cannot be made.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
