"""Units of a reproduction on disk: what is there is not done again (U-35, U-40).

One training, one adaptation, one measurement is a unit. Its result appears
whole or not at all; a training that was killed goes on from its own checkpoint.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from modify_fl.console import Console
from modify_fl.errors import ConfigError, DataError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.metrics.figures import Measurement
from modify_fl.progress import MetricsLog
from modify_fl.training.loop import open_record, run_lock
from protocol.storage import atomic_writer, storage_errors

__all__ = ["Figures", "Units"]

Figures = dict[str, Measurement]

_Result = TypeVar("_Result")

_HOMES = ("runs", "units")


class Units:
    """The folder of a reproduction."""

    def __init__(self, folder: Path, console: Console) -> None:
        """Use ``open``, which checks the settings and holds the folder."""
        self.folder, self.console = folder, console
        self.seconds: dict[str, float] = {}
        """Training time of each run that was asked for."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path, settings: Mapping[str, object], console: Console, *, fresh: bool) -> Iterator["Units"]:
        """Hold the folder for this process.

        Args:
            folder: Made if need be, for its owner only (P-38).
            settings: What all results depend on.
            console: Told what is done.
            fresh: Throw away the units that are there.

        Raises:
            ConfigError: The folder has results of other settings, or another process holds it.
        """
        with storage_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with run_lock(folder):
            if fresh:
                for home in _HOMES:
                    shutil.rmtree(folder / home, ignore_errors=True)
            try:
                known = open_record(folder, settings, fresh=fresh)
            except ConfigError as error:
                fix = "repeat the old settings, choose another --out, or add --fresh"
                raise ConfigError("this folder has results of other settings", why=error.why, fix=fix) from error
            if known is None:
                _write(folder / "config.json", json.dumps({"settings": settings}, indent=1).encode())
            for home in _HOMES:
                (folder / home).mkdir(exist_ok=True)
            yield cls(folder, console)

    def run(self, name: str) -> Path:
        """Return the home of a training, with its checkpoints."""
        return self.folder / "runs" / name

    def path(self, name: str) -> Path:
        """Return where the result of a unit stands."""
        path = self.folder / "units" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, name: str) -> None:
        """Throw away the checkpoints of a training whose result is written; its record stays."""
        for part in ("checkpoints", "samples"):
            shutil.rmtree(self.run(name) / part, ignore_errors=True)

    def spent(self, name: str, seconds: float = 0.0) -> None:
        """Note how long a training took; what was noted when it was made stays."""
        record = self.values(f"{name}.time", lambda: {"seconds": round(seconds, 1)})
        self.seconds[name] = float(record["seconds"])

    def values(self, name: str, work: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
        """Return the JSON result of a unit; ``work`` is called only where there is none."""
        path = self.path(f"{name}.json")
        if not path.is_file():
            _write(path, json.dumps(dict(work()), indent=1).encode())
        found = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
        return dict(found)

    def figures(self, name: str, work: Callable[[], Figures]) -> Figures:
        """Return the figures of a unit; ``work`` is called only where there are none."""

        def measure() -> Mapping[str, object]:
            self.console.note(f"measuring {name}")
            return {key: asdict(figure) for key, figure in work().items()}

        found = self.values(name, measure)
        return {key: _measurement(value) for key, value in found.items()}

    def tensors(self, name: str, work: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of a unit; ``work`` is called only where there are none."""
        path = self.path(f"{name}.safetensors")
        if not path.is_file():
            _write(path, save({key: value.contiguous() for key, value in work().items()}))
        return _read(path, lambda: load_file(path))

    @contextmanager
    def reports(self, name: str) -> Iterator[Emit]:
        """Give a training a place to report to: its log, and the console."""
        self.console.note(f"training {name}")
        with MetricsLog(self.run(name) / "metrics.jsonl", fresh=False) as log:

            def emit(event: TrainingEvent) -> None:
                log.write(event)
                self.console.emit(event)

            yield emit


def _write(path: Path, content: bytes) -> None:
    with atomic_writer(path, mode=0o600, overwrite=True) as stream:
        stream.write(content)


def _read(path: Path, read: Callable[[], _Result]) -> _Result:
    try:
        return read()
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"cannot read {path}", why=str(error), fix="delete it; the same command makes it anew"
        ) from error


def _measurement(value: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**value, "seeds": tuple(value["seeds"])})
