"""F-28 to F-32: masked rounds give the plain mean, nobody sees a single update, and a site keeps its floors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fedkit import Bench, plan_for
from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import ConfigError, FederationError
from modify_fl.federated.compat import ConfigRecord, Context, Message, ProtoMessage, RecordDict, message_from_proto
from modify_fl.federated.local_grid import Carried
from modify_fl.federated.records import Instruction, RefusedError
from modify_fl.federated.secagg import FLOORS, MODULUS, TARGET_RANGE, answer_masked, masks, quantisation_step
from modify_fl.federated.secagg_rounds import threshold_of
from modify_fl.federated.tensors import Shortened, first_tensors
from modify_fl.privacy.release import Reply
from modify_fl.privacy.statement import no_guarantee

CONFIGS = "secaggplus_configs"
LENGTH = 0.5


@dataclass
class Random:
    """Training whose update is random, of a given length, and the same in every round."""

    seed: int
    style: LoadedStyle
    length: float = LENGTH

    def update(self, start: dict[str, Tensor]) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(self.seed)
        made = {name: torch.randn(value.shape, generator=draw) for name, value in start.items()}
        norm = torch.cat([value.flatten() for value in made.values()]).norm()
        return {name: value * (self.length / norm) for name, value in made.items()}

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, None]:
        update = self.update(dict(instruction.tensors))
        tensors = {name: value + update[name] for name, value in instruction.tensors.items()}
        reply = Reply(
            tensors=tensors, bundle=self.style.digest, round=instruction.round, settings={},
            statement=no_guarantee("a test"),
        )  # fmt: skip
        return reply, Shortened(tensors=tensors, norm=self.length, kept=self.length), None


def desk_of(style: LoadedStyle, folder: Path, sites: int, **changes: object) -> Bench:
    fields = {"secagg": True, "rounds": 1, "sites": sites, "max_update_norm": 1.0}
    trainings = {10 + at: Random(at, style) for at in range(1, sites + 1)}
    return Bench(style=style, plan=plan_for(style, **(fields | changes)), folder=folder, trainings=trainings)  # type: ignore[arg-type]


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)]).double()


def mean_of(desk: Bench, nodes: Iterable[int]) -> Tensor:
    """The plain mean of the updates of these sites."""
    start = first_tensors(desk.style, "heads")
    return torch.stack([flat(desk.trainings[node].update(start)) for node in nodes]).mean(0)  # type: ignore[attr-defined]


def stage_of(content: RecordDict) -> str:
    """Which of the four replies it is."""
    told = content[CONFIGS]
    assert isinstance(told, ConfigRecord)
    return next(stage for name, stage in _KEYS.items() if name in told)


_KEYS = {"pk1": "setup", "ctxts": "share_keys", "masked_params": "collect", "nids": "unmask"}


def lost(node: int, stage: str) -> Callable[[Message], Iterable[Message]]:
    """One site is gone from a stage on."""
    gone: list[bool] = []

    def change(reply: Message) -> Iterable[Message]:
        if reply.metadata.src_node_id == node and (gone or stage_of(reply.content) == stage):
            gone.append(True)
            return ()
        return (reply,)

    return change


def check_mean(desk: Bench, nodes: Iterable[int]) -> None:
    done = desk.run()
    got = flat(dict(done.tensors)) - flat(first_tensors(desk.style, "heads"))
    error = float((got - mean_of(desk, nodes)).abs().max())
    assert error <= 1e-3
    assert error <= 2 * quantisation_step(desk.plan)
    assert float(got.norm()) > 0.1 * LENGTH  # something was added
    assert all(value.dtype == torch.float32 for value in done.tensors.values())


def test_three_sites_give_the_plain_mean(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3)
    check_mean(desk, (11, 12, 13))
    assert [(told.asked, told.accepted, told.skipped, told.norms) for told in desk.told] == [(3, 3, False, ())]
    assert desk.complaints == []


@pytest.mark.parametrize("stage", ["setup", "share_keys", "collect", "unmask"])
def test_one_of_five_sites_may_drop_out_at_any_stage(stage: str, style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 5)
    desk.grid.change = lost(13, stage)
    counted = (11, 12, 13, 14, 15) if stage == "unmask" else (11, 12, 14, 15)
    check_mean(desk, counted)  # who drops out after its vector is in the sum stays in it
    assert desk.told[0].accepted == len(counted)
    assert desk.told[0].rejected == {"13": "missing"}


def test_rounds_go_on_from_the_mean_and_after_a_break(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3, rounds=2)
    done = desk.run()
    got = flat(dict(done.tensors)) - flat(first_tensors(style, "heads"))
    assert float((got - 2 * mean_of(desk, (11, 12, 13))).abs().max()) <= 4 * quantisation_step(desk.plan)
    assert desk.run().rounds == done.rounds  # nothing is left to do
    assert [told.round for told in desk.told] == [1, 2]


# Nobody sees one update ------------------------------------------------------------------


def numbers(carried: Carried) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Every array that can be read out of a message, from wherever it stands."""
    from modify_fl.federated.compat import bytes_to_ndarray

    found = []
    content = message_from_proto(ProtoMessage.FromString(carried.data)).content
    for record in content.array_records.values():
        found += [array.numpy().ravel().astype(float) for array in record.values() if array.data]
    for config in content.config_records.values():
        for value in config.values():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, bytes) and part.startswith(b"\x93NUMPY"):
                    found.append(bytes_to_ndarray(part).ravel().astype(float))
    return found


