"""How much privacy the subsampled Gaussian mechanism spends (P-32 to P-35).

RDP is the account of record: Opacus computes its values at fixed orders, they
add up over steps and runs, and ``epsilon_at`` turns a sum into an epsilon. PRV
is tighter and known to fail, so it runs in a child process with a timeout and
counts only when it returns. GDP under-reports and is refused.

Importing this module brings in neither torch nor Opacus; computing does.
"""

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib.metadata import version as version_of
from typing import Literal, get_args

from modify_fl.errors import PrivacyBudgetError

__all__ = [
    "ORDERS",
    "Accountant",
    "Segment",
    "accountant_version",
    "best_epsilon",
    "epsilon_at",
    "epsilon_of",
    "noise_multiplier_for",
    "order_for",
    "overhead",
    "prv_epsilon",
    "rdp_of",
    "require_delta",
    "rounded_up",
]

Accountant = Literal["RDP", "PRV"]

ORDERS: tuple[float, ...] = (
    *(round(1 + tenth / 10, 1) for tenth in range(1, 100)),
    *(float(order) for order in range(12, 64)),
    *(80.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0),
)
"""Orders of RDP: those of Opacus, and larger ones for small epsilons."""

PRV_SECONDS = 60.0
"""How long PRV may take before RDP alone is reported (P-32)."""

_TOLERANCE = 0.02
"""Most epsilon that a noise multiplier leaves unused, below 1 in proportion; the sigma table (P-54) was made so."""
_PRECISION = 1e-9
_NOISE_MAX = 1e6
_STRIDE = 12  # orders that are looked at first, in the search for the best one
_RDP_MAX = 1e15  # an order without a finite value never decides anything, and JSON has no infinity
_REFERENCE = (0.128, 500)  # q and T of the defaults at 2000 photos (P-52)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Steps of one mechanism: Poisson sampling at ``sampling_rate``, noise of ``noise_multiplier`` times the clip."""

    sampling_rate: float
    """q, above 0 and at most 1."""
    noise_multiplier: float
    """sigma, above 0."""
    steps: int
    """T, at least 1."""


def rdp_of(segment: Segment, orders: Sequence[float] = ORDERS) -> tuple[float, ...]:
    """Return the RDP of a segment at each order, by Opacus (Mironov et al. 2019).

    An order at which Opacus finds no finite value gets 1e15, which no minimum ever takes.
    """
    q, sigma = segment.sampling_rate, segment.noise_multiplier
    return tuple(min(segment.steps * _rdp_of_step(q, sigma, order), _RDP_MAX) for order in orders)


@cache
def _rdp_of_step(sampling_rate: float, noise_multiplier: float, order: float) -> float:
    from opacus.accountants.analysis.rdp import compute_rdp  # noqa: PLC0415 - brings in torch (U-31)

    try:
        value = float(compute_rdp(q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=order))
    except (ArithmeticError, ValueError):  # the series of a fractional order can lose all its digits
        return _RDP_MAX
    return max(0.0, value) if math.isfinite(value) else _RDP_MAX


def overhead(order: float, delta: float) -> float:
    """Return what turning RDP into (epsilon, delta) costs at ``order`` (Balle et al. 2020, Theorem 21)."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def epsilon_at(order: float, rdp: float, delta: float) -> float:
    """Return the epsilon of an RDP value at one order; never below 0."""
    return max(0.0, rdp + overhead(order, delta))


def best_epsilon(rdp: Sequence[float], delta: float, orders: Sequence[float] = ORDERS) -> tuple[float, float]:
    """Return the smallest epsilon over the orders, and its order.

    Args:
        rdp: Summed RDP at each of ``orders``.
        delta: Above 0 and below 1.
        orders: Each above 1.
    """
    return min((epsilon_at(order, value, delta), order) for order, value in zip(orders, rdp, strict=True))


def epsilon_of(segments: Iterable[Segment], delta: float, accountant: str = "RDP") -> float:
    """Return the epsilon of segments that were fixed in advance.

    Args:
        segments: The mechanisms, composed in sequence (P-34).
        delta: Of the claim.
        accountant: ``RDP``, or ``PRV`` for the smaller of RDP and PRV where PRV returns (P-32).

    Raises:
        PrivacyBudgetError: Another accountant was asked for; GDP under-reports (P-33).
    """
    if accountant not in get_args(Accountant):
        raise PrivacyBudgetError(
            f"the accountant {accountant} is not used here",
            why="the GDP (CLT) accountant reports less than was spent (P-33); RDP and PRV are upper bounds",
            fix="use RDP or PRV",
        )
    merged = _merge(segments)
    if not merged:
        return 0.0
    totals = [math.fsum(values) for values in zip(*(rdp_of(segment) for segment in merged), strict=True)]
    spent, _ = best_epsilon(totals, delta)
    tighter = prv_epsilon(merged, delta) if accountant == "PRV" else None
    return spent if tighter is None else min(spent, tighter)


def _merge(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Add up the steps of equal mechanisms (P-45)."""
    steps: dict[tuple[float, float], int] = {}
    for segment in segments:
        key = (segment.sampling_rate, segment.noise_multiplier)
        steps[key] = steps.get(key, 0) + segment.steps
    return tuple(Segment(sampling_rate=q, noise_multiplier=sigma, steps=t) for (q, sigma), t in steps.items())


