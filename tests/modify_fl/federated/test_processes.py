"""Programs of Flower as children: own home, own environment, own end (F-4, F-5, F-8, F-25, F-27)."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modify_fl.federated import compat
from modify_fl.federated.environment import FLOWER_ENVIRONMENT
from modify_fl.federated.gate import OPEN, SECRET_HEADER, Gate
from modify_fl.federated.processes import child_environment, start, tail, write_programs


def test_a_child_gets_its_own_home_and_nothing_else_on_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.setenv("FLWR_INTERNAL_X", "1")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = child_environment(tmp_path / "home", tmp_path / "bin", {"MODIFY_SITE": "s"})
    assert FLOWER_ENVIRONMENT.items() <= environment.items()
    assert environment["FLWR_HOME"] == str(tmp_path / "home")
    assert environment["PATH"] == str(tmp_path / "bin")
    assert environment["MODIFY_SITE"] == "s"
    assert not {"FLWR_INTERNAL_X", "PYTHONPATH"} & environment.keys()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_every_kind_of_task_but_ours_is_refused(tmp_path: Path) -> None:
    """A coordinator may declare its app an agent, which Flower would start with the code that was sent."""
    write_programs(tmp_path / "bin", {"flwr-clientapp": ["/bin/echo", "ours"]})
    known = set(compat.TASK_TYPE_TO_COMMAND.values())
    assert {path.name for path in (tmp_path / "bin").iterdir()} == known
    environment = {"PATH": str(tmp_path / "bin")}
    for name in known:
        done = subprocess.run(
            [tmp_path / "bin" / name, "--token", "t"], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == ((0, b"ours --token t\n") if name == "flwr-clientapp" else (1, b""))


def _script(tmp_path: Path, code: str) -> Any:
    environment = child_environment(tmp_path / "home", tmp_path / "bin")
    return start("test", [sys.executable, "-c", code], environment=environment, log=tmp_path / "log", cwd=tmp_path)


def test_a_child_is_asked_to_end_first(tmp_path: Path) -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(3)))\n"
    child = _script(tmp_path, code + "print('up', flush=True)\ntime.sleep(60)")
    while "up" not in tail(child.log):
        time.sleep(0.02)
    child.end()
    assert child.process.returncode == 3
    assert tail(child.log) == "up\nbye\n"
    child.end()  # a second time does nothing
    assert child.log.stat().st_mode & 0o777 == 0o600


def test_a_child_that_does_not_listen_is_ended(tmp_path: Path) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    child = _script(tmp_path, code)
    while "up" not in tail(child.log):
        time.sleep(0.02)
    child.end(patience=0.1)
    assert child.process.returncode == -signal.SIGKILL


def test_a_child_is_told_whose_end_is_its_own(tmp_path: Path) -> None:
    child = _script(tmp_path, "import os; print(os.environ['MODIFY_PARENT'])")
    child.process.wait(20)
    assert tail(child.log).strip() == str(os.getpid())


# The gate ---------------------------------------------------------------------------


_SECRET = ((SECRET_HEADER, "s3cret"),)


def _gate() -> Gate:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    return Gate(inner, "s3cret")


async def _status(gate: Gate, path: str, client: str, headers: tuple[tuple[str, str], ...]) -> int:
    """Return the status that an outsider gets."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "path": path, "headers": raw, "client": (client, 1), "server": ("192.0.2.1", 8000)}
    await gate(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "client", "headers", "status"),
    [
        ("/v1/fleet/pull-messages", "192.0.2.7", (), 200),
        ("/v1/control/start-run", "192.0.2.7", (), 403),
        ("/v1/control/start-run", "127.0.0.1", (), 403),  # another user of this machine
        ("/v1/control/start-run", "127.0.0.1", ((SECRET_HEADER, "guess"),), 403),
        ("/v1/control/start-run", "127.0.0.1", ((SECRET_HEADER, "s3cret"), (SECRET_HEADER, "x")), 403),
        ("/v1/control/start-run", "127.0.0.1", ((SECRET_HEADER, "s3cret"),), 200),
        ("/v1/runtime/acquire-task", "192.0.2.7", (), 403),
        ("/v1/runtime/acquire-task", "192.0.2.7", ((SECRET_HEADER, "s3cret"),), 403),
        ("/v1/runtime/acquire-task", "127.0.0.1", (), 200),
        ("/v1/runtime/acquire-task", "192.0.2.1", (), 200),  # this machine by its own address
        ("/docs", "127.0.0.1", (), 403),
        ("/openapi.json", "127.0.0.1", (), 403),
        ("//v1/control/start-run", "127.0.0.1", (), 403),
        ("/v1/fleet", "127.0.0.1", (), 403),
    ],
)
def test_outsiders_are_refused(path: str, client: str, headers: tuple[tuple[str, str], ...], status: int) -> None:
    async def asked() -> int:
        gate = _gate()
        assert await _status(gate, OPEN, "127.0.0.1", _SECRET) == 200
        return await _status(gate, path, client, headers)

    assert asyncio.run(asked()) == status


def test_sites_wait_until_their_keys_are_registered() -> None:
    async def story() -> None:
        gate = _gate()
        early = asyncio.create_task(_status(gate, "/v1/fleet/pull-messages", "192.0.2.7", ()))
        await asyncio.sleep(0.05)
        assert await _status(gate, OPEN, "192.0.2.7", ()) == 403
        assert await _status(gate, "/v1/control/list-nodes", "127.0.0.1", _SECRET) == 200
        assert not early.done()
        assert await _status(gate, OPEN, "127.0.0.1", _SECRET) == 200
        assert await early == 200

    asyncio.run(story())
