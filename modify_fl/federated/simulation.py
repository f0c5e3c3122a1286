"""All roles of a federation in one process (F-34): the same plan, apps, guard and gate as over a network.

Sites take their turns with one set of networks; a round depends on what a site is
sent and on its own photos and seed alone, so a turn leaves nothing behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Subset
from modify_fl.data import ImageSet
from modify_fl.errors import InterruptedRunError
from modify_fl.federated.client_app import make_client_app
from modify_fl.federated.compat import Context, RecordDict, check, quiet
from modify_fl.federated.coordinator import Coordinator, make_server_app
from modify_fl.federated.fab import FAB_SHA256
from modify_fl.federated.local_grid import Carried, LocalGrid
from modify_fl.federated.plan import FederationPlan, PrivatePlan, update_norm
from modify_fl.federated.records import Instruction, Schema
from modify_fl.federated.rounds import Finished, Tell, finished_rounds
from modify_fl.federated.site import Held, OpenTraining, PrivateTraining, Site, Training
from modify_fl.federated.tensors import Shortened
from modify_fl.privacy.release import Reply
from modify_fl.training.interrupt import StopRequest
from modify_fl.training.views import PhotoUnits

__all__ = ["OpenSite", "PrivateSite", "Traffic", "plan_simulation", "simulate"]

_QUORUM = 3


def plan_simulation(
    style: LoadedStyle, *, sites: int, subset: Subset, rounds: int, local_steps: int, batch: int,
    learning_rate: float, fedprox_mu: float = 0.0, max_update_norm: float | None = None, quorum: int | None = None,
    private: PrivatePlan | None = None, secagg: bool = False,
) -> FederationPlan:  # fmt: skip
    """Return a plan for sites of this process; arguments as the fields of ``FederationPlan``.

    Raises:
        ConfigError: A number makes no sense.
    """
    schema = Schema.of(style, subset)
    longest = max_update_norm or update_norm(
        learning_rate=learning_rate, local_steps=local_steps, parameters=schema.parameters
    )
    return FederationPlan(
        bundle=style.digest, adapter_schema=schema.digest, fab_sha256=FAB_SHA256, subset=subset, rounds=rounds,
        local_steps=local_steps, batch=batch, learning_rate=learning_rate, fedprox_mu=fedprox_mu,
        max_update_norm=longest, sites=sites, quorum=quorum or min(_QUORUM, sites), wait_seconds=120.0,
        round_seconds=86400.0, private=private, secagg=secagg,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OpenSite:
    """The turn of a site without privacy."""

    training: OpenTraining
    """Shared by all sites."""
    photos: ImageSet
    """The site's own."""
    seed: int
    """The site's own."""

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, None]:
        """See ``Training``."""
        self.training.turn_to(self.photos, self.seed)
        return self.training.answer(instruction)


@dataclass(frozen=True, kw_only=True)
class PrivateSite:
    """The turn of a site with differential privacy."""

    training: PrivateTraining
    """Shared by all sites."""
    units: PhotoUnits
    """The site's own photos."""
    hold: Held
    """Holds the site's own vault."""

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, float]:
        """See ``Training``."""
        self.training.turn_to(self.units, self.hold)
        return self.training.answer(instruction)


@dataclass(kw_only=True)
class Traffic:
    """Bytes that were carried, as Flower writes them."""

    down: int = 0
    """From the coordinator to all sites."""
    up: int = 0
    """From all sites."""

    def count(self, carried: Carried) -> None:
        """Add a message."""
        if carried.way == "down":
            self.down += len(carried.data)
        else:
            self.up += len(carried.data)


def simulate(
    style: LoadedStyle, plan: FederationPlan, sites: Sequence[Training], folder: Path, *, tell: Tell,
    complain: Callable[[int, Exception], None], watch: Callable[[Carried], None] = lambda _: None,
) -> Finished:  # fmt: skip
    """Run the rounds that are missing in ``folder`` with sites of this process.

    Args:
        style: The verified bundle.
        plan: The public numbers.
        sites: Trains for each site.
        folder: Home of the checkpoints.
        tell: Told about every round.
        complain: Told number (from 1) and exception of a site that does not answer.
        watch: Sees every message.

    Returns:
        All rounds of the plan.

    Raises:
        FederationSetupError: Flower is not the version this package was written for (F-3).
        InterruptedRunError: A signal asked for a stop; the same call repeats the round.
        ConfigError, FederationError: See ``run_rounds``.
    """
    check()
    quiet()
    ready = {node: Site(style, plan, training) for node, training in enumerate(sites, start=1)}
    turn = [0]

    def find(context: Context) -> Site:
        turn[0] = context.node_id
        return ready[context.node_id]

    with StopRequest() as stop:

        def before(_: int) -> None:
            if stop.requested:
                done = finished_rounds(folder, plan)
                raise InterruptedRunError(
                    f"stopped after {len(done.rounds) if done else 0} rounds", why="a signal asked for it"
                )

        app = make_client_app(find, lambda error: complain(turn[0], error))
        grid = LocalGrid(app, tuple(ready), watch=watch, before=before)
        side = Coordinator(plan=plan, style=style, folder=folder, tell=tell)
        make_server_app(lambda _: side)(grid, Context(1, 0, {}, RecordDict(), {}))
    found = finished_rounds(folder, plan)
    assert found is not None  # noqa: S101 - the server app ends after the last round
    return found
