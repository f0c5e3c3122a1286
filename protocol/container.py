"""Canonical store-only archive <-> members (B-1 to B-8). Takes no trust decision.

A container is a ZIP file of which every byte follows from the names, contents
and order of its members. So it is read the other way round: names, sizes and
CRCs are taken from the directory, all headers are built again from them and
compared byte by byte (B-7). Nothing else of the archive is believed, and there
is no second way to read it. ``zipfile`` is never used.
"""

import io
import re
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from protocol.errors import problem

__all__ = [
    "MAGIC",
    "MAX_MEMBERS",
    "MAX_SIZE",
    "SIGNATURE",
    "WEIGHTS",
    "Member",
    "canonical_order",
    "check_name",
    "content_offsets",
    "read_directory",
    "read_exactly",
    "write_container",
]

MAGIC = b"PK\x03\x04"
"""First bytes of every container."""
SIGNATURE = "model.sig"
"""Name of the member that holds the signature record; always the last one."""
WEIGHTS = ".safetensors"
"""Suffix of members that hold tensors."""
MAX_MEMBERS = 64
"""Most members (B-3)."""
MAX_SIZE = (1 << 32) - 1
"""Most bytes of a container (B-3)."""

_FIRST = "manifest.json"
_SUFFIXES = (".json", ".md", ".txt", ".safetensors", ".sig")
_NAME = re.compile(r"(?:[a-z0-9][a-z0-9_-]*/){0,2}[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9]+)*")
_LONGEST_NAME = 100
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")

# B-2. Version 2.0 made on Unix, no flags, stored, 1980-01-01 00:00, mode 0100644.
_VERSION, _MADE_BY, _FLAGS, _METHOD, _TIME, _DATE = 20, 0x0314, 0, 0, 0, 0x0021
_ATTRIBUTES = 0o100644 << 16
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\x05\x06"
_OVERHEAD = MAX_MEMBERS * (_LOCAL.size + _CENTRAL.size + 2 * _LONGEST_NAME) + _END.size


@dataclass(frozen=True)
class Member:
    """Where the bytes of one member are."""

    name: str
    offset: int
    """First byte of the contents, counted from the start of the file."""
    size: int
    """Bytes."""
    crc32: int


def check_name(name: str) -> None:
    """Refuse what is not the name of a member (B-4, B-5).

    Raises:
        MalformedBundleError: E_MEMBER_NAME or E_MEMBER_TYPE.
    """
    parts = name.split("/")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name) or any(_DEVICE.fullmatch(part) for part in parts):
        raise problem("E_MEMBER_NAME", member=ascii(name)[:120])
    if not name.endswith(_SUFFIXES) or (name.endswith(".sig") and name != SIGNATURE):
        raise problem("E_MEMBER_TYPE", member=name)


def canonical_order(name: str) -> tuple[int, str]:
    """Sort key of members: manifest first, signature last, the others by name (B-6)."""
    rank = {_FIRST: 0, SIGNATURE: 2}.get(name, 1)
    return rank, name


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_MEMBERS:
        raise problem("E_CONTAINER", detail=f"{count} members, not 1 to {MAX_MEMBERS}")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        check_name(name)
    if len(set(names)) != len(names):
        raise problem("E_CONTAINER", detail="two members with one name")
    # No name can be a file and a folder at once: files have a suffix, folders cannot (B-4).
    if list(names) != sorted(names, key=canonical_order):
        raise problem("E_CONTAINER", detail="members out of order")


@dataclass(frozen=True)
class _Layout:
    """Every byte of a container that is not contents."""

    members: tuple[Member, ...]
    headers: tuple[bytes, ...]
    """Local header of each member; it ends where the contents begin."""
    tail: bytes
    """Directory and end record."""
    size: int
    """Bytes of the whole container."""


def _lay_out(entries: Sequence[tuple[str, int, int]]) -> _Layout:
    """Derive the whole form from names, sizes and CRCs (B-2, B-6)."""
    common = _FLAGS, _METHOD, _TIME, _DATE
    members, headers, directory = [], [], b""
    offset = 0
    for name, size, crc32 in entries:
        raw = name.encode("ascii")
        sizes = crc32, size, size, len(raw)
        header = _LOCAL.pack(MAGIC, _VERSION, *common, *sizes, 0) + raw
        directory += _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, _VERSION, *common, *sizes, 0, 0, 0, 0, _ATTRIBUTES, offset)
        directory += raw
        headers.append(header)
        members.append(Member(name, offset + len(header), size, crc32))
        offset += len(header) + size
    end = _END.pack(_END_MAGIC, 0, 0, len(entries), len(entries), len(directory), offset, 0)
    total = offset + len(directory) + len(end)
    return _Layout(tuple(members), tuple(headers), directory + end, total)