def test_the_server_never_holds_a_single_update(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 5)
    desk.grid.change = lost(13, "collect")
    desk.run()
    start = first_tensors(style, "heads")
    up = [sent for sent in desk.carried if sent.way == "up"]
    vectors = {
        sent.node: np.concatenate(arrays)[1:] for sent in up if (arrays := numbers(sent))  # first: the masked weight
    }  # fmt: skip
    assert set(vectors) == {11, 12, 13, 14, 15}
    sizes = flat(start).numel()
    for sender, vector in vectors.items():
        assert vector.size == sizes
        for node, training in desk.trainings.items():
            update = flat(training.update(start)).numpy()  # type: ignore[attr-defined]
            for plain in (update, update + flat(start).numpy()):
                assert abs(np.corrcoef(vector, plain)[0, 1]) < 6 / sizes**0.5, (sender, node)
        assert 0.45 < vector.mean() / MODULUS < 0.55
    total = sum(vectors[node] for node in (11, 12, 14, 15)) % MODULUS
    assert abs(np.corrcoef(total, mean_of(desk, (11, 12, 14, 15)).numpy())[0, 1]) < 6 / sizes**0.5


def test_the_measure_would_see_an_update_that_is_not_masked(style: LoadedStyle, tmp_path: Path) -> None:
    """The same look at a plain round finds every update."""
    desk = desk_of(style, tmp_path, 3, secagg=False)
    desk.run()
    start = flat(first_tensors(style, "heads")).numpy()
    for sent in (sent for sent in desk.carried if sent.way == "up"):
        update = flat(desk.trainings[sent.node].update(first_tensors(style, "heads"))).numpy()  # type: ignore[attr-defined]
        assert np.corrcoef(np.concatenate(numbers(sent)) - start, update)[0, 1] > 0.99


def test_nothing_but_the_protocol_goes_up(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3)
    desk.run()
    for sent in (sent for sent in desk.carried if sent.way == "up"):
        content = message_from_proto(ProtoMessage.FromString(sent.data)).content
        assert stage_of(content) in _KEYS.values()
        assert all(len(record) == 0 for record in content.array_records.values())
        assert {name for name, record in content.metric_records.items() if record} <= {"fitres.num_examples"}


def test_masks_depend_on_the_whole_seed_and_are_uniform() -> None:
    """Flower's own fold the seed into 32 bits: two seeds with the same fold gave the same masks."""
    one, other = b"\x01" * 4 + b"\x02" * 4 + bytes(24), b"\x02" * 4 + b"\x01" * 4 + bytes(24)
    drawn = masks(one, MODULUS, [(1,), (50, 40)])
    assert [value.shape for value in drawn] == [(1,), (50, 40)]
    assert (drawn[1] == masks(one, MODULUS, [(1,), (50, 40)])[1]).all()
    assert not (drawn[1] == masks(other, MODULUS, [(1,), (50, 40)])[1]).any()
    assert 0.47 < drawn[1].mean() / MODULUS < 0.53
    assert drawn[1].max() > 0.99 * MODULUS
    assert drawn[1].min() >= 0


# Floors ----------------------------------------------------------------------------------


def setup(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "stage": "setup", "sample_num": 5, "share_num": 5, "threshold": 4, "clipping_range": 1.0,
        "target_range": TARGET_RANGE, "mod_range": MODULUS, "max_weight": 1.0,
    }  # fmt: skip
    return fields | changes


