"""A reproduction as JSON, as a Markdown table and as one sheet of pictures (M-47, M-48, U-74).

The sheet shows pictures that were made here, never a photo or a style image.
"""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.faces.decode import save_png
from modify_fl.metrics.figures import FILTER, Measurement
from modify_fl.sheet import contact_sheet
from protocol.storage import atomic_writer
from style_provider.reproduction.experiments import Outcome
from style_provider.reproduction.task import Reproduction

__all__ = ["as_result", "markdown", "protocol_line", "sheet", "write_outcome"]

_SCHEMA = 1
_DIGITS: Mapping[str, int] = {"kid": 1, "fid": 1}
_DIGITS_ELSE = 3
_SIDE = 128

Pixels = NDArray[np.uint8]


def as_result(outcome: Outcome, task: Reproduction, seconds: Mapping[str, float]) -> dict[str, object]:
    """Return an outcome for programs.

    Args:
        outcome: What was found.
        task: What was asked for.
        seconds: Time of each training.
    """
    return {
        "schema": _SCHEMA,
        "experiment": outcome.name,
        "rows": {
            row: {key: dataclasses.asdict(figure) for key, figure in figures.items()}
            for row, figures in outcome.pooled().items()
        },
        "seeds": {
            row: [{key: [figure.value, figure.low, figure.high] for key, figure in each.items()} for each in seeds]
            for row, seeds in outcome.rows.items()
        },
        "directions": [dataclasses.asdict(direction) for direction in outcome.directions],
        "training_seconds": dict(seconds),
        "record": {
            **task.settings(), "training_seeds": list(task.seeds), "filter": FILTER, "blend_width": 0,
            "resolution": task.preset.network.resolution,
            "software": {"python": platform.python_version(), "torch": torch.__version__},
            "device": f"{task.runtime.device}, {torch.get_num_threads()} threads, {platform.machine()}",
        },
    }  # fmt: skip


def markdown(outcome: Outcome, task: Reproduction) -> str:
    """Return table and verdicts as Markdown, without a title."""
    header = ["", *outcome.columns.values()]
    body = [
        [row, *(_cell(figures.get(key), key) for key in outcome.columns)] for row, figures in outcome.pooled().items()
    ]
    lines = [_line(header), _line(["---"] * len(header)), *(_line(words) for words in body)]
    return "\n".join([
        *lines, "", f"Measured: {protocol_line(task)}.", "", "Expected directions (M-47), computed from these figures:",
        "", *(f"- {direction.sentence}" for direction in outcome.directions), "",
    ])  # fmt: skip


def protocol_line(task: Reproduction) -> str:
    """Return the protocol in one line (U-73)."""
    material, seeds = task.material, ", ".join(map(str, task.seeds))
    return (
        f"{len(material.held_out)} held-out photos in {len(task.styles)} styles against {len(material.reference)} "
        f"held-out style images at {task.preset.network.resolution} px; training seeds {seeds}; values are means over "
        "seeds, ends the lowest and highest end of the seeds' 95 % intervals over photos"
    )


def sheet(outcome: Outcome) -> Pixels:
    """Return the sheet: a column for each row of the table, a line for each picture, uint8 [H, W, 3]."""
    columns = list(outcome.shown)
    lines = [[_large(outcome.shown[column][line]) for column in columns] for line in range(_count(outcome.shown))]
    return np.asarray(contact_sheet(lines, columns=columns))


def write_outcome(outcome: Outcome, task: Reproduction, seconds: Mapping[str, float]) -> dict[str, Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png`` into the folder of the reproduction.

    Earlier ones are replaced: they are made anew from the units each time.

    Returns:
        Paths by ``json``, ``markdown`` and ``sheet``.

    Raises:
        StorageError: A file cannot be written.
    """
    paths = {
        kind: task.folder / f"{outcome.name}.{end}"
        for kind, end in (("json", "json"), ("markdown", "md"), ("sheet", "png"))
    }
    texts = {
        "json": json.dumps(as_result(outcome, task, seconds), indent=1) + "\n",
        "markdown": markdown(outcome, task),
    }
    for kind, text in texts.items():
        with atomic_writer(paths[kind], mode=0o600, overwrite=True) as stream:
            stream.write(text.encode())
    save_png(sheet(outcome), paths["sheet"])
    return paths


def _cell(figure: Measurement | None, key: str) -> str:
    return "-" if figure is None else figure.text(_DIGITS.get(key, _DIGITS_ELSE))


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"


def _count(shown: Mapping[str, Sequence[Pixels]]) -> int:
    return min(len(pictures) for pictures in shown.values())


def _large(picture: Pixels) -> Pixels:
    """Enlarge small pictures by whole pixels, so that captions have room and nothing is smoothed."""
    factor = max(1, _SIDE // len(picture))
    return picture.repeat(factor, 0).repeat(factor, 1)
