"""Shell commands of README and docs, found, parsed and run.

A command is a line of a ``sh`` block, a line after a prompt (``$``, ``client$``) in a ``console`` or ``text`` block, or
a line of such a block that begins with one of our programs. A line that ends with a backslash goes on. ``...`` at the
end of a command stands for options that are left out; as a line of output, for lines that are.
"""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import typer

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("style-provider", "content-client")

_BLOCK = re.compile(r"^```(sh|console|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^(\w*)\$ ")
_BEGINNINGS = (*(f"{program} " for program in PROGRAMS), "torchrun ")
_EXIT = re.compile(r"^\[exit code (\d+)\]$")
_INLINE = re.compile(r"`((?:style-provider|content-client) [^`]+)`")
_VARYING = (
    (re.compile(r"SHA256:[A-Za-z0-9+/]{43}"), "SHA256:#"),
    (re.compile(r"age1[0-9a-z]{20,}"), "age1#"),
    (re.compile(r"(?<!\S)/[^\s,]+"), "/..."),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{12,64}\b"), "#"),
    (re.compile(r"\d+ min \d+ s|\d+ h \d+ min|\d+ s\b"), "# s"),
    (re.compile(r"\d+(?:\.\d+)?"), "#"),
    (re.compile(r" {2,}"), "  "),
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a page."""

    page: str
    """Path below the repository."""
    text: str
    """As typed, without the prompt."""
    prompt: str = ""
    """Who types it, where the page says so."""
    output: tuple[str, ...] = ()
    """What the page shows of its output."""
    code: int = 0
    """The exit code that the page shows, else 0."""

    @property
    def words(self) -> list[str]:
        """The command as the shell takes it apart; brackets around optional words are left out."""
        words = shlex.split(self.text.replace("[--", "--").replace("]", ""), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        return words

    @property
    def cut(self) -> bool:
        """Whether options are left out."""
        return self.words[-1] == "..." and not self.words[-2].startswith("-")


def pages() -> list[Path]:
    """Return README and all pages of docs but the designs, which are written before the code."""
    found = [path for path in (ROOT / "docs").rglob("*.md") if (ROOT / "docs" / "design") not in path.parents]
    return [ROOT / "README.md", *sorted(found)]


def commands(path: Path) -> list[Command]:
    """Return the commands of all blocks of a page, in order."""
    found: list[Command] = []
    for kind, block in _BLOCK.findall(path.read_text(encoding="utf-8")):
        found += _of_block(str(path.relative_to(ROOT)), kind, block.replace("\\\n", " "))
    return found


def inline_commands(path: Path) -> list[Command]:
    """Return the commands that stand in running text between backticks."""
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [Command(page=str(path.relative_to(ROOT)), text=" ".join(words.split())) for words in _INLINE.findall(prose)]


def _of_block(page: str, kind: str, block: str) -> list[Command]:
    found: list[Command] = []
    lines: list[str] = []
    prompted = any(_PROMPT.match(line) for line in block.splitlines())
    for line in block.splitlines():
        prompt = _PROMPT.match(line)
        if prompt or (not prompted and (line.startswith(_BEGINNINGS) or (kind == "sh" and line.strip()))):
            text = line[prompt.end() :] if prompt else line
            lines = []
            found.append(Command(page=page, text=text, prompt=prompt[1] if prompt else ""))
        elif found:
            code = _EXIT.match(line)
            lines += [] if code else [line]
            last = found[-1]
            found[-1] = Command(
                page=page, text=last.text, prompt=last.prompt, output=tuple(lines),
                code=int(code[1]) if code else last.code,
            )  # fmt: skip
    return found


@cache
def _app(program: str) -> click.Command:
    if program == "style-provider":
        from style_provider.cli.app import app
    else:
        from content_client.cli.app import app
    return typer.main.get_command(app)


def parse(words: list[str], *, whole: bool) -> None:
    """Take a command of ours apart as the program itself does.

    Args:
        words: Program, command, options.
        whole: Whether nothing may be missing.

    Raises:
        click.UsageError: There is no such command or option, or a value cannot be read.
        ValueError: A command is missing.
    """
    program, *rest = words
    command = _app(program)
    context = command.make_context(program, [], resilient_parsing=True)
    while isinstance(command, click.Group) and rest:
        name, *rest = rest
        found = command.get_command(context, name)
        if found is None:
            message = f"{context.command_path} has no command {name}"
            raise click.UsageError(message)
        command = found
        context = command.make_context(name, list(rest), parent=context, resilient_parsing=not whole)
        if not whole and not isinstance(command, click.Group):
            _known_options(command, context, rest)
        if not isinstance(command, click.Group):
            return
    if whole:
        message = f"{' '.join(words)} names no command"
        raise ValueError(message)


def _known_options(command: click.Command, context: click.Context, words: list[str]) -> None:
    known = {name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)}
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in known:
            message = f"{context.command_path} has no option {word}"
            raise click.UsageError(message)


def shape(line: str) -> str:
    """Return a line of output without what differs from run to run: numbers, digests, times."""
    for pattern, sign in _VARYING:
        line = pattern.sub(sign, line)
    return line.strip()
