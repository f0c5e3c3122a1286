"""The terminal side of both programs: messages, progress, envelope, exit codes.

Rules kept here:

* This is the only module in which an exception becomes an exit code (U-43) and
  a three-part message *what / why / fix* (U-44); no traceback without ``--debug``.
* Standard output carries results, standard error everything else; with
  ``--json`` standard output is exactly one object (U-33).
* Progress has a line of its own, see ``progress``. No colour is used at all.
* Nothing here imports torch, so ``verify``, ``inspect`` and ``trust`` start
  in an instant (U-31); click is imported when the first command runs.

The envelope, schema version 1::

    {"ok": bool, "command": str, "version": 1, "result": {...}, "warnings": [str]}
    {"ok": false, "command": str, "version": 1, "error": {"code", "exit", "what", "why", "hint",
        "fix": [argv], "step", "member", "expected", "got"}, "warnings": [str]}

Exit code 13 carries both ``result`` and ``error``: the work that was done and
the items that failed.
"""

import getpass
import json
import logging
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modify_fl.errors import ConfigError, MemoryShortError, ModifyError
from modify_fl.events import TrainingEvent
from modify_fl.progress import ProgressLine, write_line
from protocol.errors import Error, StorageError

if TYPE_CHECKING:
    import typer

__all__ = [
    "SCHEMA_VERSION",
    "Console",
    "ItemsFailedError",
    "Verbosity",
    "run_command",
    "run_program",
]

SCHEMA_VERSION = 1
"""Version of the JSON envelope; rises when a field changes its meaning or goes away."""

_PROGRAMS = ("style-provider", "content-client")
_UNATTENDED_FIX = "set MDFY_PASSPHRASE, or name a file with --passphrase-file"
_DEFECT_FIX = "this is a defect of the program: run again with --debug and report what it prints"


class ItemsFailedError(ModifyError):
    """The work is finished, but some items failed (U-45)."""

    code = "E_ITEMS"
    exit_code = 13
    hint = "look at the items that are named and run the command again for them"

    def __init__(self, what: str, *, result: Mapping[str, object], why: str = "", fix: str = "") -> None:
        """Keep the result of the items that did work.

        Args:
            what: How many failed, in one sentence.
            result: As a command without failures would return it.
            why: The items and their reasons.
            fix: What to do; the hint of the class when empty.
        """
        super().__init__(what, why=why, fix=fix)
        self.result = result


@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """How much a command says, and in which form (U-33, U-39)."""

    json: bool = False
    """One JSON object on standard output, the rest on standard error."""
    quiet: bool = False
    """Warnings, errors and questions only."""
    verbose: int = 0
    """Number of ``-v``; from 1 on the library's log is shown."""
    debug: bool = False
    """Tracebacks and the whole log."""
    silent: bool = False
    """Errors only: another process of the same run speaks (M-56)."""

    def for_rank(self, *, leads: bool) -> "Verbosity":
        """Return this, or silence where another process of the run leads."""
        return self if leads else Verbosity(quiet=True, debug=self.debug, silent=True)


