"""F-19 to F-23 and section 7: a broken, slow or hostile site does not spoil a round; a run goes on where it ended."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from fedkit import NODES, Bench, bench

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import ConfigError, FederationError, InterruptedRunError
from modify_fl.federated.compat import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from modify_fl.federated.records import WEIGHT, Schema
from modify_fl.federated.rounds import finished_rounds, run_rounds
from modify_fl.federated.tensors import first_tensors, merged_tensors

Change = Callable[[Message], Iterable[Message]]


def moved(desk: Bench) -> float:
    """How far each value has moved since the start, which is the same for all."""
    start, done = first_tensors(desk.style, desk.plan.subset), finished_rounds(desk.folder, desk.plan)
    assert done is not None
    found = torch.cat([(done.tensors[name] - value).flatten() for name, value in start.items()])
    assert all(value.dtype == torch.float32 for value in done.tensors.values())
    assert float(found.max() - found.min()) < 1e-4
    return float(found.mean())


def of(node: int, change: Change) -> Change:
    """Apply ``change`` to replies of one node."""
    return lambda reply: change(reply) if reply.metadata.src_node_id == node else (reply,)


def content(change: Callable[[RecordDict], object]) -> Change:
    def apply(reply: Message) -> Iterable[Message]:
        change(reply.content)
        return (reply,)

    return apply


def arrays(change: Callable[[str, np.ndarray], np.ndarray | None]) -> Change:  # type: ignore[type-arg]
    """Replace or drop arrays."""

    def apply(record: RecordDict) -> None:
        old = record["arrays"]
        assert isinstance(old, ArrayRecord)
        new = {name: change(name, value.numpy().copy()) for name, value in old.items()}
        record["arrays"] = ArrayRecord({name: Array(value) for name, value in new.items() if value is not None})

    return content(apply)


def test_the_mean_of_all_sites_is_the_next_model(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    done = desk.run()
    assert moved(desk) == pytest.approx(2 * (1 + 2 + 3) / 3)
    assert [(record.round, record.asked, record.accepted) for record in done.rounds] == [(1, 3, 3), (2, 3, 3)]
    assert done.skipped == ()
    assert desk.told == list(done.rounds)


def test_exactly_one_message_goes_to_each_site_in_a_round(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    desk.run()
    assert [(sent.way, sent.node) for sent in desk.carried] == [
        (way, node) for _ in range(2) for node in NODES for way in ("down", "up")
    ]


def test_memory_does_not_hold_two_replies(style: LoadedStyle, tmp_path: Path) -> None:
    """Each site answers when the one before it has been added up."""
    desk = bench(style, tmp_path)
    assert not isinstance(desk.grid.send_and_receive([]), list)


BAD: dict[str, tuple[str, Change]] = {
    "another name": ("names", content(lambda r: r["arrays"].update({"x": Array(np.zeros(1, np.float32))}))),
    "a name too few": ("names", arrays(lambda name, v: None if name.endswith("0.bias") else v)),
    "another shape": ("shape", arrays(lambda _, v: v[..., :1])),
    "no weight": ("weight", content(lambda r: r["metrics"].clear())),
    "weight 1e12": ("weight", content(lambda r: r.update({"metrics": MetricRecord({WEIGHT: 10**12})}))),
    "weight 0": ("weight", content(lambda r: r.update({"metrics": MetricRecord({WEIGHT: 0})}))),
    "weight -1": ("weight", content(lambda r: r.update({"metrics": MetricRecord({WEIGHT: -1.0})}))),
    "two array records": ("records", content(lambda r: r.update({"more": r["arrays"]}))),
    "two metric records": ("records", content(lambda r: r.update({"more": MetricRecord({WEIGHT: 1})}))),
    "a config record": ("records", content(lambda r: r.update({"config": ConfigRecord({"a": 1})}))),
    "NaN": ("not-finite", arrays(lambda _, v: v * np.float32("nan"))),
    "Inf": ("not-finite", arrays(lambda _, v: v + np.float32("inf"))),
    "float64": ("type", arrays(lambda _, v: v.astype(np.float64))),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_does_not_count_and_the_round_goes_on(name: str, style: LoadedStyle, tmp_path: Path) -> None:
    word, change = BAD[name]
    desk = bench(style, tmp_path, quorum=2, rounds=1)
    desk.grid.change = of(13, change)
    done = desk.run()
    assert moved(desk) == pytest.approx((1 + 2) / 2)
    assert done.rounds[0].rejected == {"13": word}
    assert done.rounds[0].accepted == 2


def test_an_extra_metric_is_dropped_and_the_reply_counts(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, rounds=1)
    desk.grid.change = of(13, content(lambda r: r["metrics"].update({"loss": 0.3})))
    assert desk.run().rounds[0].accepted == 3
    assert moved(desk) == pytest.approx(2.0)
    assert b"loss" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_long_update_is_shortened_to_the_published_norm(style: LoadedStyle, tmp_path: Path) -> None:
    count = Schema.of(style, "heads").parameters
    bound = 3 * count**0.5  # the longest honest update: 3 for every value
    desk = bench(style, tmp_path, rounds=1, max_update_norm=bound * 1.0001)
    start = first_tensors(style, "heads")
    desk.grid.change = of(13, arrays(lambda name, v: start[name].numpy() + 100 * (v - start[name].numpy())))
    done = desk.run()
    assert moved(desk) == pytest.approx((1 + 2 + 3) / 3, rel=1e-3)
    assert done.rounds[0].norms[-1] == pytest.approx(100 * bound, rel=1e-3)


def test_a_site_that_raises_tells_one_word_and_no_path(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2, rounds=1)

    def raising(_: object) -> None:
        raise OSError(2, "No such file or directory", "/home/ann/photos/IMG_0042.jpg")

    desk.trainings[13].answer = raising  # type: ignore[method-assign, assignment]
    done = desk.run()
    assert done.rounds[0].rejected == {"13": "train_failed"}
    sent = b"".join(message.data for message in desk.carried)
    assert b"IMG_0042" not in sent
    assert b"OSError" not in sent
    assert "IMG_0042" in str(desk.complaints[0])


def test_an_error_in_words_is_never_repeated(style: LoadedStyle, tmp_path: Path) -> None:
    """A site with other software may send what it likes; the coordinator's files hold known words only."""
    from modify_fl.federated.compat import Error

    desk = bench(style, tmp_path, quorum=2, rounds=1)
    asked: list[Message] = []
    desk.grid.change = of(13, lambda reply: (Message(Error(0, "/etc/passwd"), reply_to=asked.pop()),))
    handle = desk.grid._handle

    def keep(message: Message, node: int) -> Message:
        asked[:] = [message]
        return handle(message, node)

    desk.grid._handle = keep  # type: ignore[method-assign]
    assert desk.run().rounds[0].rejected == {"13": "error"}


