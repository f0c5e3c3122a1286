"""Audits of the mechanism as it is built: two worlds (P-61) and one run (P-63).

Both use the real sampler, engine, noise and whatever ledger is given, on a small
network whose gradients are known in closed form: E'(x) = W x over one channel of
the picture, loss <w, t> with t in another channel, so the gradient of a picture
is the outer product t x^T. A canary has one 1 in x and one large number in t; its
clipped gradient is C times a coordinate, and canaries are orthonormal.

An audit can show that the mechanism protects less than it claims. It proves nothing
when it does not (P-64).

Letters: m canaries, d parameters, R side of a picture, O outputs.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from modify_fl.errors import ConfigError
from modify_fl.privacy.engine import GradientEngine, build_engine
from modify_fl.privacy.loss_nets import LossNets
from modify_fl.privacy.mechanism import Charge, Mechanism
from modify_fl.privacy.settings import DpSettings

__all__ = ["Audit", "AuditWorld", "audit_one_run", "epsilon_lower_bound", "separation"]

_SIDE = 32
_STRENGTH = 10.0  # norm of a canary's gradient before clipping, in units of C
_PER_CANARY = 20  # P-63: d >= 20 m
_SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the canaries that are guessed, six counts
_CONFIDENCE = 0.95
_CHUNK = 256


class _Linear(nn.Module):
    """W over the first channel of a picture: [N, 3, R, R] to [N, 1, O]."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(_SIDE**2, outputs, bias=False)
        nn.init.zeros_(self.layer.weight)

    def forward(self, photos: Tensor) -> Tensor:
        codes: Tensor = self.layer(photos[:, 0].flatten(1))[:, None]
        return codes


class _Product(LossNets):
    """<w, t>, t in the second channel; nothing to train."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._outputs = outputs
        self.eval()

    def forward(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:  # noqa: ARG002 - no public draws here
        return (codes[:, 0] * photos[:, 1].flatten(1)[:, : self._outputs]).sum(1)


class AuditWorld:
    """A small network, canaries along coordinates, and others in random directions."""

    def __init__(self, settings: DpSettings, *, canaries: int) -> None:
        """Build an engine of the backend and bound that ``settings`` names, with d at least 20 m."""
        self.settings = settings
        self.canaries = canaries
        self.outputs = max(1, math.ceil(_PER_CANARY * canaries / _SIDE**2))
        self.engine: GradientEngine = build_engine(
            settings.engine, _Linear(self.outputs), _Product(self.outputs), max_grad_norm=settings.max_grad_norm,
            chunk=_CHUNK,
        )  # fmt: skip

    def canary(self, index: int) -> Tensor:
        """Return canary ``index``, float32 [1, 3, R, R]: its clipped gradient is C at coordinate ``where(index)``."""
        photo = torch.zeros(1, 3, _SIDE**2)
        row, column = divmod(self.where(index), _SIDE**2)
        photo[0, 0, column] = 1.0
        photo[0, 1, row] = _STRENGTH * self.settings.max_grad_norm
        return photo.view(1, 3, _SIDE, _SIDE)

    def where(self, index: int) -> int:
        """Return the coordinate of canary ``index``, [0, d)."""
        return index * _PER_CANARY

    def other(self, index: int) -> Tensor:
        """Return another photo, float32 [1, 3, R, R]: a random direction, larger than C; always the same."""
        photo = torch.randn(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(index))
        return photo * self.settings.max_grad_norm


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What one audited run showed."""

    epsilon_lower: float
    """Lower bound on epsilon at 95 %, at the delta of the settings, per image; 0 where nothing was shown."""
    canaries: int
    """m."""
    guesses: int
    """Guesses behind the bound."""
    correct: int
    """How many of them were right."""


