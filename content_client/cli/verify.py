"""``content-client verify``: all checks that need no torch, against the pinned keys (B-25, B-26)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import own_identity
from modify_fl.checks import accept_terms, audit_file, verify_file
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    DebugOption,
    IdentityOption,
    JsonOption,
    PassphraseFileOption,
    QuietOption,
    VerboseOption,
)
from modify_fl.ready import bundle_path, demo_advice
from protocol.trust import TrustStore

__all__ = ["verify"]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    audit: Annotated[
        bool, typer.Option("--audit", help="Go on after a failure, and list what became of it all.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept-terms", help="Show the terms and agree to them; asks if there is a terminal.")
    ] = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Check a bundle against the accepted keys.

    FILE is a .mdfy or .mdfa file, or the name of a style that came with the program.
    Every step is listed; nothing is loaded, and what was seen before is not changed.

    Some providers ask for your agreement to their terms before a style can be
    used. With --accept-terms they are shown, and your agreement to this very
    file is recorded if everything else about it is right. Where there is no
    terminal to answer on, typing the option is the agreement.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "verify", verbosity)

    def action() -> Mapping[str, object]:
        if audit and accept:
            raise ConfigError("--audit and --accept-terms exclude each other", fix="audit first, then accept")
        found, trust, now = bundle_path(file), TrustStore.default(), datetime.now(UTC)
        own = own_identity(identity, passphrase_file, console.ask_secret)
        if audit:
            return audit_file(console, found, trust=trust, now=now, identity=own)
        if accept:
            accept_terms(console, found, trust=trust, now=now, identity=own)
        with demo_advice(found):
            return verify_file(console, found, trust=trust, now=now, identity=own)

    return run_command(console, action)
