"""Pictures out: under which names, and what became of each photo (U-35, U-65, U-66).

Rules this module keeps: every input has exactly one record, and the counts add
up; an output is named after its photo, relative sub-folders and full stem kept,
and no two outputs share a name on any file system; a run that was stopped goes
on where it was.
"""

import contextlib
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TextIO

from modify_fl.console import Console
from modify_fl.errors import ConfigError
from protocol.storage import atomic_writer, storage_errors

if TYPE_CHECKING:
    from content_client.photos import Photo
    from modify_fl.styles import StyleChoice

__all__ = ["SHEET", "Job", "Journal", "Record", "output_stems", "write_records"]

SHEET = "contact-sheet"
"""Stem that outputs leave free for the contact sheet."""

_STEM_BYTES = 180  # of 255 that file systems allow: marks and the name of a file that is being written need the rest


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be painted, and under which names."""

    photos: "Sequence[Photo]"
    """The inputs."""
    stems: Sequence[str]
    """What the outputs of each photo begin with, relative to ``out``; no two alike (U-65)."""
    styles: "tuple[StyleChoice, ...]"
    """The styles, S of them."""
    out: Path
    """Folder of the results."""
    crops: bool = False
    """Write the painted faces alone."""

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self.out / f"{SHEET}.png"

    @property
    def results(self) -> Path:
        """One line per photo."""
        return self.out / "results.jsonl"

    @property
    def journal(self) -> Path:
        """What an unfinished run has done."""
        return self.out / "unfinished.jsonl"

    def names(self, index: int, faces: Sequence[int] = (1,)) -> list[tuple[str, ...]]:
        """Return the outputs of a photo, style by style; of crops one for each face.

        Args:
            index: Which photo.
            faces: Numbers of its faces.
        """
        marks = [f"-{style.mark}" for style in self.styles] if len(self.styles) > 1 else [""]
        parts = [f"-face{number}" for number in faces] if self.crops else [""]
        return [tuple(f"{self.stems[index]}{part}{mark}.png" for part in parts) for mark in marks]

    def paths(self) -> Iterator[Path]:
        """Yield everything that will be written; of crops the first face of each photo."""
        yield from (self.out / name for at in range(len(self.photos)) for names in self.names(at) for name in names)
        yield from (self.sheet, self.results)

    def plan(self, console: Console) -> Mapping[str, object]:
        """Say what would be done, and return it (U-34)."""
        count = len(self.photos) * len(self.styles)
        what = f"{len(self.photos)} photos in {len(self.styles)} styles"
        console.say(f"would paint {what}: {count} pictures in {self.out}")
        return {"photos": len(self.photos), "styles": len(self.styles), "pictures": count, "out": self.out}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one input: one line of ``results.jsonl`` (U-66)."""

    photo: str
    """Name of the input."""
    status: str
    """``written`` or ``failed``."""
    reason: str = ""
    """Why it failed."""
    outputs: tuple[str, ...] = ()
    """Names of the pictures, relative to the folder of the results."""
    styles: tuple[str, ...] = ()
    """Mark of the style of each picture, such as ``s7``."""
    faces: tuple[Mapping[str, object], ...] = ()
    """Where each painted face is, and how it was found; with scores and losses where asked for."""
    skipped: tuple[str, ...] = ()
    """Faces that were left out, and why."""
    remarks: tuple[str, ...] = ()
    """What the user should know of the photo."""

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Self:
        """Return the record that ``asdict`` wrote."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in line.items()}
        return cls(**values)


class Journal:
    """What a run has written so far, in a file beside its results; gone when the run is complete (U-35).

    The first line holds the settings, each other line the record of one photo.
    Photos are known by name: one that changed meanwhile is not painted again.
    """

    def __init__(self, path: Path, settings: Mapping[str, object], *, fresh: bool) -> None:
        """Read what an earlier run left.

        Args:
            path: The file.
            settings: All that decides the pictures, as JSON.
            fresh: Forget an earlier run.

        Raises:
            ConfigError: The unfinished run had other settings; each difference is named.
        """
        self._path, self._settings = path, json.loads(json.dumps(dict(settings)))
        self._stream: TextIO | None = None
        self._found: dict[str, Record] = {}
        if not fresh and path.is_file():
            self._read()

    def _read(self) -> None:
        from modify_fl.training.loop import differences  # noqa: PLC0415 - imports torch

        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        values = []
        with contextlib.suppress(ValueError):  # a torn last line is a photo that was not finished
            for line in lines:
                values.append(json.loads(line))  # noqa: PERF401 - what stands before a torn line counts
        if values and (found := differences(values[0], self._settings)):
            raise ConfigError(
                "an unfinished run with other settings is in this folder", why="; ".join(found),
                fix="give the same settings, choose another --out, or start anew with --fresh",
            )  # fmt: skip
        self._found = {record.photo: record for record in map(Record.read, values[1:])}

    def finished(self, photo: str, stem: str, out: Path) -> Record | None:
        """Return the record of a photo that needs no more work: its pictures are there.

        Args:
            photo: Name of the input.
            stem: What its outputs begin with now.
            out: Folder of the results.
        """
        record = self._found.get(photo)
        if record is None:
            return None
        same = all(name.startswith(stem) and (out / name).is_file() for name in record.outputs)
        return record if same else None

    def add(self, record: Record) -> None:
        """Write down a photo that is painted.

        Raises:
            StorageError: It cannot be written.
        """
        with storage_errors(self._path):
            if self._stream is None:
                self._stream = self._path.open("w", encoding="utf-8")
                self._line(self._settings, self._stream)
            self._line(asdict(record), self._stream)

    @staticmethod
    def _line(value: object, stream: TextIO) -> None:
        stream.write(json.dumps(value, ensure_ascii=False) + "\n")
        stream.flush()

    def complete(self) -> None:
        """Remove the file: the run needs it no more."""
        self.__exit__()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def output_stems(names: Sequence[str]) -> list[str]:
    """Say what the outputs of each photo begin with (U-65).

    Args:
        names: Names of the photos, relative POSIX paths.

    Returns:
        The full stem, sub-folders kept: ``a.b.jpeg`` becomes ``a.b``; two
        photos ``a.jpg`` and ``a.webp`` become ``a.jpg`` and ``a.webp``. No two
        are alike on any file system, and none is too long for one.
    """
    short = [str(PurePosixPath(name).with_suffix("")) for name in names]
    count = Counter(_folded(stem) for stem in short)
    taken = {SHEET}
    stems: list[str] = []
    for name, stem in zip(names, short, strict=True):
        wanted = stem if count[_folded(stem)] == 1 else name
        stems.append(_free(_fitting(wanted), taken))
    return stems


def _folded(stem: str) -> str:
    """Return what a file system that minds neither case nor composition makes of a name."""
    return unicodedata.normalize("NFC", stem).casefold()


def _fitting(stem: str) -> str:
    """Shorten the last part of a path that no file system takes with all that is added; a digest keeps it unique."""
    path = PurePosixPath(stem)
    if len(path.name.encode()) <= _STEM_BYTES:
        return stem
    digest = hashlib.sha256(path.name.encode()).hexdigest()[:12]
    head = path.name.encode()[: _STEM_BYTES - 13].decode(errors="ignore")
    return str(path.with_name(f"{head}-{digest}"))


def _free(wanted: str, taken: set[str]) -> str:
    stem, number = wanted, 2
    while _folded(stem) in taken:
        stem, number = f"{wanted}-{number}", number + 1
    taken.add(_folded(stem))
    return stem


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write ``results.jsonl``, whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_writer(path, overwrite=True) as stream:
        for record in records:
            stream.write(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")
