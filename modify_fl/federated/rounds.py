"""The coordinator's loop: rounds from the newest checkpoint to the last one (F-20, F-22, F-23).

After every round the model and what became of the round are on the disk, in a
folder that appears whole or not at all; a run that was cut short repeats at most
one round, under a new run id. No state of any site, and nothing about photos or
noise, is in it.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import ConfigError, FederationError
from modify_fl.federated.compat import Grid
from modify_fl.federated.guard import GuardedFedAvg, RoundRecord
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.records import Schema, make_record
from modify_fl.federated.secagg_rounds import MaskedMean
from modify_fl.federated.tensors import first_tensors
from modify_fl.training import checkpoint
from modify_fl.training.checkpoint import Checkpoint
from modify_fl.training.loop import differences, run_lock

__all__ = ["Finished", "Tell", "finished_rounds", "run_rounds"]

Tell = Callable[[RoundRecord], None]
"""Told about every round when it is on the disk."""

_GROUP = "model"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Rounds that are on the disk."""

    tensors: Mapping[str, Tensor]
    """The model after the last of them, by the names under which it travels."""
    rounds: tuple[RoundRecord, ...]
    """What became of each."""
    run: str
    """Id of the run that made the last one."""

    @property
    def skipped(self) -> tuple[int, ...]:
        """Rounds that left the model as it was."""
        return tuple(record.round for record in self.rounds if record.skipped)

    def require_result(self) -> None:
        """Refuse a model that no round has changed (F-20).

        Raises:
            FederationError: There is no successful round.
        """
        if len(self.skipped) == len(self.rounds):
            words = sorted({word for record in self.rounds for word in record.rejected.values()})
            raise FederationError(
                "no round came about, and the model is unchanged",
                why=f"replies that did not count: {', '.join(words) or 'none came'}",
                fix="look into the logs of the sites, then start anew with --fresh",
            )


def run_rounds(
    grid: Grid, plan: FederationPlan, style: LoadedStyle, folder: Path, *, tell: Tell,
    nodes: Mapping[int, str] | None = None,
) -> Finished:  # fmt: skip
    """Run the rounds that are missing in ``folder``.

    Args:
        grid: Carries messages to sites and back.
        plan: The public numbers.
        style: The verified bundle of the plan.
        folder: The coordinator's, kept from run to run.
        tell: Told about every round.
        nodes: Name of every node that may take part; anyone where omitted.

    Returns:
        All rounds of the plan.

    Raises:
        ConfigError: The folder belongs to another plan or bundle, or another process works in it.
        FederationError: Too few sites until the deadline (F-21).
    """
    schema = Schema.of(style, plan.subset)
    _require_same("bundle", plan.bundle, style.digest)
    _require_same("adapter_schema", plan.adapter_schema, schema.digest)
    with run_lock(folder):
        done, run = finished_rounds(folder, plan), str(uuid.uuid4())
        start = done.tensors if done else first_tensors(style, plan.subset)
        records = list(done.rounds) if done else []

        def keep(record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
            records.append(record)
            _save(folder, plan, run, records, tensors)
            tell(record)

        if len(records) < plan.rounds:
            chosen = MaskedMean if plan.secagg else GuardedFedAvg
            strategy = chosen(plan, schema, start, run=run, offset=len(records), keep=keep, nodes=nodes)
            strategy.start(grid, make_record(start), num_rounds=plan.rounds - len(records), timeout=plan.round_seconds)
        found = finished_rounds(folder, plan)
    if found is None or len(found.rounds) < plan.rounds:
        raise FederationError("the run ended before its last round")
    return found


def finished_rounds(folder: Path, plan: FederationPlan) -> Finished | None:
    """Return what is on the disk; nothing before the end of the first round.

    Raises:
        ConfigError: It belongs to another plan or bundle (F-23).
        DataError: It cannot be read.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        return None
    if found := differences(saved.values["plan"], json.loads(plan.to_bytes()), "plan"):
        raise ConfigError(
            "this run was started with another plan", why="; ".join(found),
            fix="repeat the old numbers to go on, or start anew with --fresh",
        )  # fmt: skip
    rows: list[dict[str, object]] = saved.values["rounds"]  # type: ignore[assignment]
    records = tuple(RoundRecord(**(row | {"norms": tuple(row["norms"])})) for row in rows)  # type: ignore[arg-type]
    return Finished(tensors=saved.tensors[_GROUP], rounds=records, run=str(saved.values["run"]))


def _save(
    folder: Path, plan: FederationPlan, run: str, records: list[RoundRecord], tensors: Mapping[str, Tensor]
) -> None:  # fmt: skip
    strategy = MaskedMean if plan.secagg else GuardedFedAvg
    values = {
        "plan": json.loads(plan.to_bytes()), "run": run, "strategy": strategy.__name__,
        "rounds": [asdict(record) for record in records],
    }  # fmt: skip
    checkpoint.save(folder, Checkpoint(step=records[-1].round, tensors={_GROUP: tensors}, values=values))


def _require_same(name: str, planned: str, got: str) -> None:
    if planned != got:
        raise ConfigError(
            "the plan was made for another style", why=f"{name} differs", expected=planned, got=got,
            fix="name the bundle that was planned for, or plan anew",
        )  # fmt: skip
