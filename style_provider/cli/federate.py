"""``style-provider federate``: the coordinator of a federation (design/federation.md, section 8)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from modify_fl.config import Subset
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    DebugOption,
    FreshOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    VerboseOption,
    new_program,
)
from protocol.errors import StorageError
from style_provider.cli.verify import accepting, only_public_key

if TYPE_CHECKING:
    from modify_fl.federated.plan import PrivatePlan

__all__ = ["federate"]

federate = new_program("Let several sites adapt a style together; none shows a photo.")

_PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The folder that plan made.")]
_PATIENCE = 60.0


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("style-provider", f"federate {command}", verbosity)


@federate.command("plan")
def _plan(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The style: a .mdfy file, not encrypted.")],
    sites: Annotated[Path, typer.Option("--sites", metavar="DIR", help="Folder for the site.pub of each site.")],
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Rounds of the whole run.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new folder of the plan.")] = Path("plan"),
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="Where sites reach you.")
    ] = "localhost:8443",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The .mdfykey of the bundle.", show_default="the only one you have"),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option("--subset", metavar="PART", help="heads, lora or all.", show_default="heads; lora with privacy"),
    ] = None,
    local_steps: Annotated[
        int, typer.Option("--local-steps", metavar="K", min=1, help="Steps of a site a round.")
    ] = 20,
    batch: Annotated[int, typer.Option("--batch", metavar="B", min=1, help="Photos of a step; B0 with privacy.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="R", help="Of a site's steps.", show_default="preset")
    ] = None,
    fedprox_mu: Annotated[
        float, typer.Option("--fedprox-mu", metavar="MU", min=0, help="Weight of FedProx' proximal term.")
    ] = 0.0,
    max_update_norm: Annotated[
        float | None,
        typer.Option("--max-update-norm", metavar="L", help="Longest update.", show_default="what the steps allow"),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--number", metavar="N", min=1, help="Sites expected.", show_default="keys in --sites, or quorum"),
    ] = None,
    quorum: Annotated[int, typer.Option("--quorum", metavar="N", min=2, help="Fewest updates of a round.")] = 3,
    wait: Annotated[float, typer.Option("--wait", metavar="S", help="Longest wait for sites, in seconds.")] = 600.0,
    round_time: Annotated[
        float, typer.Option("--round-time", metavar="S", help="Longest wait for updates, in seconds.")
    ] = 900.0,
    privacy: Annotated[str, typer.Option("--privacy", metavar="MODE", help="none, or dp at every site.")] = "none",
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", metavar="E", help="What all rounds spend at a site, with dp.")
    ] = None,
    delta: Annotated[float, typer.Option("--delta", metavar="D", help="Of the claim, with dp.")] = 1e-5,
    n_public: Annotated[
        int | None, typer.Option("--n-public", metavar="N", min=1, help="Photos of a site, rounded, with dp.")
    ] = None,
    unit: Annotated[str, typer.Option("--unit", metavar="UNIT", help="image or person, with dp.")] = "image",
    clip: Annotated[float, typer.Option("--clip", metavar="C", help="Bound on one gradient, with dp.")] = 1.0,
    secagg: Annotated[
        bool, typer.Option("--secagg", help="Experimental: mask updates, only their sum is read; 3 sites or more.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Fix the public numbers of a run, and make the kit that every site gets.

    Checks the bundle and that it vouches for the app, makes a certificate
    authority, the server's certificate and the key that will sign the result. Sites
    may enrol before or after: their keys are looked for when serve runs.
    """
    console = _console("plan", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        part = subset or ("lora" if privacy == "dp" else "heads")
        if part not in get_args(Subset):
            raise ConfigError(f"no part is called {part}", fix=f"use one of {', '.join(get_args(Subset))}")
        private = _private(
            privacy, epsilon=epsilon, delta=delta, n_public=n_public, unit=unit, clip=clip, batch=batch,
            steps=rounds * local_steps,
        )  # fmt: skip

        from style_provider.federation.address import parse_address
        from style_provider.federation.planning import Numbers, make_plan

        parse_address(address)
        numbers = Numbers(
            rounds=rounds, local_steps=local_steps, batch=batch, learning_rate=learning_rate,
            subset=cast("Subset", part), fedprox_mu=fedprox_mu, max_update_norm=max_update_norm, sites=number,
            quorum=quorum, wait_seconds=wait, round_seconds=round_time, private=private,
            secagg=secagg,
        )  # fmt: skip
        accepted = key or only_public_key()
        with accepting([accepted]):
            return make_plan(bundle, numbers, provider=accepted, sites=sites, address=address, out=out, console=console)

    return run_command(console, action)


def _private(
    mode: str, *, epsilon: float | None, delta: float, n_public: int | None, unit: str, clip: float, batch: int,
    steps: int,
) -> "PrivatePlan | None":  # fmt: skip
    """Return the numbers of differential privacy; the noise is the least with which all rounds spend epsilon."""
    if mode not in {"none", "dp"}:
        raise ConfigError(f"no privacy mode is called {mode}", fix="use none or dp")
    if mode == "none":
        if epsilon is not None or n_public is not None:
            raise ConfigError("--epsilon and --n-public belong to privacy", fix="add --privacy dp")
        return None
    if epsilon is None or n_public is None:
        raise ConfigError("privacy needs --epsilon and --n-public", fix="add --epsilon 8 --n-public 200, say")

    from modify_fl.federated.plan import PrivatePlan
    from modify_fl.privacy.accounting import noise_multiplier_for

    if unit not in {"image", "person"}:
        raise ConfigError(f"no unit is called {unit}", fix="use image or person")
    noise = noise_multiplier_for(epsilon, delta, batch / n_public, steps)
    return PrivatePlan(
        n_public=n_public,
        batch=batch,
        noise_multiplier=noise,
        max_grad_norm=clip,
        delta=delta,
        unit=unit,  # type: ignore[arg-type]
    )


@federate.command("serve")
def _serve(
    plan: _PlanArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The adapter.", show_default="PLAN.mdfa")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.", show_default="this machine only"),
    ] = None,
    fresh: FreshOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Run the rounds of a plan, and sign what they made.

    Starts Flower's SuperLink behind TLS, lets the sites in whose keys are there,
    waits for them, and keeps every finished round. Exit code 13: some rounds had
    too few updates and changed nothing; 14: the run failed. Stopped with Ctrl-C or
    killed, the same command goes on. To reach other machines, listen at 0.0.0.0: only the part of
    Flower that sites need answers them.
    """
    console = _console("serve", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from modify_fl.federated.environment import set_environment

        set_environment()  # before anything brings in Flower (F-4)
        from modify_fl.federated.coordinator_folder import CoordinatorFolder
        from style_provider.federation.address import parse_address
        from style_provider.federation.serving import Serving, serve

        folder = CoordinatorFolder(plan.resolve())
        kit, target = folder.kit(), out or plan.resolve().with_suffix(".mdfa")
        if target.exists() and not overwrite:
            raise StorageError(f"{target} exists", fix="choose another --out, or add --overwrite")
        host, port = parse_address(listen or f"127.0.0.1:{parse_address(kit.file.address)[1]}")
        task = Serving(folder=folder, kit=kit, out=target, overwrite=overwrite, host=host, port=port)
        return serve(task, fresh=fresh, console=console)

    return run_command(console, action)


@federate.command("status")
def _status(
    plan: _PlanArgument,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show rounds, sites, updates that did not count, and bytes."""
    console = _console("status", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from modify_fl.federated.coordinator_folder import CoordinatorFolder
        from style_provider.federation.report import show_status

        return show_status(CoordinatorFolder(plan.resolve()), console)

    return run_command(console, action)


@federate.command("stop")
def _stop(
    plan: _PlanArgument,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """End a run that serve is at; finished rounds stay, and serve goes on later."""
    console = _console("stop", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from modify_fl.federated.holder import ask_to_end

        if not plan.is_dir():
            raise ConfigError(f"there is no folder {plan}", fix="name the folder that plan made")
        found = ask_to_end(plan.resolve(), patience=_PATIENCE)
        console.say("stopped" if found else "nothing was running")
        return {"plan": plan, "stopped": found}

    return run_command(console, action)
