"""Constants of a frozen TensorFlow graph, without TensorFlow.

A ``GraphDef`` is a protobuf message. Of the wire format four kinds of fields are needed, of the messages five: a graph
holds nodes (field 1); a node has a name (1), an operation (2) and attributes (5), each an entry with a key (1) and a
value (2); a value may hold a tensor (8); a tensor has a type (1, of which 1 is float32), a shape (2) whose dimensions
(2) have a size (1), and its numbers as bytes (4). Numbers stored in any other way belong to small constants of the
graph itself, and are left out.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from modify_fl.errors import DataError

__all__ = ["read_constants"]

_FLOAT32 = 1
_VARINT_MAX = 70


def read_constants(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read the float32 constants of a frozen graph.

    Args:
        data: The bytes of a ``.pb`` file.

    Returns:
        Arrays by the name of their node, in TensorFlow's axis order: kernels are [k, k, I, O].

    Raises:
        DataError: It is no such file, or is damaged.
    """
    found = {}
    try:
        for number, node in _fields(memoryview(data)):
            if number == 1:
                name, tensor = _constant(_message(node))
                if tensor is not None:
                    found[name] = tensor
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise DataError(
            "refused to read the frozen graph", why=str(error), fix="fetch it again; if that does not help, report it"
        ) from error
    return found


def _constant(node: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    name = operation = ""
    tensor = None
    for number, value in _fields(node):
        if number == 1:
            name = bytes(_message(value)).decode()
        elif number == 2:
            operation = bytes(_message(value)).decode()
        elif number == 5:
            entry = dict(_fields(_message(value)))
            if bytes(_message(entry.get(1, b""))) == b"value":
                tensor = dict(_fields(_message(entry.get(2, b"")))).get(8)
    return name, _array(_message(tensor)) if operation == "Const" and tensor is not None else None


def _array(tensor: memoryview) -> NDArray[np.float32] | None:
    parts = dict(_fields(tensor))
    content = _message(parts.get(4, b""))
    if parts.get(1) != _FLOAT32 or not content:
        return None
    sizes = [dict(_fields(_message(v))).get(1, 0) for n, v in _fields(_message(parts.get(2, b""))) if n == 2]
    return np.frombuffer(content, np.dtype("<f4")).reshape([size for size in sizes if isinstance(size, int)])


def _message(value: "int | bytes | memoryview") -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message is expected")  # noqa: TRY004 - of the file, not of the caller
    return memoryview(value)


def _fields(data: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """Yield number and value of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field {number} is of the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError(f"field {number} ends after the end of its message")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, _VARINT_MAX, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than ten bytes")
