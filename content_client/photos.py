"""Photos in and pictures out: which files, under which names (U-45, U-65, U-66).

Rules this module keeps: every input has exactly one record, and the counts add
up; one unreadable photo never ends a run; an output is named after its photo,
relative sub-folders and full stem kept, and no two outputs share a name on any
file system.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from modify_fl.console import Console
from modify_fl.datasets import open_pictures
from modify_fl.errors import DataError
from protocol.errors import StorageError
from protocol.storage import atomic_writer

__all__ = [
    "SHEET",
    "Job",
    "Photo",
    "Record",
    "default_photos",
    "open_photos",
    "output_names",
    "refuse_existing",
    "write_records",
]

SHEET = "contact-sheet"
"""Stem that outputs leave free for the contact sheet."""

_ARCHIVES = frozenset({".zip"})


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One input."""

    name: str
    """Relative POSIX path in the folder it was found in; the file name of a single file."""
    read: Callable[[], bytes]
    """Returns the bytes of the file; raises ``DataError`` or ``OSError``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be painted, and under which names."""

    photos: Sequence[Photo]
    """The inputs."""
    names: Sequence[tuple[str, ...]]
    """Outputs of each photo, one per seed, relative to ``out``."""
    seeds: tuple[int, ...]
    """One style each."""
    out: Path
    """Folder of the results."""

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self.out / f"{SHEET}.png"

    @property
    def results(self) -> Path:
        """One line per photo."""
        return self.out / "results.jsonl"

    def paths(self) -> Iterator[Path]:
        """Yield everything that will be written."""
        yield from (self.out / name for names in self.names for name in names)
        yield from (self.sheet, self.results)

    def plan(self, console: Console) -> Mapping[str, object]:
        """Say what would be done, and return it (U-34)."""
        count = len(self.photos) * len(self.seeds)
        what = f"{len(self.photos)} photos in {len(self.seeds)} styles"
        console.say(f"would paint {what}: {count} pictures in {self.out}")
        return {"photos": len(self.photos), "styles": len(self.seeds), "pictures": count, "out": self.out}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one input: one line of ``results.jsonl`` (U-66)."""

    photo: str
    """Name of the input."""
    status: str
    """``written`` or ``failed``."""
    reason: str = ""
    """Why it failed, or a remark."""
    outputs: tuple[str, ...] = ()
    """Names of the pictures, relative to the folder of the results."""
    seeds: tuple[int, ...] = ()
    """Seed of each picture."""


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


def open_photos(sources: Sequence[Path], stack: ExitStack) -> list[Photo]:
    """Return all photos of files, folders and ZIP files, each once, in the order given.

    Args:
        sources: What the user named.
        stack: Keeps ZIP files open while the photos are read.

    Raises:
        DataError: A source does not exist, or a folder holds no picture.
    """
    photos: list[Photo] = []
    seen: set[Path] = set()
    for source in sources:
        place = source.resolve()
        if place in seen:
            continue
        seen.add(place)
        if source.is_dir() or source.suffix.lower() in _ARCHIVES:
            files = stack.enter_context(open_pictures(source))
            photos += [Photo(name=name, read=lambda n=name, f=files: f.read(n)) for name in files.names]  # type: ignore[misc]
            photos += [Photo(name=name, read=_refusal(name, why)) for name, why in files.rejected]
        elif source.is_file():
            photos.append(Photo(name=source.name, read=source.read_bytes))
        else:
            raise DataError(f"there is no photo or folder {source}", fix="check the path")
    return photos


def _refusal(name: str, why: str) -> Callable[[], bytes]:
    """Return a reader that says why this entry of an archive is not read, so that it is counted (U-66)."""

    def read() -> bytes:
        raise DataError(f"cannot read {name}", why=why, fix="take it out of the archive")

    return read


def output_names(names: Sequence[str], seeds: Sequence[int], *, suffix: str = ".png") -> list[tuple[str, ...]]:
    """Name the outputs of each photo (U-65).

    Args:
        names: Names of the photos.
        seeds: Seeds of the styles; one seed adds nothing to the name, several add ``-s<seed>``.
        suffix: Of the outputs.

    Returns:
        For each photo one relative POSIX path per seed; ``a.b.jpeg`` becomes
        ``a.b.png``, and two photos ``a.jpg`` and ``a.webp`` become
        ``a.jpg.png`` and ``a.webp.png``.
    """
    marks = [f"-s{seed}" for seed in seeds] if len(seeds) > 1 else [""]
    return [tuple(f"{stem}{mark}{suffix}" for mark in marks) for stem in _stems(names)]


def _stems(names: Sequence[str]) -> list[str]:
    short = [str(PurePosixPath(name).with_suffix("")) for name in names]
    count = Counter(stem.casefold() for stem in short)
    taken = {SHEET}
    stems: list[str] = []
    for name, stem in zip(names, short, strict=True):
        wanted = stem if count[stem.casefold()] == 1 else name
        stems.append(_free(wanted, taken))
    return stems


def _free(wanted: str, taken: set[str]) -> str:
    stem, number = wanted, 2
    while stem.casefold() in taken:
        stem, number = f"{wanted}-{number}", number + 1
    taken.add(stem.casefold())
    return stem


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


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write ``results.jsonl``, whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_writer(path, overwrite=True) as stream:
        for record in records:
            stream.write(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")
