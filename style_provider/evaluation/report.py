"""An evaluation as files: JSON, one page that needs no network, and its pictures (U-49, U-70, U-73).

The page shows pictures that were made from photos. Photos themselves, and their
names, stand in it only where the user asked for them.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modify_fl.data import to_uint8
from modify_fl.faces.decode import fit_square
from modify_fl.sheet import contact_sheet
from protocol.storage import atomic_writer, storage_errors
from style_provider.evaluation.measure import Findings
from style_provider.evaluation.page import Grid, page
from style_provider.evaluation.tables import as_result, protocol_line, table
from style_provider.evaluation.task import Evaluation
from style_provider.evaluation.training import Course

__all__ = ["PAGE", "RESULT", "as_result", "protocol_line", "table", "write_report"]

PAGE = "report.html"
"""The page in the report's folder."""
RESULT = "report.json"
"""The same figures for programs."""

_ROWS, _STYLES_SHOWN, _SIDE = 8, 5, 256

Pixels = NDArray[np.uint8]


def write_report(
    task: Evaluation, findings: Findings, folder: Path, *, show_photos: bool, courses: Sequence[Course] = ()
) -> tuple[Path, Path]:
    """Write JSON, page and pictures; earlier ones are replaced.

    Args:
        task: What was measured; pictures for the page are painted again. Of several trainings, the first.
        findings: The figures.
        folder: Made if need be, for its owner only (P-38).
        show_photos: Whether photos and their names stand beside the pictures.
        courses: Trainings whose curves the page shows.

    Returns:
        Paths of the JSON file and of the page.

    Raises:
        StorageError: A file cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = list(range(min(_ROWS, len(task.photos))))
    grids = {"samples": _grid(task, first, show_photos=show_photos)}
    if findings.worst:
        grids["worst"] = _grid(task, findings.worst, show_photos=show_photos)
    text = page(task, findings, grids, courses=courses, show_photos=show_photos)
    contents = {
        RESULT: (json.dumps(as_result(findings), indent=1) + "\n").encode(),
        PAGE: text.encode(),
        **{f"{name}.png": grid.png for name, grid in grids.items()},
    }
    for name, content in contents.items():
        with atomic_writer(folder / name, overwrite=True) as stream:
            stream.write(content)
    return folder / RESULT, folder / PAGE


def _grid(task: Evaluation, indices: Sequence[int], *, show_photos: bool) -> Grid:
    """Return photos as rows and styles as columns."""
    seeds = task.seeds[:_STYLES_SHOWN]
    rows = []
    for index in indices:
        shown = list(to_uint8(task.photos.batch([index]))) if show_photos else []
        rows.append([_small(picture) for picture in (*shown, *task.paint([index], seeds)[0])])
    columns = [*(["photo"] if show_photos else []), *(f"style {seed}" for seed in seeds)]
    names = [task.photos.names[index] for index in indices] if show_photos else ()
    stream = io.BytesIO()
    contact_sheet(rows, columns=columns, names=names).save(stream, "PNG")
    return Grid(png=stream.getvalue(), alt=f"{len(indices)} photos, one a row, in {len(seeds)} styles")


def _small(picture: Pixels) -> Pixels:
    return picture if len(picture) <= _SIDE else fit_square(picture, _SIDE)
