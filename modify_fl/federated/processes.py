"""Flower's programs as child processes: own home, own environment, ended by their own id only (F-4, F-5, F-27).

Imports nothing of Flower.
"""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modify_fl.federated.environment import FLOWER_ENVIRONMENT
from modify_fl.federated.flower_process import PARENT
from protocol.storage import storage_errors

__all__ = ["Child", "child_environment", "free_port", "python_words", "start", "tail", "write_programs"]

_PATIENCE = 10.0
_TASKS = ("flwr-agentapp", "flwr-clientapp", "flwr-connector", "flwr-model", "flwr-serverapp", "flwr-simulation")


@dataclass(frozen=True, kw_only=True)
class Child:
    """A process that this one started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    """Everything it printed."""

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self.process.poll() is None

    def end(self, *, patience: float = _PATIENCE) -> None:
        """Ask it to end, and end it if it does not; nothing happens to one that has ended."""
        if not self.alive:
            return
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def python_words(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours; ``-I`` keeps the current folder and the user's away (F-9)."""
    return [sys.executable, "-I", "-m", module, *words]


def write_programs(folder: Path, programs: Mapping[str, Sequence[str]], *, log: Path | None = None) -> None:
    """Write the only programs that a Flower process of ours finds by name (F-8, F-9).

    Every kind of task that Flower can start and ``programs`` does not name gets
    a program that refuses: a coordinator can declare its app to be of another kind,
    and Flower would start that kind with the code that was received.

    Args:
        folder: Made with mode 0700; stands alone on the ``PATH`` of the process.
        programs: Names, and the command of each.
        log: Where their output goes; that of the caller when omitted.
    """
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name in {*_TASKS, *programs}:
            words = programs.get(name)
            rest = "exit 1" if words is None else f'exec {shlex.join(words)} "$@"'
            if words is not None and log is not None:
                rest += f" >> {shlex.quote(str(log))} 2>&1"
            path = folder / name
            path.unlink(missing_ok=True)
            path.write_text(f"#!/bin/sh\n{rest}\n", encoding="utf-8")
            path.chmod(0o700)


def child_environment(home: Path, programs: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a Flower process (F-4, F-5).

    Args:
        home: Its ``FLWR_HOME``; made with mode 0700.
        programs: What stands on its ``PATH``, and nothing else does.
        more: What is added.
    """
    with storage_errors(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "RAY_", "PYTHON"))}
    return {**kept, **FLOWER_ENVIRONMENT, "FLWR_HOME": str(home), "PATH": str(programs), **(more or {})}


def start(name: str, words: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> Child:
    """Start a process that ends when this one does.

    Args:
        name: How messages call it.
        words: Its command.
        environment: See ``child_environment``.
        log: Its output is appended there.
        cwd: Where it runs.
    """
    with storage_errors(log), log.open("ab") as stream:
        log.chmod(0o600)
        process = subprocess.Popen(  # noqa: S603 - words of ours
            list(words), env={**environment, PARENT: str(os.getpid())}, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,  # a Ctrl-C is for this process only
        )  # fmt: skip
    return Child(name=name, process=process, log=log)


def tail(path: Path, *, limit: int = 1 << 14) -> str:
    """Return the end of a log."""
    with storage_errors(path), path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - limit))
        return stream.read().decode("utf-8", "replace")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
