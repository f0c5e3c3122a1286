"""Decoded pictures in a file instead of in memory, for sets that are too large for it (M-51).

One folder per set below the user's cache folder (``MODIFY_CACHE`` names
another): ``pixels.bin``, uint8 [N, 3, R, R], and ``set.json``, what is known of
it. The file is mapped, so a batch reads its own rows and the system decides
what stays in memory. Pictures are private: folders are 0700 and files 0600, a
folder appears under its name only when it is whole, and ``discard`` removes it.

Legend of shapes: N pictures, R resolution.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

from modify_fl.datasets import PictureFiles
from modify_fl.errors import DataError

__all__ = ["PixelFile", "PixelWriter", "cache_folder", "listing_digest", "memory_limit"]

_VARIABLE = "MODIFY_CACHE"
_FORMAT = 1
_MEMORY_SHARE = 0.25
_MEMORY_UNKNOWN = 4 << 30
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def cache_folder() -> Path:
    """Return the folder that holds decoded sets: ``$MODIFY_CACHE``, or one in the user's cache folder."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else user_cache_path("modify-fl") / "pictures"


def memory_limit() -> int:
    """Return how many bytes of pixels are kept in memory: a quarter of what this process may have."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # pragma: no cover - Windows
        most = _MEMORY_UNKNOWN
    with contextlib.suppress(OSError, ValueError):  # "max" where the container has no limit
        most = min(most, int(_CGROUP.read_text(encoding="ascii")))
    return int(most * _MEMORY_SHARE)


def listing_digest(files: PictureFiles, names: Iterable[str], resolution: int, template: str = "") -> str:
    """Return a SHA-256 over what decides the pixels: format, resolution, and each file's name, size and time.

    ``template`` is the digest of the template that faces are aligned to, empty where they are not.

    A file inside an archive counts by the size and the time of the archive.
    """
    digest = hashlib.sha256(f"{_FORMAT}\n{resolution}\n{files.title}\n{files.rejected}\n{template}".encode())
    archive = Path(files.title)
    whole = _stamp(archive.stat()) if archive.is_file() else ""
    for name in names:
        digest.update(f"{name}\n{whole or _stamp_of(files, name)}\n".encode())
    return digest.hexdigest()


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns}"


def _stamp_of(files: PictureFiles, name: str) -> str:
    try:
        with files.open_file(name) as stream:
            return _stamp(os.fstat(stream.fileno()))
    except OSError as error:  # it will be named when it is read
        return type(error).__name__


class PixelFile:
    """Decoded pictures of one set, in a private folder named after their listing."""

    def __init__(self, key: str, home: Path | None = None) -> None:
        """Name the folder; nothing is made yet.

        Args:
            key: Result of ``listing_digest``.
            home: Folder of all sets; ``cache_folder()`` when omitted.
        """
        self.folder = (home or cache_folder()) / key[:32]

    def find(self) -> Mapping[str, Any] | None:
        """Return what was written beside the pixels, or nothing where there is no whole set."""
        try:
            known: dict[str, Any] = json.loads((self.folder / "set.json").read_text(encoding="utf-8"))
            size = (self.folder / "pixels.bin").stat().st_size
        except (OSError, ValueError):
            return None
        return known if size == known["bytes"] else None

    @contextlib.contextmanager
    def making(self) -> Iterator["PixelWriter"]:
        """Write a new set; it appears when the block ends well and leaves nothing when it does not.

        Raises:
            DataError: There is no space for it.
        """
        partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o700)
            with _private(partial / "pixels.bin") as stream:
                yield PixelWriter(partial, stream)
            shutil.rmtree(self.folder, ignore_errors=True)
            partial.rename(self.folder)
        except OSError as error:
            raise DataError(
                "cannot keep the decoded pictures in a file", why=(error.strerror or str(error)).lower(),
                fix=f"make space, or name another folder with {_VARIABLE}",
            ) from error  # fmt: skip
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def pixels(self, count: int, resolution: int) -> Tensor:
        """Map the file, uint8 [N, 3, R, R]; nothing is read yet, and what is written to the tensor stays in memory."""
        shape = (count, 3, resolution, resolution)
        if not count:  # an empty file cannot be mapped
            return torch.empty(shape, dtype=torch.uint8)
        mapped = np.memmap(self.folder / "pixels.bin", dtype=np.uint8, mode="c", shape=shape)
        return torch.from_numpy(mapped)

    def discard(self) -> None:
        """Remove the set from the disk; what is mapped can be read until it is let go."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PixelWriter:
    """Takes pictures one by one."""

    def __init__(self, folder: Path, stream: BinaryIO) -> None:
        """Begin with none."""
        self._folder, self._stream, self._bytes = folder, stream, 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append one picture, uint8 [3, R, R]."""
        data = np.ascontiguousarray(picture).tobytes()
        self._stream.write(data)
        self._bytes += len(data)

    def finish(self, known: Mapping[str, object]) -> None:
        """Write what is known of the set beside it; call it last."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        with _private(self._folder / "set.json") as stream:
            stream.write(json.dumps({**known, "bytes": self._bytes}).encode())


def _private(path: Path) -> BinaryIO:
    """Open a new file that nobody else may read."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
