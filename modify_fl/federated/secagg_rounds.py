"""``MaskedMean``: rounds of which the coordinator reads the sum only (F-28 to F-32). Experimental.

The stages are Flower's ``SecAggPlusWorkflow``, which it keeps for its old programs;
waiting for sites, quorum, deadline, checkpoints and the record of a round are those of
``GuardedFedAvg``. Single updates cannot be looked at, so what is checked is every
message's form and the norm of the mean. A broken site can spoil a round, which is
then skipped, but not the model beyond the published norm.

| event | result |
|---|---|
| an error, an unknown or second sender, another form | that site is left out: ``error``, ``duplicate``, ``form`` ... |
| fewer sites than quorum or threshold at any stage | the round is skipped |
| the mean is not finite, or longer than the published norm | the round is skipped: ``sum: too-long`` |
"""

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from modify_fl.errors import ModifyError
from modify_fl.federated.compat import ArrayRecord, ConfigRecord, Context, Grid, Message, RecordDict, Result, set_masks
from modify_fl.federated.guard import GuardedFedAvg, RoundRecord
from modify_fl.federated.records import CODES, RejectedError, Schema, instruction_content, make_record
from modify_fl.federated.secagg import FLOORS, MAX_WEIGHT, MODULUS, TARGET_RANGE, masks, quantisation_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MaskedMean", "threshold_of"]

_logger = logging.getLogger(__name__)


