"""``content-client privacy``: budget and ledger of photos (P-46, P-48)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from content_client.cli.privacy_estimate import estimate
from content_client.photos import default_photos
from content_client.private.vaults import epsilon_text, record_of, show_vault
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption, new_program
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.places import places
from modify_fl.privacy.settings import Unit
from modify_fl.privacy.sharing import warn_of_overlaps
from protocol.schema import encode

__all__ = ["privacy"]

privacy = new_program("Set the privacy budget of photos, and see what was spent.")
privacy.command("estimate")(estimate)

_PhotosOption = Annotated[
    Path | None,
    typer.Option("--photos", metavar="DIR", help="Folder or ZIP file.", show_default="$MODIFY_PHOTOS or ./photos"),
]


def _console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    return Console("content-client", f"privacy {command}", verbosity)


@privacy.command("init")
def _init(
    photos: _PhotosOption = None,
    epsilon: Annotated[
        float, typer.Option("--epsilon", metavar="E", help="Most that may ever be spent on these photos.")
    ] = 8.0,
    delta: Annotated[
        float, typer.Option("--delta", metavar="D", help="Of every claim; below 1 / number of photos.")
    ] = 1e-5,
    unit: Annotated[
        str, typer.Option("--unit", metavar="UNIT", help="What is protected as one: image, or person (a sub-folder).")
    ] = "image",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Set the privacy budget of a photo folder, once.

    The folder becomes a vault: whatever is trained on it under differential
    privacy, for whatever style, is charged to one ledger in your data folder.
    A small hidden file in the photo folder guards the ledger.
    """
    console = _console("init", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        if unit not in get_args(Unit):
            raise ConfigError(f"no unit is called {unit}", fix=f"use one of {', '.join(get_args(Unit))}")
        state, warnings = Vault.create(
            photos or default_photos(), epsilon_max=epsilon, delta=delta, unit=cast("Unit", unit)
        )
        for warning in warnings:
            console.warn(warning)
        show_vault(console, state)
        console.say("next: content-client privacy estimate --n N --subset lora, N being a rounded number of photos")
        return record_of(state)

    return run_command(console, action)


@privacy.command("status")
def _status(
    photos: _PhotosOption = None,
    every: Annotated[bool, typer.Option("--all", help="All vaults of this user.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show what was spent of a budget, what is left, and what was released.

    Looking needs no lock: it works while a run holds the vault.
    """
    console = _console("status", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        if every:
            return _list(console)
        state = read_vault(photos or default_photos())
        show_vault(console, state)
        _warn(console, state)
        return record_of(state)

    return run_command(console, action)


def _warn(console: Console, state: VaultState) -> None:
    for warning in warn_of_overlaps(state.place):
        console.warn(warning)


def _list(console: Console) -> Mapping[str, object]:
    rows = []
    for place in places():
        path, ledger = place.address.path, place.read()
        opening = ledger.opening
        spent = epsilon_text(ledger.epsilon, opening.delta, opening.unit)
        console.say(f"{place.vault}  spent {spent}, of epsilon {ledger.epsilon_max:g}  {path}")
        rows.append({"vault": place.vault, "photos": path, "epsilon": ledger.epsilon, "epsilon_max": ledger.epsilon_max,
                     "delta": opening.delta, "unit": opening.unit})  # fmt: skip
    if not rows:
        console.say("no vaults")
    return {"vaults": rows}


@privacy.command("statement")
def _statement(
    photos: _PhotosOption = None,
    prv: Annotated[bool, typer.Option("--prv", help="Use the PRV accountant where it is tighter.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Say in one sentence what is guaranteed about photos, or that nothing is.

    The sentence is about everything that was ever charged to their ledger, and
    to those of other vaults that hold some of the same photos.
    """
    console = _console("statement", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        from modify_fl.privacy.statement import sentence, statement_of

        state = read_vault(photos or default_photos())
        made = statement_of(state.ledger, accountant="PRV" if prv else "RDP")
        console.say(sentence(made))
        _warn(console, state)
        return {"sentence": sentence(made), **cast("Mapping[str, object]", encode(made))}

    return run_command(console, action)


@privacy.command("budget")
def _budget(
    raise_to: Annotated[float, typer.Option("--raise-to", metavar="E", help="The new epsilon, above the old one.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Stays in the ledger.")],
    photos: _PhotosOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Raise the privacy budget of photos on purpose; delta stays."""
    console = _console("budget", as_json, quiet, verbose, debug)

    def action() -> Mapping[str, object]:
        place = photos or default_photos()
        with Vault.open(place, run="privacy budget") as vault:
            vault.raise_budget(raise_to, reason)
            for warning in vault.warnings:
                console.warn(warning)
        state = read_vault(place)
        show_vault(console, state)
        return record_of(state)

    return run_command(console, action)
