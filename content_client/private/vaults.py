"""What the client is told about a vault: spent, left, released; each with its unit and delta (P-2, P-48)."""

from collections.abc import Mapping

from modify_fl.console import Console
from modify_fl.privacy.accounting import rounded_up
from modify_fl.privacy.ledger import VaultState
from modify_fl.privacy.records import Charge, Ledger

__all__ = ["epsilon_text", "record_of", "show_vault"]


def epsilon_text(epsilon: float, delta: float, unit: str) -> str:
    """Return an epsilon, rounded up, with what it needs beside it (P-2)."""
    return f"epsilon {rounded_up(epsilon, 2):.2f} at delta {delta:g}, unit {unit}"


def show_vault(console: Console, state: VaultState) -> None:
    """Print what was spent, what is left, and for what."""
    ledger, opening = state.ledger, state.ledger.opening
    console.say(f"vault     {state.vault}, made {opening.time:%Y-%m-%d}")
    console.say(f"photos    {state.place.address.path}")
    console.say(f"ledger    {state.place.folder / 'ledger.jsonl'}, {len(ledger.lines)} lines")
    console.say(f"guarded   {_guard(state)}")
    console.say(f"budget    {epsilon_text(ledger.epsilon_max, opening.delta, opening.unit)}")
    if ledger.charges:
        console.say(f"spent     {epsilon_text(ledger.epsilon, opening.delta, opening.unit)}")
        left = 100 * (1 - ledger.spent / ledger.limit)
        console.say(f"left      {left:.1f} % of the budget, as RDP at order {opening.order:g}")
    else:
        console.say("spent     nothing")
    for run, charges in _runs(ledger).items():
        first, last = charges[0], charges[-1]
        console.say(f"run       {run}: {sum(charge.steps for charge in charges)} steps, {_mechanism(last)}")
        console.say(f"          bundle {first.bundle[:16]}..., {first.time:%Y-%m-%d %H:%M} UTC")
    for release in ledger.releases:
        kind = f"WITHOUT privacy: {release.reason}" if release.reason else f"run {release.run}"
        console.say(f"released  {release.release}, {release.time:%Y-%m-%d}, {kind}")


def _guard(state: VaultState) -> str:
    if state.marked:
        return "by a marker in the photo folder: a ledger from an older backup is refused"
    return "by path and contents only, as the photos cannot be written beside: an older ledger is NOT noticed"


def _mechanism(charge: Charge) -> str:
    text = f"q {charge.sampling_rate:g}, sigma {charge.noise_multiplier:g}, clip {charge.max_grad_norm:g}"
    return f"{text}, repeatable noise (test)" if charge.deterministic else text


def _runs(ledger: Ledger) -> dict[str, list[Charge]]:
    runs: dict[str, list[Charge]] = {}
    for charge in ledger.charges:
        runs.setdefault(charge.run, []).append(charge)
    return runs


def record_of(state: VaultState) -> Mapping[str, object]:
    """Return the same for ``--json``."""
    ledger, opening = state.ledger, state.ledger.opening
    return {
        "vault": state.vault, "photos": state.place.address.path,
        "ledger": state.place.folder / "ledger.jsonl", "marked": state.marked,
        "unit": opening.unit, "delta": opening.delta,
        "budget": _claim(ledger, ledger.epsilon_max), "spent": _claim(ledger, ledger.epsilon),
        "share_left": 1 - ledger.spent / ledger.limit, "order": opening.order,
        "runs": [
            {
                "run": run, "bundle": charges[0].bundle, "steps": sum(charge.steps for charge in charges),
                "sampling_rate": charges[-1].sampling_rate, "noise_multiplier": charges[-1].noise_multiplier,
                "max_grad_norm": charges[-1].max_grad_norm,
            }
            for run, charges in _runs(ledger).items()
        ],
        "releases": [
            {"release": item.release, "run": item.run, "unprotected": item.reason} for item in ledger.releases
        ],
    }  # fmt: skip


def _claim(ledger: Ledger, epsilon: float) -> dict[str, object]:
    return {"epsilon": epsilon, "delta": ledger.opening.delta, "unit": ledger.opening.unit}
