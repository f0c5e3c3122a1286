"""What an audit has done so far, in a private folder of the provider, and how long the rest takes.

One file per step, under a key over all that decides it: stopped, the same call
goes on. Raw scores stay there.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modify_fl.errors import InterruptedRunError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.training.interrupt import StopRequest

__all__ = ["Work", "add_seconds", "work_folder"]

_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(kw_only=True)
class Work:
    """The folder of an audit: what is there is not done again.

    Costs are in drawn pictures, so that what is left can be told from the pace so
    far although steps differ a hundredfold.
    """

    folder: Path
    """Of this very audit; see ``work_folder``."""
    emit: Emit
    """Told of progress."""
    total: int
    """Cost of all steps."""
    stop: StopRequest = field(default_factory=StopRequest)
    """Asked after each piece of work."""
    _done: int = field(default=0, init=False)
    _found: int = field(default=0, init=False)  # of that, by an earlier call
    _begin: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count seconds."""
        self._begin = time.monotonic()

    def step(self, name: str, cost: int, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors called ``name``, made now or earlier.

        Args:
            name: Names the file.
            cost: What making them takes, in drawn pictures.
            make: Makes them.

        Raises:
            InterruptedRunError: A signal asked for a stop; what is done is kept.
        """
        path = self.folder / f"{name}.safetensors"
        if path.is_file():
            self._found += cost
        else:
            made = {key: value.detach().contiguous() for key, value in make().items() if value.numel()}
            partial = path.with_suffix(".part")
            save_file(made or {"nothing": torch.zeros(1)}, partial)
            partial.replace(path)
        self._done += cost
        self.tell(name)
        return load_file(path)

    def tell(self, name: str, extra: int = 0) -> None:
        """Report progress and heed a signal.

        Args:
            name: What is being done.
            extra: Cost of what the step has done so far.

        Raises:
            InterruptedRunError: A signal asked for a stop.
        """
        seconds, done = time.monotonic() - self._begin, self._done + extra
        pace = (done - self._found) / max(seconds, 1e-6)
        if pace:  # nothing can be said of what is left before something was done
            self.emit(TrainingEvent(
                kind="tick", phase=name, step=done, images_seen=done, images_total=self.total, seconds=seconds,
                images_per_second=pace, eta_seconds=max(0, self.total - done) / pace,
            ))  # fmt: skip
        if self.stop.requested:
            raise InterruptedRunError("stopped during the audit", why="a signal asked for it; finished steps were kept")


def work_folder(folder: Path, key: str) -> Path:
    """Return the folder of the audit with this key; what one with another key left is removed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = folder / key[:16]
    for old in folder.iterdir():
        if _KEY.fullmatch(old.name) and old != home:
            shutil.rmtree(old)
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def add_seconds(home: Path, seconds: float) -> float:
    """Return the time over all calls for one audit; a call that found everything done adds nothing."""
    path = home / "seconds.json"
    before = float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0
    whole = before + seconds if seconds > 1 or not before else before
    path.write_text(json.dumps(whole), encoding="utf-8")
    return whole
