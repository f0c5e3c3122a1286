"""``content-client inspect``: the card of a bundle, without loading its weights (U-20, B-44)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import own_identity
from modify_fl.card import inspect_file
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import (
    DebugOption,
    FormatOption,
    IdentityOption,
    JsonOption,
    PassphraseFileOption,
    QuietOption,
    VerboseOption,
)
from modify_fl.ready import bundle_path
from protocol.trust import TrustStore

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    form: FormatOption = "card",
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show what a bundle says about itself.

    FILE is a .mdfy or .mdfa file, or the name of a style that came with the program.
    Shown are style, licence, privacy and provider; weights are not loaded. What is not verified is marked so.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "inspect", verbosity)

    def action() -> Mapping[str, object]:
        own = own_identity(identity, passphrase_file, console.ask_secret)
        return inspect_file(
            console, bundle_path(file), trust=TrustStore.default(), now=datetime.now(UTC), identity=own, form=form
        )

    return run_command(console, action)