def test_a_reply_is_counted_once(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, rounds=1)
    desk.grid.change = of(13, lambda reply: (reply, reply, reply))
    done = desk.run()
    assert moved(desk) == pytest.approx(2.0)
    assert done.rounds[0].rejected == {"13": "duplicate"}


def test_a_reply_of_an_earlier_round_is_refused(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2)
    kept: list[Message] = []

    def replay(reply: Message) -> Iterable[Message]:
        kept.append(reply)
        return (kept[0],)

    desk.grid.change = of(13, replay)
    done = desk.run()
    assert done.rounds[0].rejected == {}
    assert done.rounds[1].rejected == {"13": "replayed"}
    assert moved(desk) == pytest.approx((1 + 2 + 3) / 3 + (1 + 2) / 2)


def test_a_reply_in_the_name_of_a_node_that_was_not_asked_is_refused(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2, rounds=1)

    def disguise(reply: Message) -> Iterable[Message]:
        reply.metadata.__dict__["_src_node_id"] = 99
        return (reply,)

    desk.grid.change = of(13, disguise)
    assert desk.run().rounds[0].rejected == {"99": "unknown-sender", "13": "missing"}


def test_nodes_that_are_not_on_the_list_are_not_asked(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, sites=2, quorum=2, rounds=1)
    desk.run(nodes={11: "north", 12: "south"})
    assert {sent.node for sent in desk.carried} == {11, 12}


def test_a_late_or_lost_reply_is_missing(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2, rounds=1)
    desk.grid.change = of(13, lambda _: ())
    assert desk.run().rounds[0].rejected == {"13": "missing"}


def test_a_slow_site_is_late(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2, rounds=1, round_seconds=2.0)
    answer = desk.trainings[13].answer

    def slow(instruction: object) -> object:
        import time

        time.sleep(2.2)
        return answer(instruction)  # type: ignore[arg-type]

    desk.trainings[13].answer = slow  # type: ignore[method-assign, assignment]
    assert desk.run().rounds[0].rejected == {"13": "missing"}


# Quorum and waiting ---------------------------------------------------------------------


