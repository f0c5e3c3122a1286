"""Sites that answer at once, and a grid with faults (F-34)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modify_fl.artifacts import LoadedStyle
from modify_fl.federated.client_app import make_client_app
from modify_fl.federated.compat import ClientApp, Message
from modify_fl.federated.guard import RoundRecord
from modify_fl.federated.local_grid import Carried, LocalGrid
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.records import Instruction, Schema
from modify_fl.federated.rounds import Finished, run_rounds
from modify_fl.federated.site import Site, Training
from modify_fl.federated.tensors import Shortened
from modify_fl.privacy.release import Reply
from modify_fl.privacy.statement import no_guarantee

if TYPE_CHECKING:
    from torch import Tensor

NODES = (11, 12, 13)


def plan_for(style: LoadedStyle, **changes: object) -> FederationPlan:
    """A plan for three sites and two short rounds."""
    schema = Schema.of(style, changes.get("subset", "heads"))  # type: ignore[arg-type]
    fields: dict[str, object] = {
        "bundle": style.digest, "adapter_schema": schema.digest, "fab_sha256": "0" * 64, "subset": "heads",
        "rounds": 2, "local_steps": 2, "max_update_norm": 1e6, "sites": 3, "wait_seconds": 0.2, "round_seconds": 60.0,
    }  # fmt: skip
    return FederationPlan(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class Shift:
    """Training that adds a number to every value, and does as it is told by a test."""

    by: float
    style: LoadedStyle
    asked: list[Instruction] = field(default_factory=list)

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, None]:
        self.asked.append(instruction)
        tensors: Mapping[str, Tensor] = {name: value + self.by for name, value in instruction.tensors.items()}
        reply = Reply(
            tensors=tensors, bundle=self.style.digest, round=instruction.round, settings={},
            statement=no_guarantee("a test"),
        )  # fmt: skip
        return reply, Shortened(tensors=tensors, norm=0.0, kept=0.0), None


@dataclass
class Bench:
    """Three sites, their grid, and what was told."""

    style: LoadedStyle
    plan: FederationPlan
    folder: Path
    trainings: dict[int, Training]
    told: list[RoundRecord] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    complaints: list[Exception] = field(default_factory=list)
    grid: "Faulty" = field(init=False)

    def __post_init__(self) -> None:
        sites = {node: Site(self.style, self.plan, training) for node, training in self.trainings.items()}
        app = make_client_app(lambda context: sites[context.node_id], self.complaints.append)
        self.grid = Faulty(app, tuple(self.trainings), watch=self.carried.append)

    def run(self, **options: object) -> Finished:
        return run_rounds(self.grid, self.plan, self.style, self.folder, tell=self.told.append, **options)  # type: ignore[arg-type]


class Faulty(LocalGrid):
    """A grid on which a test may take nodes away and replace replies."""

    def __init__(self, app: ClientApp, nodes: tuple[int, ...], **options: object) -> None:
        super().__init__(app, nodes, **options)  # type: ignore[arg-type]
        self.there: Callable[[], Iterable[int]] = lambda: nodes
        self.change: Callable[[Message], Iterable[Message]] = lambda reply: (reply,)

    def online(self) -> Iterable[int]:
        return self.there()

    def disturb(self, reply: Message) -> Iterable[Message]:
        return self.change(reply)


def bench(style: LoadedStyle, folder: Path, **changes: object) -> Bench:
    """Three sites that add 1, 2 and 3."""
    shifts: dict[int, Training] = {node: Shift(float(at), style) for at, node in enumerate(NODES, start=1)}
    return Bench(style=style, plan=plan_for(style, **changes), folder=folder, trainings=shifts)
