"""Pickles of two known forms are read, and nothing that a pickle names is run (B-5)."""

import io
import os
import pickle  # noqa: TID251 - hostile pickles have to be made
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modify_fl.errors import DataError
from modify_fl.pretrained.pickles import read_numpy_pickle, read_torchscript

# torch would like us to export instead; but such an archive is what has to be read.
_SCRIPTED = pytest.mark.filterwarnings("ignore:.torch.jit:Warning")
_ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


class _Calls:
    """Unpickles to the result of a call."""

    def __init__(self, function: Any, *words: object) -> None:
        self.function, self.words = function, words

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.words


def _dumps(value: object) -> bytes:
    return pickle.dumps(value, protocol=4)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_in_dictionaries_come_out_by_path(protocol: int) -> None:
    made = pickle.dumps({"net": {"kernel": _ARRAY, "turned": np.asfortranarray(_ARRAY)}, "bias": _ARRAY[0]}, protocol)
    if protocol == 2:  # numpy writes bytes as text there, through a function that is not on the list
        with pytest.raises(DataError, match="refused"):
            read_numpy_pickle(made)
        return
    found = read_numpy_pickle(made)
    assert list(found) == ["net/kernel", "net/turned", "bias"]
    assert np.array_equal(found["net/kernel"], _ARRAY)
    assert np.array_equal(found["net/turned"], _ARRAY)
    assert np.array_equal(found["bias"], _ARRAY[0])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (_Calls(os.system, "touch ran"), "it names posix.system, which is not on the list"),
        (_Calls(eval, "1"), "it names builtins.eval, which is not on the list"),
        (_Calls(getattr, _ARRAY, "shape"), "it names builtins.getattr, which is not on the list"),
        ({"a": _ARRAY.astype(np.float64)}, "numbers of type f8, expected little-endian float32"),
        ({"a": np.array([{}], dtype=object)}, "numbers of type O8, expected little-endian float32"),
        ({"a": {"b": 1}}, "a/b is a int, expected arrays in dictionaries"),
        ([_ARRAY], "it is a list, expected arrays in dictionaries"),
    ],
)
def test_anything_else_is_refused_and_not_run(
    value: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="refused to read the pickle of arrays") as caught:
        read_numpy_pickle(_dumps(value))
    assert caught.value.why == why
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 20, 60])
def test_half_a_pickle_is_refused(size: int) -> None:
    with pytest.raises(DataError, match="refused"):
        read_numpy_pickle(_dumps({"a": _ARRAY})[:size])


class _Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
        self.strides = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def _script(state: object, records: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("net/data.pkl", state if isinstance(state, bytes) else _dumps(state))
        for name, data in records.items():
            archive.writestr(f"net/data/{name}", data)
    return made.getvalue()


@_SCRIPTED
def test_a_scripted_network_gives_its_tensors() -> None:
    net, made = _Small(), io.BytesIO()
    net.layers[1].num_batches_tracked = None  # an integer, which the archives in question do not have
    torch.jit.save(torch.jit.script(net), made)
    found = read_torchscript(made.getvalue())
    assert found.keys() == {f"layers.{name}" for name in net.layers.state_dict()}
    for name, value in net.state_dict().items():
        assert np.array_equal(found[name], value.numpy())


@_SCRIPTED
def test_other_numbers_than_float32_are_refused() -> None:
    made = io.BytesIO()
    torch.jit.save(torch.jit.script(_Small().double()), made)
    with pytest.raises(DataError, match="TorchScript") as caught:
        read_torchscript(made.getvalue())
    assert caught.value.why == "it names torch.DoubleStorage, which is not on the list"


def test_a_hostile_archive_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read_torchscript(_script(_Calls(os.system, "touch ran"), {}))
    assert caught.value.why == "it names posix.system, which is not on the list"
    assert list(tmp_path.iterdir()) == []


def test_classes_of_the_archive_hold_nothing_that_runs() -> None:
    # A class of the archive that is called with arguments would be a constructor: its stand-in takes none.
    hostile = b"\x80\x02c__torch__.net\nNet\nX\x02\x00\x00\x00os\x85R."
    with pytest.raises(DataError, match="TorchScript"):
        read_torchscript(_script(hostile, {}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive"])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="TorchScript"):
        read_torchscript(data)
