"""The training loop: divergence, pace, interruption (M-30, M-53, U-48)."""

import math
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modify_fl.config import Preset
from modify_fl.data import ImageSet
from modify_fl.errors import InterruptedRunError, TrainingDivergedError
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training import checkpoint
from modify_fl.training.checkpoint import Checkpoint
from modify_fl.training.encapsulation import Encapsulation
from modify_fl.training.interrupt import StopRequest
from modify_fl.training.loop import train
from modify_fl.training.runtime import resolve
from modify_fl.training.schedule import Schedule
from tests.modify_fl.training.conftest import RUNTIME


class _Script:
    """A trainer whose figures are given; what it holds is the number of its steps."""

    phase = "only"

    def __init__(self, errors: list[float]) -> None:
        self.errors, self.step_count, self.images_seen, self.images_total = errors, 0, 0, len(errors)

    def step(self) -> dict[str, Tensor]:
        self.step_count += 1
        self.images_seen += 1
        return {"r": torch.tensor(self.errors[self.step_count - 1])}

    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"net": {"steps": torch.tensor([float(self.step_count)])}}

    def values(self) -> Mapping[str, object]:
        return {}

    def restore(self, saved: Checkpoint) -> None:
        self.step_count = self.images_seen = int(saved.tensors["net"]["steps"].item())

    def snapshot(self, folder: Path) -> tuple[str, ...]:
        return ()

    def at_pace(self, seconds: float) -> str:
        return ""


def _ignore(_: TrainingEvent) -> None:
    return


def test_three_broken_steps_end_the_run(tmp_path: Path) -> None:
    """M-53: three steps in a row that are not finite."""
    train(_Script([1.0, math.nan, math.nan, 1.0, 1.0]), tmp_path / "two", _ignore)
    with pytest.raises(TrainingDivergedError, match="3 steps in a row") as caught:
        train(_Script([1.0, math.nan, math.nan, math.nan, 1.0]), tmp_path / "three", _ignore)
    assert "gamma" in caught.value.fix


def test_error_above_three_times_its_best_ends_the_run(tmp_path: Path) -> None:
    """M-53: the average of L_r, not one bad picture."""
    train(_Script([1.0] * 50 + [50.0] + [1.0] * 50), tmp_path / "spike", _ignore)
    with pytest.raises(TrainingDivergedError, match="three times its best"):
        train(_Script([1.0] * 50 + [20.0] * 100), tmp_path / "rise", _ignore)


def test_signal_saves_and_says_so(tmp_path: Path) -> None:
    """U-48: the step is finished, a checkpoint is written, the same call goes on."""
    trainer = _Script([1.0] * 30)

    def interrupt(event: TrainingEvent) -> None:
        if event.kind == "tick" and event.step == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="after 20 steps") as caught:
        train(trainer, tmp_path, interrupt)
    assert caught.value.exit_code == 130
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.step == 20
    again = _Script([1.0] * 30)
    train(again, tmp_path, _ignore)
    assert again.step_count == 30


def test_finished_run_says_the_same_time_at_every_repeat(tmp_path: Path) -> None:
    """The audit of ``package`` is planned by it: another time would be another audit (P-80)."""
    first = train(_Script([1.0] * 30), tmp_path, _ignore)
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.values["seconds"] == first
    state = next((tmp_path / "checkpoints").rglob("state.json"))
    written = state.stat().st_mtime_ns
    assert [train(_Script([1.0] * 30), tmp_path, _ignore) for _ in range(2)] == [first, first]
    assert state.stat().st_mtime_ns == written


def test_second_signal_ends_at_once() -> None:
    """U-48: whoever asks twice does not wait; the old handlers come back."""
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_slow_pace_jumps_to_phase_b_once(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-30: where a time budget would be exceeded by more than a tenth, phase B starts, once, and is recorded."""
    preset = tiny()
    trainer = Encapsulation(
        paintings, preset=preset, schedule=Schedule.plan(preset.encapsulation, 400), seed=0,
        compute=resolve(RUNTIME), nets=no_nets, deadline=100.0,
    )  # fmt: skip
    for _ in range(10):
        trainer.step()
    assert trainer.at_pace(10.0) == ""  # 40 of 400 images in 10 s: on time
    assert trainer.at_pace(30.0) == ""  # too slow, but there is still time before phase B must start
    assert "phase B starts now" in trainer.at_pace(45.0)
    assert trainer.phase == "remap"
    assert trainer.at_pace(200.0) == ""
    assert trainer.values()["schedule"]["remap_start"] == 40  # type: ignore[index]
    assert "swap" in trainer.step()
