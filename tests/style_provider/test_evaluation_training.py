"""The course of a training, read from its log (U-71)."""

import json
from pathlib import Path

import pytest

from modify_fl.errors import DataError
from modify_fl.events import TrainingEvent
from modify_fl.progress import MetricsLog
from style_provider.evaluation.training import PACE, read_course


def tick(step: int, phase: str = "adversarial", **values: float) -> TrainingEvent:
    return TrainingEvent(
        kind="tick", phase=phase, step=step, images_seen=1000 * step, images_per_second=10.0 + step, values=values
    )


def log(folder: Path, *events: TrainingEvent) -> Path:
    with MetricsLog(folder / "metrics.jsonl", fresh=False) as metrics:
        for event in events:
            metrics.write(event)
    return folder


def test_values_stand_over_kimg(tmp_path: Path) -> None:
    course = read_course(log(tmp_path / "a.run", tick(1, r=0.5, dis=2.0), tick(2, r=0.25)))
    assert course.name == "a.run"
    assert course.series["reconstruction L_r"] == ((1.0, 0.5), (2.0, 0.25))
    assert course.series["loss of Dis"] == ((1.0, 2.0),)
    assert course.series[PACE] == ((1.0, 11.0), (2.0, 12.0))


def test_phases_follow_each_other(tmp_path: Path) -> None:
    course = read_course(
        log(tmp_path, tick(1, "reconstruct", r=1), tick(2, r=1), tick(3, r=1), tick(4, "remap", swap=1))
    )
    assert [(band.label, band.start, band.end) for band in course.phases] == [
        ("reconstruct", 0, 1), ("adversarial", 1, 3), ("remap", 3, 4),
    ]  # fmt: skip


def test_steps_that_a_resumed_run_took_back_do_not_count(tmp_path: Path) -> None:
    log(tmp_path, tick(1, r=1), tick(2, r=2), tick(3, r=3), TrainingEvent(kind="resume", step=1), tick(2, r=20))
    assert read_course(tmp_path).series["reconstruction L_r"] == ((1.0, 1.0), (2.0, 20.0))


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    log(tmp_path, tick(1, r=1))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "tick", "step": 2, "ima\n[]\n')
    log(tmp_path, tick(3, r=3))
    assert [x for x, _ in read_course(tmp_path).series["reconstruction L_r"]] == [1.0, 3.0]


def test_a_value_that_is_no_number_leaves_a_gap(tmp_path: Path) -> None:
    """MetricsLog writes what is not finite as null."""
    course = read_course(log(tmp_path, tick(1, r=1, mom=float("nan")), tick(2, r=float("inf")), tick(3, r=3)))
    assert course.series["reconstruction L_r"] == ((1.0, 1.0), (3.0, 3.0))
    assert "moments of M" not in course.series
    assert len(course.series[PACE]) == 3


def test_long_runs_are_thinned_by_means(tmp_path: Path) -> None:
    course = read_course(log(tmp_path, *(tick(step, r=step) for step in range(400))))
    points = course.series["reconstruction L_r"]
    assert len(points) == 200
    assert points[0] == (0.5, 0.5)
    assert points[-1] == (398.5, 398.5)


@pytest.mark.parametrize("text", [None, "", json.dumps({"kind": "start"}), "\xff"])
def test_folder_without_a_course_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="no course of a training"):
        read_course(tmp_path)
