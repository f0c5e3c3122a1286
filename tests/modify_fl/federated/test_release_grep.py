"""F-4, F-38: what is carried holds tensors and four facts, and no name is looked up."""

import socket
from pathlib import Path
from typing import Any

import pytest
from fedkit import NODES, bench

from modify_fl.artifacts import LoadedStyle
from modify_fl.federated.compat import ArrayRecord, ConfigRecord, MetricRecord, ProtoMessage, message_from_proto
from modify_fl.federated.records import WEIGHT, Schema


def test_messages_differ_from_the_schema_in_no_field(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    desk.run()
    schema = Schema.of(style, "heads")
    assert len(desk.carried) == 2 * 2 * len(NODES)
    for carried in desk.carried:
        message = message_from_proto(ProtoMessage.FromString(carried.data))
        content = message.content
        arrays = content["arrays"]
        assert isinstance(arrays, ArrayRecord)
        assert {name: tuple(array.shape) for name, array in arrays.items()} == dict(schema.table)
        if carried.way == "down":
            config = content["config"]
            assert isinstance(config, ConfigRecord)
            assert set(content) == {"arrays", "config"}
            assert set(config) == {"round", "run", "bundle_payload_sha256", "adapter_schema"}
        else:
            assert set(content) == {"arrays", "metrics"}
            assert content["metrics"] == MetricRecord({WEIGHT: 1})


@pytest.mark.parametrize("raises", [False, True])
def test_no_path_no_host_no_loss_and_no_count_is_sent(raises: bool, style: LoadedStyle, tmp_path: Path) -> None:
    """Photos are many, their folder has a name, and so has the machine: none of it is in what a site sends."""
    desk = bench(style, tmp_path / "holiday-photos", quorum=1)
    if raises:

        def fail(_: object) -> Any:
            message = f"loss 0.1234 of 4711 photos in {desk.folder} on {socket.gethostname()}"
            raise ValueError(message)

        for training in list(desk.trainings.values())[1:]:
            training.answer = fail  # type: ignore[method-assign]
    desk.run()
    sent = b"".join(carried.data for carried in desk.carried if carried.way == "up")
    words = ("holiday-photos", "/tmp", "/home", "4711", "0.1234", "loss", "ValueError", "Traceback", ".png", ".jpg")
    found = [word for word in (*words, socket.gethostname()) if word.encode() in sent]
    assert found == []


def test_bytes_are_those_of_the_tensors_and_a_header_each(style: LoadedStyle, tmp_path: Path) -> None:
    """Section 10: at most 2 x 4 P x 1.02 + 64 KiB for a site and round, both ways."""
    desk = bench(style, tmp_path, rounds=1)
    desk.run()
    values = Schema.of(style, "heads").parameters
    carried = sum(len(message.data) for message in desk.carried if message.node == NODES[0])
    assert 2 * 4 * values < carried <= 2 * 4 * values * 1.02 + 65536


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real = socket.getaddrinfo

    def watch(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in {"127.0.0.1", "::1", "localhost", None}:
            names.append(str(host))
            raise OSError("no name is looked up here")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", watch)
    return names


def test_rounds_look_up_no_name(style: LoadedStyle, tmp_path: Path, looked_up: list[str]) -> None:
    from modify_fl.federated import compat
    from modify_fl.federated.fab import fab_bytes

    compat.check()  # imports every part of Flower that this package uses
    fab_bytes()
    bench(style, tmp_path).run()
    assert looked_up == []


def test_the_watch_sees_a_look_up(looked_up: list[str]) -> None:
    with pytest.raises(OSError, match="no name"):
        socket.create_connection(("telemetry.example", 443), timeout=1)
    assert looked_up == ["telemetry.example"]
