"""``content-client stylize``: photos in, photos out (U-22, U-45, U-60 to U-67)."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from content_client.identity import own_identity
from content_client.photos import listed_photos, open_photos
from content_client.results import Job, output_stems
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    BundleOption,
    DebugOption,
    DryRunOption,
    FreshOption,
    IdentityOption,
    JsonOption,
    OverwriteOption,
    PassphraseFileOption,
    QuietOption,
    SeedOption,
    ThreadsOption,
    VerboseOption,
)
from modify_fl.outputs import refuse_existing, require_folder
from modify_fl.ready import bundle_path, demo_advice

__all__ = ["stylize"]


def stylize(
    bundle: BundleOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")],
    photos: Annotated[list[str] | None, typer.Argument(metavar="PHOTO...")] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A text file that names photos, one a line.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="FILE", help="An encoder adapter, from content-client adapt.")
    ] = None,
    faces: Annotated[
        str, typer.Option("--faces", metavar="WHICH", help="all, largest, or numbers from left to right: 1,3.")
    ] = "all",
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Photos are aligned faces already: take the central square.")
    ] = False,
    crop: Annotated[bool, typer.Option("--crop", help="Write the painted faces alone.")] = False,
    styles: Annotated[
        int | None, typer.Option("--styles", metavar="N", min=1, max=1000, help="Styles per photo.", show_default="1")
    ] = None,
    seed: SeedOption = 0,
    style_seeds: Annotated[
        str | None, typer.Option("--style-seed", metavar="LIST", help="These styles instead: 3,7,12.")
    ] = None,
    interpolate: Annotated[
        str | None, typer.Option("--interpolate", metavar="A:B", help="N styles on the way from seed A to seed B.")
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option("--mix", metavar="A:B[:K]", help="The first K style rows of seed A, the others of seed B."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", metavar="IMAGE", help="The style of a picture of yours; repeat for more."),
    ] = None,
    xi: Annotated[
        int | None,
        typer.Option("--xi", metavar="K", min=0, help="Rows that the style takes.", show_default="as trained"),
    ] = None,
    strength: Annotated[float, typer.Option("--strength", metavar="F", min=0, max=1, help="Share of the style.")] = 1.0,
    width: Annotated[int, typer.Option("--width", metavar="N", min=0, help="Rows over which the cut is blended.")] = 0,
    truncation: Annotated[
        float, typer.Option("--truncation", metavar="F", min=0, max=1, help="1: all of a style; 0: the average style.")
    ] = 1.0,
    preserve_color: Annotated[bool, typer.Option("--preserve-color", help="Keep the colours of the photo.")] = False,
    refine: Annotated[
        int, typer.Option("--refine", metavar="N", min=0, help="Steps of training on each face first; 50 is usual.")
    ] = 0,
    scores: Annotated[bool, typer.Option("--scores", help="Measure how like each face is to its photo.")] = False,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep the photo's metadata, all but the place.")
    ] = False,
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Leave out the note on bundle, style and settings.")
    ] = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    threads: ThreadsOption = None,
    dry_run: DryRunOption = False,
    fresh: FreshOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Paint the faces of photos in the style of a bundle.

    PHOTO is a photo, a folder, a ZIP file or a pattern such as 'holiday/*.jpg'; name as many as
    you like. 'demo' means faces of nobody that came with the program, ./demo a folder. Faces are found,
    aligned, painted and put back; the rest of a photo stays as it is. One picture per photo and
    style, under the photo's name; several styles add their mark: photo-s1.png. A contact sheet and
    results.jsonl, one line per photo, lie beside them. The same command goes on with a run that was
    stopped.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("content-client", "stylize", verbosity)

    def action() -> Mapping[str, object]:
        style_file = bundle_path(bundle)
        with ExitStack() as stack:
            sources: list[str | Path] = [*(photos or []), *(listed_photos(listed) if listed else [])]
            if not sources:
                raise ConfigError(
                    "no photo is named", fix="name photos or folders, a list of them with --list, or demo"
                )
            found = open_photos(sources, stack)

            from content_client.choices import choose_styles
            from modify_fl.styles import Controls

            controls = Controls(
                xi=xi, strength=strength, width=width, truncation=truncation, preserve_color=preserve_color
            )
            chosen = choose_styles(
                count=styles, seed=seed, seeds=style_seeds, interpolate=interpolate, mix=mix,
                references=reference or [], align=not no_align,
            )  # fmt: skip
            job = Job(
                photos=found, stems=output_stems([photo.name for photo in found]), styles=chosen, out=out, crops=crop
            )
            if fresh or not job.journal.exists():
                refuse_existing(job.paths(), overwrite=overwrite or (fresh and job.journal.exists()))
            require_folder(out)
            if dry_run:
                return job.plan(console)

            from content_client.painting import Options, Painter, load_style
            from modify_fl.photo import PhotoReader

            own = own_identity(identity, passphrase_file, console.ask_secret)
            with demo_advice(style_file):
                style = load_style(style_file, adapter, threads, identity=own, console=console)
            if not no_align:
                style.require_alignment()
            painter = Painter(
                console=console, style=style, controls=controls,
                reader=PhotoReader(resolution=style.resolution, faces=faces, align=not no_align),
                options=Options(
                    refine=refine, seed=seed, scores=scores, keep_metadata=keep_metadata, provenance=not no_provenance
                ),
            )  # fmt: skip
            return painter.run(job, fresh=fresh)

    return run_command(console, action)
