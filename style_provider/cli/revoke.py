"""``style-provider revoke``: takes a bundle back (B-40, B-42)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption
from protocol.provider import read_provider_key
from style_provider.key_files import parse_life
from style_provider.keys import find_key, load_pair, provider_keys, public_path
from style_provider.revocations import Additions, OwnBundle, announce, extend_list, own_bundle

__all__ = ["revoke"]


def revoke(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What clients are told.")],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Your current private key.", show_default="that of the key folder"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The revocation list.", show_default="NAME.mdfyrev beside the key"),
    ] = None,
    min_sequence: Annotated[
        bool, typer.Option("--min-sequence", help="Take back all earlier releases of the same bundle id too.")
    ] = False,
    next_update: Annotated[
        str | None,
        typer.Option("--next-update", metavar="TIME", help="When the next list comes at the latest: 90d, 6m or 1y."),
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Take a bundle back: clients who get the list refuse it.

    BUNDLE is one of your own .mdfy or .mdfa files, or its digest. The list beside
    your key is extended; with --out a copy goes there.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "revoke", verbosity)

    def action() -> Mapping[str, object]:
        wait = parse_life(next_update) if next_update else None
        path = key or find_key()
        provider = read_provider_key(public_path(path))
        found = own_bundle(bundle, provider_keys(path.parent, provider.provider_id))
        floor = _floor(found) if min_sequence else {}
        pair = load_pair(path, passphrase_file, console.ask_secret)
        added = Additions(bundles={found.digest: reason}, min_sequence=floor)
        revocation, place = extend_list(path, pair, added, out=out, next_update=wait)
        return announce(console, revocation, place)

    return run_command(console, action)


def _floor(bundle: OwnBundle) -> Mapping[str, int]:
    if bundle.info is None:
        why = "a digest does not tell which sequence of which bundle it is"
        raise ConfigError("--min-sequence needs the bundle itself", why=why, fix="name the file instead of its digest")
    return {bundle.info.id: bundle.info.sequence + 1}
