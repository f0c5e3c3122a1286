"""Checks before any budget is spent, on random pictures alone (P-31).

In order: modules of E' (P-23), loss networks (P-24), isolation (P-60), agreement
of both backends where Opacus is used (P-15). A failure spends nothing.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.engine import GradientEngine, MicroEngine

__all__ = [
    "BACKEND_GAP_MAX",
    "ISOLATION_MAX",
    "Preflight",
    "backend_gap",
    "check_modules",
    "isolation",
    "preflight",
    "random_pictures",
]

ISOLATION_MAX = 1e-5
"""Largest change of one photo's clipped gradient by another photo, in units of C (P-60)."""

BACKEND_GAP_MAX = 1e-3
"""Largest relative difference of the clipped sums of both backends (P-15)."""

_UNITS = 6
_SPIKE = 4.0


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was measured."""

    isolation: float
    """Largest change of a photo's clipped gradient when an adversarial photo joins, over C."""
    backend_gap: float | None
    """Relative difference of the clipped sums of both backends; nothing where micro is used."""
    seconds_per_unit: float
    """Time of one per-unit gradient on this machine."""
    parameters: int
    """Trained parameters d."""


def preflight(engine: GradientEngine, *, shape: Sequence[int], views: int = 1) -> Preflight:
    """Check an engine on random pictures, before any budget is spent.

    Args:
        engine: As it will be used.
        shape: Of one picture, (3, R, R).
        views: Pictures per unit.

    Returns:
        What was measured.

    Raises:
        PrivacyBudgetError: A check failed; the sentence says which (exit 11).
        ConfigError: A loss network is not frozen (P-24).
    """
    check_modules(engine.encoder)
    engine.loss.require_frozen()
    units = [random_pictures(views, shape) for _ in range(_UNITS)]
    start = time.perf_counter()
    found = isolation(engine, units, _SPIKE * random_pictures(views, shape))
    seconds = (time.perf_counter() - start) / (2 * _UNITS + 1)
    if not found <= ISOLATION_MAX:
        raise _failed(
            "photos can change each other's gradients",
            f"isolation is {found:.2g} C, at most {ISOLATION_MAX:g} C (P-60)",
        )
    gap = None if isinstance(engine, MicroEngine) else backend_gap(engine, units)
    if gap is not None and not gap <= BACKEND_GAP_MAX:
        raise _failed(
            "the two backends disagree on gradients",
            f"clipped sums differ by {gap:.2g}, at most {BACKEND_GAP_MAX:g} (P-15)",
        )
    return Preflight(isolation=found, backend_gap=gap, seconds_per_unit=seconds, parameters=engine.size)


def isolation(engine: GradientEngine, units: Sequence[Tensor], extra: Tensor) -> float:
    """Return max over i of |g~_i(X) - g~_i(X + x)| / C (P-60); 0 or rounding where photos do not meet.

    A test of the sum's sensitivity alone would miss most couplings: the sum may
    move by less than C while every single gradient moves.

    Args:
        engine: As it will be used.
        units: X, views of each unit, float32 [v, 3, R, R]; together with x at most one chunk,
            or couplings between chunk-mates could hide.
        extra: x, float32 [v, 3, R, R].
    """
    chunk, engine.chunk = engine.chunk, max(engine.chunk, sum(map(len, units)) + len(extra))
    try:
        alone = list(engine.clipped(iter(units), 0))
        joined = list(engine.clipped(iter([*units, extra]), 0))
    finally:
        engine.chunk = chunk
    gaps = [float((a - b).norm()) for a, b in zip(alone, joined, strict=False)]
    return max(gaps) / engine.max_grad_norm


def backend_gap(engine: GradientEngine, units: Sequence[Tensor]) -> float:
    """Return the relative difference between an engine's clipped sum and that of the micro backend (P-15)."""
    oracle = MicroEngine(
        engine.encoder, engine.loss, max_grad_norm=engine.max_grad_norm, offset=engine.offset, chunk=engine.chunk
    )
    exact, other = oracle.clipped_sum(iter(units), 0), engine.clipped_sum(iter(units), 0)
    return float((exact - other).norm() / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))


def random_pictures(count: int, shape: Sequence[int]) -> Tensor:
    """Return pictures of uniform noise, float32 [count, 3, R, R] in [-1, 1]."""
    seed = int.from_bytes(os.urandom(8), "little") >> 1
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def check_modules(encoder: nn.Module) -> None:
    """Refuse an encoder whose per-unit gradients would be wrong, or that couples photos (P-23).

    Raises:
        PrivacyBudgetError: The sentence names the module and the reason.
    """
    for name, module in encoder.named_modules():
        for applies, why in _FORBIDDEN:
            if applies(module):
                raise _failed(f"the encoder's module {name or 'as a whole'} cannot be trained with privacy", why)
    seen: dict[int, str] = {}
    for name, parameter in encoder.named_parameters(remove_duplicate=False):
        if seen.setdefault(id(parameter), name) != name:
            raise _failed(
                f"the encoder's weights {seen[id(parameter)]} and {name} are one tensor",
                "per-unit gradients of tied weights are not computed (P-23)",
            )


def _in_place(module: nn.Module) -> bool:
    return getattr(module, "inplace", False) is True


def _reparametrised(module: nn.Module) -> bool:
    hooks = [type(hook).__name__ for hook in module._forward_pre_hooks.values()]  # noqa: SLF001 - where old forms of both live
    return hasattr(module, "parametrizations") or {"SpectralNorm", "WeightNorm"} & set(hooks) != set()


def _own_trained_weight(module: nn.Module) -> bool:
    trained = any(p.requires_grad for p in module.parameters(recurse=False))
    return trained and type(module) not in {nn.Conv2d, nn.Linear, nn.GroupNorm, nn.PReLU}


_FORBIDDEN: tuple[tuple[Callable[[nn.Module], bool], str], ...] = (
    (lambda m: isinstance(m, _BatchNorm), "batch normalisation lets photos see each other (P-23)"),
    (lambda m: isinstance(m, _DropoutNd), "dropout draws from a generator that is not the step's own (P-23)"),
    (_in_place, "an in-place operation changes what per-sample gradients are computed from (P-23)"),
    (_reparametrised, "spectral or weight normalisation computes with another weight than the one trained (P-23)"),
    (_own_trained_weight, "trained weights must be those of Conv2d, Linear, GroupNorm or PReLU (P-23)"),
)


def _failed(what: str, why: str) -> PrivacyBudgetError:
    return PrivacyBudgetError(
        what, why=why, fix="no budget was spent; train this bundle without --privacy dp", code="E_PREFLIGHT"
    )
