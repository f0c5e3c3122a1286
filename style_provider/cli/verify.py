"""``style-provider verify``: what a client will check, before the file is given away (B-25)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.checks import verify_file
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption
from protocol.errors import UntrustedKeyError
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from style_provider.keys import PUBLIC_SUFFIX, key_folder
from style_provider.standin import stand_in

__all__ = ["accepting", "only_public_key", "verify"]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The .mdfykey to accept.", show_default="the only one you have"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Check a bundle against one public key.

    FILE is a .mdfy or .mdfa file, not encrypted. Every step is listed, as a
    client would see it who is addressed and has agreed to the terms.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "verify", verbosity)

    def action() -> Mapping[str, object]:
        accepted = key or only_public_key()
        trust = TrustStore.of(read_provider_key(accepted))
        with accepting([accepted]):
            return verify_file(console, file, trust=trust, now=datetime.now(UTC), identity=stand_in(file, trust))

    return run_command(console, action)


@contextmanager
def accepting(keys: Sequence[Path]) -> Iterator[None]:
    """Say of a signer who is not accepted what helps here: no trust store was asked, only key files.

    Args:
        keys: The key files.

    Raises:
        UntrustedKeyError: E_UNTRUSTED of the block, with another cause and another cure.
    """
    try:
        yield
    except UntrustedKeyError as error:
        if error.code == "E_UNTRUSTED":
            signer = f"it says it comes from the provider whose first key is {error.got}, by that key or a later one"
            only = " and ".join(str(path) for path in keys)
            error.why = f"{signer if error.got else 'it does not say whom it comes from'}; accepted here is only {only}"
            error.fix = "name the .mdfykey file of the key that signed it with --key"
        raise


def only_public_key() -> Path:
    """Return the public key of the key folder.

    Raises:
        ConfigError: There is none, or more than one.
    """
    folder = key_folder()
    found = sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))
    if len(found) != 1:
        why = ", ".join(path.name for path in found) or "there is none"
        raise ConfigError(f"no single public key in {folder}", why=why, fix="name one with --key")
    return found[0]
