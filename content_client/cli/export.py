"""``content-client export``: a style for programs without torch (U-19, P-39)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import own_identity
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    BundleOption,
    DebugOption,
    DryRunOption,
    IdentityOption,
    JsonOption,
    OverwriteOption,
    PassphraseFileOption,
    QuietOption,
    VerboseOption,
)
from modify_fl.outputs import refuse_existing, require_folder
from modify_fl.passphrase import Ask, known_passphrase
from modify_fl.ready import bundle_path, demo_advice

__all__ = ["export"]


def export(
    bundle: BundleOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file.")] = False,
    mdfa: Annotated[bool, typer.Option("--mdfa", help="Sign the adapter again, as one that may be shared.")] = False,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="FILE", help="An encoder adapter, from content-client adapt.")
    ] = None,
    styles: Annotated[
        int, typer.Option("--styles", metavar="N", min=1, max=1000, help="Styles whose noise goes along.")
    ] = 16,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Number of the first of them.")] = 0,
    reason: Annotated[
        str | None,
        typer.Option(
            "--release-unprotected", metavar="REASON", help="Why weights trained on photos without privacy may go out."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", metavar="DIR", help="What it was trained on; needed if you have privacy budgets."),
    ] = None,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Write a style as an ONNX file, which other programs run without torch.

    Its inputs are aligned photos, noise that draws a style, and the strength.
    Any noise draws some style; that of the styles SEED to SEED + N - 1, the same
    as stylize --seed paints, lies in the metadata beside licence and terms.

    An adapter is made of your photos. Without differential privacy it leaves
    this machine only with a reason, which enters the file, and the ledger of
    the photos, or a note beside the vaults where they have none: nothing is
    guaranteed about them then, now or later. See
    examples/05_onnx_without_torch.py. With --mdfa the adapter alone is written.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "export", verbosity)

    def action() -> Mapping[str, object]:
        if onnx == mdfa:
            raise ConfigError("one form of export must be named", fix="add --onnx, or --mdfa for an adapter to share")
        refuse_existing([out], overwrite=overwrite)
        require_folder(out.parent)
        own = own_identity(identity, passphrase_file, console.ask_secret)

        from content_client.exporting import Export

        job = Export(
            bundle=bundle_path(bundle), adapter=adapter, out=out, seeds=range(seed, seed + styles), reason=reason,
            photos=photos, identity=own, overwrite=overwrite,
        )  # fmt: skip
        if mdfa:
            return job.share(console, ask=_asking(console, passphrase_file), dry_run=dry_run)
        with demo_advice(job.bundle):
            return job.run(console, dry_run=dry_run)

    return run_command(console, action)


def _asking(console: Console, passphrase_file: Path | None) -> Ask:
    return lambda question: known_passphrase(passphrase_file) or console.ask_secret(question)
