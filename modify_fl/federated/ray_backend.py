"""``--backend ray``: the same app in Flower's own simulation, whose sites are Ray's processes.

A SuperLink of this command's own (F-5, F-27) runs the archive of the Flower app; the
rounds are in the same folder and by the same plan as with ``--backend local``.
"""

import os
import secrets
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from modify_fl.errors import FederationError, InterruptedRunError, MissingPackageError
from modify_fl.federated.compat import check
from modify_fl.federated.control import Control, RunState
from modify_fl.federated.fab import FAB_SHA256, fab_bytes
from modify_fl.federated.flower_process import SECRET
from modify_fl.federated.plan import PLAN_FILE, FederationPlan
from modify_fl.federated.processes import Child, child_environment, free_port, python_words, start, write_programs
from modify_fl.training.interrupt import StopRequest

__all__ = ["require_ray", "run_with_ray"]

_HOST = "127.0.0.1"
_POLL = 3.0
_PROCESS = "modify_fl.federated.flower_process"


def require_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        MissingPackageError: It is not installed.
    """
    if find_spec("ray") is None:
        raise MissingPackageError(
            "Ray is not installed", why="--backend ray is Flower's own simulation, which needs it",
            fix='pip install "modify-fl[ray]", or use --backend local',
        )  # fmt: skip


def run_with_ray(
    plan: FederationPlan, folder: Path, *, bundle: Path, sites: Sequence[Path], align: bool, seed: int
) -> None:
    """Run the rounds that are missing in ``folder``.

    Args:
        plan: The public numbers; ``plan.json`` is in ``folder``.
        folder: Home of the checkpoints.
        bundle: The style, accepted by this user.
        sites: Photos of each site.
        align: Whether faces are found and aligned first.
        seed: A site's own is this plus its number.

    Raises:
        MissingPackageError: Ray is not installed.
        FederationSetupError: Flower is another version, or its SuperLink does not start.
        FederationError: The run did not end as completed.
        InterruptedRunError: A signal asked for a stop.
    """
    require_ray()
    check()
    folder = folder.resolve()
    config: dict[str, int | float | str | bool] = {
        "plan": str(folder / PLAN_FILE), "out": str(folder), "bundle": str(bundle.resolve()),
        "sites": os.pathsep.join(str(site.resolve()) for site in sites), "align": align, "seed": seed,
    }  # fmt: skip
    secret, port = secrets.token_hex(32), free_port(_HOST)
    child = _superlink(folder, port, secret)
    try:
        with Control(f"{_HOST}:{port}", None, secret) as control, StopRequest() as stop:
            control.wait_until_up(lambda: child.alive)
            run = control.start(fab_bytes(), FAB_SHA256, config, simulated=plan.sites)
            state = _wait(control, run, child, stop)
    finally:
        child.end()
    if not state.completed:
        raise FederationError("the simulation did not end as completed", why=f"{state.status} {state.details}".strip(),
                              fix=f"look into {child.log}")  # fmt: skip


def _superlink(folder: Path, port: int, secret: str) -> Child:
    home, programs = folder / "flower", folder / "bin"
    started = {
        "flower-superexec": python_words(_PROCESS, "superexec"),
        "flwr-simulation": python_words(_PROCESS, "simulation"),
    }
    write_programs(programs, started, log=folder / "flower.log")
    words = python_words(
        _PROCESS, "superlink", "--insecure", "--simulation", "--isolation", "subprocess", "--host", _HOST, "--port",
        str(port), "--disable-runtime-dependency-installation",
    )  # fmt: skip
    more = {
        SECRET: secret,
        "PATH": os.pathsep.join((str(programs), "/usr/bin", "/bin")),  # Ray calls programs of the system
    }
    return start(
        "SuperLink", words, environment=child_environment(home, programs, more), log=folder / "flower.log",
        cwd=folder,
    )  # fmt: skip


def _wait(control: Control, run: int, child: Child, stop: StopRequest) -> RunState:
    while True:
        state = control.state(run)
        if state.finished:
            return state
        if stop.requested:
            control.stop(run)
            raise InterruptedRunError("stopped", why="a signal asked for it")
        if not child.alive:
            raise FederationError("the SuperLink ended", fix=f"look into {child.log}")
        time.sleep(_POLL)
