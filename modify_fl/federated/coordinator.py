"""The coordinator's side of a run, and the ServerApp of it: rounds over whatever grid Flower gives it (F-14)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.federated.compat import Context, Grid, ServerApp
from modify_fl.federated.guard import RoundRecord
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.rounds import Tell, run_rounds

__all__ = ["Coordinator", "make_server_app"]


def _silent(record: RoundRecord) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """What the coordinator's side of a run needs."""

    plan: FederationPlan
    """The public numbers."""
    style: LoadedStyle
    """The verified bundle of the plan."""
    folder: Path
    """Home of the checkpoints."""
    tell: Tell = _silent
    """Told about every round."""
    nodes: Mapping[int, str] | None = None
    """Name of every node that may take part; anyone where omitted."""


def make_server_app(find: Callable[[Context], Coordinator]) -> ServerApp:
    """Return the ServerApp.

    Args:
        find: Returns what a run needs; called once a run.
    """
    made = ServerApp()

    @made.main()
    def main(grid: Grid, context: Context) -> None:
        side = find(context)
        run_rounds(grid, side.plan, side.style, side.folder, tell=side.tell, nodes=side.nodes)

    return made