BAD_ASKED: dict[str, dict[str, object]] = {
    "two sites": setup(sample_num=2, share_num=2, threshold=2),
    "two shares": setup(share_num=2, threshold=2),
    "more shares than sites": setup(share_num=7, threshold=5),
    "a low threshold": setup(threshold=3),
    "two thirds exactly": setup(sample_num=6, share_num=6, threshold=4),
    "a threshold of two of three": setup(sample_num=3, share_num=3, threshold=2),
    "a threshold nobody reaches": setup(threshold=6),
    "another clipping range": setup(clipping_range=1000.0),
    "a narrow clipping range": setup(clipping_range=1e-3),
    "another target range": setup(target_range=1 << 31),
    "another modulus": setup(mod_range=1 << 23),
    "another weight": setup(max_weight=1000.0),
    "a truth as number": setup(threshold=True),
    "one entry more": setup(path="/home"),
    "keys of two": {"stage": "share_keys", "11": [b"a", b"b"], "12": [b"c", b"d"]},
    "shares of one other": {"stage": "collect_masked_vectors", "srcs": [12], "ctxts": [b""]},
    "one other twice": {"stage": "collect_masked_vectors", "srcs": [12, 12], "ctxts": [b"", b""]},
    "both secrets of a site": {"stage": "unmask", "active_nids": [11, 12, 13], "dead_nids": [12]},
    "a sum of two": {"stage": "unmask", "active_nids": [11, 12], "dead_nids": [13]},
    "one site thrice": {"stage": "unmask", "active_nids": [11, 11, 11], "dead_nids": []},
    "a sum without the site": {"stage": "unmask", "active_nids": [12, 13, 14], "dead_nids": []},
    "no known stage": {"stage": "fit"},
    "no stage": {"a": 1},
}


@pytest.mark.parametrize("name", BAD_ASKED)
def test_a_site_refuses_what_would_lay_its_update_bare(name: str, style: LoadedStyle) -> None:
    message = Message(RecordDict({CONFIGS: ConfigRecord(BAD_ASKED[name])}), 11, "train")  # type: ignore[arg-type]
    context = Context(1, 11, {}, RecordDict(), {})

    def never(*_: object) -> Message:
        raise AssertionError

    with pytest.raises(RefusedError) as refused:
        answer_masked(message, context, never, plan=plan_for(style, secagg=True, max_update_norm=1.0))
    assert refused.value.word == "policy"
    assert len(context.state) == 0  # no secret was made


def test_the_honest_setup_passes_and_a_policy_may_ask_for_more(style: LoadedStyle) -> None:
    from dataclasses import replace

    def ask(floors: object) -> Message:
        message = Message(RecordDict({CONFIGS: ConfigRecord(setup())}), 11, "train")  # type: ignore[arg-type]
        plan = plan_for(style, secagg=True, max_update_norm=1.0)
        return answer_masked(message, Context(1, 11, {}, RecordDict(), {}), lambda m, _: m, plan=plan, floors=floors)  # type: ignore[arg-type]

    assert stage_of(ask(FLOORS).content) == "setup"
    for stricter in (replace(FLOORS, min_participants=6), replace(FLOORS, min_threshold=0.9)):
        with pytest.raises(RefusedError):
            ask(stricter)


