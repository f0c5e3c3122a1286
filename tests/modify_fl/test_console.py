"""Rules U-33, U-39, U-43, U-44, U-47, U-48: messages, envelope, exit codes, progress."""

import errno
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import modify_fl.console as console_module
from modify_fl.console import (
    Console,
    ItemsFailedError,
    Verbosity,
    run_command,
    run_program,
)
from modify_fl.errors import ConfigError, InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.options import new_program
from protocol.errors import Error, problem

_EXITS = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 130}


def _family(kind: type[Error]) -> Iterator[type[Error]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


@pytest.mark.parametrize("kind", sorted(set(_family(Error)), key=lambda kind: kind.__name__), ids=lambda k: k.__name__)
def test_every_error_class_owns_an_exit_code_and_a_hint(kind: type[Error]) -> None:
    assert kind.exit_code in _EXITS
    assert kind.hint
    assert kind.code.startswith("E_")
    assert not kind.hint.endswith(".")


def _console(**verbosity: object) -> Console:
    return Console("content-client", "verify", Verbosity(**verbosity))  # type: ignore[arg-type]


def test_success_prints_one_object_and_returns_zero(capsys: pytest.CaptureFixture[str]) -> None:
    console = _console(json=True)
    console.warn("a warning")
    console.warn("a warning")
    console.say("a line for people")
    assert run_command(console, lambda: {"file": Path("a.mdfy"), "loss": float("nan"), "pair": (1, None)}) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "ok": True, "command": "verify", "version": 1, "warnings": ["a warning"],
        "result": {"file": "a.mdfy", "loss": None, "pair": [1, None]},
    }  # fmt: skip
    assert captured.err == "content-client: warning: a warning\n"


def test_error_has_three_parts_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = problem(
        "E_UNTRUSTED", why="the trust store holds 0 providers",
        fix="compare it by another channel, then run content-client trust add x.mdfykey --fingerprint SHA256:abc",
    )  # fmt: skip

    def action() -> dict[str, object]:
        raise error

    assert run_command(_console(), action) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "content-client: error: signer not pinned\n"
        "content-client: why:   the trust store holds 0 providers\n"
        "content-client: fix:   compare it by another channel, then run\n"
        "                       content-client trust add x.mdfykey --fingerprint SHA256:abc\n"
    )


def test_error_envelope_names_the_command_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    error = problem("E_UNTRUSTED", why="w", fix="then run content-client trust add 'a b.mdfykey'", got="SHA256:x")
    error.step = 6
    assert _console(json=True).fail(error) == 5
    body = json.loads(capsys.readouterr().out)
    assert body == {
        "ok": False, "command": "verify", "version": 1, "warnings": [],
        "error": {
            "code": "E_UNTRUSTED", "exit": 5, "what": "signer not pinned", "why": "w", "step": 6, "member": None,
            "hint": "then run\ncontent-client trust add 'a b.mdfykey'", "expected": None, "got": "SHA256:x",
            "fix": ["content-client", "trust", "add", "a b.mdfykey"],
        },
    }  # fmt: skip


