"""``GuardedFedAvg``: the mean of what sites send, with every reply looked at first (F-19 to F-21).

A reply that breaks a rule does not count, with a reason, and the round goes on; one
that is too long is shortened. Below the quorum the round is skipped and the model
stays. Replies are added up one by one and forgotten, so memory does not grow with
the number of sites.

| reply | result |
|---|---|
| an error, or text instead of a known word | rejected: the word, or ``error`` |
| from a node that was not asked, or is not on the list | rejected: ``unknown-sender`` |
| a second one of a node, or one of another round or run | rejected: ``duplicate``, ``replayed`` |
| other records, names, shapes, types; a value that is not finite; another weight than 1 | rejected: see ``records`` |
| longer than the published norm | counts, shortened to it |
| none until the deadline | ``missing`` |
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modify_fl.errors import FederationError
from modify_fl.federated.compat import ArrayRecord, ConfigRecord, Grid, Message, MessageType, MetricRecord, Strategy
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.records import CODES, RejectedError, Schema, instruction_content, make_record, read_reply
from modify_fl.federated.tensors import shortened

__all__ = ["GuardedFedAvg", "RoundRecord"]

_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What became of one round."""

    round: int
    """From 1."""
    asked: int
    """Sites that got the message."""
    accepted: int
    """Replies that count; 0 where the round was skipped."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Reason by node, one word each."""
    norms: tuple[float, ...] = ()
    """Norm of each accepted update before it was shortened, ascending: no order tells whose it was."""
    skipped: bool = False
    """Whether the model stayed as it was."""


Keep = Callable[[RoundRecord, Mapping[str, Tensor]], None]
"""Puts a round and the model after it on the disk."""


class GuardedFedAvg(Strategy):
    """Uniform mean behind a guard; the only strategy of version 1."""

    def __init__(
        self, plan: FederationPlan, schema: Schema, start: Mapping[str, Tensor], *, run: str, offset: int = 0,
        keep: Keep, nodes: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        """Begin with a model.

        Args:
            plan: The public numbers.
            schema: What travels.
            start: The model before the next round.
            run: Id of this run.
            offset: Rounds of earlier runs, since Flower counts from 1 at each start (F-23).
            keep: Called at the end of every round.
            nodes: Name of every node that may take part; anyone where omitted.
        """
        self.plan, self.schema, self.run, self.offset = plan, schema, run, offset
        self.tensors = dict(start)
        self._keep, self._nodes, self._asked = keep, nodes, frozenset[int]()

    def summary(self) -> None:
        """Say nothing: the log of the run does."""

    # Down -------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:  # fmt: skip
        """Wait for sites, and return one message for each.

        Raises:
            FederationError: Not enough sites until the deadline (F-21).
        """
        del config  # nothing goes down but what F-15 lists
        federated_round = self.offset + server_round
        nodes = self._wait(grid, everybody=server_round == 1)
        content = instruction_content(
            arrays, federated_round=federated_round, run=self.run, bundle=self.plan.bundle, schema=self.schema.digest
        )
        self._asked = frozenset(nodes)
        return [
            Message(content, node, MessageType.TRAIN, ttl=self.plan.round_seconds, group_id=self._group(server_round))
            for node in nodes
        ]

    def _group(self, server_round: int) -> str:
        return f"{self.run}/{self.offset + server_round}"

    def _wait(self, grid: Grid, *, everybody: bool) -> list[int]:
        """Return the nodes that are there: all before the first round or after the deadline, a quorum later on."""
        deadline = time.monotonic() + self.plan.wait_seconds
        while True:
            there = sorted(node for node in grid.get_node_ids() if self._nodes is None or node in self._nodes)
            if len(there) >= (self.plan.sites if everybody else self.plan.quorum):
                return there
            if time.monotonic() >= deadline:
                break
            time.sleep(min(_POLL_SECONDS, self.plan.wait_seconds / 10))
        if len(there) >= self.plan.quorum:
            return there
        missing = ", ".join(sorted(name for node, name in (self._nodes or {}).items() if node not in there))
        raise FederationError(
            f"{len(there)} of {self.plan.sites} sites came within {self.plan.wait_seconds:g} s, "
            f"{self.plan.quorum} are needed",
            why=f"missing: {missing}" if missing else "no other site has connected",
            fix="start the sites, then run the command again to go on",
        )

    # Up ---------------------------------------------------------------------------

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:  # fmt: skip
        """Add up the replies that count, and keep the round."""
        total = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in self.schema.table.items()}
        norms: list[float] = []
        rejected: dict[str, str] = {}
        seen: set[int] = set()
        for reply in replies:
            sender = reply.metadata.src_node_id
            try:
                tensors = self._accept(reply, self._group(server_round), seen)
            except RejectedError as error:
                rejected.setdefault(str(sender), error.word)
                continue
            seen.add(sender)
            update = shortened(tensors, self.tensors, self.plan.max_update_norm)
            norms.append(update.norm)
            for name, value in update.tensors.items():
                total[name] += value.double() - self.tensors[name].double()
        answered = seen | {int(node) for node in rejected}
        rejected |= {str(node): "missing" for node in sorted(self._asked - answered)}
        enough = len(norms) >= self.plan.quorum
        if enough:
            self.tensors = {
                name: (value.double() + total[name] / len(norms)).float() for name, value in self.tensors.items()
            }
        record = RoundRecord(
            round=self.offset + server_round, asked=len(self._asked), accepted=len(norms) if enough else 0,
            rejected=rejected, norms=tuple(sorted(norms)), skipped=not enough,
        )  # fmt: skip
        self._keep(record, self.tensors)
        return (make_record(self.tensors) if enough else None), None

    def _accept(self, reply: Message, group: str, seen: set[int]) -> dict[str, Tensor]:
        """Return the tensors of a reply that counts.

        Raises:
            RejectedError: It does not.
        """
        sender = reply.metadata.src_node_id
        if reply.has_error():
            said = reply.error.reason
            raise RejectedError(said if said in CODES else "error")
        if sender not in self._asked:
            raise RejectedError("unknown-sender")
        if sender in seen:
            raise RejectedError("duplicate")
        if reply.metadata.group_id != group:
            raise RejectedError("replayed")
        if not reply.has_content():
            raise RejectedError("records")
        return read_reply(reply.content, self.schema)

    # Evaluation is on public data at the coordinator (F-14) --------------------------

    def configure_evaluate(self, *_: object) -> Iterable[Message]:
        """Ask nobody (F-14)."""
        return []

    def aggregate_evaluate(self, *_: object) -> MetricRecord | None:
        """Return nothing (F-14)."""
        return None
