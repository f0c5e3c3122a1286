"""What an audit has done, and how long it says the rest will take."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modify_fl.errors import InterruptedRunError
from style_provider.leakage import work as subject
from style_provider.leakage.work import Work, add_seconds, work_folder

# 200 drawn pictures of 0.1 s, then four lots of codes that cost 150 drawn pictures each: 20 s, then 60 s.
PICTURE, PICTURES, CODES, LOTS = 0.1, 200, 150, 4
WHOLE = PICTURE * (PICTURES + CODES * LOTS)


class Clock:
    """Goes on when the test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(subject, "time", made)
    return made


def run(folder: Path, clock: Clock, *, slowness: float = 1.0, stop_after: int = LOTS) -> list[tuple[float, float]]:
    """Do the steps of an audit; return what was left and what was said to be left at each report."""
    told: list[tuple[float, float, int]] = []
    work = Work(
        folder=folder, total=PICTURES + CODES * LOTS,
        emit=lambda event: told.append((clock.now, event.eta_seconds, event.images_seen)),
    )  # fmt: skip

    def draw() -> Mapping[str, Tensor]:
        for done in range(20, PICTURES + 1, 20):
            clock.now += 20 * PICTURE
            work.tell("drawing pictures", done)
        return {"value": torch.ones(1)}

    def seek() -> Mapping[str, Tensor]:
        clock.now += slowness * CODES * PICTURE
        return {"value": torch.ones(1)}

    steps: list[tuple[str, int, Callable[[], Mapping[str, Tensor]]]] = [("copies", PICTURES, draw)]
    steps += [(f"trained-{lot}", CODES, seek) for lot in range(stop_after)]
    for name, cost, make in steps:
        assert work.step(name, cost, make)["value"] == 1
    assert told[-1][2] == PICTURES + CODES * stop_after
    return [(clock.now - at, said) for at, said, _ in told]


def test_time_left_is_right_from_the_first_report_on(tmp_path: Path, clock: Clock) -> None:
    """Steps of very different cost: the codes take three times as long as all pictures together."""
    told = run(tmp_path, clock)
    assert told[0][0] == pytest.approx(WHOLE - 20 * PICTURE)
    for left, said in told:
        assert said == pytest.approx(left)


def test_a_cost_that_was_measured_wrong_is_made_good_while_it_runs(tmp_path: Path, clock: Clock) -> None:
    told = run(tmp_path, clock, slowness=2)
    truth, said = zip(*told, strict=True)
    assert said[0] == pytest.approx(WHOLE - 20 * PICTURE)  # it cannot know yet
    # Half of the codes: 20 + 60 s for 500 of 800 pictures' worth; 300 more at this pace take 48 s, in truth 60 s.
    assert truth[-3] == pytest.approx(60)
    assert said[-3] == pytest.approx(48)


def test_what_an_earlier_call_did_is_no_pace_of_this_one(tmp_path: Path, clock: Clock) -> None:
    run(tmp_path, clock, stop_after=2)
    clock.now += 1000
    told = run(tmp_path, clock)
    assert len(told) == 2  # nothing is said of steps that were found: no pace is known yet
    for left, said in told:
        assert said == pytest.approx(left)


def test_a_step_is_made_once_and_a_stop_keeps_it(tmp_path: Path) -> None:
    work = Work(folder=tmp_path, emit=lambda event: None, total=2)
    work.stop.requested = True
    with pytest.raises(InterruptedRunError):
        work.step("copies", 1, lambda: {"value": torch.arange(3), "empty": torch.empty(0)})

    def never() -> Mapping[str, Tensor]:
        raise AssertionError

    again = Work(folder=tmp_path, emit=lambda event: None, total=2)
    assert {name: value.tolist() for name, value in again.step("copies", 1, never).items()} == {"value": [0, 1, 2]}


def test_folders_of_other_audits_go_and_seconds_add_up(tmp_path: Path) -> None:
    old = work_folder(tmp_path, "a" * 64)
    (tmp_path / "report").mkdir()
    assert (add_seconds(old, 30.0), add_seconds(old, 0.2), add_seconds(old, 2.0)) == (30.0, 30.0, 32.0)
    new = work_folder(tmp_path, "b" * 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b" * 16, "report"]
    assert new.stat().st_mode & 0o777 == 0o700