def audit_one_run(
    settings: DpSettings, *, canaries: int, units: int, charge: Charge, progress: Callable[[int], object] | None = None
) -> Audit:
    """Train once with canaries that are in or out by a fair coin, and guess the coins (P-63).

    Source: Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), Algorithm 1 and Theorem 5.2; the best
    of six guess counts, each at a sixth of 5 %.

    Args:
        settings: The claim under test.
        canaries: m.
        units: n; those that are no canaries are always in.
        charge: The ledger.
        progress: Told the number of each step.

    Raises:
        ConfigError: There are more canaries than units.
        PrivacyBudgetError: The ledger refuses.
    """
    if not 2 <= canaries <= units:
        raise ConfigError(f"the number of canaries must lie between 2 and {units}, got {canaries}")
    world = AuditWorld(settings, canaries=canaries)
    inside = np.frombuffer(os.urandom(canaries), dtype=np.uint8) % 2 == 1
    present = np.flatnonzero(inside).tolist()

    def read(index: int, step: int) -> Tensor:  # noqa: ARG001 - units do not change over steps
        return world.canary(present[index]) if index < len(present) else world.other(index - len(present))

    count = len(present) + units - canaries
    mechanism = Mechanism(settings, world.engine, read, count=count, charge=charge)
    total = torch.zeros(world.engine.size, dtype=torch.float64)
    for step in range(settings.steps):
        mechanism.pay(1)
        total += mechanism.step(step)
        if progress is not None:
            progress(step)
    scores = total[[world.where(index) for index in range(canaries)]].numpy()
    return _guess(scores, inside, settings.delta)


def _guess(scores: NDArray[np.float64], inside: NDArray[np.bool_], delta: float) -> Audit:
    """Call the highest scores in and the lowest out, and keep the best of six bounds."""
    order, most = np.argsort(scores), len(scores)
    best = Audit(epsilon_lower=0.0, canaries=most, guesses=0, correct=0)
    for share in _SHARES:
        half = max(1, int(share * most / 2))
        correct = int(inside[order[-half:]].sum() + (~inside[order[:half]]).sum())
        bound = epsilon_lower_bound(
            canaries=most, guesses=2 * half, correct=correct, delta=delta, error=(1 - _CONFIDENCE) / len(_SHARES)
        )
        if bound > best.epsilon_lower:
            best = Audit(epsilon_lower=bound, canaries=most, guesses=2 * half, correct=correct)
    return best


def epsilon_lower_bound(*, canaries: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return the largest epsilon that ``correct`` of ``guesses`` refute, 0 where they refute none.

    Source: Theorem 5.2 of arXiv 2305.08846.

    Args:
        canaries: m.
        guesses: r, at most m.
        correct: v, at most r.
        delta: Of the claim.
        error: Probability of a bound that is too high.
    """

    def refuted(epsilon: float) -> bool:
        return _chance(canaries, guesses, correct, epsilon, delta) < error

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high) and high < 64:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _chance(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return the most likely an (epsilon, delta)-DP mechanism lets ``correct`` guesses be right."""
    right = 1 / (1 + math.exp(-epsilon))
    beyond = float(stats.binom.sf(correct - 1, guesses, right))
    below = np.arange(1, correct + 1)
    mass = np.cumsum(stats.binom.pmf(correct - below, guesses, right))
    alpha = float((mass / below).max()) if correct else 0.0
    return min(1.0, beyond + 2 * canaries * delta * alpha)


def separation(settings: DpSettings, *, trials: int, charge: Charge) -> float:
    """Return mu of a single step with and without one canary: mean difference over standard deviation (P-61).

    The right build gives 1 / sigma, with standard error of about sqrt((2 + mu^2 / 2) / trials). Noise
    that is smaller by the root of 2, which an audit of one run overlooks, is far outside.

    Args:
        settings: sigma and C; the canary is in every batch.
        trials: Steps in each world.
        charge: The ledger.
    """
    world = AuditWorld(settings, canaries=1)
    where, scores = world.where(0), {}
    for count in (1, 0):
        mechanism = Mechanism(settings, world.engine, lambda *_: world.canary(0), count=count, charge=charge)
        mechanism.pay(trials)
        scores[count] = torch.stack([mechanism.step(step)[where] for step in range(trials)])
    deviation = math.sqrt((float(scores[1].var()) + float(scores[0].var())) / 2)
    return float(scores[1].mean() - scores[0].mean()) / deviation
