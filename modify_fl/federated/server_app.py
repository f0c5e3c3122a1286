"""The ServerApp: rounds over whatever grid Flower gives it (F-14).

``app`` is what the archive of the Flower app names. Started by ``style-provider
federate serve`` it finds the coordinator's folder in its environment; started by
``flwr run`` by hand it reads the run's own settings (``by_hand``).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from modify_fl.federated.compat import Context, Grid, ServerApp
from modify_fl.federated.coordinator_folder import COORDINATOR_VARIABLE, CoordinatorFolder
from modify_fl.federated.guard import RoundRecord
from modify_fl.federated.journal import append
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.rounds import Tell, run_rounds
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["Coordinator", "app", "coordinator_of", "make_server_app"]


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


def coordinator_of(folder: CoordinatorFolder) -> Coordinator:
    """Return what a run needs, from the folder of a coordinator.

    Raises:
        FederationSetupError: The kit is not whole.
        ProtocolError: The bundle is not acceptable.
    """
    settings, kit = folder.settings(), folder.kit()
    trust = TrustStore.of(read_provider_key(Path(settings.provider)))
    with open_bundle(Path(settings.bundle), trust=trust, now=datetime.now(UTC)) as bundle:
        style = load_style(bundle, record=False)

    def tell(record: RoundRecord) -> None:
        append(
            folder.journal, "round", round=record.round, asked=record.asked, accepted=record.accepted,
            skipped=record.skipped, rejected=" ".join(f"{node}:{word}" for node, word in record.rejected.items()),
            longest=max(record.norms, default=0.0),
        )  # fmt: skip

    return Coordinator(plan=kit.plan, style=style, folder=folder.rounds, tell=tell, nodes=folder.nodes() or None)


def _find(context: Context) -> Coordinator:
    if folder := os.environ.get(COORDINATOR_VARIABLE):
        return coordinator_of(CoordinatorFolder(Path(folder)))
    from modify_fl.federated.by_hand import coordinator_by_hand  # noqa: PLC0415 - not for a deployment

    return coordinator_by_hand(context)


app = make_server_app(_find)
"""The ServerApp of the Flower app."""
