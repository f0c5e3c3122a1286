"""State dicts as safetensors bytes, and the checks that need torch (B-25 step 13).

No pickle. Bytes come from a verified bundle only, and are those that were hashed; a value that is not finite, or
larger than the signed bound, refuses the file before any network sees it.
"""

from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor

from protocol.errors import TensorError
from protocol.manifest import WeightFile
from protocol.verified import VerifiedBundle

__all__ = ["abs_max", "read_weights", "to_bytes"]

_STEP = 13


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return ``tensors`` as a safetensors file; float32, row-major, names sorted."""
    return save({name: tensors[name].detach().cpu().float().contiguous() for name in sorted(tensors)})


def abs_max(tensors: Mapping[str, Tensor]) -> float:
    """Return the largest magnitude of all values, which the manifest signs.

    Raises:
        TensorError: E_TENSOR_VALUE, a value is not finite.
    """
    return max((_magnitude(name, value) for name, value in tensors.items()), default=0.0)


def _magnitude(name: str, value: Tensor) -> float:
    low, high = torch.aminmax(value.detach().float())
    largest = max(-float(low), float(high))
    if not (low.isfinite() and high.isfinite()):
        raise TensorError(
            f"tensor {name} holds values that are not finite", code="E_TENSOR_VALUE", step=_STEP, got=str(largest)
        )
    return largest


def read_weights(bundle: VerifiedBundle, file: WeightFile) -> dict[str, Tensor]:
    """Read one weight file of a verified bundle (B-25 step 13).

    Args:
        bundle: Went through steps 1 to 12.
        file: Its row in the manifest.

    Returns:
        float32 tensors by name; finite, and within the signed bound.

    Raises:
        TensorError: E_TENSOR_VALUE.
    """
    tensors = load(bundle.read(file.file))
    largest = abs_max(tensors)
    if largest > file.abs_max:
        raise TensorError(
            f"{file.file} holds values above its signed bound", code="E_TENSOR_VALUE", step=_STEP, member=file.file,
            expected=f"at most {file.abs_max}", got=str(largest),
        )  # fmt: skip
    return {name: value.float() for name, value in tensors.items()}
