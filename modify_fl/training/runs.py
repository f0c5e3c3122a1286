"""How a run of either stage begins, in one process or in several (M-52, M-55, U-35).

The first process reads and writes the record; the others do as it says, after
they have compared their settings with it.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from modify_fl.config import Runtime
from modify_fl.errors import ConfigError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.training.loop import differences, open_record, run_lock
from modify_fl.training.ranks import Ranks
from modify_fl.training.runtime import Compute, resolve

__all__ = ["begin_run", "joined_run"]


@contextmanager
def joined_run(folder: Path, emit: Emit) -> Iterator[tuple[Ranks, Emit]]:
    """Meet the other processes, hold the run's folder, and let the first process alone speak (M-56).

    Raises:
        ConfigError: Another run holds the folder.
    """
    with Ranks.joined() as ranks:
        if not ranks.leads:
            yield ranks, _hush
            return
        with run_lock(folder):
            yield ranks, emit


def _hush(event: TrainingEvent) -> None:
    """Say nothing."""


def begin_run(
    folder: Path, settings: Mapping[str, object], *, runtime: Runtime, fresh: bool, ranks: Ranks,
    announce: Callable[[Compute], None], plan: Callable[[Compute], int],
) -> tuple[int, Compute]:  # fmt: skip
    """Compare settings with the run in ``folder``, or plan a new one and write its record.

    Args:
        folder: Home of the run.
        settings: All that decides the result, as JSON.
        runtime: Device, threads, precision.
        fresh: Throw away what is in ``folder``.
        ranks: The processes of the run.
        announce: Told where the run computes, before anything is measured.
        plan: Returns the length of a new run in images; called by every process.

    Returns:
        The length in images, and device and precision.

    Raises:
        ConfigError: The run in ``folder``, or another process, has other settings (U-35).
    """
    settings = json.loads(json.dumps(dict(settings)))
    record = open_record(folder, settings, fresh=fresh) if ranks.leads else None
    if ranks.leads and record is None:
        for old in ("checkpoints", "samples"):
            shutil.rmtree(folder / old, ignore_errors=True)
    shared = json.loads(ranks.tell(json.dumps({"settings": settings, "planned": (record or {}).get("planned")})))
    if found := differences(shared["settings"], settings):
        raise ConfigError(
            "the processes of this run have different settings", why="; ".join(found),
            fix="start all of them with one command, on the same pictures",
        )  # fmt: skip
    planned = shared["planned"]
    compute = resolve(runtime, bf16=planned["bf16"] if planned else None)
    compute = replace(compute, bf16=bool(ranks.number(compute.bf16)))
    announce(compute)
    if planned is None:
        images = int(ranks.number(plan(compute)))
        planned = {"images": images, "bf16": compute.bf16, "threads": compute.threads, "processes": ranks.size}
        if ranks.leads:
            text = json.dumps({"settings": settings, "planned": planned}, indent=1)
            (folder / "config.json").write_text(text, encoding="utf-8")
    return int(planned["images"]), compute
