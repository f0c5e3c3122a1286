"""Bombs, duplicates, concatenated, prefixed, hidden or trailing data, links (B-2, B-7)."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from attackkit import foreign_zip

from protocol.container import read_directory
from protocol.errors import MalformedBundleError

CODES = {"E_CONTAINER", "E_TRUNCATED", "E_FORMAT", "E_MEMBER_NAME", "E_MEMBER_TYPE"}


def hide(data: bytes) -> bytes:
    """Put data between the members and the directory, and correct the end record."""
    directory = data.index(b"PK\x01\x02")
    end = bytearray(data[-22:])
    end[16:20] = (directory + 6).to_bytes(4, "little")
    return data[:directory] + b"hidden" + data[directory:-22] + bytes(end)


def overlap(data: bytes) -> bytes:
    """Let a second directory entry point at the first member, as overlap bombs do."""
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    return data[: second + 42] + bytes(4) + data[second + 46 :]


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "deflate bomb": lambda _: foreign_zip(("manifest.json", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED),
    "overlap bomb": overlap,
    "concatenated": lambda good: good + good,
    "prefixed": lambda good: b"#!/bin/sh\n" + good,
    "hidden data": hide,
    "trailing data": lambda good: good + b"\x00",
    "archive comment": lambda good: good[:-2] + b"\x01\x00!",
    "symlink": lambda _: foreign_zip(("manifest.json", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
    "executable": lambda _: foreign_zip(("manifest.json", b"{}"), mode=0o100755),
    "empty": lambda _: b"",
    "only an end record": lambda good: good[-22:],
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_hide_something(refused: Callable[..., str], style_bytes: bytes, name: str) -> None:
    assert refused(ARCHIVES[name](style_bytes)) in CODES


def test_duplicate_member(refused: Callable[..., str]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = foreign_zip(("manifest.json", b"{}"), ("manifest.json", b"[]"))
    assert refused(data) == "E_CONTAINER"


def test_archives_of_the_package_index(refused: Callable[..., str], shared_vectors: Path) -> None:
    # Section 12: 45 archives that confuse other readers, those that the index accepts included.
    folder = shared_vectors / "warehouse-zip"
    archives = sorted((folder / "accept").iterdir()) + sorted((folder / "reject").iterdir())
    assert len(archives) == 45
    for path in archives:
        assert refused(path.read_bytes()) in CODES, path.name


def test_every_flipped_bit_of_the_headers(style_bytes: bytes) -> None:
    # B-7, on a real bundle: nothing that is not contents may differ in a single bit.
    contents = set()
    for member in read_directory(io.BytesIO(style_bytes), size_limit=len(style_bytes)):
        contents.update(range(member.offset, member.offset + member.size))
    headers = [byte for byte in range(len(style_bytes)) if byte not in contents]
    assert len(headers) > 300
    broken = bytearray(style_bytes)
    for byte in headers:
        for bit in range(8):
            broken[byte] ^= 1 << bit
            with pytest.raises(MalformedBundleError):
                read_directory(io.BytesIO(broken), size_limit=len(broken))
            broken[byte] ^= 1 << bit


def test_every_truncation(style_bytes: bytes) -> None:
    for size in range(len(style_bytes)):
        with pytest.raises(MalformedBundleError):
            read_directory(io.BytesIO(style_bytes[:size]), size_limit=len(style_bytes))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_truncated_download(refused: Callable[..., str], style_bytes: bytes, part: float) -> None:
    assert refused(style_bytes[: int(len(style_bytes) * part)]) in CODES