def test_below_the_quorum_a_round_is_skipped_and_the_model_stays(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    lost = iter([True, False])
    desk.grid.change = of(13, lambda reply: () if next(lost) else (reply,))
    done = desk.run()
    assert done.skipped == (1,)
    assert (done.rounds[0].accepted, done.rounds[0].rejected) == (0, {"13": "missing"})
    assert moved(desk) == pytest.approx(2.0)  # the second round alone
    done.require_result()


@pytest.mark.parametrize("lost", [True, False])
def test_every_site_failing_is_an_error_and_the_model_is_unchanged(
    lost: bool, style: LoadedStyle, tmp_path: Path
) -> None:
    desk = bench(style, tmp_path)

    def raising(_: object) -> None:
        raise MemoryError

    for training in desk.trainings.values():
        training.answer = raising  # type: ignore[method-assign, assignment]
    desk.grid.change = lambda reply: () if lost else (reply,)
    done = desk.run()
    word = "missing" if lost else "train_failed"
    assert done.rounds[1].rejected == dict.fromkeys(("11", "12", "13"), word)
    assert done.skipped == (1, 2)
    assert moved(desk) == 0.0
    with pytest.raises(FederationError, match="no round came about") as caught:
        done.require_result()
    assert caught.value.exit_code == 14


def test_a_quorum_that_is_never_reached_ends_with_an_error(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    desk.grid.there = lambda: (11, 12)
    with pytest.raises(FederationError, match=r"2 of 3 sites came within 0\.2 s, 3 are needed") as caught:
        desk.run(nodes={11: "north", 12: "south", 13: "west"})
    assert caught.value.exit_code == 14
    assert caught.value.why == "missing: west"
    assert finished_rounds(tmp_path, desk.plan) is None


def test_after_the_deadline_a_quorum_is_enough(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2)
    desk.grid.there = lambda: (11, 12)
    assert [record.asked for record in desk.run().rounds] == [2, 2]


def test_a_node_that_goes_away_and_comes_back_takes_part_again(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path, quorum=2, rounds=3)
    desk.grid.there = lambda: (11, 12) if len(desk.told) == 1 else NODES
    assert [record.asked for record in desk.run().rounds] == [3, 2, 3]


# Going on -----------------------------------------------------------------------------


class _Stop:
    """Ends the run when the third site is asked in a given round."""

    def __init__(self, desk: Bench, at: int, error: BaseException) -> None:
        self.desk, self.at, self.error = desk, at, error

    def __call__(self, node: int) -> None:
        if node == 13 and len(self.desk.told) == self.at:
            raise self.error


@pytest.mark.parametrize("error", [InterruptedRunError("stopped"), RuntimeError("the coordinator broke")])
def test_a_run_that_ended_in_a_round_repeats_that_round(
    error: Exception, style: LoadedStyle, tmp_path: Path
) -> None:  # fmt: skip
    desk = bench(style, tmp_path / "cut", rounds=3)
    desk.grid._before = _Stop(desk, 1, error)
    with pytest.raises(type(error)):
        desk.run()
    assert [record.round for record in desk.told] == [1]
    again = bench(style, tmp_path / "cut", rounds=3)
    done = again.run()
    assert [record.round for record in again.told] == [2, 3]
    assert [record.round for record in done.rounds] == [1, 2, 3]
    asked = [instruction.round for instruction in again.trainings[11].asked]  # type: ignore[attr-defined]
    assert asked == [2, 3]
    whole = bench(style, tmp_path / "whole", rounds=3).run()
    assert all(torch.equal(value, whole.tensors[name]) for name, value in done.tensors.items())


def test_a_resumed_run_has_another_id_so_its_replies_are_its_own(style: LoadedStyle, tmp_path: Path) -> None:
    first = bench(style, tmp_path, rounds=2)
    first.grid._before = _Stop(first, 1, RuntimeError())
    with pytest.raises(RuntimeError):
        first.run()
    again = bench(style, tmp_path, rounds=2)
    again.run()
    runs = {i.run for desk in (first, again) for i in desk.trainings[11].asked}  # type: ignore[attr-defined]
    assert len(runs) == 2


def test_a_finished_run_asks_nobody_again(style: LoadedStyle, tmp_path: Path) -> None:
    done = bench(style, tmp_path).run()
    again = bench(style, tmp_path)
    assert again.run().rounds == done.rounds
    assert again.carried == []


def test_another_plan_or_bundle_does_not_go_on(style: LoadedStyle, tmp_path: Path) -> None:
    bench(style, tmp_path).run()
    with pytest.raises(ConfigError, match="another plan") as caught:
        bench(style, tmp_path, local_steps=9).run()
    assert "plan.local_steps was 2, now 9" in caught.value.why
    for change in ({"bundle": "f" * 64}, {"adapter_schema": "f" * 64}):
        with pytest.raises(ConfigError, match="another style"):
            bench(style, tmp_path / "other", **change).run()


def test_a_checkpoint_holds_the_model_and_words_and_nothing_else(style: LoadedStyle, tmp_path: Path) -> None:
    desk = bench(style, tmp_path)
    desk.run()
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "state.json", "current", "lock"}


def test_a_second_coordinator_in_the_same_folder_is_refused(style: LoadedStyle, tmp_path: Path) -> None:
    desk, other = bench(style, tmp_path), bench(style, tmp_path)
    refused: list[ConfigError] = []

    def start(_: int) -> None:
        if not refused:
            with pytest.raises(ConfigError, match="another process") as caught:
                run_rounds(other.grid, other.plan, style, tmp_path, tell=lambda _: None)
            refused.append(caught.value)

    desk.grid._before = start
    desk.run()
    assert refused


def test_the_result_fits_the_bundle(style: LoadedStyle, tmp_path: Path) -> None:
    done = bench(style, tmp_path).run()
    merged = merged_tensors(style, "heads", done.tensors)
    state = style.model.encoder.state_dict()
    assert all(torch.allclose(value, state[name] + 4, atol=1e-5) for name, value in merged.items())
