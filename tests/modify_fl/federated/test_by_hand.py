"""``flwr run`` on the app's folder: the settings of the run choose photos in a simulation, and nowhere else (F-10)."""

import os
from pathlib import Path
from typing import Any

import pytest
from programs import draw_photos

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import ConfigError
from modify_fl.federated.by_hand import client_app, coordinator_by_hand
from modify_fl.federated.compat import Context, Message, MessageType, RecordDict, TaskIdentity
from modify_fl.federated.coordinator import Coordinator
from modify_fl.federated.plan import read_plan
from modify_fl.federated.records import Schema, instruction_content, make_record, read_reply
from modify_fl.federated.tensors import first_tensors
from protocol.provider import read_provider_key
from protocol.trust import TrustStore


@pytest.fixture
def settings(studio: Path, tmp_path: Path) -> dict[str, Any]:
    TrustStore.default().add(read_provider_key(studio / "keys" / "studio.mdfykey"), label="Studio", roles=("style",))
    folders = [draw_photos(tmp_path / name, 2, first=10 * at) for at, name in enumerate(("north", "south"))]
    return {
        "bundle": str(studio / "style.mdfy"), "sites": os.pathsep.join(map(str, folders)), "plan": "",
        "out": str(tmp_path / "f.mdfa.run"), "num-server-rounds": 2, "local-steps": 1, "subset": "heads",
        "fedprox-mu": 0.0, "quorum": 0, "align": False, "seed": 0,
    }  # fmt: skip


def context(settings: dict[str, Any], **node: int) -> Context:
    return Context(1, 7, {name.replace("_", "-"): value for name, value in node.items()}, RecordDict(), settings)


def asked(side: Coordinator) -> Message:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    schema = Schema.of(side.style, side.plan.subset)
    content = instruction_content(
        make_record(first_tensors(side.style, side.plan.subset)), federated_round=1, run="r",
        bundle=side.plan.bundle, schema=schema.digest,
    )  # fmt: skip
    return Message(content, 7, MessageType.TRAIN)


def test_coordinator_and_partition_agree_on_a_plan_and_train(settings: dict[str, Any], style: LoadedStyle) -> None:
    side = coordinator_by_hand(context(settings))
    assert (side.plan.rounds, side.plan.local_steps, side.plan.sites, side.plan.quorum) == (2, 1, 2, 2)
    assert read_plan(side.folder) == side.plan  # so the program can sign what the run makes
    reply = client_app(asked(side), context(settings, partition_id=1, num_partitions=2))
    assert set(read_reply(reply.content, Schema.of(style, "heads"))) == set(Schema.of(style, "heads").table)


def test_a_plan_takes_the_place_of_numbers(settings: dict[str, Any], tmp_path: Path) -> None:
    first = coordinator_by_hand(context(settings | {"local-steps": 9}))
    second = coordinator_by_hand(context(settings | {"plan": str(first.folder / "plan.json")}))
    assert second.plan == first.plan


def test_a_node_of_a_real_federation_reads_no_setting(settings: dict[str, Any]) -> None:
    side = coordinator_by_hand(context(settings))
    reply = client_app(asked(side), context(settings))
    assert (reply.has_content(), reply.error.reason) == (False, "policy")


@pytest.mark.parametrize("name", ["bundle", "sites", "out"])
def test_a_missing_setting_is_named(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"the run has no {name}"):
        coordinator_by_hand(context(settings | {name: ""}))
