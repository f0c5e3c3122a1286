"""Where pictures come from: folders, ZIP files and named data sets (U-21, U-24, U-30).

Rules this module keeps: the order of the pictures depends on their names alone;
a name is a relative path that stays inside its source, because outputs are
written under it (U-65); nothing is downloaded, so a data set that is missing is
answered with where it comes from, its licence and where to put it.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import BinaryIO, Literal

from modify_fl.errors import DataError
from modify_fl.ready import demo_pictures

__all__ = ["DATASETS", "DatasetCard", "PictureFiles", "StyleData", "open_pictures"]

StyleData = Literal["public", "licensed", "confidential"]
"""How freely the style pictures may be shown (P-71)."""

_SUFFIXES = frozenset({".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MAX_FILE_BYTES = 512 * 2**20
_DATA_VARIABLE = "MODIFY_DATA"


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a person has to know of a named data set."""

    name: str
    """As typed after ``--dataset``."""
    title: str
    """Full name and size."""
    licence: str
    """Licence, and what it asks for."""
    url: str
    """Page that leads to the data; empty for a set that comes with this program."""
    layout: str
    """Folders and files of the official download."""
    style_data: StyleData
    """Class of the pictures when they serve as style pictures (P-71)."""
    folders: tuple[str, ...] = ()
    """Patterns of the sub-folders that hold the pictures; the first that matches counts."""
    flat: bool = False
    """Whether the pictures may lie directly in the folder named after the set."""

    @property
    def how_to_get(self) -> tuple[str, str, str]:
        """Three lines: where it comes from, its licence, where to put it."""
        if not self.url:
            return ("nothing to get: it comes with this program", f"licence: {self.licence}", "no folder needed")
        return (
            f"get it from {self.url}",
            f"licence: {self.licence}",
            f"put {self.layout} into ${_DATA_VARIABLE}/{self.name} or name the folder with --data-root",
        )


_CARDS = (
    DatasetCard(
        name="celeba-hq",
        title="CelebA-HQ, 30 000 portraits at 1024 x 1024",
        licence="CelebA agreement: non-commercial research only, no redistribution",
        url="https://github.com/tkarras/progressive_growing_of_gans",
        layout="the folder data1024x1024 (or CelebA-HQ-img)",
        style_data="licensed",
        folders=("data1024x1024", "CelebA-HQ-img", "data512x512", "data256x256", "data128x128"),
        flat=True,
    ),
    DatasetCard(
        name="demo",
        title="people who do not exist at 64 x 64, painted or as photos, drawn by the models of this package",
        licence="Apache-2.0, that of this program",
        url="",
        layout="none",
        style_data="public",
    ),
    DatasetCard(
        name="ffhq",
        title="Flickr-Faces-HQ, 70 000 portraits at 1024 x 1024",
        licence="CC BY-NC-SA 4.0, each photo under its own Creative Commons licence",
        url="https://github.com/NVlabs/ffhq-dataset",
        layout="the folder images1024x1024 (or thumbnails128x128) with its numbered sub-folders",
        style_data="public",
        folders=("images1024x1024", "thumbnails128x128", "[0-9][0-9][0-9]*"),
    ),
    DatasetCard(
        name="metfaces",
        title="MetFaces, 1336 faces from works of art at 1024 x 1024",
        licence="CC BY-NC 2.0: non-commercial use, credit to the authors",
        url="https://github.com/NVlabs/metfaces-dataset",
        layout="the folder images and metfaces.json",
        style_data="public",
    ),
    DatasetCard(
        name="synthetic",
        title="faces drawn by this program, as photos or as paintings",
        licence="Apache-2.0, that of this program",
        url="",
        layout="none",
        style_data="public",
    ),
)

