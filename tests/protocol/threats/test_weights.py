"""Header bombs and wrong shapes (B-23, step 12); NaN and huge values are tested where torch is."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from bundlekit import ENCODER, TABLE, edit_json, forge, safetensors, weights

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
BOMBS = {
    "header of 2^62 bytes": (1 << 62).to_bytes(8, "little") + b"{}",
    "twenty thousand empty tensors": safetensors(
        {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)}, b""
    ),
    "wrong shape": safetensors({"a": {"dtype": "F32", "shape": [1 << 31, 1 << 31], "data_offsets": [0, 4]}}, bytes(4)),
    "negative shape": safetensors({"a": {**ONE, "shape": [-1]}}, bytes(4)),
    "wrong type": safetensors({"a": {**ONE, "dtype": "I64"}}, bytes(4)),
    "a gap": safetensors({"a": {**ONE, "data_offsets": [4, 8]}}, bytes(8)),
    "overlap": safetensors({"a": ONE, "b": ONE}, bytes(4)),
    "data after the last tensor": safetensors({"a": ONE}, bytes(8)),
    "metadata": safetensors({"a": ONE, "__metadata__": {"format": "pt", "script": "x"}}, bytes(4)),
    "duplicate name": safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', bytes(4)),
    "name with a path": safetensors({"../a": ONE}, bytes(4)),
    "empty file": b"",
}


def plant(path: Path, data: bytes) -> bytes:
    """Put another weight file into a bundle, as the owner of the key could."""

    def adapt(value: dict[str, object]) -> None:
        row = value["model"]["weights"][0]  # type: ignore[index]
        row.update(sha256=sha256(data).hexdigest(), size=max(1, len(data)))

    def edit(members: dict[str, bytes]) -> None:
        members[ENCODER] = data
        edit_json("manifest.json", adapt)(members)

    return forge(path, edit).read_bytes()


@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"empty file"}))
def test_header_bombs_and_wrong_tables(refused: Callable[..., str], style_path: Path, name: str) -> None:
    assert refused(plant(style_path, BOMBS[name])) == "E_TENSOR_HEADER"


def test_empty_weight_file(refused: Callable[..., str], style_path: Path) -> None:
    assert refused(plant(style_path, BOMBS["empty file"])) in {"E_TENSOR_HEADER", "E_MANIFEST"}


def test_table_that_the_manifest_does_not_have(refused: Callable[..., str], style_path: Path) -> None:
    assert refused(plant(style_path, weights({**TABLE, "more.weight": [1]}))) == "E_TENSOR_SHAPE"
    assert refused(plant(style_path, weights({**TABLE, "head.weight": [3, 2]}))) == "E_TENSOR_SHAPE"
