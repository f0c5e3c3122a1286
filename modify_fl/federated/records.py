"""What travels between coordinator and site, made and checked (F-15, F-16).

Down: the trained tensors, and a table of exactly four entries. Up: the trained
tensors, and the constant weight 1. Names, order, shapes, types and finiteness are
checked on both sides against the table of the signed bundle; whatever else a message
holds refuses it. Nothing of the sender's is ever executed or unpickled.

Letters: O rows of a linear layer, r rank of its update.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Subset
from modify_fl.errors import ModifyError
from modify_fl.federated.compat import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from modify_fl.networks.lora import LORA_RANK
from modify_fl.training.subsets import trainable_names
from protocol.canonical import dump_json
from protocol.errors import problem

__all__ = [
    "CODES",
    "WEIGHT",
    "Instruction",
    "RefusedError",
    "RejectedError",
    "Schema",
    "instruction_content",
    "make_record",
    "read_instruction",
    "read_reply",
    "reply_content",
]

CODES = ("train_failed", "data_missing", "budget", "policy", "bundle_mismatch", "busy")
"""All that a coordinator is told about why a site does not answer (F-11)."""

WEIGHT = "num-examples"
"""Name of the one number that goes up; its value is 1 (P-28)."""

_ARRAYS, _CONFIG, _METRICS = "arrays", "config", "metrics"
_NPY = "numpy.ndarray"
_RUN_LONGEST = 64


class RefusedError(ModifyError):
    """A site does not do what it was asked for; only ``word`` leaves it (F-11)."""

    code = "E_REFUSED"
    exit_code = 14
    hint = "look into the log of the site"

    def __init__(self, word: str, why: str) -> None:
        """Keep the word that goes out and the reason that stays.

        Args:
            word: One of ``CODES``.
            why: For the log of the site.
        """
        super().__init__(f"refused: {word}", why=why)
        self.word = word


class RejectedError(ModifyError):
    """The coordinator does not count a reply; ``word`` is the reason (F-19)."""

    code = "E_REJECTED"
    exit_code = 14
    hint = "look into the log of the coordinator"

    def __init__(self, word: str) -> None:
        """Keep the reason: one word."""
        super().__init__(f"reply rejected: {word}")
        self.word = word


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Names and shapes of the tensors that travel, in order."""

    table: Mapping[str, tuple[int, ...]]
    """Shape by name, sorted by name; all float32."""

    @classmethod
    def of(cls, style: LoadedStyle, subset: Subset) -> "Schema":
        """Return what travels when ``subset`` of the encoder of ``style`` is trained (M-38).

        Updates of low rank travel as their trained factor B, ``<layer>.up.weight``
        [O, r]: the other factor follows from the bundle, so the mean of B is the mean
        of the updates.

        Raises:
            TensorError: The bundle does not let this tensor be trained.
            ConfigError: The encoder has no such part.
        """
        known = {name: info.shape for file in style.manifest.model.weights for name, info in file.tensors.items()}
        table: dict[str, tuple[int, ...]] = {}
        for short in trainable_names(style.model.encoder, subset):
            name = f"encoder.{short}"
            if name not in style.manifest.model.trainable:
                raise problem("E_TENSOR_SHAPE", member=name, detail="not trainable")
            if subset == "lora":
                table[f"{name.removesuffix('.weight')}.up.weight"] = (known[name][0], LORA_RANK)
            else:
                table[name] = tuple(known[name])
        return cls(table=dict(sorted(table.items())))

    @property
    def digest(self) -> str:
        """SHA-256 over names and shapes, hex: ``adapter_schema`` of a message."""
        return hashlib.sha256(dump_json({name: list(shape) for name, shape in self.table.items()})).hexdigest()

    @property
    def parameters(self) -> int:
        """Number of values that travel."""
        return sum(int(np.prod(shape)) for shape in self.table.values())


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A train message, checked."""

    tensors: Mapping[str, Tensor]
    """The model of this round."""
    round: int
    """From 1."""
    run: str
    """Id of the run, 1 to 64 characters."""


# Making -----------------------------------------------------------------------


def make_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return tensors as Flower carries them, float32, sorted by name."""
    return ArrayRecord({name: Array(_plain(tensors[name])) for name in sorted(tensors)})


