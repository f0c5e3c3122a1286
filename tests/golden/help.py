"""Writes the ``--help`` texts of both programs into this folder, or compares them (U-32).

``make golden`` writes, ``make check`` compares. The texts are made in this
process, so that the width of a terminal does not matter.
"""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

_FOLDER = Path(__file__).parent
_WIDTH = 100


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of every command."""
    from content_client.cli.app import app as client
    from style_provider.cli.app import app as provider

    for program, app in (("content-client", client), ("style-provider", provider)):
        yield from _walk(typer.main.get_command(app), program, None)


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    yield context.command_path.replace(" ", "-") + ".txt", command.get_help(context) + "\n"
    if isinstance(command, click.Group):
        for child in sorted(command.list_commands(context)):
            found = command.get_command(context, child)
            assert found is not None
            yield from _walk(found, child, context)


def main() -> int:
    """Write the texts, or with ``--check`` print how they differ."""
    texts = dict(help_texts())
    if "--check" not in sys.argv:
        for old in _FOLDER.glob("*.txt"):
            old.unlink()
        for name, text in texts.items():
            (_FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    stored = {path.name: path.read_text(encoding="utf-8") for path in _FOLDER.glob("*.txt")}
    differing = sorted(name for name in texts.keys() | stored.keys() if texts.get(name) != stored.get(name))
    for name in differing:
        old, new = stored.get(name, "").splitlines(), texts.get(name, "").splitlines()
        sys.stderr.writelines(f"{line}\n" for line in difflib.unified_diff(old, new, f"stored/{name}", f"now/{name}"))
    if differing:
        sys.stderr.write("help texts changed: look at them, then run make golden\n")
    return int(bool(differing))


if __name__ == "__main__":
    raise SystemExit(main())
