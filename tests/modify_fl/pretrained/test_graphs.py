"""Constants of a frozen TensorFlow graph, from bytes alone."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modify_fl.errors import DataError
from modify_fl.pretrained.graphs import read_constants


def _number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _number(rest) if rest else bytes([low])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    return _number(number << 3 | 2) + _number(len(value)) + value


def _constant(name: str, values: np.ndarray, *, operation: bytes = b"Const", kind: int = 1) -> bytes:
    shape = b"".join(_field(2, _field(1, size)) for size in values.shape)
    tensor = _field(1, kind) + _field(2, shape) + _field(4, values.tobytes())
    other = _field(5, _field(1, b"dtype") + _field(2, _field(6, 1)))
    value = _field(5, _field(1, b"value") + _field(2, _field(8, tensor)))
    return _field(1, _field(1, name.encode()) + _field(2, operation) + _field(3, b"input") + other + value)


def test_constants_come_out_by_name_and_in_shape() -> None:
    kernel = np.arange(300 * 2, dtype=np.float32).reshape(1, 1, 300, 2)  # a size of two bytes
    graph = _constant("a/weights", kernel) + _constant("a/axis", np.int32([3]), kind=3) + _field(4, _field(1, 21))
    found = read_constants(graph + _constant("a/relu", kernel, operation=b"Relu"))
    assert list(found) == ["a/weights"]
    assert np.array_equal(found["a/weights"], kernel)


def test_fields_of_fixed_length_are_passed_over() -> None:
    graph = _number(7 << 3 | 1) + bytes(8) + _number(8 << 3 | 5) + bytes(4) + _constant("a", np.float32([1, 2]))
    assert list(read_constants(graph)) == ["a"]


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (_field(1, b"abc")[:-1], "field 1 ends after the end of its message"),
        (_number(1 << 3 | 3), "field 1 is of the unknown kind 3"),
        (_field(1, 5), "a number stands where a message is expected"),
        (b"\xff" * 12, "a number is longer than ten bytes"),
        (_constant("a", np.float32([1, 2]))[:-4], "field 1 ends after the end of its message"),
    ],
)
def test_a_damaged_graph_is_refused(graph: bytes, why: str) -> None:
    with pytest.raises(DataError, match="refused to read the frozen graph") as caught:
        read_constants(graph)
    assert caught.value.why == why


def test_a_shape_that_does_not_fit_its_numbers_is_refused() -> None:
    wrong = _constant("a", np.zeros((2, 3), np.float32)).replace(_field(1, 3), _field(1, 4))
    with pytest.raises(DataError, match="refused"):
        read_constants(wrong)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(DataError):
        assert isinstance(read_constants(data), dict)