class Console:
    """What one run of one command says."""

    def __init__(self, program: str, command: str, verbosity: Verbosity | None = None) -> None:
        """Bind the streams of this process.

        Args:
            program: ``style-provider`` or ``content-client``.
            command: Words after it, such as ``trust add``.
            verbosity: How much to say; the default amount when omitted.
        """
        self.program, self.command = program, command
        self.verbosity = verbosity or Verbosity()
        self.warnings: list[str] = []
        self._progress = ProgressLine(sys.stderr)
        if self.verbosity.verbose or self.verbosity.debug:
            level = logging.DEBUG if self.verbosity.debug or self.verbosity.verbose > 1 else logging.INFO
            logging.basicConfig(level=level, format=f"{program}: %(name)s: %(message)s", stream=sys.stderr)

    def say(self, text: str = "") -> None:
        """Print a line of the result for people."""
        if not (self.verbosity.json or self.verbosity.quiet):
            self._progress.end()
            write_line(sys.stdout, text)

    def note(self, text: str) -> None:
        """Print a remark about the course of the work to standard error."""
        if not self.verbosity.quiet:
            self.show(text)

    def show(self, text: str) -> None:
        """Print what somebody is asked about, or agrees to, to standard error, whatever the verbosity (B-34)."""
        self._progress.end()
        write_line(sys.stderr, f"{self.program}: {text}")

    def warn(self, text: str) -> None:
        """Print a warning and keep it for the envelope; the same one is said once."""
        if text not in self.warnings:
            self.warnings.append(text)
            if self.verbosity.silent:
                return
            self._progress.end()
            write_line(sys.stderr, f"{self.program}: warning: {text}")

    def ask_secret(self, question: str, *, otherwise: str = _UNATTENDED_FIX) -> str:
        """Ask on the terminal for something that is not shown.

        Args:
            question: What is asked for.
            otherwise: What to do where there is no terminal.

        Raises:
            ConfigError: There is no terminal.
        """
        self._require_terminal(question, otherwise)
        return getpass.getpass(f"{self.program}: {question}: ", stream=sys.stderr)

    def confirm(self, question: str, *, otherwise: str) -> bool:
        """Ask on the terminal for a yes.

        Args:
            question: What is to be confirmed.
            otherwise: What to do where there is no terminal.

        Raises:
            ConfigError: There is no terminal.
        """
        self._require_terminal(question, otherwise)
        sys.stderr.write(f"{self.program}: {question} [yes/no] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @staticmethod
    def _require_terminal(question: str, otherwise: str) -> None:
        if not sys.stdin.isatty():
            why = "standard input is not a terminal"
            raise ConfigError(f"there is nobody to ask: {question}", why=why, fix=otherwise)

    def emit(self, event: TrainingEvent) -> None:
        """Show an event of a training run (U-47)."""
        if event.kind == "warning":
            self.warn(event.message)
        elif event.kind == "tick":
            if not self.verbosity.quiet:
                self._progress.show(event, live=sys.stderr.isatty() and not self.verbosity.json)
        elif event.message:
            self.note(f"phase {event.message}" if event.kind == "phase" else event.message)

    def succeed(self, result: Mapping[str, object]) -> int:
        """Close the progress line, print the envelope if asked for, and return exit code 0."""
        self._progress.end()
        self._envelope(ok=True, result=result)
        return 0

    def fail(self, error: Error) -> int:
        """Print an error in three parts and return its exit code (U-43, U-44)."""
        self._progress.end()
        if self.verbosity.debug:
            write_line(sys.stderr, "".join(traceback.format_exception(error)).rstrip("\n"))
        fix = self._resume(error) if error.exit_code == 130 else _commands_apart(error.fix)
        why = error.why or _expectation(error) or _sentence(type(error))
        for label, text in (("error: ", error.what), ("why:   ", why), ("fix:   ", fix)):
            lead = f"{self.program}: {label}"
            write_line(sys.stderr, lead + text.replace("\n", "\n" + " " * len(lead)))
        body = {
            "code": error.code, "exit": error.exit_code, "what": error.what, "why": why, "hint": fix,
            "fix": _argv(fix), "step": error.step, "member": error.member, "expected": error.expected,
            "got": error.got,
        }  # fmt: skip
        done = {"result": error.result} if isinstance(error, ItemsFailedError) else {}
        self._envelope(ok=False, **done, error=body)
        return error.exit_code

    def _resume(self, error: Error) -> str:
        again = [word for word in sys.argv[1:] if word != "--fresh"]
        head = error.fix if error.fix.startswith("to go on") else "to go on, run"
        return f"{head}\n{shlex.join([self.program, *again])}"

    def _envelope(self, *, ok: bool, **parts: object) -> None:
        if self.verbosity.json:
            body = {"ok": ok, "command": self.command, "version": SCHEMA_VERSION, **parts, "warnings": self.warnings}
            write_line(sys.stdout, json.dumps(_plain(body), ensure_ascii=True))


def _plain(value: object) -> object:
    """Make ``value`` fit for JSON: paths as text, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def _sentence(kind: type[Error]) -> str:
    """Return what a class of errors stands for: the first line of its docstring, as a message."""
    line = (kind.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def _expectation(error: Error) -> str:
    known = [("expected", error.expected), ("got", error.got)]
    return ", ".join(f"{name} {value}" for name, value in known if value)


def _commands_apart(fix: str) -> str:
    """Give a command that ends a sentence a line of its own, so that it can be copied."""
    for program in _PROGRAMS:
        fix = fix.replace(f" run {program} ", f" run\n{program} ")
    return fix


def _argv(fix: str) -> list[str]:
    """Return the command that a fix names, split into words; empty when it names none."""
    for line in fix.split("\n"):
        command = line.strip().removeprefix("run ")
        if command.startswith(_PROGRAMS):
            try:
                return shlex.split(command)
            except ValueError:
                return []
    return []


# Running ----------------------------------------------------------------------


def run_command(console: Console, action: Callable[[], Mapping[str, object]]) -> int:
    """Run a command to its end and return the exit code; nothing escapes but a second signal.

    Args:
        console: Says what happens.
        action: The command's work; returns the ``result`` of the envelope.

    Raises:
        BrokenPipeError: The reader of the output went away (see ``run_program``).
    """
    try:
        return console.succeed(action())
    except BrokenPipeError:
        raise
    except Error as error:
        return console.fail(error)
    except KeyboardInterrupt:
        return console.fail(_InterruptedError("interrupted", why="a signal asked for it"))
    except Exception as error:  # noqa: BLE001 - the one place where anything becomes a message
        translated = _translate(error)
        translated.__cause__ = error
        return console.fail(translated)


class _InterruptedError(ModifyError):
    """A signal stopped the command; what was begun was not kept."""

    code = "E_INTERRUPTED"
    exit_code = 130


def _translate(error: Exception) -> Error:
    """Give an exception of Python or torch its place in the tree."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryShortError("not enough memory", why=str(error).split("\n")[0])
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        fix = "check that the folder exists, may be written, and has space left"
        return StorageError(f"cannot read or write{place}", why=(error.strerror or str(error)).lower(), fix=fix)
    sentence = f"{type(error).__name__}: {error}".split("\n")[0]
    return ModifyError("something went wrong inside the program", why=sentence, fix=_DEFECT_FIX)


@dataclass(frozen=True, kw_only=True)
class _Usage:
    """A command line that cannot be understood."""

    program: str
    argv: Sequence[str] = field(default_factory=tuple)

    def fail(self, what: str, path: str) -> int:
        words = path.split()
        console = Console(self.program, " ".join(words[1:]), Verbosity(json="--json" in self.argv))
        what = (what[:1].lower() + what[1:]).rstrip(".")
        return console.fail(ConfigError(what, why="the command line cannot be understood", fix=f"run {path} --help"))


def run_program(app: "typer.Typer", program: str, argv: Sequence[str] | None = None) -> int:
    """Run one of the two programs and return its exit code.

    Args:
        app: The command tree.
        program: Its name, as it stands before every message.
        argv: Words after the name; those of this process when omitted.
    """
    import click
    import typer

    words = list(sys.argv[1:] if argv is None else argv)
    usage = _Usage(program=program, argv=words)
    try:
        code: Any = typer.main.get_command(app)(args=words, prog_name=program, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        write_line(sys.stderr, error.format_message())
        return 2
    except click.UsageError as error:
        return usage.fail(error.format_message(), error.ctx.command_path if error.ctx else program)
    except click.Abort:
        return Console(program, "", Verbosity()).fail(
            _InterruptedError("interrupted", why="the question was not answered")
        )
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output went away; there is nobody to tell
        return 0
    return code if isinstance(code, int) else 0
