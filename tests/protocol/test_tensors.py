"""Strict safetensors header (B-23)."""

import contextlib
import json
import struct

import pytest
from bundlekit import safetensors, weights
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import TensorError
from protocol.manifest import TensorInfo
from protocol.tensors import HEADER_LENGTH, MAX_HEADER, read_tensor_header


def read(data: bytes) -> dict[str, TensorInfo]:
    return read_tensor_header(data, size=len(data), member="w.safetensors")


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32", **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def test_table_of_a_good_file() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry([3], 8, 14, "F16"),
        "a": entry([2, 1], 0, 8),
        "c": entry([], 14, 16, "BF16"),
    }
    assert read(safetensors(header, bytes(16))) == {
        "a": TensorInfo(dtype="F32", shape=(2, 1)),
        "b": TensorInfo(dtype="F16", shape=(3,)),
        "c": TensorInfo(dtype="BF16", shape=()),
    }


def test_only_the_header_is_needed() -> None:
    data = weights()
    length = HEADER_LENGTH + struct.unpack("<Q", data[:8])[0]
    assert read_tensor_header(data[:length], size=len(data), member="w") == read(data)


def test_padding_with_spaces_is_what_the_library_writes() -> None:
    raw = json.dumps({"a": entry([1], 0, 4)}).encode()
    assert read(safetensors(raw + b"   ", bytes(4)))


ONE = entry([1], 0, 4)
HOSTILE: dict[str, bytes] = {
    "empty file": b"",
    "length only": struct.pack("<Q", 2),
    "no header": struct.pack("<Q", 0) + bytes(8),
    "length of 2^63": struct.pack("<Q", 1 << 63) + b"{}",
    "length above 1 MiB": safetensors(b"{" + b" " * MAX_HEADER + b"}", b""),
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "not an object": safetensors([1], b""),
    "leading space": safetensors(b" " + json.dumps({"a": ONE}).encode(), bytes(4)),
    "trailing line break": safetensors(json.dumps({"a": ONE}).encode() + b"\n", bytes(4)),
    "not JSON": safetensors(b"{x}", b""),
    "not UTF-8": safetensors(b'{"\xff":0}', b""),
    "duplicate tensor": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "duplicate field": safetensors(b'{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "no tensor": safetensors({}, b""),
    "metadata only": safetensors({"__metadata__": {"format": "pt"}}, b""),
    "too many tensors": safetensors({f"t{n}": entry([1], 2 * n, 2 * n + 2, "F16") for n in range(4097)}, bytes(8194)),
    "other metadata": safetensors({"__metadata__": {"format": "pt", "author": "me"}, "a": ONE}, bytes(4)),
    "metadata null": safetensors({"__metadata__": None, "a": ONE}, bytes(4)),
    "empty name": safetensors({"": ONE}, bytes(4)),
    "name with NUL": safetensors({"a\x00": ONE}, bytes(4)),
    "name with slash": safetensors({"a/b": ONE}, bytes(4)),
    "long name": safetensors({"a" * 201: ONE}, bytes(4)),
    "unknown field": safetensors({"a": entry([1], 0, 4, extra=1)}, bytes(4)),
    "missing field": safetensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "entry is a list": safetensors({"a": []}, bytes(4)),
    "integer type": safetensors({"a": entry([1], 0, 4, "I32")}, bytes(4)),
    "float64": safetensors({"a": entry([1], 0, 8, "F64")}, bytes(8)),
    "type is a number": safetensors({"a": {**ONE, "dtype": 1}}, bytes(4)),
    "type is a list": safetensors({"a": {**ONE, "dtype": ["F32"]}}, bytes(4)),
    "zero dimension": safetensors({"a": entry([0], 0, 0), "b": ONE}, bytes(4)),
    "negative dimension": safetensors({"a": entry([-1, -1], 0, 4)}, bytes(4)),
    "huge dimension": safetensors({"a": entry([(1 << 31) + 1], 0, 4)}, bytes(4)),
    "dimensions that overflow": safetensors({"a": entry([1 << 31] * 8, 0, 4)}, bytes(4)),
    "rank nine": safetensors({"a": entry([1] * 9, 0, 4)}, bytes(4)),
    "shape is a text": safetensors({"a": {**ONE, "shape": "1"}}, bytes(4)),
    "dimension is true": safetensors({"a": {**ONE, "shape": [True]}}, bytes(4)),
    "dimension is 1.0": safetensors({"a": {**ONE, "shape": [1.0]}}, bytes(4)),
    "offsets reversed": safetensors({"a": {**ONE, "data_offsets": [4, 0]}}, bytes(4)),
    "three offsets": safetensors({"a": {**ONE, "data_offsets": [0, 4, 4]}}, bytes(4)),
    "offsets outside": safetensors({"a": entry([2], 0, 8)}, bytes(4)),
    "size differs from shape": safetensors({"a": entry([2], 0, 4)}, bytes(4)),
    "overlap": safetensors({"a": ONE, "b": ONE}, bytes(4)),
    "gap at the start": safetensors({"a": entry([1], 4, 8)}, bytes(8)),
    "gap between": safetensors({"a": ONE, "b": entry([1], 8, 12)}, bytes(12)),
    "data after the end": safetensors({"a": ONE}, bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header(name: str) -> None:
    with pytest.raises(TensorError) as caught:
        read(HOSTILE[name])
    assert caught.value.code == "E_TENSOR_HEADER"


@given(st.data())
def test_mutants_never_crash(data: st.DataObject) -> None:
    mutant = bytearray(weights())
    for _ in range(data.draw(st.integers(1, 3))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TensorError):
        read(bytes(mutant))


def test_the_library_reads_what_we_accept() -> None:
    from safetensors.numpy import load, save

    tensors = load(weights())
    assert {name: value.shape for name, value in tensors.items()} == {
        name: info.shape for name, info in read(weights()).items()
    }
    assert read(save(tensors)) == read(weights())
