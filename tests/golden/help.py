"""Writes what both programs say of themselves, or compares it with what is stored (U-32).

Two forms of one source, the commands themselves: the ``--help`` texts in this folder, and the two pages of
``docs/reference``. ``make golden`` writes, ``make check`` compares. Texts are made in this process, so that the width
of a terminal does not matter.
"""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

_FOLDER = Path(__file__).parent
_PAGES = _FOLDER.parent.parent / "docs" / "reference"
_WIDTH = 100
_HEAD = """# {program}

{about}

Written from the code by `make golden`, compared with it by `make check`; do not edit. Exit codes are those of
[the design](../design/users.md) (U-43), and every command prints this with `--help`.
"""


def stored_texts() -> Iterator[tuple[Path, str]]:
    """Yield each file that is stored and what belongs into it."""
    from content_client.cli.app import app as client
    from style_provider.cli.app import app as provider

    for program, app in (("content-client", client), ("style-provider", provider)):
        page = []
        for context in _walk(typer.main.get_command(app), program, None):
            name = context.command_path.replace(" ", "-") + ".txt"
            yield _FOLDER / name, context.command.get_help(context) + "\n"
            page.append(_section(context))
        yield _PAGES / f"{program}.md", "\n".join(page)


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    yield context
    if isinstance(command, click.Group):
        for child in sorted(command.list_commands(context)):
            found = command.get_command(context, child)
            assert found is not None
            yield from _walk(found, child, context)


def _section(context: click.Context) -> str:
    """Write one command as Markdown; the rows of its tables are those of its help text."""
    command, path = context.command, context.command_path
    about = "\n".join(line.strip() for line in (command.help or "").strip().split("\n"))
    lines = [f"## {path}\n", about + "\n"] if context.parent else [_HEAD.format(program=path, about=about)]
    lines += [f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"]
    if isinstance(command, click.Group):
        children = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        rows = [(f"[{n}](#{path.replace(' ', '-')}-{n})", c.get_short_help_str(_WIDTH)) for n, c in children if c]
        lines += _table("command", rows)
    records = [record for option in command.get_params(context) if (record := option.get_help_record(context))]
    lines += _table("option", [(f"`{names}`", text) for names, text in records if "--help" not in names])
    return "\n".join(lines)


def _table(head: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    return [f"| {head} | |\n|---|---|", *(f"| {_cell(name)} | {_cell(text)} |" for name, text in rows), ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Write the texts, or with ``--check`` print how they differ."""
    texts = dict(stored_texts())
    present = {*_FOLDER.glob("*.txt"), *_PAGES.glob("*.md")}
    if "--check" not in sys.argv:
        _PAGES.mkdir(exist_ok=True)
        for old in present - texts.keys():
            old.unlink()
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stored = {path: path.read_text(encoding="utf-8") for path in present}
    differing = sorted(path for path in texts.keys() | stored.keys() if texts.get(path) != stored.get(path))
    for path in differing:
        old, new = stored.get(path, "").splitlines(), texts.get(path, "").splitlines()
        lines = difflib.unified_diff(old, new, f"stored/{path.name}", f"now/{path.name}", lineterm="")
        sys.stderr.writelines(f"{line}\n" for line in lines)
    if differing:
        sys.stderr.write("help texts changed: look at them, then run make golden\n")
    return int(bool(differing))


if __name__ == "__main__":
    raise SystemExit(main())
