"""Which process works in a party's folder, and how another one asks it to end (F-27, U-48)."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from modify_fl.errors import ConfigError, FederationSetupError
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, read_file

__all__ = ["ask_to_end", "held", "holder"]

_LOCK, _PROCESS = "running.lock", "running.pid"
_PAUSE = 0.2
_SMALL = 32


@contextmanager
def held(folder: Path, *, fix: str) -> Iterator[None]:
    """Hold a folder for this process, in which SIGTERM acts like Ctrl-C meanwhile.

    Args:
        folder: The folder of a site or a coordinator.
        fix: What to do where another process holds it.

    Raises:
        ConfigError: Another process holds it.
    """
    path = folder / _PROCESS
    try:
        with exclusive_lock(folder / _LOCK, wait=False), _terminable():
            with atomic_writer(path, mode=PRIVATE, overwrite=True) as stream:
                stream.write(str(os.getpid()).encode())
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except BlockingIOError:
        raise ConfigError(f"another process works in {folder}", fix=fix) from None


@contextmanager
def _terminable() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def holder(folder: Path) -> int | None:
    """Return the id of the process that holds a folder; the lock tells it from one that has died."""
    try:
        with exclusive_lock(folder / _LOCK, wait=False):
            return None
    except BlockingIOError:
        path = folder / _PROCESS
        return int(read_file(path, limit=_SMALL)) if path.exists() else None


def ask_to_end(folder: Path, *, patience: float) -> bool:
    """Ask the process that holds a folder to end, and wait until it has; by its own id only.

    Args:
        folder: The folder of a site or a coordinator.
        patience: Seconds.

    Returns:
        Whether there was one.

    Raises:
        FederationSetupError: It does not end.
    """
    process = holder(folder)
    if process is None:
        return False
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while holder(folder) == process:
        if time.monotonic() > deadline:
            raise FederationSetupError(f"process {process} does not end", fix=f"look into the logs in {folder}")
        time.sleep(_PAUSE)
    return True
