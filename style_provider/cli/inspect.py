"""``style-provider inspect``: the card of a bundle, without loading its weights (U-20, B-44)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.card import inspect_file
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import DebugOption, FormatOption, JsonOption, QuietOption, VerboseOption
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from style_provider.standin import stand_in

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="A .mdfykey to check the signature against.")
    ] = None,
    form: FormatOption = "card",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show what a bundle says about itself.

    FILE is a .mdfy or .mdfa file, not encrypted. Its weights are not loaded.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "inspect", verbosity)

    def action() -> Mapping[str, object]:
        trust = TrustStore.of(*([read_provider_key(key)] if key else []))
        own = stand_in(file, trust)
        return inspect_file(console, file, trust=trust, now=datetime.now(UTC), identity=own, form=form)

    return run_command(console, action)
