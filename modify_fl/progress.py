"""How far a run is: on the terminal, and in its folder.

Progress is one line on a terminal and a plain line every ten seconds elsewhere,
without control characters (U-47).
"""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from modify_fl.events import TrainingEvent

__all__ = ["MetricsLog", "ProgressLine", "duration", "write_line"]

_PLAIN_SECONDS = 10.0
_LINE_SECONDS = 0.2
_STEADY = 0.02
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0, DEL and C1, but for tab and newline


def write_line(stream: TextIO, text: str) -> None:
    """Write a line at once; what the stream's encoding cannot hold is replaced (U-47).

    Control characters are spelt out: text from a file, or its name, moves no cursor and sets no title.
    """
    encoding = stream.encoding or "utf-8"
    text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


def duration(seconds: float) -> str:
    """Write a time as people say it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass(kw_only=True)
class _Trend:
    """Direction of the first figure of a run."""

    last: float | None = None

    def describe(self, values: Mapping[str, float]) -> str:
        if not values:
            return ""
        name, now = next(iter(values.items()))
        before, self.last = self.last, now
        if before is None or not math.isfinite(now):
            return f"{name} {now:.3g}"
        move = (now - before) / max(abs(before), 1e-12)
        word = "steady" if abs(move) < _STEADY else "falling" if move < 0 else "rising"
        return f"{name} {now:.3g} {word}"


class ProgressLine:
    """One line that is rewritten on a terminal; plain lines elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        """Bind a stream, on which nothing is shown yet."""
        self._stream = stream
        self._shown = -math.inf
        self._width = 0
        self._trend = _Trend()

    def show(self, event: TrainingEvent, *, live: bool) -> None:
        """Show a tick, if the last one was shown long enough ago.

        Args:
            event: What to show.
            live: Rewrite the line that stands; else each is a line of its own.
        """
        now = time.monotonic()
        if now - self._shown < (_LINE_SECONDS if live else _PLAIN_SECONDS):
            return
        self._shown = now
        text = self._text(event)
        if live:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)
        else:
            write_line(self._stream, text)

    def end(self) -> None:
        """Leave the rewritten line standing and go to the next one."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _text(self, event: TrainingEvent) -> str:
        share = 100 * event.images_seen / max(1, event.images_total)
        parts = [
            event.phase, f"{share:3.0f} %", f"step {event.step}", f"{event.images_per_second:.1f} images/s",
            f"{duration(event.eta_seconds)} left", self._trend.describe(event.values),
        ]  # fmt: skip
        return "  ".join(part for part in parts if part)


class MetricsLog:
    """Writes ``metrics.jsonl``: one line per event of a run, appended on resume.

    A line holds figures and sentences only (see ``TrainingEvent``). After a
    ``resume`` line, earlier lines with a higher step are void.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        """Open the file.

        Args:
            path: ``metrics.jsonl`` in the run's folder, which is made if need be.
            fresh: Start the file anew.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a run's folder is its owner's (P-38)
        self._file = path.open("w" if fresh else "a", encoding="utf-8")

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def write(self, event: TrainingEvent) -> None:
        """Append one event; a figure that is not finite becomes null."""
        values = {name: value if math.isfinite(value) else None for name, value in event.values.items()}
        line = {
            "kind": event.kind, "phase": event.phase, "step": event.step, "images_seen": event.images_seen,
            "images_total": event.images_total, "seconds": round(event.seconds, 3),
            "images_per_second": round(event.images_per_second, 2), "values": values, "message": event.message,
        }  # fmt: skip
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
