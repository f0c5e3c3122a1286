"""``content-client verify``: all checks that need no torch, against the pinned keys (B-25)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.card import verify_file
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption
from protocol.trust import TrustStore

__all__ = ["verify"]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Check a bundle against the accepted keys.

    FILE is a .mdfy or .mdfa file. Every step is listed.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "verify", verbosity)

    def action() -> Mapping[str, object]:
        return verify_file(console, file, trust=TrustStore.default(), now=datetime.now(UTC))

    return run_command(console, action)
