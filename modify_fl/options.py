"""Options that all commands share (U-33 to U-41), and the frame of a program.

Imported by the command lines only. Nothing here imports torch.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import typer.core

from modify_fl.config import NetworkConfig, Preset
from modify_fl.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "BudgetOption",
    "DebugOption",
    "DeviceOption",
    "DryRunOption",
    "FormatOption",
    "FreshOption",
    "IdentityOption",
    "JsonOption",
    "OverwriteOption",
    "PassphraseFileOption",
    "PrecisionOption",
    "QuietOption",
    "RequireOption",
    "SeedOption",
    "SetOption",
    "ShowConfigOption",
    "ThreadsOption",
    "VerboseOption",
    "add_version",
    "new_program",
    "override",
    "run_folder",
]

_Part = TypeVar("_Part", bound="DataclassInstance")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; everything else goes to stderr.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print warnings and errors only.")]
VerboseOption = Annotated[
    int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Print the log too; -vv for all of it.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print tracebacks and the whole log.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; touch nothing.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
FreshOption = Annotated[
    bool, typer.Option("--fresh/--resume", help="Start anew, or go on with an earlier run of the same command.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="LENGTH", help="Length of the run: 10m, 2h, 20kimg or 500steps.", show_default="preset"
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of everything that is drawn.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Compute threads.", show_default="cores it may use")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the preset; repeat for more."),
]
ShowConfigOption = Annotated[bool, typer.Option("--show-config", help="Print the settings in force and stop.")]
IdentityOption = Annotated[
    Path | None,
    typer.Option(
        "--identity", metavar="FILE", help="The age identity that opens a style sent to you.",
        show_default="your own",
    ),
]  # fmt: skip
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase of your keys."),
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="NAME", help="card, json, or hf-card: the model card for Hugging Face.")
]
PrecisionOption = Annotated[str, typer.Option("--precision", metavar="NAME", help="auto, fp32 or bf16.")]
RequireOption = Annotated[
    bool, typer.Option("--require-perceptual", help="Refuse to train without LPIPS and face network.")
]


def new_program(description: str, *, bare: bool = False) -> typer.Typer:
    """Return an empty command tree with plain help texts.

    Args:
        description: One sentence that stands above the list of commands.
        bare: Whether the name alone does something; else it prints the help text.
    """
    # rich would cost a third of the half second that --help may take (U-31).
    typer.core.HAS_RICH = False
    return typer.Typer(
        help=description, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=not bare,
        add_completion=True, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    )  # fmt: skip


def add_version(app: typer.Typer) -> None:
    """Give a program the option ``--version``."""

    def show(*, wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version  # noqa: PLC0415 - U-31

            typer.echo(version("modify-fl"))
            raise typer.Exit

    option = typer.Option("--version", callback=show, is_eager=True, help="Print the version.")

    @app.callback()
    def _version(*, wanted: Annotated[bool, option] = False) -> None:
        """Nothing else belongs to the program as a whole."""


def run_folder(out: Path) -> Path:
    """Return the folder that keeps checkpoints and records of the run that makes ``out``.

    It stands beside the result, ``style.mdfy.run`` for ``style.mdfy``, and holds
    what must not leave this machine (M-37, P-38).
    """
    return out.with_name(out.name + ".run")


def override(preset: Preset, changes: Sequence[str]) -> Preset:
    """Apply ``--set key=value`` to a preset (U-38).

    Args:
        preset: The preset as it stands in the code.
        changes: Texts such as ``encapsulation.batch=8``; leading parts of the
            name may be left out where the rest is unique.

    Returns:
        The changed preset, checked like any other.

    Raises:
        ConfigError: A text is not ``key=value``, the key is not known or not
            unique, or the value does not fit.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"cannot read the setting {change!r}", fix="write it like encapsulation.batch=8")
        preset = _replaced(preset, _locate(preset, name.strip()), text.strip())
    return preset


def _names(part: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - any settings class
    """Yield the full names of all settings of a preset or of a part of one."""
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        if dataclasses.is_dataclass(value):
            yield from _names(value, f"{prefix}{item.name}.")
        elif prefix:  # the preset's own name is none of its settings
            yield prefix + item.name


def _locate(preset: Preset, name: str) -> str:
    found = [full for full in _names(preset) if f".{full}".endswith(f".{name}")]
    if not found:
        raise ConfigError(f"no setting is called {name}", fix="see the names with --show-config")
    if len(found) > 1:
        raise ConfigError(f"the setting {name} is not unique", fix=f"write {' or '.join(found)}")
    return found[0]


def _replaced(part: _Part, name: str, text: str) -> _Part:
    head, _, rest = name.partition(".")
    old = getattr(part, head)
    changes: dict[str, Any] = {head: _replaced(old, rest, text) if rest else _value(old, name, text)}
    if isinstance(part, NetworkConfig) and head == "resolution":
        changes["xi"] = None  # follows the resolution unless it is set itself (M-24)
    return dataclasses.replace(part, **changes)


def _value(old: object, name: str, text: str) -> object:
    """Read ``text`` as the kind of value that ``old`` is."""
    try:
        new = text if isinstance(old, str) else json.loads(text)
    except ValueError:
        new = None
    if isinstance(old, tuple) and isinstance(new, list) and len(new) == len(old):
        numbers = all(type(item) in {int, float} for item in new)
        new = tuple(float(item) for item in new) if numbers else None
    if isinstance(old, float) and type(new) is int:
        new = float(new)
    if type(new) is not type(old):
        why = f"it is {old} now"
        raise ConfigError(f"the setting {name} cannot be {text}", why=why, fix="give a value of that kind")
    return new
