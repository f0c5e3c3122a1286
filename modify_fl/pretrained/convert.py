"""Arrays under the names of their source to tensors under the names of the library that uses them.

Numbers are not changed: axes are put in torch's order, and where a source has batch norms folded into convolutions, the
library's batch norms become ones that do nothing. Layers that a source does not have and this project does not use
are NaN, so that their use shows.

Letters: k side of a kernel, I channels in, O channels out.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.errors import DataError
from modify_fl.pretrained.catalogue import Network
from modify_fl.pretrained.graphs import read_constants
from modify_fl.pretrained.pickles import read_numpy_pickle, read_torchscript

__all__ = ["convert"]

_Arrays = Mapping[str, NDArray[np.float32]]

_EPS = 0.001  # of every batch norm in both Inceptions
_ALEXNET_LAYERS = (0, 3, 6, 8, 10)

_FACENET_BLOCKS = {
    "Repeat/block35_": "repeat_1.", "Repeat_1/block17_": "repeat_2.", "Repeat_2/block8_": "repeat_3.",
}  # fmt: skip

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_DOUBLE = tuple(f"branch3x3dbl_{i}" for i in (1, 2, 3))
_A = ("branch1x1", "branch5x5_1", "branch5x5_2", *_DOUBLE, "branch_pool")
_C = (
    "branch1x1", *(f"branch7x7_{i}" for i in (1, 2, 3)), *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)), "branch_pool",
)  # fmt: skip
_D = ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4)))
_E = (
    "branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b",
    "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool",
)  # fmt: skip
_INCEPTION_LAYERS = (
    *_STEM,
    *(f"Mixed_{block}.{layer}" for block in ("5b", "5c", "5d") for layer in _A),
    *(f"Mixed_6a.{layer}" for layer in ("branch3x3", *_DOUBLE)),
    *(f"Mixed_{block}.{layer}" for block in ("6b", "6c", "6d", "6e") for layer in _C),
    *(f"Mixed_7a.{layer}" for layer in _D),
    *(f"Mixed_{block}.{layer}" for block in ("7b", "7c") for layer in _E),
)
"""Convolutions of the 2015 Inception in the order of its archive, as torch-fidelity names them."""


def convert(network: Network, data: bytes) -> dict[str, Tensor]:
    """Make the state dict that the network's library loads.

    Args:
        network: Which one.
        data: The member that its distribution holds.

    Returns:
        float32 tensors by name (and the counters of batch norms, int64), the unused heads NaN.

    Raises:
        DataError: The data is damaged, or holds another network.
    """
    try:
        if network.name == "lpips-alex":
            state = _alexnet(read_numpy_pickle(data))
        elif network.name == "inception-2015":
            state = _inception(read_torchscript(data))
        else:
            state = _facenet(read_constants(data))
    except (LookupError, ValueError) as error:
        what = f"the source of {network.name} holds another network"
        raise DataError(what, why=f"it lacks {error}".lower(), fix="report it") from error
    nothing = {name: torch.full((), torch.nan).expand(shape) for name, shape in network.head_shapes.items()}
    return state | nothing


def _alexnet(arrays: _Arrays) -> dict[str, Tensor]:
    state = {}
    for index, layer in enumerate(_ALEXNET_LAYERS):
        state[f"features.{layer}.weight"] = _kernel(arrays[f"AlexNet_0/Conv_{index}/kernel"])
        state[f"features.{layer}.bias"] = _tensor(arrays[f"AlexNet_0/Conv_{index}/bias"])
    return state


def _facenet(arrays: _Arrays) -> dict[str, Tensor]:
    """Name the layers of InceptionResnetV1 as facenet-pytorch does; its source has batch norms folded already."""
    state: dict[str, Tensor] = {}
    branches: dict[str, list[str]] = defaultdict(list)
    for name in sorted(arrays):
        part, _, kind = name.removeprefix("InceptionResnetV1/").rpartition("/")
        if kind == "Conv2D_bn_offset":
            branches[part.rpartition("/")[0]].append(part)
        elif kind in {"weights", "biases"} and part.endswith("Conv2d_1x1") and "Branch" not in part:
            ours = _facenet_block(part.rpartition("/")[0])
            value = arrays[name]
            state |= (
                {f"{ours}.conv2d.weight": _kernel(value)} if kind == "weights"
                else {f"{ours}.conv2d.bias": _tensor(value)}
            )  # fmt: skip
    for place, layers in branches.items():
        for index, layer in enumerate(layers):
            state |= _folded(
                _facenet_layer(place, layer, index if len(layers) > 1 else None),
                _kernel(arrays[f"InceptionResnetV1/{layer}/weights"]),
                _tensor(arrays[f"InceptionResnetV1/{layer}/Conv2D_bn_offset"]),
            )
    last = "InceptionResnetV1/Bottleneck/"
    state["last_linear.weight"] = _tensor(arrays[f"{last}weights"].T)
    variance = _tensor(arrays[f"{last}BatchNorm/moving_variance"])
    return state | _norm(
        "last_bn", torch.ones_like(variance), _tensor(arrays[f"{last}BatchNorm/beta"]),
        _tensor(arrays[f"{last}BatchNorm/moving_mean"]), variance,
    )  # fmt: skip


def _facenet_block(block: str) -> str:
    for theirs, ours in _FACENET_BLOCKS.items():
        if block.startswith(theirs):
            return f"{ours}{int(block.removeprefix(theirs)) - 1}"
    return block.lower()  # Mixed_6a, Mixed_7a, Block8


def _facenet_layer(place: str, layer: str, index: int | None) -> str:
    """Return our name of a convolution; ``place`` is empty for those before the first block."""
    if not place:
        return "_".join(layer.lower().split("_")[:2])  # Conv2d_1a_3x3 -> conv2d_1a
    block, _, branch = place.rpartition("/")
    name = f"{_facenet_block(block)}.{branch.lower().replace('_', '')}"  # Branch_0 -> branch0
    return name if index is None else f"{name}.{index}"


def _inception(arrays: _Arrays) -> dict[str, Tensor]:
    layers = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    state: dict[str, Tensor] = {}
    for ours, theirs in zip(_INCEPTION_LAYERS, layers, strict=True):
        mean = _tensor(arrays[f"{theirs}.mean"])
        state[f"{ours}.conv.weight"] = _tensor(arrays[f"{theirs}.weight"])
        beta, variance = _tensor(arrays[f"{theirs}.beta"]), _tensor(arrays[f"{theirs}.var"])
        state |= _norm(f"{ours}.bn", torch.ones_like(mean), beta, mean, variance)
    return state


def _folded(name: str, kernel: Tensor, offset: Tensor) -> dict[str, Tensor]:
    """Return a convolution whose norm is in it already, and a norm that only adds its offset."""
    variance = torch.full_like(offset, 1 - _EPS)
    norm = _norm(f"{name}.bn", torch.ones_like(offset), offset, torch.zeros_like(offset), variance)
    return {f"{name}.conv.weight": kernel, **norm}


def _norm(name: str, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
    parts = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    return {f"{name}.{part}": value for part, value in parts.items()} | {f"{name}.num_batches_tracked": torch.tensor(0)}


def _kernel(values: NDArray[np.float32]) -> Tensor:
    return _tensor(values.transpose(3, 2, 0, 1))  # [k, k, I, O] -> [O, I, k, k]


def _tensor(values: NDArray[np.float32]) -> Tensor:
    # A copy in row-major order: the arrays are windows on the bytes of the source, which cannot be written to.
    return torch.from_numpy(np.array(values, np.float32, order="C"))