def threshold_of(sites: int, quorum: int) -> int:
    """Return how many of the sites are needed to unmask: more than two thirds, and a quorum (F-30)."""
    return min(sites, max(2 * sites // 3 + 1, math.ceil(FLOORS.min_threshold * sites), quorum))


class MaskedMean(GuardedFedAvg):
    """Uniform mean of masked updates."""

    def start(
        self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, timeout: float = 3600, *_: Any,  # noqa: ANN401
    ) -> Result:  # fmt: skip
        """Run rounds; every one is told to ``keep``.

        Args:
            grid: Carries messages.
            initial_arrays: Not used: the model is ``tensors``.
            num_rounds: How many.
            timeout: Longest wait for the replies of one of the four stages, seconds.

        Raises:
            FederationError: Not enough sites until the deadline (F-21).
        """
        del initial_arrays
        set_masks(masks)
        for server_round in range(1, num_rounds + 1):
            self._round(grid, server_round, timeout)
        return Result()

    def _round(self, grid: Grid, server_round: int, timeout: float) -> None:
        nodes = self._wait(grid, everybody=server_round == 1)
        exchange = _Exchange(grid, self._group(server_round), self.schema, timeout)
        counted, why = 0, ""
        try:
            mean, counted = self._mean(exchange, nodes, self.offset + server_round)
            why = self._judge(mean) if mean is not None else ""
        except ModifyError:
            raise
        except Exception:
            _logger.exception("the sum of round %d could not be read", self.offset + server_round)
            mean, why = None, "error"
        if mean is not None and not why:
            self.tensors = {name: (value.double() + mean[name]).float() for name, value in self.tensors.items()}
        skipped = mean is None or bool(why)
        record = RoundRecord(
            round=self.offset + server_round, asked=len(nodes), accepted=0 if skipped else counted,
            rejected=exchange.rejected | ({"sum": why} if why else {}), skipped=skipped,
        )  # fmt: skip
        self._keep(record, self.tensors)

    def _mean(
        self, exchange: "_Exchange", nodes: list[int], federated_round: int
    ) -> tuple[dict[str, Tensor] | None, int]:  # fmt: skip
        """Return the mean update and how many it is of; nothing where too few sites got that far."""
        from modify_fl.federated.compat import SecAggPlusWorkflow, WorkflowState  # noqa: PLC0415 - only where used

        flow = SecAggPlusWorkflow(
            1.0, threshold_of(len(nodes), self.plan.quorum) / len(nodes), max_weight=MAX_WEIGHT,
            clipping_range=self.plan.max_update_norm, quantization_range=TARGET_RANGE, modulus_range=MODULUS,
        )  # fmt: skip
        legacy, state = _Legacy(nodes), WorkflowState()
        context = _context(legacy, exchange.group)
        if not flow.setup_stage(exchange, context, state):
            return None, 0
        arrays = make_record(self.tensors)
        state.nid_to_fitins = {node: self._instruction(arrays, federated_round) for node in nodes}
        if not flow.share_keys_stage(exchange, context, state):
            return None, 0
        there = set(state.active_node_ids)  # only these share masks; Flower would wait for the secrets of all
        state.sampled_node_ids = there
        state.nid_to_neighbours = {node: state.nid_to_neighbours[node] & there for node in there}
        if not flow.collect_masked_vectors_stage(exchange, context, state):
            return None, 0
        counted = len(state.active_node_ids)
        if not flow.unmask_stage(exchange, context, state):
            return None, 0
        pairs = zip(self.schema.table, legacy.mean, strict=True)
        return {name: torch.from_numpy(value) for name, value in pairs}, counted

    def _instruction(self, arrays: ArrayRecord, federated_round: int) -> RecordDict:
        return instruction_content(
            arrays, federated_round=federated_round, run=self.run, bundle=self.plan.bundle, schema=self.schema.digest
        )

    def _judge(self, mean: dict[str, Tensor]) -> str:
        """Return what is wrong with a mean, in one word; rounding may lengthen it by a step for each value."""
        norm = float(torch.stack([value.square().sum() for value in mean.values()]).sum().sqrt())
        if not math.isfinite(norm):
            return "not-finite"
        slack = quantisation_step(self.plan) * math.sqrt(self.schema.parameters)
        return "too-long" if norm > self.plan.max_update_norm + slack else ""


def _context(legacy: "_Legacy", group: str) -> Any:  # noqa: ANN401 - Flower's own
    from modify_fl.federated.compat import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, LegacyContext  # noqa: PLC0415

    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=legacy)
    context.state[MAIN_CONFIGS_RECORD] = ConfigRecord({"current_round": group})
    context.state[MAIN_PARAMS_RECORD] = ArrayRecord()
    return context


class _Node:
    """What Flower's workflow wants to know of a site."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id


class _Legacy:
    """The strategy that Flower's workflow asks: who takes part, and where the mean goes."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = tuple(nodes)
        self.mean: list[NDArray[np.float64]] = []

    def configure_fit(self, *_: object) -> list[tuple[_Node, Any]]:
        from modify_fl.federated.compat import FitIns, Parameters  # noqa: PLC0415

        return [(_Node(node), FitIns(Parameters([], ""), {})) for node in self._nodes]

    def aggregate_fit(self, _round: object, results: list[tuple[_Node, Any]], _: object) -> tuple[None, dict[str, Any]]:
        from modify_fl.federated.compat import parameters_to_ndarrays  # noqa: PLC0415

        self.mean = parameters_to_ndarrays(results[0][1].parameters)  # every result holds the mean
        return None, {}


class _Exchange:
    """The grid as Flower's workflow uses it, with every reply looked at first."""

    def __init__(self, grid: Grid, group: str, schema: Schema, timeout: float) -> None:
        self._grid, self.group, self._schema, self._timeout = grid, group, schema, timeout
        self.rejected: dict[str, str] = {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Return the replies that keep to the form, one for a site at most."""
        del timeout
        sent = list(messages)
        asked, seen, good = {message.metadata.dst_node_id for message in sent}, set[int](), list[Message]()
        for reply in self._grid.send_and_receive(sent, timeout=self._timeout):
            sender = reply.metadata.src_node_id
            try:
                self._check(reply, asked, seen)
            except RejectedError as error:
                self.rejected.setdefault(str(sender), error.word)
                continue
            seen.add(sender)
            good.append(reply)
        for node in sorted(asked - seen):
            self.rejected.setdefault(str(node), "missing")
        return good

    def _check(self, reply: Message, asked: set[int], seen: set[int]) -> None:
        from modify_fl.federated.compat import RECORD_KEY_CONFIGS  # noqa: PLC0415

        if reply.metadata.src_node_id not in asked:
            raise RejectedError("unknown-sender")
        if reply.metadata.src_node_id in seen:
            raise RejectedError("duplicate")
        if reply.has_error():
            raise RejectedError(reply.error.reason if reply.error.reason in CODES else "error")
        if reply.metadata.group_id != self.group:
            raise RejectedError("replayed")
        told = reply.content.get(RECORD_KEY_CONFIGS)
        if not isinstance(told, ConfigRecord):
            raise RejectedError("form")
        if "masked_params" in told:
            self._check_vectors(told["masked_params"])

    def _check_vectors(self, vectors: object) -> None:
        from modify_fl.federated.compat import bytes_to_ndarray  # noqa: PLC0415

        if not isinstance(vectors, list):
            raise RejectedError("form")
        try:
            found = [bytes_to_ndarray(vector) for vector in vectors]
        except Exception as error:  # a file of numpy's that is none
            raise RejectedError("form") from error
        if [value.shape for value in found] != [(1,), *self._schema.table.values()]:
            raise RejectedError("shape")
        if any(value.dtype != np.int64 for value in found):
            raise RejectedError("type")
