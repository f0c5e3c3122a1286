"""What may leave at all: the allow-list of the release gate (P-36, P-37, P-50)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from modify_fl.artifacts import Adapted
from modify_fl.errors import PrivacyBudgetError
from modify_fl.networks.lora import LORA_RANK
from modify_fl.privacy.records import Charge
from protocol.errors import TensorError, problem
from protocol.manifest import Manifest

__all__ = ["check_factors", "check_tensors", "refuse_test_time", "require_charged"]


def refuse_test_time(adapted: Adapted) -> None:
    """Refuse weights that one photo made (P-50).

    Raises:
        PolicyError: E_LOCAL_ONLY.
    """
    if adapted.mode == "test-time":
        raise problem("E_LOCAL_ONLY", why="test-time weights are made of one photo and stay here (P-50)")


def require_charged(charges: list[Charge], steps: int, bundle: str) -> None:
    """Refuse tensors that more steps made than the ledger was charged for (P-37).

    Args:
        charges: Of the run.
        steps: That the run took.
        bundle: Payload digest of the style.

    Raises:
        PrivacyBudgetError: Not all of them were charged, or their noise can be repeated.
    """
    paid = sum(charge.steps for charge in charges if charge.bundle == bundle)
    if not 0 < steps <= paid:
        raise PrivacyBudgetError(
            f"these weights took {steps} steps, and the ledger was charged for {paid}",
            why="what was not charged is not covered by any claim, so it does not leave (P-37)",
            fix="train with content-client adapt --privacy dp, which charges each step before it runs",
        )
    if any(charge.deterministic for charge in charges):
        raise PrivacyBudgetError(
            "these weights were made with repeatable noise", why="who knows the seed can take it off again (P-3)",
            fix="run again without it",
        )  # fmt: skip


def check_tensors(tensors: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Let only trainable tensors pass, of the shape and type that the signed manifest gives them (P-36).

    Args:
        tensors: By their names in the encoder.
        manifest: Of the style.

    Raises:
        TensorError: There are none, or one is another than that, or not finite.
    """
    known = {name: info for file in manifest.model.weights for name, info in file.tensors.items()}
    if not tensors:
        raise TensorError("nothing was trained", code="E_TENSOR_SHAPE")
    for short, value in tensors.items():
        name = f"encoder.{short}"
        if name not in manifest.model.trainable or name not in known:
            raise TensorError(f"{name} is no trainable tensor of this style", code="E_TENSOR_SHAPE", why="P-36")
        if tuple(value.shape) != known[name].shape or value.dtype != torch.float32:
            raise TensorError(
                f"{name} has another shape or type than in the style", code="E_TENSOR_SHAPE",
                expected=f"F32 {known[name].shape}", got=f"{value.dtype} {tuple(value.shape)}",
            )  # fmt: skip
        if not bool(value.isfinite().all()):
            raise TensorError(f"{name} is not finite", code="E_TENSOR_VALUE")


def check_factors(factors: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Let only factors of trainable linear layers pass, [O, r] each (P-36, M-38).

    Args:
        factors: By their names in the encoder; may be none.
        manifest: Of the style.

    Raises:
        TensorError: One is another than that, or not finite.
    """
    known = {name: info.shape for file in manifest.model.weights for name, info in file.tensors.items()}
    for short, value in factors.items():
        name = f"encoder.{short.removesuffix('.up.weight')}.weight"
        if not short.endswith(".up.weight") or name not in manifest.model.trainable:
            raise TensorError(f"{short} is no trained factor of this style", code="E_TENSOR_SHAPE", why="P-36")
        if tuple(value.shape) != (known[name][0], LORA_RANK) or value.dtype != torch.float32:
            raise TensorError(f"{short} has another shape or type than it must", code="E_TENSOR_SHAPE")
        if not bool(value.isfinite().all()):
            raise TensorError(f"{short} is not finite", code="E_TENSOR_VALUE")
