"""F-15, F-16: nothing travels but the trained tensors and four facts, and both sides look."""

from typing import Any

import numpy as np
import pytest
import torch

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Subset
from modify_fl.federated.compat import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from modify_fl.federated.records import (
    CODES,
    RefusedError,
    RejectedError,
    Schema,
    instruction_content,
    make_record,
    read_instruction,
    read_reply,
    reply_content,
)

SUBSETS: tuple[Subset, ...] = ("heads", "lora", "all")


@pytest.fixture(scope="session")
def schema(style: LoadedStyle) -> Schema:
    return Schema.of(style, "heads")


def tensors(schema: Schema, value: float = 0.5) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, value) for name, shape in schema.table.items()}


def instruction(style: LoadedStyle, schema: Schema, **changes: Any) -> RecordDict:
    content = instruction_content(
        make_record(tensors(schema)), federated_round=3, run="r", bundle=style.digest, schema=schema.digest
    )
    config = content["config"]
    assert isinstance(config, ConfigRecord)
    for name, value in changes.items():
        config[name] = value
    return content


def reply(schema: Schema, **records: Any) -> RecordDict:
    content = reply_content(tensors(schema))
    for name, value in records.items():
        content[name] = value
    return content


def test_what_was_sent_arrives(style: LoadedStyle, schema: Schema) -> None:
    read = read_instruction(instruction(style, schema), schema=schema, bundle=style.digest)
    assert (read.round, read.run, list(read.tensors)) == (3, "r", sorted(schema.table))
    assert all(torch.equal(value, tensors(schema)[name]) for name, value in read.tensors.items())
    assert list(read_reply(reply(schema), schema)) == list(schema.table)


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_table_is_that_of_the_signed_bundle(style: LoadedStyle, subset: Subset) -> None:
    table = Schema.of(style, subset).table
    known = {name: info.shape for file in style.manifest.model.weights for name, info in file.tensors.items()}
    if subset == "lora":
        assert all(shape == (known[name.replace(".up.", ".")][0], 8) for name, shape in table.items())
    else:
        assert all(shape == known[name] and name in style.manifest.model.trainable for name, shape in table.items())
    assert (set(table) == set(style.manifest.model.trainable)) == (subset == "all")


def test_each_subset_has_its_digest(style: LoadedStyle) -> None:
    assert len({Schema.of(style, subset).digest for subset in SUBSETS}) == 3


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bundle_payload_sha256": "0" * 64}, "bundle_mismatch"),
        ({"adapter_schema": "0" * 64}, "bundle_mismatch"),
        ({"round": "3"}, "policy"),
        ({"round": True}, "policy"),
        ({"noise_multiplier": 0.0}, "policy"),  # F-10, P-7
        ({"steps": 10_000}, "policy"),
        ({"photos": "/etc"}, "policy"),
        ({"server-round": 3}, "policy"),
    ],
)
def test_a_coordinator_that_asks_for_more_is_refused(
    style: LoadedStyle, schema: Schema, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        read_instruction(instruction(style, schema, **changes), schema=schema, bundle=style.digest)
    assert caught.value.word == word
    assert word in CODES


def test_a_message_with_another_record_or_without_one_is_refused(style: LoadedStyle, schema: Schema) -> None:
    more = instruction(style, schema)
    more["code"] = ConfigRecord({"source": "print(1)"})
    less = instruction(style, schema)
    del less["config"]
    mixed = instruction(style, schema)
    mixed["config"] = MetricRecord({"round": 3})
    for content in (more, less, mixed):
        with pytest.raises(RefusedError) as caught:
            read_instruction(content, schema=schema, bundle=style.digest)
        assert caught.value.word == "policy"


def test_a_coordinator_that_asks_for_other_tensors_is_refused(style: LoadedStyle, schema: Schema) -> None:
    content = instruction(style, schema)
    content["arrays"] = make_record(tensors(Schema.of(style, "all")))
    with pytest.raises(RefusedError) as caught:
        read_instruction(content, schema=schema, bundle=style.digest)
    assert caught.value.word == "bundle_mismatch"


def broken(schema: Schema, change: Any) -> RecordDict:
    record = make_record(tensors(schema))
    name = next(iter(record))
    record[name] = change(record[name])
    return reply(schema, arrays=record)


def rename(schema: Schema) -> RecordDict:
    record = make_record(tensors(schema))
    record["other"] = record.pop(next(iter(record)))
    return reply(schema, arrays=record)


def reorder(schema: Schema) -> RecordDict:
    record = make_record(tensors(schema))
    return reply(schema, arrays=ArrayRecord(dict(reversed(record.items()))))


def without(schema: Schema, name: str) -> RecordDict:
    content = reply(schema)
    del content[name]
    return content


def raw(array: Array, **changes: Any) -> Array:
    parts = {"dtype": array.dtype, "shape": tuple(array.shape), "stype": array.stype, "data": array.data} | changes
    return Array(*parts.values())


def bad(array: Array, value: float) -> Array:
    values = array.numpy().copy()
    values.flat[0] = value
    return Array(values)


BROKEN = {
    "records": [
        lambda s: without(s, "metrics"),
        lambda s: without(s, "arrays"),
        lambda s: reply(s, more=MetricRecord({"num-examples": 1})),
        lambda s: reply(s, more=make_record(tensors(s))),
        lambda s: reply(s, more=ConfigRecord({"path": "/home/ann"})),
    ],
    "weight": [
        lambda s: reply(s, metrics=MetricRecord({})),
        lambda s: reply(s, metrics=MetricRecord({"num-examples": 0})),
        lambda s: reply(s, metrics=MetricRecord({"num-examples": -1})),
        lambda s: reply(s, metrics=MetricRecord({"num-examples": 10**12})),
        lambda s: reply(s, metrics=MetricRecord({"num-examples": [1]})),
        lambda s: reply(s, metrics=MetricRecord({"num-examples": float("nan")})),
    ],
    "names": [rename, reorder, lambda s: reply(s, arrays=ArrayRecord())],
    "shape": [lambda s: broken(s, lambda a: Array(a.numpy()[..., :1]))],
    "type": [
        lambda s: broken(s, lambda a: Array(a.numpy().astype(np.float64))),
        lambda s: broken(s, lambda a: Array(a.numpy().astype(np.float16))),
        lambda s: broken(s, lambda a: raw(a, stype="pickle")),
    ],
    "bytes": [
        lambda s: broken(s, lambda a: raw(a, data=a.data[:-1])),
        lambda s: broken(s, lambda a: raw(a, data=a.data + b"0")),
        lambda s: broken(s, lambda a: raw(a, data=b"PK" + a.data[2:])),
        lambda s: broken(s, lambda a: raw(a, data=Array(a.numpy().astype(np.float64)).data)),
        lambda s: broken(s, lambda a: raw(a, data=b"")),
    ],
    "not-finite": [
        lambda s: broken(s, lambda a: bad(a, float("nan"))),
        lambda s: broken(s, lambda a: bad(a, float("inf"))),
    ],
}


@pytest.mark.parametrize(("word", "at"), [(word, at) for word, makers in BROKEN.items() for at in range(len(makers))])
def test_a_broken_reply_is_rejected_with_its_reason(schema: Schema, word: str, at: int) -> None:
    with pytest.raises(RejectedError) as caught:
        read_reply(BROKEN[word][at](schema), schema)
    assert caught.value.word == word


def test_a_further_metric_is_dropped(schema: Schema) -> None:
    read = read_reply(reply(schema, metrics=MetricRecord({"num-examples": 1, "loss": 0.3})), schema)
    assert list(read) == list(schema.table)
