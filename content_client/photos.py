"""Photos in: which files there are, each once (U-45, U-66).

Every input is counted: what cannot be read says so when it is read.
"""

import glob
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from modify_fl.datasets import open_pictures
from modify_fl.errors import DataError

__all__ = ["Photo", "default_photos", "listed_photos", "open_photos"]

_DEMO = "demo"
_ARCHIVES = frozenset({".zip"})


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One input."""

    name: str
    """Relative POSIX path in the folder it was found in; the file name of a single file."""
    read: Callable[[], bytes]
    """Returns the bytes of the file; raises ``DataError`` or ``OSError``."""


def default_photos() -> Path:
    """Return ``$MODIFY_PHOTOS``, or ``./photos``.

    Raises:
        DataError: There is no such folder.
    """
    named = os.environ.get("MODIFY_PHOTOS")
    folder = Path(named or "photos")
    if not folder.exists():
        what = f"there are no photos: $MODIFY_PHOTOS names {named}" if named else "there are no photos"
        why = "that folder does not exist" if named else "$MODIFY_PHOTOS is not set and there is no folder ./photos"
        raise DataError(what, why=why, fix="name the folder with --photos")
    return folder


def open_photos(sources: Sequence[str | Path], stack: ExitStack) -> list[Photo]:
    """Return all photos of files, folders and ZIP files, each once, in the order given.

    Args:
        sources: What the user named: paths and patterns; the text ``demo`` means that data set, ``./demo`` a folder.
        stack: Keeps ZIP files open while the photos are read.

    Raises:
        DataError: A source does not exist, or a folder holds no picture.
    """
    photos: list[Photo] = []
    seen: set[str | Path] = set()
    for source in (found for named in sources for found in _expanded(named)):
        place = source if source == _DEMO else Path(source).resolve()
        if place in seen:
            continue
        seen.add(place)
        path = Path(source)
        if source == _DEMO or path.is_dir() or path.suffix.lower() in _ARCHIVES:
            files = stack.enter_context(open_pictures(_DEMO if source == _DEMO else path))
            photos += [Photo(name=name, read=lambda n=name, f=files: f.read(n)) for name in files.names]  # type: ignore[misc]
            photos += [Photo(name=name, read=_refusal(name, why)) for name, why in files.rejected]
        elif path.is_file():
            photos.append(Photo(name=path.name, read=path.read_bytes))
        else:
            raise DataError(f"there is no photo or folder {source}", fix="check the path")
    return photos


def _expanded(source: str | Path) -> Sequence[str | Path]:
    """Return the files that a pattern such as ``holiday/*.jpg`` stands for; a path that exists is no pattern."""
    if not glob.has_magic(str(source)) or os.path.lexists(source):
        return [source]
    found = sorted(Path(place) for place in glob.glob(str(source), recursive=True))  # noqa: PTH207 - absolute patterns too
    if not found:
        raise DataError(f"nothing matches {source}", fix="check the pattern")
    return found


def listed_photos(path: Path) -> list[Path]:
    """Return the photos that a text file names, one a line; relative ones start at the file's folder.

    Raises:
        DataError: It cannot be read, or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror).lower()
        raise DataError(f"cannot read the list {path}", why=why, fix="check the path") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"the list {path} names no photo", fix="write one path a line")
    return [path.parent / name for name in names]


def _refusal(name: str, why: str) -> Callable[[], bytes]:
    """Return a reader that says why this entry of an archive is not read, so that it is counted (U-66)."""

    def read() -> bytes:
        raise DataError(f"cannot read {name}", why=why, fix="take it out of the archive")

    return read
