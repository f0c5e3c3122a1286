"""SecAgg+ on a site: floors, then Flower's protocol around the site's answer (F-28 to F-32). Experimental.

A round is four messages: ``setup``, ``share_keys``, ``collect_masked_vectors`` with
the instruction of F-15, and ``unmask``. Only the third trains. What is masked is the
update, reply minus model, so that numbers are small and one range fits every site.

Flower's client does what its server says; the floors refuse a server that would read
a single update by asking for few shares, or for both secrets of one site. Flower
draws masks from seeds of 32 bits, which can be searched; here they are the key
stream of ChaCha20 with the whole seed.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from modify_fl.federated.compat import ArrayRecord, ConfigRecord, Context, Message, RecordDict, set_masks
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.policy import SecAggRule
from modify_fl.federated.records import RefusedError

__all__ = ["FLOORS", "MAX_WEIGHT", "MODULUS", "TARGET_RANGE", "answer_masked", "masks", "quantisation_step"]

FLOORS = SecAggRule(required=False, min_participants=3, min_threshold=0.67)
"""What holds where a policy says nothing else (F-30)."""
TARGET_RANGE = 1 << 22
"""Steps into which the range of a value is divided."""
MODULUS = 1 << 32
"""Of all masked sums."""
MAX_WEIGHT = 1.0
"""All sites weigh 1 (P-28)."""

_ARRAYS = "arrays"


def quantisation_step(plan: FederationPlan) -> float:
    """Return the distance of two values of an update that can be told apart after masking.

    No value of an update is larger than its norm, so ``max_update_norm`` is the
    clipping range: nothing is ever cut off.
    """
    return 2 * plan.max_update_norm / TARGET_RANGE


def answer_masked(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message], *, plan: FederationPlan,
    floors: SecAggRule = FLOORS,
) -> Message:  # fmt: skip
    """Return the reply to one of the four messages of a masked round.

    Args:
        message: From the coordinator.
        context: Keeps the secrets of a round in memory, from message to message.
        call_next: Answers the instruction of F-15.
        plan: The accepted numbers.
        floors: What the round must have.

    Raises:
        RefusedError: ``policy``, the coordinator asks for less than the floors, or for an update in clear.
        Error: Whatever the protocol or the training raises.
    """
    from modify_fl.federated.compat import secaggplus_mod  # noqa: PLC0415 - Flower's old programs, only where used

    set_masks(masks)
    _check(message.content, message.metadata.dst_node_id, plan, floors)
    reply: Message = secaggplus_mod(message, context, lambda sent, at: _update(sent, at, call_next))
    return reply


def _update(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Return what the protocol masks: reply minus model, float64, with weight 1."""
    from modify_fl.federated.compat import (  # noqa: PLC0415
        RECORD_KEY_CONFIGS,
        Code,
        FitRes,
        Status,
        fitres_to_recorddict,
        ndarrays_to_parameters,
    )

    del message.content[RECORD_KEY_CONFIGS]
    sent = message.content[_ARRAYS]
    reply = call_next(message, context).content[_ARRAYS]
    assert isinstance(sent, ArrayRecord) and isinstance(reply, ArrayRecord)  # noqa: S101, PT018 - see ``Site``
    updates = [value.numpy().astype(np.float64) - sent[name].numpy() for name, value in reply.items()]
    made = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(updates), num_examples=1, metrics={})
    return Message(fitres_to_recorddict(made, keep_input=False), reply_to=message)


def masks(seed: bytes, modulus: int, shapes: list[tuple[int, ...]]) -> list[NDArray[np.int64]]:
    """Return uniform numbers below 2^32, the same for the same seed.

    Args:
        seed: A secret; all of it counts.
        modulus: 2^32.
        shapes: Of the arrays.
    """
    if modulus != MODULUS:
        raise ValueError(f"masks are drawn below 2^32, not {modulus}")
    key = hashlib.sha256(b"modify-fl secagg mask\0" + seed).digest()
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    drawn = []
    for shape in shapes:
        count = int(np.prod(shape))
        drawn.append(np.frombuffer(stream.update(bytes(4 * count)), "<u4").astype(np.int64).reshape(shape))
    return drawn


# Floors -------------------------------------------------------------------------------


def _check(content: RecordDict, node: int, plan: FederationPlan, floors: SecAggRule) -> None:
    """Refuse what the floors do not allow, before any secret is made or told (F-30)."""
    from modify_fl.federated.compat import RECORD_KEY_CONFIGS  # noqa: PLC0415

    asked = content.get(RECORD_KEY_CONFIGS)
    if not isinstance(asked, ConfigRecord):
        raise RefusedError("policy", "the message asks for an update that is not masked")
    stage = asked.get("stage")
    if stage == "setup":
        _check_setup(asked, plan, floors)
    elif stage == "share_keys":
        _require(len(asked) - 1 >= floors.min_participants, f"keys of {len(asked) - 1} sites")
    elif stage == "collect_masked_vectors":
        others = _distinct(asked, "srcs")
        _require(node not in others and len(others) + 1 >= floors.min_participants, f"shares of {len(others)} others")
    elif stage == "unmask":
        active, dead = _distinct(asked, "active_nids"), _distinct(asked, "dead_nids")
        _require(not active & dead, "both secrets of one site are asked for")
        _require(node in active and len(active) >= floors.min_participants, f"a sum of {len(active)} sites")
    else:
        raise RefusedError("policy", f"there is no stage {stage!r}")


def _check_setup(asked: ConfigRecord, plan: FederationPlan, floors: SecAggRule) -> None:
    fixed = {
        "stage": "setup", "clipping_range": plan.max_update_norm, "target_range": TARGET_RANGE, "mod_range": MODULUS,
        "max_weight": MAX_WEIGHT,
    }  # fmt: skip
    counted = ("sample_num", "share_num", "threshold")
    _require(set(asked) == {*fixed, *counted}, f"the setup holds {sorted(asked)}")
    for name, value in fixed.items():
        _require(type(asked[name]) is type(value) and asked[name] == value, f"{name} {asked[name]!r}, not {value!r}")
    sites, shares, threshold = (asked[name] for name in counted)
    if not (type(sites) is int and type(shares) is int and type(threshold) is int):
        raise RefusedError("policy", "numbers of sites, shares or the threshold are no whole numbers")
    least = floors.min_participants
    _require(sites >= least and least <= shares <= sites, f"{shares} shares of {sites} sites, {least} allowed")
    enough = 3 * threshold > 2 * shares and threshold >= floors.min_threshold * shares
    _require(enough and threshold <= shares, f"{threshold} of {shares} shares unmask")


def _distinct(asked: ConfigRecord, name: str) -> set[int]:
    found = asked.get(name)
    if not isinstance(found, list) or not all(type(one) is int for one in found) or len(set(found)) < len(found):
        raise RefusedError("policy", f"{name} is no list of different sites")
    return {int(one) for one in found}


def _require(condition: bool, why: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise RefusedError("policy", f"secure aggregation: {why}")