def test_missing_why_falls_back_on_values_then_on_the_class(capsys: pytest.CaptureFixture[str]) -> None:
    console = _console()
    console.fail(ConfigError("bad", expected="1", got="2"))
    console.fail(ConfigError("bad"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "content-client: why:   expected 1, got 2"
    assert lines[4] == "content-client: why:   a setting, or a combination of settings, makes no sense"


def test_a_fix_that_cannot_be_split_gives_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    _console(json=True).fail(ConfigError("bad", fix='run content-client "unclosed'))
    assert json.loads(capsys.readouterr().out)["error"]["fix"] == []


def test_failed_items_carry_result_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert _console(json=True).fail(ItemsFailedError("1 of 2 failed", result={"written": 1})) == 13
    body = json.loads(capsys.readouterr().out)
    assert (body["ok"], body["result"], body["error"]["exit"]) == (False, {"written": 1}, 13)


class OutOfMemoryError(RuntimeError):
    """Stands for torch.OutOfMemoryError, which is recognised by its name."""


@pytest.mark.parametrize(
    ("raised", "code", "what"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 9, "cannot read or write x"),
        (OSError("odd"), 9, "cannot read or write"),
        (MemoryError("too big"), 12, "not enough memory"),
        (OutOfMemoryError("cuda"), 12, "not enough memory"),
        (ZeroDivisionError("division by zero"), 1, "something went wrong inside the program"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_anything_becomes_a_message(
    raised: BaseException, code: int, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> dict[str, object]:
        raise raised

    assert run_command(_console(), action) == code
    captured = capsys.readouterr().err
    assert captured.splitlines()[0] == f"content-client: error: {what}"
    assert "Traceback" not in captured


def test_debug_prints_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> dict[str, object]:
        raise ZeroDivisionError("by zero")

    assert run_command(_console(debug=True), action) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert "ZeroDivisionError" in captured


def test_interrupted_run_prints_the_command_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["content-client", "adapt", "--bundle", "a b.mdfy", "--fresh"])
    assert _console().fail(InterruptedRunError("stopped after 3 steps", why="a signal asked for it")) == 130
    # --fresh must go: repeating it would throw the checkpoint away.
    assert capsys.readouterr().err.endswith("\n                       content-client adapt --bundle 'a b.mdfy'\n")


def test_quiet_leaves_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console = _console(quiet=True)
    console.say("a")
    console.note("b")
    console.emit(TrainingEvent(kind="tick"))
    console.warn("c")
    console.show("d")  # what a question is about
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "content-client: warning: c\ncontent-client: d\n")


def test_verbose_shows_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(console_module.logging, "basicConfig", lambda **settings: asked.append(settings["level"]))
    for verbosity in ({"verbose": 1}, {"verbose": 2}, {"debug": True}, {}):
        _console(**verbosity)
    assert asked == [20, 10, 10]  # INFO, DEBUG, DEBUG, and nothing


def test_text_that_the_terminal_cannot_show_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    _console().say("Müller")
    assert raw.getvalue() == b"M?ller\n"


@pytest.mark.parametrize("debug", [False, True])
def test_text_of_a_file_sends_no_control_characters(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    console = _console(debug=debug)
    console.say("a\tb\x1b]0;pwned\x07")
    console.warn("\x9b2J\x7f")
    console.fail(ConfigError("bad\r", fix="one\ntwo"))
    captured = capsys.readouterr()
    assert captured.out == "a\tb\\x1b]0;pwned\\x07\n"
    assert captured.err.startswith("content-client: warning: \\x9b2J\\x7f\n")
    assert "error: bad\\r\n" in captured.err
    assert captured.err.endswith("fix:   one\n                       two\n")
    assert (captured.out + captured.err).replace("\n", "").replace("\t", "").isprintable()


def _program() -> typer.Typer:
    app = new_program("Plays a program.")

    @app.command("work")
    def work(count: int, as_json: bool = False) -> int:
        """Do it."""
        if count > 9:
            raise BrokenPipeError
        if count == 9:
            raise typer.Abort
        return count

    @app.command("other")
    def other() -> None:
        """Return nothing."""

    return app


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["work", "7"], 7, ""),
        (["other"], 0, ""),
        (["work", "9"], 130, "content-client: error: interrupted"),
        (["work"], 2, "content-client: error: missing argument 'COUNT'"),
        (["nope"], 2, "content-client: error: no such command 'nope'"),
        ([], 2, "Usage: content-client"),
    ],
)
def test_program_ends_with_a_code(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_program(_program(), "content-client", words) == code
    assert capsys.readouterr().err.startswith(message)


def test_usage_error_has_an_envelope_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_program(), "content-client", ["work", "--json"]) == 2
    body = json.loads(capsys.readouterr().out)
    assert (body["command"], body["error"]["fix"]) == ("work", ["content-client", "work", "--help"])


def test_broken_pipe_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", closed)
    assert run_program(_program(), "content-client", ["work", "10"]) == 0
    assert closed.closed


def test_broken_pipe_passes_through_a_command() -> None:
    def action() -> dict[str, object]:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_command(_console(), action)


def test_questions_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(ConfigError, match="nobody to ask"):
        _console().ask_secret("passphrase")
    with pytest.raises(ConfigError, match="nobody to ask") as caught:
        _console().confirm("really?", otherwise="add --fingerprint")
    assert caught.value.fix == "add --fingerprint"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "accepted"), [("yes\n", True), ("Y\n", True), ("no\n", False), ("", False)])
def test_only_a_yes_confirms(answer: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    assert _console().confirm("really?", otherwise="") is accepted


def test_secret_is_asked_for_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setattr(console_module.getpass, "getpass", lambda prompt, stream: f"{prompt}|{stream is sys.stderr}")
    assert _console().ask_secret("passphrase") == "content-client: passphrase: |True"