def content_offsets(sizes: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return where the contents of each member begin.

    Args:
        sizes: Names and sizes, in the order of ``canonical_order``; of the last
            one only what is before it matters.

    Raises:
        MalformedBundleError: a name, the order, the number or the total size is
            not allowed.
    """
    _check_count(len(sizes))
    _check_names([name for name, _ in sizes])
    if sum(size for _, size in sizes) > MAX_SIZE - _OVERHEAD:
        raise problem("E_CONTAINER", detail="4 GiB or more")
    return {member.name: member.offset for member in _lay_out([(name, size, 0) for name, size in sizes]).members}


def write_container(
    stream: BinaryIO,
    members: Sequence[tuple[str, bytes]],
    *,
    crcs: Mapping[str, int] | None = None,
    stored: Collection[str] = (),
) -> None:
    """Write members, already in canonical order, as one container.

    Args:
        stream: Receives the bytes from its current position on; sought only to
            skip what is stored already.
        members: Names and contents, in the order of ``canonical_order``.
        crcs: CRCs that are known already, by name.
        stored: Names of members whose contents stand in their place
            (``content_offsets``) already.

    Raises:
        MalformedBundleError: a name, the order, the number or the total size is
            not allowed; nothing has been written then.
    """
    content_offsets([(name, len(data)) for name, data in members])
    known = crcs or {}
    layout = _lay_out([(name, len(data), known[name] if name in known else zlib.crc32(data)) for name, data in members])
    for (name, data), header in zip(members, layout.headers, strict=True):
        stream.write(header)
        if name in stored:
            stream.seek(len(data), io.SEEK_CUR)
        else:
            stream.write(data)
    stream.write(layout.tail)


def read_exactly(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Read ``size`` bytes at ``offset``.

    Raises:
        MalformedBundleError: E_TRUNCATED, the file is shorter than that.
    """
    stream.seek(offset)
    data = stream.read(size)
    if len(data) != size:
        raise problem("E_TRUNCATED")
    return data


def _find_directory(stream: BinaryIO, total: int) -> tuple[int, bytes]:
    """Return the number of members and the raw directory that the end record names."""
    if total < _END.size:
        raise problem("E_TRUNCATED")
    fields = _END.unpack(read_exactly(stream, total - _END.size, _END.size))
    magic, count, size, offset = fields[0], fields[4], fields[5], fields[6]
    if magic != _END_MAGIC or offset + size + _END.size != total:
        raise problem("E_TRUNCATED")
    _check_count(count)
    if size > _OVERHEAD:
        raise problem("E_CONTAINER", detail="directory too long")
    return count, read_exactly(stream, offset, size)


def _parse_directory(directory: bytes, count: int) -> list[tuple[str, int, int]]:
    """Take names, sizes and CRCs, and believe nothing else; the caller compares the rest."""
    entries = []
    position = 0
    for _ in range(count):
        fixed = directory[position : position + _CENTRAL.size]
        if len(fixed) != _CENTRAL.size:
            raise problem("E_CONTAINER", detail="directory too short")
        fields = _CENTRAL.unpack(fixed)
        crc32, size, length = fields[7], fields[9], fields[10]
        position += _CENTRAL.size
        name = directory[position : position + length].decode("latin-1")
        check_name(name)
        entries.append((name, size, crc32))
        position += length
    return entries


def read_directory(stream: BinaryIO, *, size_limit: int) -> tuple[Member, ...]:
    """Read and check the form of a whole container; contents are not read.

    Args:
        stream: The file, seekable.
        size_limit: Most bytes to accept; never more than ``MAX_SIZE`` anyway.

    Returns:
        The members in the order of the file. Their CRCs are not checked here
        (B-12): they become part of what the signature covers.

    Raises:
        MalformedBundleError: the file is not exactly what ``write_container``
            would have written.
        OSError: the file cannot be read.
    """
    total = stream.seek(0, io.SEEK_END)
    limit = min(size_limit, MAX_SIZE)
    if total > limit:
        raise problem("E_CONTAINER", detail=f"{total} bytes, more than the limit of {limit}")
    count, directory = _find_directory(stream, total)
    entries = _parse_directory(directory, count)
    _check_names([name for name, _, _ in entries])
    layout = _lay_out_checked(entries, total)
    if layout.tail != read_exactly(stream, total - len(layout.tail), len(layout.tail)):
        raise problem("E_CONTAINER", detail="directory")
    for member, header in zip(layout.members, layout.headers, strict=True):
        if header != read_exactly(stream, member.offset - len(header), len(header)):
            raise problem("E_CONTAINER", detail=f"header of {member.name}")
    return layout.members


def _lay_out_checked(entries: Sequence[tuple[str, int, int]], total: int) -> _Layout:
    """Lay out entries of unknown origin: their sizes must add up before they are packed."""
    if sum(size for _, size, _ in entries) >= total:
        raise problem("E_CONTAINER", detail="members do not fit into the file")
    layout = _lay_out(entries)
    if layout.size != total:
        raise problem("E_CONTAINER", detail="members do not fill the file")
    return layout
