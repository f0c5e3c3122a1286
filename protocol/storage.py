"""Small files on disk: whole or not at all, private where they must be.

Rules kept here: results appear by an atomic rename after ``fsync`` (B-43, U-40);
nothing that exists is replaced unless the caller says so (B-44); a private file
has mode 0600 and is refused when others could read it (B-32, B-43); reading is
bounded, from a regular file only.
"""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from protocol.errors import StorageError, problem

__all__ = [
    "PRIVATE",
    "PUBLIC",
    "atomic_writer",
    "exclusive_lock",
    "open_regular",
    "read_file",
    "storage_errors",
]

PRIVATE = 0o600
"""Mode of private keys and of the trust store."""
PUBLIC = 0o644
"""Mode of everything else."""

_OTHERS = 0o077


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into E_IO."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise problem("E_IO", detail=f"{path}: {reason}", fix=_advice(error)) from error


def _advice(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the path"
    if isinstance(error, PermissionError):
        return "check the permissions of the file and its folder"
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return "choose another path"
    return ""


def _refuse_existing(path: Path) -> StorageError:
    return StorageError(f"cannot write {path}: it exists", fix="choose another name, or add --overwrite")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, device or folder is refused without waiting.

    Raises:
        StorageError: E_IO, it cannot be read, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with storage_errors(path):
        descriptor = os.open(path, flags)
        stream = os.fdopen(descriptor, "rb") if _is_regular(descriptor) else None
    if stream is None:
        os.close(descriptor)
        raise problem("E_IO", detail=f"{path}: not a regular file", fix="name a file")
    return stream


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def read_file(path: Path, *, limit: int, private: bool = False) -> bytes:
    """Read a small file.

    Args:
        path: A regular file.
        limit: Most bytes to accept.
        private: Refuse a file that anyone but its owner can read or write.

    Raises:
        StorageError: E_IO, not readable, or longer than ``limit``.
        KeyFileError: E_KEYFILE, ``private`` and the mode is wider than 0600.
    """
    with open_regular(path) as stream, storage_errors(path):
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if private and sys.platform != "win32" and mode & _OTHERS:
            raise problem(
                "E_KEYFILE",
                detail=f"{path} is open to others",
                fix=f"chmod 600 {path}",
                expected="0600",
                got=f"{mode:04o}",
            )
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise problem("E_IO", detail=f"{path}: longer than {limit} bytes", fix="check the path")
    return data


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: int = PUBLIC, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Write a file that appears whole at the end of the block, or not at all.

    Args:
        path: Destination; its folder must exist.
        mode: Permissions of the file.
        overwrite: Whether an existing file is replaced.

    Yields:
        A stream open for writing and reading, under a temporary name
        (``stream.name``) in the same folder.

    Raises:
        StorageError: E_IO, cannot write, or ``path`` exists and must stay.
    """
    with storage_errors(path):
        if not overwrite and os.path.lexists(path):
            raise _refuse_existing(path)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        os.close(descriptor)  # opened again below under its name, which callers may read from
    temporary = Path(name)
    try:
        with storage_errors(path), temporary.open("w+b") as stream:  # closing writes too, and can fail
            yield stream
            stream.flush()
            temporary.chmod(mode)
            os.fsync(stream.fileno())
        with storage_errors(path):
            _put(temporary, path, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the finished file its name; a link cannot replace what appeared meanwhile."""
    if overwrite:
        temporary.replace(path)
    else:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise _refuse_existing(path) from None
        except OSError:  # a file system without links: the check at the start must do
            temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # pragma: no cover
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file for the length of the block; others wait.

    Args:
        path: The lock file; it stays, and holds nothing.
        wait: Whether to wait for another process that holds it.

    Raises:
        StorageError: E_IO, the lock file cannot be made.
        BlockingIOError: Another process holds the lock, and ``wait`` is false.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        if sys.platform == "win32":  # pragma: no cover
            import msvcrt  # noqa: PLC0415

            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise BlockingIOError(str(error)) from error
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)  # closing releases the lock