def test_only_one_word_leaves_a_site_whose_floors_are_broken(
    style: LoadedStyle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modify_fl.federated.secagg_rounds.threshold_of", lambda *_: 2)
    desk = desk_of(style, tmp_path, 3)
    with pytest.raises(FederationError, match="unchanged"):
        desk.run().require_result()
    assert desk.told[0].rejected == dict.fromkeys(("11", "12", "13"), "policy")
    replies = [message_from_proto(ProtoMessage.FromString(sent.data)) for sent in desk.carried if sent.way == "up"]
    assert [reply.error.reason for reply in replies] == ["policy"] * 3


def test_a_site_that_was_promised_masks_sends_no_plain_update(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3)
    desk.plan = plan_for(style, rounds=1, max_update_norm=1.0)  # the coordinator's; sites accepted the other
    done = desk.run()
    assert done.rounds[0].rejected == dict.fromkeys(("11", "12", "13"), "policy")


def test_a_site_that_was_not_promised_masks_refuses_the_protocol(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3, secagg=False)
    desk.plan = plan_for(style, rounds=1, max_update_norm=1.0, secagg=True)
    assert desk.run().rounds[0].rejected == dict.fromkeys(("11", "12", "13"), "policy")


@pytest.mark.parametrize(("sites", "quorum", "needed"), [(3, 3, 3), (4, 3, 3), (5, 3, 4), (6, 3, 5), (5, 5, 5)])
def test_more_than_two_thirds_and_a_quorum_unmask(sites: int, quorum: int, needed: int) -> None:
    assert threshold_of(sites, quorum) == needed


def test_every_threshold_keeps_the_floors() -> None:
    for sites in range(3, 1001):
        needed = threshold_of(sites, 3)
        assert round(needed / sites * sites) == needed
        assert 3 * needed > 2 * sites
        assert FLOORS.min_threshold * sites <= needed <= sites


def test_a_plan_for_masks_needs_three_sites(style: LoadedStyle) -> None:
    with pytest.raises(ConfigError, match="quorum of 3"):
        plan_for(style, secagg=True, sites=2, quorum=2)


# Rounds that come to nothing ----------------------------------------------------------------


@pytest.mark.parametrize("stage", ["setup", "share_keys", "collect", "unmask"])
def test_too_many_drop_outs_skip_the_round_and_the_model_stays(
    stage: str, style: LoadedStyle, tmp_path: Path
) -> None:  # fmt: skip
    desk = desk_of(style, tmp_path, 3)
    desk.grid.change = lost(13, stage)
    done = desk.run()
    assert done.skipped == (1,)
    assert desk.told[0].rejected["13"] == "missing"
    start = first_tensors(style, "heads")
    assert all(torch.equal(done.tensors[name], value) for name, value in start.items())
    with pytest.raises(FederationError, match="unchanged"):
        done.require_result()


def test_a_round_after_a_skipped_one_counts(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3, rounds=2)
    away = lost(13, "share_keys")
    desk.grid.change = lambda reply: away(reply) if not desk.told else (reply,)
    done = desk.run()
    assert done.skipped == (1,)
    assert done.rounds[1].accepted == 3


def test_a_sum_that_is_too_long_does_not_count(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3)
    for training in desk.trainings.values():
        training.seed, training.length = 1, 1.5  # type: ignore[attr-defined]  # longer than the norm that was published
    assert desk.run().rounds[0].rejected == {"sum": "too-long"}
    assert desk.told[0].skipped


def configs(change: Callable[[ConfigRecord], object], stage: str) -> Callable[[Message], Iterable[Message]]:
    def apply(reply: Message) -> Iterable[Message]:
        if reply.metadata.src_node_id == 13 and stage_of(reply.content) == stage:
            record = reply.content[CONFIGS]
            assert isinstance(record, ConfigRecord)
            change(record)
        return (reply,)

    return apply


BROKEN: dict[str, tuple[str, Callable[[Message], Iterable[Message]]]] = {
    "a vector too few": ("shape", configs(lambda r: r["masked_params"].pop(), "collect")),  # type: ignore[union-attr]
    "no array": ("form", configs(lambda r: r.update({"masked_params": [b"x"]}), "collect")),
    "no record": ("form", lambda r: (r.content.clear() if r.metadata.src_node_id == 13 else None, (r,))[1]),
    "twice": ("duplicate", lambda r: (r, r) if r.metadata.src_node_id == 13 else (r,)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_site_counts_as_one_that_dropped_out(name: str, style: LoadedStyle, tmp_path: Path) -> None:
    word, change = BROKEN[name]
    desk = desk_of(style, tmp_path, 5)
    desk.grid.change = change
    done = desk.run()
    assert done.skipped == ()
    assert desk.told[0].rejected == {"13": word}


def test_a_site_that_fails_while_it_trains_tells_one_word(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 5)

    def raising(_: object) -> None:
        raise OSError(2, "No such file or directory", "/home/ann/photos/IMG_0042.jpg")

    desk.trainings[13].answer = raising  # type: ignore[method-assign, assignment]
    check_mean(desk, (11, 12, 14, 15))
    assert desk.told[0].rejected == {"13": "train_failed"}
    assert b"IMG_0042" not in b"".join(sent.data for sent in desk.carried)


def test_shares_that_are_nonsense_skip_the_round(style: LoadedStyle, tmp_path: Path) -> None:
    desk = desk_of(style, tmp_path, 3)
    desk.grid.change = configs(lambda r: r.update({"shares": [b"x"] * 3}), "unmask")
    done = desk.run()
    assert done.skipped == (1,)
    assert desk.told[0].rejected == {"sum": "error"}
