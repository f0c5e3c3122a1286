"""U-47: one line on a terminal, plain lines elsewhere; figures in the run's folder."""

import io
import json
import sys
from pathlib import Path

import pytest

from modify_fl import progress as subject
from modify_fl.console import Console
from modify_fl.events import TrainingEvent
from modify_fl.progress import MetricsLog, duration


def _tick(images: int, loss: float) -> TrainingEvent:
    return TrainingEvent(
        kind="tick", phase="adversarial", step=images // 4, images_seen=images, images_total=400,
        images_per_second=20.5, eta_seconds=75, values={"r": loss, "lp": 1.0},
    )  # fmt: skip


def test_progress_elsewhere_is_a_plain_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    console = Console("content-client", "adapt")
    for images, loss, seconds in ((40, 1.0, 0), (80, 0.9, 5), (120, 0.5, 5), (160, 0.6, 10), (200, 0.6, 10)):
        now[0] += seconds
        console.emit(_tick(images, loss))
    assert capsys.readouterr().err.splitlines() == [
        "adversarial   10 %  step 10  20.5 images/s  1 min 15 s left  r 1",
        # 5 s later: nothing. The trend compares what was shown.
        "adversarial   30 %  step 30  20.5 images/s  1 min 15 s left  r 0.5 falling",
        "adversarial   40 %  step 40  20.5 images/s  1 min 15 s left  r 0.6 rising",
        "adversarial   50 %  step 50  20.5 images/s  1 min 15 s left  r 0.6 steady",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = _Terminal(), [0.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    console = Console("content-client", "adapt")
    for images in (40, 80):
        console.emit(_tick(images, 1.0))
        now[0] += 1
    console.emit(TrainingEvent(kind="phase", message="remap"))
    console.emit(TrainingEvent(kind="done", message="0.4 kimg in 1.0 minutes"))
    text = terminal.getvalue()
    assert text.count("\r") == 2
    assert text.endswith("steady\ncontent-client: phase remap\ncontent-client: 0.4 kimg in 1.0 minutes\n")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_metrics_are_appended_and_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    for fresh in (False, False, True):
        with MetricsLog(path, fresh=fresh) as log:
            log.write(_tick(40, float("inf")))
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert lines[-1]["values"] == {"r": None, "lp": 1.0}
    assert len(lines) == 1  # two before the third, which was fresh
    assert (path.parent.stat().st_mode & 0o077) == 0
