"""``content-client privacy estimate``: noise, epsilon and signal of a schedule; spends nothing (P-53, P-54)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from content_client.private.vaults import epsilon_text
from modify_fl.config import PRESETS, NetworkConfig, Subset, preset
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption

if TYPE_CHECKING:
    from modify_fl.privacy.ledger import VaultState
    from modify_fl.privacy.planning import Plan

__all__ = ["estimate"]


def estimate(
    photos_count: Annotated[
        int, typer.Option("--n", metavar="N", min=1, help="Number of photos, rounded: it is public.")
    ],
    batch: Annotated[int, typer.Option("--batch", metavar="B", min=1, help="Expected photos per step.")] = 256,
    steps: Annotated[int, typer.Option("--steps", metavar="T", min=1, help="Length of the run.")] = 500,
    epsilon: Annotated[float, typer.Option("--epsilon", metavar="E", help="What the run may spend.")] = 8.0,
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="Below 1 / N.")] = 1e-5,
    subset: Annotated[str, typer.Option("--subset", metavar="PART", help="lora, heads or all.")] = "lora",
    style: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Preset of the style; gives the size of the part.")
    ] = next(iter(PRESETS)),
    parameters: Annotated[
        int | None,
        typer.Option("--parameters", metavar="D", min=1, help="Trained parameters.", show_default="of the part"),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option("--photos", metavar="DIR", help="Compare with the budget of these photos.")
    ] = None,
    prv: Annotated[bool, typer.Option("--prv/--no-prv", help="Report the PRV accountant too (up to a minute).")] = True,
    accept: Annotated[
        bool, typer.Option("--accept-low-utility", help="Do not stop where noise drowns the signal.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Compute noise, epsilon and signal of a run before anything is spent.

    No photo is looked at. Time and memory are measured by
    content-client adapt --dry-run.
    """
    console = Console(
        "content-client", "privacy estimate", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def action() -> Mapping[str, object]:
        if subset not in get_args(Subset):
            raise ConfigError(f"no part is called {subset}", fix=f"use one of {', '.join(get_args(Subset))}")
        vault = _vault(photos)
        d = parameters or _size(preset(style).network, cast("Subset", subset))

        from modify_fl.privacy.planning import plan

        made = plan(
            n_public=photos_count, batch=batch, steps=steps, epsilon=epsilon, delta=delta, parameters=d, prv=prv
        )
        unit = vault.ledger.opening.unit if vault else "image"
        if prv and made.epsilon_prv is None:
            console.note("the PRV accountant failed or took longer than a minute; RDP stands alone")
        _show(console, made, unit)
        result = _record(made, unit) | (_show_budget(console, made, vault) if vault else {})
        for warning in made.warnings():
            console.warn(warning)
        if not accept:
            made.require_useful()
        return result

    return run_command(console, action)


def _vault(photos: Path | None) -> "VaultState | None":
    if photos is None:
        return None
    from modify_fl.privacy.ledger import read_vault

    return read_vault(photos)


def _size(network: NetworkConfig, subset: Subset) -> int:
    from modify_fl.training.subsets import count_trainable

    return count_trainable(network, subset)


def _show(console: Console, made: "Plan", unit: str) -> None:
    console.say(
        f"schedule         {made.steps} steps, batch {made.batch} of {made.n_public} {unit}s, q {made.sampling_rate:g}"
    )
    console.say(f"noise            sigma {made.noise_multiplier:.4g}")
    console.say(f"spent by RDP     {epsilon_text(made.epsilon_rdp, made.delta, unit)}")
    if made.epsilon_prv is not None:
        console.say(
            f"spent by PRV     {epsilon_text(made.epsilon_prv, made.delta, unit)} (RDP is the account of record)"
        )
    console.say(f"noise norm       {made.noise_norm:.3g} C in each step, {made.parameters} trained parameters")
    console.say(f"signal to noise  {made.snr:.1f} over the run, at best")


def _record(made: "Plan", unit: str) -> dict[str, object]:
    return {
        "n_public": made.n_public, "batch": made.batch, "steps": made.steps, "sampling_rate": made.sampling_rate,
        "noise_multiplier": made.noise_multiplier, "parameters": made.parameters, "unit": unit, "delta": made.delta,
        "adjacency": "add/remove", "epsilon": {"rdp": made.epsilon_rdp, "prv": made.epsilon_prv},
        "noise_norm": made.noise_norm, "signal_to_noise": made.snr,
    }  # fmt: skip


def _show_budget(console: Console, made: "Plan", vault: "VaultState") -> dict[str, object]:
    """Say whether the run would fit into what is left of a vault."""
    from modify_fl.privacy.accounting import rdp_of

    ledger = vault.ledger
    opening = ledger.opening
    rdp = rdp_of(made.segment, opening.orders)
    needed = rdp[opening.orders.index(opening.order)] / ledger.limit
    left = 1 - ledger.spent / ledger.limit
    fits = ledger.allows(rdp) and made.delta == opening.delta
    console.say(
        f"budget left      {100 * left:.1f} % of {epsilon_text(ledger.epsilon_max, opening.delta, opening.unit)}; "
        f"this run would take {100 * needed:.1f} %"
    )
    if not fits:
        console.warn("this run does not fit into what is left of the budget")
    return {"budget": {"epsilon_max": ledger.epsilon_max, "left": left, "needed": needed, "fits": fits}}
