"""``style-provider evaluate``: how good a style is, beside a floor and baselines (U-49, U-73)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import (
    DebugOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SeedOption,
    ThreadsOption,
    VerboseOption,
)
from modify_fl.outputs import refuse_existing, require_folder
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from style_provider.cli.verify import accepting, only_public_key

if TYPE_CHECKING:
    from modify_fl.metrics.instruments import Instruments
    from style_provider.evaluation.task import Evaluation
    from style_provider.evaluation.training import Course

__all__ = ["evaluate"]


def evaluate(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...")],
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="D", help="The style images: folder, ZIP file or named data set.")
    ],
    photos: Annotated[str, typer.Option("--photos", metavar="DIR", help="Aligned photos that nothing was trained on.")],
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Folder of the named data set.", show_default="$MODIFY_DATA"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="D",
            help="Style images kept out of every training, to compare with.",
            show_default="those of --dataset",
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option("--adapter", metavar="FILE", help="An encoder adapter (.mdfa) to measure; one for each BUNDLE."),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="DIR", help="A run of package whose curves the report shows; repeatable."),
    ] = None,
    styles: Annotated[int, typer.Option("--styles", metavar="N", min=1, max=1000, help="Styles per photo.")] = 10,
    seed: SeedOption = 0,
    xi: Annotated[
        int | None,
        typer.Option("--xi", metavar="K", min=0, help="Rows that the style takes.", show_default="as trained"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use the first N photos.", show_default="all")
    ] = None,
    style_limit: Annotated[
        int | None,
        typer.Option("--style-limit", metavar="N", min=1, help="Use the first N style images.", show_default="all"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the report goes.", show_default="first BUNDLE.evaluation"),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="A .mdfykey to accept; repeat for that of the adapter.",
            show_default="the only one you have",
        ),
    ] = None,
    show_photos: Annotated[
        bool, typer.Option("--show-photos", help="Put photos and their names into the report.")
    ] = False,
    require: Annotated[bool, typer.Option("--require-all", help="Refuse to leave a figure out.")] = False,
    threads: ThreadsOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Measure how well a bundle paints photos in its style.

    BUNDLE is a .mdfy file, not encrypted. Paints every photo in N styles
    of its own, counted from SEED, and compares the pictures with the style
    images: KID, FID, diversity, identity, and reconstructions of held-out style images, beside a
    floor, raw photos and a colour transfer. Writes report.json and report.html,
    which stay with you. Give --dataset and --style-limit as package had them,
    so that the held-out images are known again. Several bundles are trainings
    of one style with several seeds: figures are then their mean and range.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "evaluate", verbosity)

    def action() -> Mapping[str, object]:
        folder = out or bundles[0].with_name(bundles[0].name + ".evaluation")
        refuse_existing([folder / "report.json"], overwrite=overwrite)
        require_folder(folder)
        accepted = key or [only_public_key()]
        trust = TrustStore.of(*(read_provider_key(path) for path in accepted))

        from modify_fl.metrics.instruments import Instruments
        from style_provider.evaluation.inputs import Sources, load_tasks
        from style_provider.evaluation.training import read_course

        courses = [read_course(path) for path in run or []]
        sources = Sources(
            dataset=dataset, photos=photos, reference=reference, data_root=data_root, style_limit=style_limit,
            limit=limit,
        )  # fmt: skip
        with accepting(accepted):
            tasks = load_tasks(
                bundles, adapter or [], sources, trust=trust, seeds=tuple(range(seed, seed + styles)), seed=seed, xi=xi,
                threads=threads, console=console,
            )  # fmt: skip
        if dry_run:
            return _plan(console, tasks, folder)
        identity_loss = tasks[0].style.loaded.manifest.provenance.training.losses.identity.name
        instruments = Instruments.find(trained_identity=identity_loss, require=require)
        return _measure(console, tasks, instruments, folder, show_photos=show_photos, courses=courses)

    return run_command(console, action)


def _plan(console: Console, tasks: Sequence["Evaluation"], folder: Path) -> Mapping[str, object]:
    from style_provider.evaluation.tables import protocol_line, reference_line

    task = tasks[0]
    console.say(f"would measure {len(tasks)} bundle(s): {protocol_line(task)}")
    console.say(reference_line(task))
    console.say(f"and write {folder}; nothing is sent")
    return {
        "bundles": len(tasks), "photos": len(task.photos), "styles": len(task.seeds), "reference": len(task.target),
        "out": folder,
    }  # fmt: skip


def _measure(
    console: Console, tasks: Sequence["Evaluation"], instruments: "Instruments", folder: Path, *, show_photos: bool,
    courses: Sequence["Course"],
) -> Mapping[str, object]:  # fmt: skip
    from style_provider.evaluation.measure import evaluate_styles
    from style_provider.evaluation.report import write_report
    from style_provider.evaluation.seeds import pool
    from style_provider.evaluation.tables import (
        as_result,
        protocol_line,
        reference_line,
        seed_table,
        table,
        training_line,
    )

    for why in instruments.missing.values():
        console.warn(f"not available: {why}")
    findings = pool(evaluate_styles(tasks, instruments, console.emit))
    for warning in findings.warnings:
        console.warn(warning)
    for line in (protocol_line(tasks[0]), reference_line(tasks[0]), training_line(findings)):
        console.say(line)
    for header, rows in filter(None, (*table(findings), seed_table(findings))):
        _say_table(console, [header, *rows])
    console.say()
    _, page = write_report(tasks[0], findings, folder, show_photos=show_photos, courses=courses)
    console.say(f"wrote {page} and report.json beside it; the page shows pictures of people and stays with you")
    console.say(f"next: open {page} and look at the worst cases")
    return {**as_result(findings), "report": page}


def _say_table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    console.say()
    for row in rows:
        console.say("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
