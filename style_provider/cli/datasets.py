"""``style-provider datasets``: what named data sets there are, and whether one is sound (U-24, U-30)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modify_fl.console import Console, ItemsFailedError, Verbosity, run_command
from modify_fl.datasets import DATASETS, DatasetCard, PictureFiles, open_pictures
from modify_fl.errors import ConfigError, DataError
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption, new_program

__all__ = ["datasets"]

_NAMED = 20

datasets = new_program("List named data sets, or check one.", bare=True)


@datasets.callback(invoke_without_command=True)
def _default(context: typer.Context) -> int:
    """List named data sets, or check one."""
    return 0 if context.invoked_subcommand else _list()


@datasets.command("list")
def _list(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = 0, debug: DebugOption = False
) -> int:
    """List the named data sets."""
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "datasets list", verbosity)

    def action() -> Mapping[str, object]:
        for card in DATASETS.values():
            console.say(f"{card.name:<12}{card.title}")
            for line in card.how_to_get:
                console.say(f"{'':<12}{line}")
        console.say("Any folder or ZIP file of pictures will do as well.")
        return {"datasets": [_record(card) for card in DATASETS.values()]}

    return run_command(console, action)


@datasets.command("show")
def _show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Show the data set NAME: licence, where to get it, where to put it."""
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "datasets show", verbosity)

    def action() -> Mapping[str, object]:
        if name not in DATASETS:
            raise ConfigError(f"no data set is called {name}", fix=f"use one of {', '.join(DATASETS)}")
        card = DATASETS[name]
        for label, text in _record(card).items():
            console.say(f"{label:<12}{text}")
        return _record(card)

    return run_command(console, action)


@datasets.command("check")
def _check(
    source: Annotated[str, typer.Argument(metavar="D")],
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Folder of the named data set.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Read every picture and name those that cannot be used.

    D is a folder, a ZIP file or a named data set.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "datasets check", verbosity)

    def action() -> Mapping[str, object]:
        if source == "synthetic":
            raise ConfigError("there is nothing to check: synthetic is drawn", fix="name a folder or another data set")
        with open_pictures(source, data_root=data_root, look="painting") as files:
            bad = _unreadable(files)
            total = len(files.names) + len(files.rejected)
        for name, why in bad:
            console.say(f"{name}: {why}")
        console.say(f"{total - len(bad)} of {total} pictures can be used")
        result = {"pictures": total, "usable": total - len(bad), "unusable": dict(bad)}
        if bad:
            why = "; ".join(f"{name}: {reason}" for name, reason in bad[:_NAMED])
            raise ItemsFailedError(f"{len(bad)} of {total} pictures cannot be used", why=why, result=result)
        return result

    return run_command(console, action)


def _unreadable(files: PictureFiles) -> list[tuple[str, str]]:
    from modify_fl.faces.decode import read_picture

    bad = list(files.rejected)
    for name in files.names:
        try:
            read_picture(files.read(name), name=name)
        except DataError as error:
            bad.append((name, error.why or error.what))
    return bad


def _record(card: DatasetCard) -> dict[str, str]:
    where = card.how_to_get[2]
    return {"name": card.name, "title": card.title, "licence": card.licence, "url": card.url, "where": where}
