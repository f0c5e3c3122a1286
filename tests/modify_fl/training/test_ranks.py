"""Several processes that train as one (M-55 to M-57), here over gloo on one CPU."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modify_fl.errors import ConfigError
from modify_fl.launch import Launch
from modify_fl.training import checkpoint
from modify_fl.training.ranks import Ranks
from tests.modify_fl.training.rankkit import alone, start


def _distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> float:
    """Return how far two states are apart, relative to the second, over the tensors of one network."""
    names = [name for name in b if name.startswith(part)]
    assert names
    far = sum((a[name].double() - b[name].double()).square().sum().item() for name in names)
    size = sum(b[name].double().square().sum().item() for name in names)
    return float((far / size) ** 0.5)


def _together(job: str, folder: Path, steps: int) -> tuple[list[dict[str, torch.Tensor]], list[list[dict[str, str]]]]:
    folder.mkdir(exist_ok=True)
    ends = start(job, folder, steps, size=2)
    assert [end.returncode for end in ends] == [0, 0], "\n".join(end.stderr + end.stdout for end in ends)
    states = [load_file(folder / f"rank{rank}.safetensors") for rank in range(2)]
    return states, [json.loads(end.stdout) for end in ends]


def _alone(job: str, folder: Path, steps: int) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    folder.mkdir(exist_ok=True)
    said = json.loads(alone(job, folder, steps))
    return load_file(folder / "rank0.safetensors"), said


@pytest.mark.parametrize(
    ("job", "parts"),
    [
        ("stage1", ("model.encoder", "model.generator", "model.remapping", "dis")),
        pytest.param("adapt", ("heads",), marks=pytest.mark.slow),
    ],
)
def test_two_processes_agree_with_one(tmp_path: Path, job: str, parts: tuple[str, ...]) -> None:
    """M-57: ten steps over both phases, to 1e-4 relative; both processes hold the same bits (M-56)."""
    single, _ = _alone(job, tmp_path / "one", 10)
    (first, second), said = _together(job, tmp_path / "two", 10)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part in parts:
        assert _distance(first, single, part) < 1e-4, part
    assert said[1] == []  # the first process alone speaks
    assert "in each of 2 processes" in said[0][0]["message"]
    saved = checkpoint.load(tmp_path / "two")
    assert saved is not None
    assert saved.values["processes"] == 2


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """M-57: allowed and recorded. One process is asked to stop, both do, at the same step (U-48)."""
    ends = start("stop", tmp_path, 10, size=2)
    assert [end.returncode for end in ends] == [130, 130]
    assert len({end.stdout for end in ends}) == 1  # the same sentence with the same step
    straight, _ = _alone("stage1", tmp_path / "one", 10)
    again, said = _alone("stage1", tmp_path, 10)
    (resumed,) = [event["message"] for event in said if event["kind"] == "resume"]
    assert resumed == "going on after step 7 with 1 process(es) instead of 2"
    assert _distance(again, straight, "model") < 1e-4


@pytest.mark.parametrize(
    ("job", "said"),
    [
        pytest.param("odd", "a batch of 5 cannot be shared by 2 processes", marks=pytest.mark.slow),
        ("settings", "the processes of this run have different settings"),
        pytest.param("online", "the online mode is one process", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_shared_is_said_before_the_first_step(tmp_path: Path, job: str, said: str) -> None:
    ends = start(job, tmp_path, 2, size=2)
    assert any(end.returncode == 2 and said in end.stdout for end in ends)
    assert all(end.returncode for end in ends) or job == "settings"
    assert not (tmp_path / "checkpoints").exists()


def test_place_of_a_process_comes_from_the_environment() -> None:
    assert Launch.from_environment({}) == Launch()
    found = Launch.from_environment({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert (found.rank, found.size, found.local_rank, found.local_size, found.leads) == (3, 4, 1, 2, False)
    for wrong in ({"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "4"}):
        with pytest.raises(ConfigError, match="torchrun"):
            Launch.from_environment(wrong)


def test_one_process_needs_no_other() -> None:
    ranks, values = Ranks(), torch.ones(2)
    ranks.add([values])
    assert values.tolist() == [1, 1]
    assert (ranks.tell("x"), ranks.number(0.1), ranks.any(said=True)) == ("x", 0.1, True)
    assert ranks.share(6) == slice(0, 6)


def test_slices_of_a_batch_follow_the_rank() -> None:
    """M-56: every process takes an equal part, in order."""
    places = [Launch(rank=rank, size=3, local_rank=rank, local_size=3) for rank in range(3)]
    assert [Ranks(launch=place).share(6) for place in places] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ConfigError, match="batch of 7 cannot be shared by 3"):
        Ranks(launch=places[0]).share(7)
