"""The audit log of a site or a coordinator: JSON lines, appended only, each bound to the one before (F-13).

A line holds what happened, never a photo, a name of one or a count of them. A
site's log stays on the site. Several processes of one party write the same file;
a lock file beside it gives each its turn. Whoever has the file could write it
anew from the start: the chain shows accidents and clumsy edits, no more.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modify_fl.errors import FederationError
from protocol.canonical import Json, dump_json, parse_json
from protocol.errors import MalformedBundleError
from protocol.schema import Scalar, format_time
from protocol.storage import PRIVATE, exclusive_lock, read_file, storage_errors

__all__ = ["JOURNAL", "Entry", "append", "read_journal"]

JOURNAL = "journal.jsonl"
"""Name of the file in a party's folder."""

_START = "0" * 64
_LIMIT = 1 << 27
_TAIL = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line."""

    time: str
    """By the clock of this machine, UTC."""
    event: str
    """What happened, such as ``round`` or ``refused``."""
    facts: Mapping[str, Scalar]
    """Numbers, digests and short words about it."""


def append(path: Path, event: str, **facts: Scalar | None) -> None:
    """Add a line; it is on the disk when this returns.

    Args:
        path: The log; made with mode 0600 if need be.
        event: What happened.
        facts: Digests, numbers and short words; those that are ``None`` are left out.

    Raises:
        StorageError: It cannot be written.
        MalformedBundleError: A number is not finite.
    """
    with exclusive_lock(path.with_name(path.name + ".lock")), storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE)
        with os.fdopen(descriptor, "r+b") as stream:
            previous = _last(stream.fileno())
            now = format_time(datetime.now(UTC).replace(microsecond=0))
            line: dict[str, Json] = {"time": now, "event": event, "previous": previous}
            line["facts"] = {name: value for name, value in facts.items() if value is not None}
            stream.write(dump_json(line) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def _last(descriptor: int) -> str:
    """Return the digest of the last line; one cut short by a crash is ended first, so that it stands alone."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    tail = os.pread(descriptor, size - start, start)
    if not tail:
        return _START
    if not tail.endswith(b"\n"):
        os.write(descriptor, b"\n")
        tail += b"\n"
    return hashlib.sha256(tail[:-1].rpartition(b"\n")[2]).hexdigest()


def read_journal(path: Path) -> tuple[Entry, ...]:
    """Return all lines after checking the chain; none where there is no file.

    Raises:
        FederationError: A line was changed, moved or dropped.
        StorageError: It cannot be read.
    """
    return tuple(_entries(path)) if path.exists() else ()


def _entries(path: Path) -> Iterator[Entry]:
    previous = _START
    for number, line in enumerate(read_file(path, limit=_LIMIT).split(b"\n")[:-1], start=1):
        entry = _decode(line)
        if entry is not None:
            if entry[0] != previous:
                raise _broken(path, number)
            yield entry[1]
        previous = hashlib.sha256(line).hexdigest()


def _decode(line: bytes) -> tuple[str, Entry] | None:
    """Return a line and what it follows; nothing for one that a crash cut short."""
    try:
        value = parse_json(line)
    except MalformedBundleError:
        return None
    if not isinstance(value, dict) or value.keys() != {"time", "event", "previous", "facts"}:
        return None
    facts = value["facts"]
    if not isinstance(facts, dict):
        return None
    known = {name: fact for name, fact in facts.items() if isinstance(fact, str | int | float | bool)}
    return str(value["previous"]), Entry(time=str(value["time"]), event=str(value["event"]), facts=known)


def _broken(path: Path, number: int) -> FederationError:
    return FederationError(
        f"the audit log {path} cannot be relied on", why=f"line {number} does not follow the one before",
        fix="keep it as it is for whoever looks into it, and go on in a new folder",
    )  # fmt: skip