def _plain(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def instruction_content(arrays: ArrayRecord, *, federated_round: int, run: str, bundle: str, schema: str) -> RecordDict:
    """Return the content of a train message (F-15).

    Args:
        arrays: The model of this round.
        federated_round: From 1.
        run: Id of the run.
        bundle: Payload digest of the style.
        schema: Digest of ``Schema``.
    """
    config = ConfigRecord(
        {"round": federated_round, "run": run, "bundle_payload_sha256": bundle, "adapter_schema": schema}
    )
    return RecordDict({_ARRAYS: arrays, _CONFIG: config})


def reply_content(tensors: Mapping[str, Tensor]) -> RecordDict:
    """Return the content of a reply: the tensors, and weight 1 (F-15, P-28)."""
    return RecordDict({_ARRAYS: make_record(tensors), _METRICS: MetricRecord({WEIGHT: 1})})


# Checking ---------------------------------------------------------------------


def read_instruction(content: RecordDict, *, schema: Schema, bundle: str) -> Instruction:
    """Check a train message; the site does this before it looks at any photo (F-10, F-16).

    Raises:
        RefusedError: ``bundle_mismatch``, it is about another bundle or other tensors;
            ``policy``, it holds anything that a coordinator has no say in.
    """
    if set(content) != {_ARRAYS, _CONFIG}:
        raise RefusedError("policy", f"the message holds the records {sorted(content)}")
    arrays, config = content[_ARRAYS], content[_CONFIG]
    if not isinstance(arrays, ArrayRecord) or not isinstance(config, ConfigRecord):
        raise RefusedError("policy", "a record of the message is of another kind")
    expected = {"round": int, "run": str, "bundle_payload_sha256": str, "adapter_schema": str}
    if {name: type(value) for name, value in config.items()} != expected:
        raise RefusedError("policy", f"the message asks for {sorted(config)}, a round is told {sorted(expected)}")
    if config["bundle_payload_sha256"] != bundle:
        raise RefusedError("bundle_mismatch", f"the message is about bundle {config['bundle_payload_sha256']!r}")
    if config["adapter_schema"] != schema.digest:
        raise RefusedError("bundle_mismatch", "the message is about other tensors")
    run = str(config["run"])
    if not 0 < len(run) <= _RUN_LONGEST:  # it is compared with the ids in the site's log, which holds them whole
        raise RefusedError("policy", f"the id of the run has {len(run)} characters, {_RUN_LONGEST} at most")
    try:
        tensors = _read_arrays(arrays, schema)
    except RejectedError as error:
        raise RefusedError("bundle_mismatch", f"the tensors do not fit the bundle: {error.word}") from error
    return Instruction(tensors=tensors, round=int(str(config["round"])), run=run)


def read_reply(content: RecordDict, schema: Schema) -> dict[str, Tensor]:
    """Check a reply; the coordinator does this before anything is added up (F-16, F-19).

    Metrics beside the weight are dropped.

    Returns:
        float32 tensors by name, finite, in the order of ``schema``.

    Raises:
        RejectedError: Its word says which rule is broken.
    """
    if len(content.array_records) != 1 or len(content.metric_records) != 1 or len(content) != 2:
        raise RejectedError("records")
    arrays, metrics = content.get(_ARRAYS), content.get(_METRICS)
    if not isinstance(arrays, ArrayRecord) or not isinstance(metrics, MetricRecord):
        raise RejectedError("records")
    weight = metrics.get(WEIGHT)
    if isinstance(weight, list) or weight != 1:
        raise RejectedError("weight")
    return _read_arrays(arrays, schema)


def _read_arrays(arrays: ArrayRecord, schema: Schema) -> dict[str, Tensor]:
    if list(arrays) != list(schema.table):
        raise RejectedError("names")
    return {name: _read_array(array, schema.table[name]) for name, array in arrays.items()}


def _read_array(array: Array, shape: tuple[int, ...]) -> Tensor:
    """Return one tensor; what it says of itself and how its bytes begin is compared, not parsed."""
    if array.dtype != "float32" or array.stype != _NPY:
        raise RejectedError("type")
    if tuple(array.shape) != shape:
        raise RejectedError("shape")
    header = _header(shape)
    if len(array.data) != len(header) + 4 * int(np.prod(shape)) or not array.data.startswith(header):
        raise RejectedError("bytes")
    values = np.frombuffer(array.data, "<f4", offset=len(header)).reshape(shape)
    if not np.isfinite(values).all():
        raise RejectedError("not-finite")
    return torch.from_numpy(values.astype(np.float32))  # a copy: bytes cannot be written to


def _header(shape: tuple[int, ...]) -> bytes:
    """Return what stands before the values of a float32 array in numpy's file format: nothing is left to parse."""
    stream = BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()
