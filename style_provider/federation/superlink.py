"""The coordinator's processes: SuperLink behind the gate, and what starts the ServerApp (F-4, F-5, F-25, F-27)."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modify_fl.errors import FederationSetupError
from modify_fl.federated.certificates import CA, SERVER, SERVER_KEY
from modify_fl.federated.control import Control
from modify_fl.federated.coordinator_folder import COORDINATOR_VARIABLE, CoordinatorFolder
from modify_fl.federated.flower_process import SECRET
from modify_fl.federated.processes import Child, child_environment, python_words, start, tail, write_programs
from style_provider.federation.planning import SECRET_FILE, TASK_SECRET_FILE

__all__ = ["Running", "started"]

_FLOWER = "modify_fl.federated.flower_process"
_DATABASE = "superlink.db"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A coordinator whose processes run."""

    control: Control
    children: tuple[Child, ...]

    def require_alive(self) -> None:
        """Refuse to go on without one of them.

        Raises:
            FederationSetupError: It has ended by itself.
        """
        for child in self.children:
            if not child.alive:
                raise FederationSetupError(
                    f"{child.name} has ended", why=_last_line(child.log) or f"exit {child.process.returncode}",
                    fix=f"read {child.log}",
                )  # fmt: skip


@contextmanager
def started(folder: CoordinatorFolder, *, host: str, port: int) -> Iterator[Running]:
    """Run the coordinator's processes for the length of a block.

    Args:
        folder: Its folder.
        host: Address to listen at; sites and this machine alike must reach it.
        port: Port to listen at.

    Raises:
        FederationSetupError: They do not start.
    """
    own = f"127.0.0.1:{port}" if host in {"0.0.0.0", "127.0.0.1"} else f"{host}:{port}"  # noqa: S104 - compared
    secret = (folder.private / SECRET_FILE).read_text(encoding="ascii")
    children: list[Child] = []
    try:
        children.append(_superlink(folder, host, port, secret))
        with Control(own, folder.private / CA, secret) as control:
            _wait(control, children[0])
            children.append(_executor(folder, own))
            yield Running(control=control, children=tuple(children))
    finally:
        for child in reversed(children):
            child.end()


def _superlink(folder: CoordinatorFolder, host: str, port: int, secret: str) -> Child:
    private = folder.private
    words = python_words(
        _FLOWER, "superlink", "--ssl-ca-certfile", str(private / CA), "--ssl-certfile", str(private / SERVER),
        "--ssl-keyfile", str(private / SERVER_KEY), "--enable-supernode-auth",
        "--disable-runtime-dependency-installation", "--database", str(private / _DATABASE),
        "--isolation", "process", "--superexec-auth-secret-file", str(private / TASK_SECRET_FILE),
        "--host", host, "--port", str(port),
    )  # fmt: skip
    environment = child_environment(folder.home, folder.programs, {SECRET: secret})
    return start("the SuperLink", words, environment=environment, log=folder.path / "superlink.log", cwd=folder.path)


def _executor(folder: CoordinatorFolder, address: str) -> Child:
    server = python_words("style_provider.federation.server_process")
    write_programs(folder.programs, {"flwr-serverapp": server}, log=folder.path / "serverapp.log")
    words = python_words(
        _FLOWER, "superexec", "--runtime-api-address", address, "--root-certificates", str(folder.private / CA),
        "--superexec-auth-secret-file", str(folder.private / TASK_SECRET_FILE),
    )  # fmt: skip
    environment = child_environment(folder.home, folder.programs, {COORDINATOR_VARIABLE: str(folder.path)})
    return start("the SuperExec", words, environment=environment, log=folder.path / "superexec.log", cwd=folder.path)


def _wait(control: Control, superlink: Child) -> None:
    try:
        control.wait_until_up(lambda: superlink.alive)
    except (FederationSetupError, ssl.SSLError) as error:
        raise FederationSetupError(
            "the SuperLink did not start", why=_last_line(superlink.log) or str(error), fix=f"read {superlink.log}"
        ) from error


def _last_line(log: Path) -> str:
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
