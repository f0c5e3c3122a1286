"""What the coordinator asks of its own SuperLink: sites, runs, their end (F-25, F-26).

Flower's Control API has no login. ``gate`` gives it one: a secret that only the
coordinator's own programs know goes with every request.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from modify_fl.errors import FederationSetupError
from modify_fl.federated import compat
from modify_fl.federated.gate import OPEN, SECRET_HEADER

__all__ = ["Control", "Node", "RunState"]

_PATIENCE = 60.0
_PAUSE = 0.3


@dataclass(frozen=True, kw_only=True)
class Node:
    """A site as the SuperLink knows it."""

    node_id: int
    name: str
    public_key: bytes
    """PEM."""
    online: bool


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What became of a run so far."""

    status: str
    """``pending``, ``starting``, ``running``, or ``finished:`` and how."""
    details: str
    bytes_down: int
    """To sites."""
    bytes_up: int
    """From sites."""

    @property
    def finished(self) -> bool:
        """Whether it ended, one way or another."""
        return self.status.startswith("finished:")

    @property
    def completed(self) -> bool:
        """Whether the app ended without an error; its checkpoints say how much it got done."""
        return self.status == "finished:completed"


class _Secret:
    """Adds the secret to a request."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:  # noqa: ANN401
        context.request.headers[SECRET_HEADER] = self._secret
        return call_next(context)


class Control:
    """A connection to the Control API of one SuperLink."""

    def __init__(self, address: str, authority: Path | None, secret: str) -> None:
        """Prepare a connection; nothing is sent.

        Args:
            address: Host and port.
            authority: The file ``ca.crt``; none for a SuperLink of this machine without TLS.
            secret: What the SuperLink was started with.
        """
        self._open = httpx.Request(
            "POST", f"{'https' if authority else 'http'}://{address}{OPEN}", headers={SECRET_HEADER: secret}
        )
        self._verify = ssl.create_default_context(cafile=str(authority)) if authority else True
        self._client = compat.ControlHttpClient.from_server_address(
            address, authority is None, authority.read_bytes() if authority else None,
            [_Secret(secret), compat.RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Return the connection itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._client.close()

    def wait_until_up(self, alive: Callable[[], bool], *, patience: float = _PATIENCE) -> None:
        """Return once the SuperLink answers.

        Args:
            alive: Whether its process is still there.
            patience: Seconds.

        Raises:
            FederationSetupError: It ended, or does not answer.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and alive():
            try:
                self.nodes()
            except FederationSetupError:
                time.sleep(_PAUSE)
            else:
                return
        raise FederationSetupError("the SuperLink did not start", why="it ended" if not alive() else "no answer")

    def nodes(self) -> tuple[Node, ...]:
        """Return all registered sites.

        Raises:
            FederationSetupError: The SuperLink does not answer.
        """
        found = self._ask("ListNodes", compat.ListNodesRequest())
        return tuple(
            Node(node_id=info.node_id, name=info.name, public_key=info.public_key, online=info.status == "online")
            for info in found.nodes_info if info.status != "unregistered"
        )  # fmt: skip

    def register(self, public_key: bytes, name: str) -> None:
        """Let a site connect.

        Args:
            public_key: PEM.
            name: How the coordinator calls it.

        Raises:
            FederationSetupError: The SuperLink refuses.
        """
        self._ask("RegisterNode", compat.RegisterNodeRequest(public_key=public_key, name=name))

    def open_to_sites(self) -> None:
        """Let requests of sites through, now that their keys are registered.

        Raises:
            FederationSetupError: The SuperLink does not answer, or has no gate.
        """
        try:
            with httpx.Client(verify=self._verify, timeout=_PATIENCE) as client:
                client.send(self._open).raise_for_status()
        except httpx.HTTPError as error:
            raise FederationSetupError("the SuperLink does not open its gate", why=str(error)) from error

    def start(
        self, fab: bytes, fab_sha256: str, config: Mapping[str, int | float | str | bool], *, simulated: int = 0
    ) -> int:  # fmt: skip
        """Start a run of an app and return its id.

        Args:
            fab: The app's archive.
            fab_sha256: Its digest.
            config: Values that replace those in the app; every site sees them.
            simulated: Number of sites that a SuperLink of this machine simulates; 0 in a deployment.

        Raises:
            FederationSetupError: The SuperLink refuses.
        """
        request = compat.StartRunRequest(
            fab=compat.Fab(hash_str=fab_sha256, content=fab), override_config=compat.user_config_to_proto(dict(config))
        )
        if simulated:
            alone = compat.SimulationConfig(
                num_supernodes=simulated, client_resources_num_cpus=1, init_args_num_cpus=simulated
            )  # fmt: skip
            request.override_federation_config.CopyFrom(alone)
        return int(self._ask("StartRun", request).run_id)

    def state(self, run_id: int) -> RunState:
        """Return what the SuperLink says about a run: the truth, unlike the exit code of ``flwr run`` (F-26).

        Raises:
            FederationSetupError: There is no such run, or no answer.
        """
        found = self._ask("ListRuns", compat.ListRunsRequest(run_id=run_id)).run_dict
        if run_id not in found:
            raise FederationSetupError(f"the SuperLink knows no run {run_id}")
        run = found[run_id]
        ending = f":{run.status.sub_status}" if run.status.sub_status else ""
        return RunState(
            status=run.status.status + ending, details=run.status.details, bytes_down=run.bytes_sent,
            bytes_up=run.bytes_recv,
        )  # fmt: skip

    def unfinished(self) -> tuple[int, ...]:
        """Return the ids of runs that have not ended.

        Raises:
            FederationSetupError: No answer.
        """
        runs = self._ask("ListRuns", compat.ListRunsRequest()).run_dict
        return tuple(run_id for run_id, run in runs.items() if run.status.status != "finished")

    def stop(self, run_id: int) -> None:
        """End a run.

        Raises:
            FederationSetupError: The SuperLink does not answer, or it has ended already.
        """
        self._ask("StopRun", compat.StopRunRequest(run_id=run_id))

    def _ask(self, call: str, request: object) -> Any:  # noqa: ANN401 - Flower's messages have no common type here
        try:
            return getattr(self._client, call)(request)
        except httpx.HTTPStatusError as error:
            raise FederationSetupError(
                f"the SuperLink refused {call}", why=f"{error.response.status_code}: {error.response.text[:200]}"
            ) from error
        except httpx.HTTPError as error:
            raise FederationSetupError("the SuperLink does not answer", why=str(error)) from error
