"""Options that all commands share (U-33 to U-41), and the frame of a program.

Imported by the command lines only. Nothing here imports torch.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import click
import typer
import typer.core

__all__ = [
    "AcceptLicencesOption",
    "BudgetOption",
    "BundleOption",
    "DebugOption",
    "DeviceOption",
    "DryRunOption",
    "FormatOption",
    "FreshOption",
    "IdentityOption",
    "JsonOption",
    "KeepCacheOption",
    "NetworksArgument",
    "OverwriteOption",
    "PassphraseFileOption",
    "PrecisionOption",
    "QuietOption",
    "RequireOption",
    "SeedOption",
    "SetOption",
    "ShowConfigOption",
    "SourceOption",
    "TensorboardOption",
    "ThreadsOption",
    "VerboseOption",
    "WeightsFolderOption",
    "add_version",
    "new_program",
    "run_folder",
]

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
BundleOption = Annotated[
    Path,
    typer.Option(
        "--bundle", metavar="FILE", help="The style: a .mdfy file, or paintings, engravings: they came along."
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
TensorboardOption = Annotated[
    Path | None, typer.Option("--tensorboard", metavar="DIR", help="Write the course of the run for TensorBoard too.")
]
KeepCacheOption = Annotated[
    bool,
    typer.Option("--keep-cache", help="Keep the decoded pictures of a set too large for memory for the next run."),
]
RequireOption = Annotated[
    bool, typer.Option("--require-perceptual", help="Refuse to train without LPIPS and face network.")
]
NetworksArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NETWORK]...", help="Names, as weights list shows them.")
]
AcceptLicencesOption = Annotated[
    bool, typer.Option("--accept-licences", help="Accept the licences, instead of being asked on the terminal.")
]
SourceOption = Annotated[
    str, typer.Option("--source", metavar="NAME", help="official: the libraries' addresses; index: packages; auto.")
]
WeightsFolderOption = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Laid out like TORCH_HOME.", show_default="$TORCH_HOME")
]


def new_program(
    description: str,
    package: str = "",
    commands: Sequence[str] = (),
    *,
    bare: bool = False,
    aliases: Mapping[tuple[str, str], str] | None = None,
) -> typer.Typer:
    """Return a command tree with plain help texts.

    Args:
        description: One sentence that stands above the list of commands.
        package: Holds a module for each of ``commands``, imported when it is used (U-31).
        commands: Names of commands, each that of its module and of the function or tree in it;
            without any, this is a tree inside a program.
        bare: Whether the name alone does something; else it prints the help text.
        aliases: A command and an option of it that together mean another command, which gets all other words.
    """
    # rich would cost a third of the half second that --help may take (U-31).
    typer.core.HAS_RICH = False

    class Commands(_LateCommands):
        homes: ClassVar = {name: f"{package}.{name}" for name in commands}
        others: ClassVar = dict(aliases or {})

    return typer.Typer(
        cls=Commands if commands else None,
        help=description, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=not bare,
        add_completion=bool(commands), suggest_commands=False,  # click suggests them itself
        context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    )  # fmt: skip


class _LateCommands(typer.core.TyperGroup):
    """A tree whose commands are imported when somebody asks for them."""

    homes: ClassVar[Mapping[str, str]]
    others: ClassVar[Mapping[tuple[str, str], str]]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        for (name, option), other in self.others.items():
            if args[:1] == [name] and option in args:
                rest = args[1:]
                rest.remove(option)
                args = [other, *rest]
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.homes:
            for name in self.homes:  # the message about a mistyped name looks for those that are alike
                self.get_command(ctx, name)
        elif cmd_name not in self.commands:
            self.commands[cmd_name] = _load_command(self.homes[cmd_name], cmd_name)
        return self.commands.get(cmd_name)


def _load_command(home: str, name: str) -> click.Command:
    found = getattr(importlib.import_module(home), name)
    tree = found if isinstance(found, typer.Typer) else typer.Typer(add_completion=False, rich_markup_mode=None)
    if tree is not found:
        tree.command(name)(found)
    command = typer.main.get_command(tree)
    command.name = name
    return command


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