def noise_multiplier_for(
    epsilon: float, delta: float, sampling_rate: float, steps: int, orders: Sequence[float] = ORDERS
) -> float:
    """Return the noise multiplier with which ``steps`` steps spend at most ``epsilon``, by RDP.

    Args:
        epsilon: What may be spent, above 0.
        delta: Of the claim.
        sampling_rate: q.
        steps: T.
        orders: Where RDP is looked at; the single order of a vault makes its filter pass (P-45).

    Returns:
        sigma; its epsilon is at most what may be spent, and less by at most 0.02.

    Raises:
        PrivacyBudgetError: No noise is enough.
    """

    def spent(noise: float) -> float:
        return _least_epsilon(Segment(sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps), delta, orders)

    low, high = 0.0, 10.0  # doubled and halved as Opacus' get_noise_multiplier does
    while (reached := spent(high)) > epsilon:
        high *= 2
        if high > _NOISE_MAX:
            raise PrivacyBudgetError(
                f"no noise brings {steps} steps below epsilon {epsilon:g} at delta {delta:g}",
                why="delta alone costs more at every order of RDP that is looked at",
                fix="allow a larger epsilon, or take fewer steps",
            )
    while epsilon - reached > _TOLERANCE * min(1.0, epsilon) and high - low > _PRECISION * high:
        middle = (low + high) / 2
        value = spent(middle)
        if value > epsilon:
            low = middle
        else:
            high, reached = middle, value
    return high


def _least_epsilon(segment: Segment, delta: float, orders: Sequence[float]) -> float:
    """Return the smallest epsilon over the orders, looking at few of them: it falls towards the best order.

    Every order gives a bound, so whatever is missed makes the result larger, never smaller.
    """

    def at(index: int) -> float:
        return epsilon_at(orders[index], rdp_of(segment, orders[index : index + 1])[0], delta)

    best = min(range(0, len(orders), _STRIDE), key=at)
    while (nearer := min(range(max(0, best - 1), min(len(orders), best + 2)), key=at)) != best:
        best = nearer
    return at(best)


def order_for(epsilon: float, delta: float) -> float:
    """Return the order at which a vault limits its spending: the best one of the default schedule (P-45, P-52).

    The best order depends on epsilon and delta far more than on the schedule: 3.4 to 3.9
    over the whole column epsilon 8 of the sigma table.
    """
    sampling_rate, steps = _REFERENCE
    noise = noise_multiplier_for(epsilon, delta, sampling_rate, steps)
    segment = Segment(sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps)
    return best_epsilon(rdp_of(segment), delta)[1]


def rounded_up(epsilon: float, digits: int) -> float:
    """Return an epsilon with so many digits behind the point: what is printed is never below what was spent."""
    return float(Decimal(repr(epsilon)).quantize(Decimal(1).scaleb(-digits), ROUND_CEILING))


def require_delta(delta: float, n_public: int) -> None:
    """Refuse a delta with which publishing one whole photo would satisfy the claim (P-35).

    Raises:
        PrivacyBudgetError: ``delta`` is not below ``1 / n_public``.
    """
    if not 0 < delta < 1 / n_public:
        raise PrivacyBudgetError(
            f"delta must be below 1 / n = {1 / n_public:g}, got {delta:g}",
            why="with a larger delta, publishing one photo whole would satisfy the claim (P-35)",
            fix="use --delta 1e-5, or a tenth of 1 / n",
        )


def accountant_version() -> str:
    """Return who keeps the account, for a statement (P-2)."""
    return f"opacus {version_of('opacus')}"


# PRV --------------------------------------------------------------------------


def prv_epsilon(segments: Sequence[Segment], delta: float, *, seconds: float = PRV_SECONDS) -> float | None:
    """Return the epsilon of PRV, an upper bound by numerical composition (Gopi et al. 2021).

    It runs in a child process, which is ended after ``seconds``.

    Returns:
        Epsilon; ``None`` where PRV failed, took too long or returned no positive number (P-32).
    """
    order = json.dumps({"segments": [asdict(segment) for segment in segments], "delta": delta})
    command = [sys.executable, "-P", "-m", "modify_fl.privacy.accounting"]
    try:
        done = subprocess.run(  # noqa: S603 - this module, by this interpreter
            command, input=order, capture_output=True, text=True, timeout=seconds, check=True
        )
        value = float(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _prv_in_child(order: str) -> float:
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - brings in torch (U-31)

    asked = json.loads(order)
    accountant = PRVAccountant()
    accountant.history = [(s["noise_multiplier"], s["sampling_rate"], s["steps"]) for s in asked["segments"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(asked["delta"]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_prv_in_child(sys.stdin.read())))
