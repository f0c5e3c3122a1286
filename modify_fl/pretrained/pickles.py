"""Arrays out of pickles of two known forms, without running anything that a pickle names.

The only file that unpickles (B-5 bans it elsewhere), and only what came out of a distribution whose SHA-256 was
compared first. A pickle is a program: it says which functions to call. Here every name that it may say stands in a
list, and behind each name stands something of this file that can do nothing but hold numbers; neither numpy's nor
torch's own functions are reached. Any other name refuses the file.

Two forms: nested dictionaries of numpy arrays, and the ``data.pkl`` of a TorchScript archive, of which the tensors are
taken and the code is never read.
"""

import io
import math
import pickle  # noqa: TID251 - two allow-lists, see the module's head
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from modify_fl.errors import DataError

__all__ = ["read_numpy_pickle", "read_torchscript"]

_FLOAT = np.dtype("<f4")
_REFUSALS = (
    pickle.UnpicklingError, zipfile.BadZipFile, ValueError, TypeError, LookupError, AttributeError, EOFError,
    NotImplementedError, OverflowError, RecursionError,
)  # fmt: skip


class _Array:
    """Stands behind ``numpy.ndarray``: keeps the state that numpy's pickles give to one."""

    values: NDArray[np.float32]

    def __setstate__(self, state: tuple[int, tuple[int, ...], "_Dtype", bool, bytes]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code != "f4" or dtype.order != "<":
            raise ValueError(f"numbers of type {dtype.code}, expected little-endian float32")
        self.values = np.frombuffer(data, _FLOAT).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands behind ``numpy.dtype``."""

    order = "<"

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = str(state[1])


def _new_array(*_: object) -> _Array:
    return _Array()


class _Module:
    """Stands behind every class of a TorchScript archive: a bag of attributes."""


class _FloatStorage:
    """Stands behind ``torch.FloatStorage``: a name, never made."""


class _Tensor:
    """Stands behind ``torch._utils._rebuild_tensor_v2``: which numbers of which record, in which shape."""

    def __init__(self, storage: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride


class _Reader(pickle.Unpickler):
    """Unpickles what its allow-list names."""

    allowed: ClassVar[Mapping[tuple[str, str], object]] = {}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not on the list")
        return self.allowed[module, name]


class _NumpyReader(_Reader):
    allowed: ClassVar[Mapping[tuple[str, str], object]] = {
        ("numpy.core.multiarray", "_reconstruct"): _new_array,
        ("numpy._core.multiarray", "_reconstruct"): _new_array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }


class _ScriptReader(_Reader):
    allowed: ClassVar[Mapping[tuple[str, str], object]] = {
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch", "FloatStorage"): _FloatStorage,
        ("torch.jit._pickle", "build_intlist"): list,
        ("collections", "OrderedDict"): OrderedDict,
    }

    def find_class(self, module: str, name: str) -> object:
        # Classes of the archive itself; what stands behind them has no code.
        return _Module if module.startswith("__torch__.") else super().find_class(module, name)

    def persistent_load(self, pid: tuple[str, object, str, str, int]) -> str:
        kind, storage, record, *_ = pid
        if kind != "storage" or storage is not _FloatStorage:
            raise pickle.UnpicklingError("it names something else than a storage of float32")
        return record


def read_numpy_pickle(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read nested dictionaries of arrays.

    Args:
        data: A pickle whose leaves are numpy arrays, little-endian float32.

    Returns:
        Arrays by path, such as ``AlexNet_0/Conv_0/kernel``.

    Raises:
        DataError: It is damaged, or names anything but numpy's arrays.
    """
    try:
        return dict(_leaves(_NumpyReader(io.BytesIO(data)).load(), ""))
    except _REFUSALS as error:
        raise _refusal("the pickle of arrays", error) from error


def _leaves(node: object, path: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if isinstance(node, _Array):
        yield path, node.values
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{path}/{name}".lstrip("/"))
    else:
        raise TypeError(f"{path or 'it'} is a {type(node).__name__}, expected arrays in dictionaries")


def read_torchscript(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read the tensors of a TorchScript archive; its code is not looked at.

    Args:
        data: A ZIP file with ``data.pkl`` and records ``data/0``, ``data/1``, ...

    Returns:
        Arrays by the path of their attribute, such as ``net.layers.conv.weight``.

    Raises:
        DataError: It is damaged, or names anything but tensors, or holds numbers that are not float32.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (root,) = {name.partition("/")[0] for name in archive.namelist()}
            module = _ScriptReader(io.BytesIO(archive.read(f"{root}/data.pkl"))).load()
            return {path: _values(archive, root, tensor) for path, tensor in _tensors(module, "")}
    except _REFUSALS as error:
        raise _refusal("the TorchScript archive", error) from error


def _tensors(node: object, path: str) -> Iterator[tuple[str, _Tensor]]:
    if isinstance(node, _Tensor):
        yield path, node
    elif isinstance(node, _Module):
        for name, child in vars(node).items():
            yield from _tensors(child, f"{path}.{name}".lstrip("."))


def _values(archive: zipfile.ZipFile, root: str, tensor: _Tensor) -> NDArray[np.float32]:
    if tensor.offset != 0 or tensor.stride != _strides(tensor.shape):
        raise ValueError("a tensor is a part of another one")
    return np.frombuffer(archive.read(f"{root}/data/{tensor.storage}"), _FLOAT).reshape(tensor.shape)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _refusal(what: str, error: Exception) -> DataError:
    return DataError(
        f"refused to read {what}", why=str(error).split("\n", maxsplit=1)[0] or type(error).__name__,
        fix="fetch it again; if that does not help, report it",
    )  # fmt: skip
