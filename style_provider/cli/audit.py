"""``style-provider audit``: what a bundle gives away of its style images (P-73 to P-80)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modify_fl.config import Budget
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.datasets import DATASETS, StyleData
from modify_fl.options import (
    DebugOption,
    JsonOption,
    QuietOption,
    SeedOption,
    ThreadsOption,
    VerboseOption,
    run_folder,
)
from modify_fl.outputs import require_folder
from modify_fl.progress import duration
from modify_fl.recipes import require_choice
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from style_provider.cli.verify import accepting, only_public_key

if TYPE_CHECKING:
    from style_provider.leakage.report import Told

__all__ = ["audit", "style_class"]

_CLASSES = ("public", "licensed", "confidential")


def audit(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="D", help="The style images, exactly as package had them.")
    ],
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Folder of the named data set.", show_default="$MODIFY_DATA"),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The .mdfykey to accept.", show_default="the only one you have"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="The folder of package's run.", show_default="BUNDLE.run"),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(
            "--photos", metavar="D", help="Public photos: what any reader has.", show_default="faces drawn here"
        ),
    ] = None,
    style_data: Annotated[
        str | None,
        typer.Option(
            "--style-data", metavar="CLASS", help="public, licensed or confidential.", show_default="that of the bundle"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Read the first N images.", show_default="all")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the report goes.", show_default="BUNDLE.audit"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="About how long, such as 5m.", show_default="the standard form"),
    ] = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Attack a bundle as a curious reader would, and say what it gives away.

    BUNDLE is a .mdfy file, not encrypted, that package made on this machine.
    Figures are attacks that were tried, not a bound. The report shows style
    images and stays with you. Exit code 11: more than your limits allow.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "audit", verbosity)

    def action() -> Mapping[str, object]:
        length, folder = Budget.parse(budget) if budget else None, out or bundle.with_name(f"{bundle.name}.audit")
        require_folder(folder)
        given = style_class(style_data, dataset) if style_data else None
        accepted = key or only_public_key()
        trust = TrustStore.of(read_provider_key(accepted))

        from style_provider.encapsulation import load_styles
        from style_provider.holdout import HoldoutNote
        from style_provider.leakage.page import pages
        from style_provider.leakage.report import write_report
        from style_provider.leakage.task import Request, load_material, load_public_photos, open_style, run_audit

        home = run or run_folder(bundle)
        with accepting([accepted]):
            style = open_style(bundle, trust)
        note = HoldoutNote.read(home)
        side = style.network.resolution
        images = load_styles(dataset, data_root, side, limit, console)
        material = load_material(bundle, images, load_public_photos(photos, side), note=note, trust=trust, seed=seed)
        chosen: StyleData = given or style.manifest.privacy.training_data.classification
        told = run_audit(
            material, Request(seed=seed, budget=length, threads=threads), folder=home / "audit", style_data=chosen,
            console=console,
        )  # fmt: skip
        page = write_report(told, folder, pages(told))
        say(console, told)
        console.say(f"wrote {page}; it shows style images and stays with you")
        told.verdict.require(critic=style.discriminator is not None)
        return {**told.as_json(), "seconds": told.result.seconds, "report": page}

    return run_command(console, action)


def style_class(given: str | None, dataset: str) -> StyleData:
    """Return the class of style images: as given, else that of the named data set, else confidential (P-71).

    Raises:
        ConfigError: There is no such class.
    """
    if given is not None:
        require_choice("--style-data", given, _CLASSES)
        return given  # type: ignore[return-value]
    card = DATASETS.get(dataset)
    return card.style_data if card else "confidential"


def say(console: Console, told: "Told") -> None:
    """Print the headlines of an audit and its verdict."""
    console.say(f"attacked in {duration(told.result.seconds)}; these are attacks that were tried, not a bound:")
    for finding in told.headlines:
        console.say(f"  {finding.name:<26}{finding.text()}")
    for sentence in told.verdict.warnings:
        console.warn(sentence)
    console.say(f"status: {told.verdict.status}, for {told.style_data} images")
