"""``content-client stylize``: photos in, pictures out (U-22, U-45, U-65, U-66)."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import own_identity
from content_client.photos import Job, open_photos, output_names, refuse_existing
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import (
    DebugOption,
    DryRunOption,
    IdentityOption,
    JsonOption,
    OverwriteOption,
    PassphraseFileOption,
    QuietOption,
    SeedOption,
    ThreadsOption,
    VerboseOption,
)

__all__ = ["stylize"]


def stylize(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...")],
    bundle: Annotated[Path, typer.Option("--bundle", metavar="FILE", help="The style: a .mdfy file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")],
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="FILE", help="An encoder adapter, from content-client adapt.")
    ] = None,
    styles: Annotated[int, typer.Option("--styles", metavar="N", min=1, max=1000, help="Styles per photo.")] = 1,
    seed: SeedOption = 0,
    xi: Annotated[
        int | None,
        typer.Option("--xi", metavar="K", min=0, help="Rows that the style takes.", show_default="as trained"),
    ] = None,
    strength: Annotated[float, typer.Option("--strength", metavar="F", min=0, max=1, help="Share of the style.")] = 1.0,
    width: Annotated[int, typer.Option("--width", metavar="N", min=0, help="Rows over which the cut is blended.")] = 0,
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Leave out the note on bundle, seed and settings.")
    ] = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    threads: ThreadsOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Paint photos in the style of a bundle.

    PHOTO is an aligned photo, a folder or a ZIP file; name as many as you like.
    One picture per photo and style, under the photo's name; with several styles
    their seeds, SEED to SEED + N - 1, are added: photo-s1.png. A contact sheet
    and results.jsonl, one line per photo, lie beside them.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "stylize", verbosity)

    def action() -> Mapping[str, object]:
        with ExitStack() as stack:
            found = open_photos(photos, stack)
            seeds = tuple(range(seed, seed + styles))
            names = output_names([photo.name for photo in found], seeds)
            job = Job(photos=found, names=names, seeds=seeds, out=out)
            refuse_existing(job.paths(), overwrite=overwrite)
            if dry_run:
                return job.plan(console)

            from content_client.painting import Painter, load_style

            own = own_identity(identity, passphrase_file, console.ask_secret)
            style = load_style(bundle, adapter, threads, identity=own, console=console)
            painter = Painter(
                console=console, style=style, xi=xi, strength=strength, width=width, provenance=not no_provenance
            )
            return painter.run(job)

    return run_command(console, action)
