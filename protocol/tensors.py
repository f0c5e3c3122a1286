"""Strict safetensors header (B-23); checked before any library sees the file.

Rules kept here: header at most 1 MiB; 1 to 4096 tensors; rank at most 8; each
dimension from 1 to 2^31; F32, F16 or BF16; no duplicate and no unknown field;
names ``[A-Za-z0-9_.]{1,200}``; data contiguous from 0 to the end of the file;
metadata absent or ``{"format": "pt"}``.
"""

import math
import re
from typing import NoReturn, cast

from protocol.canonical import Json, parse_json
from protocol.errors import ProtocolError, problem
from protocol.manifest import Dtype, TensorInfo

__all__ = ["HEADER_LENGTH", "MAX_HEADER", "read_tensor_header"]

MAX_HEADER = 1 << 20
"""Most bytes of the JSON part of the header."""

HEADER_LENGTH = 8
"""A file begins with the length of the JSON part, in so many bytes, little-endian."""

_MAX_TENSORS = 4096
_MAX_RANK = 8
_MAX_DIMENSION = 1 << 31
_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_WIDTH = {"BF16": 2, "F16": 2, "F32": 4}
_METADATA = {"format": "pt"}
_SPAN = 2


def _fail(member: str, detail: str) -> NoReturn:
    raise problem("E_TENSOR_HEADER", member=member, detail=detail)


def _header_size(start: bytes, member: str) -> int:
    """Return how many bytes at the start of the file are its header."""
    length = int.from_bytes(start[:HEADER_LENGTH], "little")
    if len(start) < HEADER_LENGTH or not 0 < length <= MAX_HEADER:
        _fail(member, f"header length {length}")
    return HEADER_LENGTH + length


def _read_json(header: bytes, member: str) -> dict[str, Json]:
    if header[:1] != b"{" or header.rstrip(b" ")[-1:] != b"}":
        _fail(member, "header does not begin and end with braces")
    try:
        table = parse_json(header, limit=MAX_HEADER, member=member)
    except ProtocolError as error:
        raise problem("E_TENSOR_HEADER", member=member, detail=error.what) from error
    if not isinstance(table, dict):  # pragma: no cover - it begins with a brace
        _fail(member, "header is not an object")
    return table


def _whole_numbers(value: Json, low: int, high: int) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    numbers = tuple(item for item in value if type(item) is int and low <= item <= high)
    return numbers if len(numbers) == len(value) else None


def _read_entry(name: str, entry: Json, end: int, member: str) -> tuple[TensorInfo, int, int]:
    """Return type and shape of one tensor, and where its data begins and ends."""
    if not _NAME.fullmatch(name):
        _fail(member, f"tensor name {ascii(name)[:80]}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _fail(member, f"fields of {name}")
    dtype = entry["dtype"]
    shape = _whole_numbers(entry["shape"], 1, _MAX_DIMENSION)
    span = _whole_numbers(entry["data_offsets"], 0, end)
    if not isinstance(dtype, str) or dtype not in _WIDTH:
        _fail(member, f"type of {name}")
    if shape is None or len(shape) > _MAX_RANK:
        _fail(member, f"shape of {name}")
    if span is None or len(span) != _SPAN:
        _fail(member, f"offsets of {name}")
    if span[1] - span[0] != math.prod(shape) * _WIDTH[dtype]:
        _fail(member, f"size of {name}")
    return TensorInfo(dtype=cast("Dtype", dtype), shape=shape), span[0], span[1]


def read_tensor_header(start: bytes, *, size: int, member: str) -> dict[str, TensorInfo]:
    """Read the table of tensors of a safetensors file.

    Args:
        start: The first bytes of the file, at least its whole header.
        size: Bytes of the whole file.
        member: Name of the file in error messages.

    Returns:
        Type and shape of every tensor, in the order of their data.

    Raises:
        TensorError: E_TENSOR_HEADER, a rule of the module is broken.
    """
    data_start = _header_size(start, member)
    if data_start > min(len(start), size):
        _fail(member, "header ends after the file")
    table = _read_json(start[HEADER_LENGTH:data_start], member)
    if table.pop("__metadata__", _METADATA) != _METADATA:
        _fail(member, "metadata")
    if not 1 <= len(table) <= _MAX_TENSORS:
        _fail(member, f"{len(table)} tensors, not 1 to {_MAX_TENSORS}")
    end = size - data_start
    entries = [(name, *_read_entry(name, entry, end, member)) for name, entry in table.items()]
    entries.sort(key=lambda entry: entry[2])
    position = 0
    for name, _, first, last in entries:
        if first != position:
            _fail(member, f"gap or overlap before {name}")
        position = last
    if position != end:
        _fail(member, "data does not end with the file")
    return {name: info for name, info, _, _ in entries}