DATASETS: Mapping[str, DatasetCard] = MappingProxyType({card.name: card for card in _CARDS})
"""The named data sets, sorted by name."""


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """The picture files of one source, readable while ``open_pictures`` is open."""

    title: str
    """What the user calls the source."""
    names: tuple[str, ...]
    """Relative POSIX paths, each once, in the order in which they are loaded."""
    open_file: Callable[[str], BinaryIO]
    """Opens one of ``names``; raises ``OSError`` and the like."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """MD5 in hexadecimal, for names whose data set gives one."""
    rejected: tuple[tuple[str, str], ...] = ()
    """Pictures that are listed but cannot be opened, with the reason."""

    def read(self, name: str) -> bytes:
        """Return the bytes of ``name``.

        Raises:
            DataError: The file cannot be read, is larger than 512 MiB or has another checksum.
        """
        try:
            with self.open_file(name) as stream:
                data = stream.read(_MAX_FILE_BYTES + 1)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"cannot read {name}", why=why.lower().rstrip(".")) from error
        if len(data) > _MAX_FILE_BYTES:
            raise DataError(f"cannot read {name}", why="the file is larger than 512 MiB")
        _check_md5(name, data, self.checksums.get(name))
        return data


@contextmanager
def open_pictures(
    source: str | Path, *, data_root: Path | None = None, look: Literal["photo", "painting"] = "photo"
) -> Iterator[PictureFiles]:
    """Open a folder, a ZIP file or a named data set.

    Files with the suffix of a picture count, at any depth, sorted by their path;
    hidden files and folders are left out. A text that is the name of a data set
    means that set; write ``./metfaces`` for a folder of that name.

    Args:
        source: Path of a folder or ZIP file, or a name in ``DATASETS`` other than ``synthetic``.
        data_root: Folder of the named data set. Without it ``$MODIFY_DATA/<name>``
            and then ``$MODIFY_DATA`` are tried.
        look: Which pictures of ``demo``; without meaning for other sources.

    Yields:
        The files, which can be read until the block ends.

    Raises:
        DataError: There is no such source, it is damaged, or it holds no picture.
    """
    if isinstance(source, str) and source in DATASETS and source != "demo":
        yield _named(DATASETS[source], data_root)
        return
    path = demo_pictures(look) if source == "demo" else Path(source)
    if path.is_dir():
        yield _checked(_folder(str(path), path, _walk(path)))
    elif path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"cannot open {path}", why=str(error).lower(), fix="name a folder or a ZIP file") from error
        with archive:
            yield _checked(_archive(str(source), archive))
    else:
        names = ", ".join(DATASETS)
        raise DataError(f"there is no folder or file {path}", fix=f"name a folder, a ZIP file or one of {names}")


def _checked(files: PictureFiles) -> PictureFiles:
    if not files.names and not files.rejected:
        raise DataError(f"there is no picture in {files.title}", fix="name a folder that holds JPEG or PNG files")
    return files


def _check_md5(name: str, data: bytes, expected: str | None) -> None:
    if expected is None:
        return
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if got != expected.lower():
        raise DataError(
            f"cannot use {name}", why="its MD5 is not the one the data set lists", expected=expected, got=got
        )


def _is_picture(path: PurePosixPath) -> bool:
    # A path that leads out is not hidden: it is to be rejected by name.
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and not hidden


def _stays_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and ":" not in parts[0]


def _walk(folder: Path) -> Iterator[str]:
    """Yield the pictures below ``folder``; links to folders are not followed."""
    for parent, _, names in os.walk(folder, onerror=_refuse_folder):
        for name in names:
            relative = PurePosixPath((Path(parent) / name).relative_to(folder).as_posix())
            if _is_picture(relative):
                yield str(relative)


def _refuse_folder(error: OSError) -> None:
    # Without this a folder that may not be read would be left out in silence.
    raise DataError(f"cannot list {error.filename}", why=(error.strerror or str(error)).lower()) from error


def _folder(title: str, root: Path, names: Iterable[str]) -> PictureFiles:
    return PictureFiles(title=title, names=tuple(sorted(names)), open_file=lambda name: (root / name).open("rb"))


def _archive(title: str, archive: zipfile.ZipFile) -> PictureFiles:
    members: dict[str, zipfile.ZipInfo] = {}
    rejected: list[tuple[str, str]] = []
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if info.is_dir() or not _is_picture(PurePosixPath(name)):
            continue
        if not _stays_inside(name):
            rejected.append((name, "its path leads out of the archive"))
        elif name in members:
            rejected.append((name, "its name comes twice"))
        else:
            members[name] = info
    return PictureFiles(
        title=title,
        names=tuple(sorted(members)),
        open_file=lambda name: archive.open(members[name]),  # type: ignore[arg-type,return-value]
        rejected=tuple(rejected),
    )


def _named(card: DatasetCard, data_root: Path | None) -> PictureFiles:
    if not card.url:
        raise DataError(f"the data set {card.name} has no files", why="it is drawn", fix="name a folder of pictures")
    environment = os.environ.get(_DATA_VARIABLE)
    base = data_root or (Path(environment) if environment else None)
    for root in () if base is None else (base / card.name, base):
        # Loose pictures in $MODIFY_DATA itself may be anybody's.
        flat = card.flat and (root.name == card.name or data_root is not None)
        files = _metfaces(root) if card.name == "metfaces" else _official(card, root, flat=flat)
        if files is not None:
            return files
    raise _missing(card, base, data_root)


def _official(card: DatasetCard, root: Path, *, flat: bool) -> PictureFiles | None:
    """Return the pictures below the first of ``card.folders`` that is there."""
    for pattern in card.folders:
        folders = [folder for folder in root.glob(pattern) if folder.is_dir()]
        names = [f"{folder.name}/{name}" for folder in folders for name in _walk(folder)]
        if names:
            return _folder(card.name, root, names)
    loose = [path.name for path in root.glob("*") if _is_picture(PurePosixPath(path.name))] if flat else []
    return _folder(card.name, root, loose) if loose else None


def _metfaces(root: Path) -> PictureFiles | None:
    """Return the pictures that ``metfaces.json`` lists, with their checksums."""
    listing = root / "metfaces.json"
    if not listing.is_file() or not (root / "images").is_dir():
        return None
    try:
        entries = json.loads(listing.read_bytes())
        checksums = dict(_metfaces_entry(entry) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"cannot read {listing}", why="it is not the list of MetFaces", fix="download metfaces.json again"
        ) from error
    inside = {name: md5 for name, md5 in checksums.items() if _stays_inside(name)}
    files = _folder("metfaces", root, inside)
    return PictureFiles(
        title=files.title,
        names=files.names,
        open_file=files.open_file,
        checksums={name: md5 for name, md5 in inside.items() if md5},
        rejected=tuple((name, "its path leads out of the data set") for name in checksums if name not in inside),
    )


def _metfaces_entry(entry: Mapping[str, object]) -> tuple[str, str]:
    """Return the path and the MD5, if there is one, of an entry of ``metfaces.json``.

    The published list calls them ``image_path`` and ``image_md5``; FFHQ's names
    for the same, ``file_path`` and ``file_md5``, are understood as well.
    """
    path = entry.get("image_path") or entry.get("file_path")
    md5 = entry.get("image_md5") or entry.get("file_md5") or ""
    if path is None:
        path = f"images/{entry['obj_id']}-{int(str(entry['face_idx'])):02d}.png"
    return str(path), str(md5)


def _missing(card: DatasetCard, base: Path | None, data_root: Path | None) -> DataError:
    """Answer in three lines: where it comes from, its licence, where to put it (U-30)."""
    where = f"not in {base}" if base else f"not here: ${_DATA_VARIABLE} is not set"
    folder = data_root or f"{base or '$' + _DATA_VARIABLE}/{card.name}"
    return DataError(
        f"the data set {card.name} is {where}; get it from {card.url}",
        why=f"its licence does not let it come with this program ({card.licence})",
        fix=f"put {card.layout} into {folder}, or use the data set demo, which comes with this program",
    )
