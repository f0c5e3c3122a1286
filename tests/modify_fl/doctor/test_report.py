"""How checks are run and said (U-33, U-41, U-43)."""

import getpass
import json
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.doctor.report import Check, UnhealthyError, examine, late
from modify_fl.errors import ConfigError


def _one(**fields: object) -> Iterator[Check]:
    yield Check(**({"name": "thing", "state": "ok", "found": "there"} | fields))  # type: ignore[arg-type]


def _console(**verbosity: bool) -> Console:
    return Console("content-client", "doctor", Verbosity(**verbosity))


def test_a_line_for_each_and_a_fix_for_what_is_not_ok(capsys: pytest.CaptureFixture[str]) -> None:
    result = examine(_console(), {"a": _one, "b": lambda: _one(state="warn", found="old", fix="renew it")})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "warn", "fix:", "ok", "2"]
    assert (result["ok"], result["warn"], result["fail"]) == (2, 1, 0)


def test_a_failure_is_exit_code_12_and_the_rest_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    looks = {"a": lambda: _one(state="fail", found="broken", fix="mend it"), "b": _one}
    assert run_command(_console(json=True), lambda: examine(_console(json=True), looks)) == 12
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["ok"], envelope["error"]["code"], envelope["error"]["exit"]) == (False, "E_DOCTOR", 12)
    assert envelope["error"]["why"] == "thing: broken"
    assert [check["state"] for check in envelope["result"]["checks"]] == ["fail", "ok", "ok"]
    assert {key for check in envelope["result"]["checks"] for key in check} == {"name", "state", "found", "fix"}


@pytest.mark.parametrize(
    "error", [ConfigError("no such thing", why="gone", fix="look"), ValueError("odd"), ImportError()]
)
def test_a_check_that_breaks_has_failed_and_hides_no_other(error: Exception) -> None:
    def broken() -> Iterator[Check]:
        raise error
        yield

    with pytest.raises(UnhealthyError) as caught:
        examine(_console(quiet=True), {"first": broken, "second": _one})
    checks = caught.value.result["checks"]
    assert isinstance(checks, list)
    assert [(check["name"], check["state"]) for check in checks] == [
        ("first", "fail"), ("thing", "ok"), ("offline", "ok"),
    ]  # fmt: skip
    assert checks[0]["fix"]


def test_a_module_that_cannot_be_imported_has_failed() -> None:
    with pytest.raises(UnhealthyError, match="1 of 2 checks failed"):
        examine(_console(quiet=True), {"torch": late("no_such_module")})


def test_asking_the_network_is_noticed() -> None:
    def curious() -> Iterator[Check]:
        socket.getaddrinfo("127.0.0.1", 80)  # numeric: nothing is really asked
        yield from _one()

    with pytest.raises(UnhealthyError) as caught:
        examine(_console(quiet=True), {"curious": curious})
    assert "socket.getaddrinfo" in caught.value.why
    assert examine(_console(quiet=True), {"calm": _one})["fail"] == 0


def test_no_name_of_host_or_user_and_no_path_in_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "atelier-7")
    monkeypatch.setattr(getpass, "getuser", lambda: "mathilde")
    found = f"{Path.home()}/deep/file.pem is open on atelier-7, by mathilde; see '/srv/mathilde/x y'"
    looks = {"a": lambda: _one(state="warn", found=found, fix="chmod 600 /srv/other/file.pem", place=Path("/srv/p"))}
    result = examine(_console(), looks)
    shown = capsys.readouterr().out
    assert "atelier-7" not in shown
    assert "mathilde" not in shown
    assert "~/deep/file.pem" in shown
    assert "(/srv/p)" in shown
    told = json.dumps(result)
    assert "/" not in told
    assert "chmod 600 file.pem" in told
    assert "mathilde" not in told
