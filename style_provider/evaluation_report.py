"""An evaluation as a table, as JSON and as one page that needs no network (U-49, U-70, U-73).

The page shows pictures that were made from photos. Photos themselves, and their
names, stand in it only where the user asked for them.
"""

import base64
import dataclasses
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modify_fl.data import to_uint8
from modify_fl.faces.decode import fit_square
from modify_fl.metrics.collector import LABELS
from modify_fl.metrics.figures import Measurement
from modify_fl.sheet import contact_sheet
from protocol.storage import atomic_writer, storage_errors
from style_provider.evaluation import COLUMNS, RECONSTRUCTION, Findings
from style_provider.evaluation_task import Evaluation

__all__ = ["PAGE", "RESULT", "as_result", "protocol_line", "table", "write_report"]

PAGE = "report.html"
"""The page in the report's folder."""
RESULT = "report.json"
"""The same figures for programs."""

_SCHEMA = 1
_DIGITS: Mapping[str, int] = {"kid": 2, "fid": 1, "psnr": 2}
_DIGITS_ELSE = 4
_BETTER: Mapping[str, str] = {"kid": "lower", "fid": "lower", "lpips_diversity": "", "identity_cosine": "higher",
                              "identity_auc": "higher", "lpips": "lower", "psnr": "higher", "l1": "lower"}  # fmt: skip
_ROWS, _STYLES_SHOWN, _SIDE = 8, 5, 256

Table = tuple[list[str], list[list[str]]]
Pixels = NDArray[np.uint8]


def table(findings: Findings) -> tuple[Table, Table]:
    """Return both tables as words: header and rows.

    Returns:
        The figures of the set with floor and baselines beside them; the
        reconstruction with the nearest training image beside it.
    """
    header = ["", "better", *COLUMNS.values()]
    rows = [
        [label, _BETTER[key], *(_cell(findings.columns[column].get(key), key) for column in COLUMNS)]
        for key, label in LABELS.items()
    ]
    rows.append(["pictures", "", *(_size(findings.columns[column]) for column in COLUMNS)])
    below = [
        [label, _BETTER[key], _cell(findings.reconstruction[key], key), _cell(findings.nearest[key], key)]
        for key, label in RECONSTRUCTION.items()
    ]
    return (header, rows), (["", "better", "D(E(y))", "nearest training image"], below)


def protocol_line(task: Evaluation) -> str:
    """Return the protocol in one line (U-73)."""
    seeds = f"seeds {task.seeds[0]} to {task.seeds[-1]}"
    return (
        f"{len(task.photos)} photos in {len(task.seeds)} styles ({seeds}) against {len(task.styles)} style images, "
        f"{task.style.resolution} px, antialiased bicubic, 95 % intervals over photos"
    )


def as_result(findings: Findings) -> dict[str, object]:
    """Return the figures for programs; the same in the file and in the envelope."""
    return {
        "schema": _SCHEMA,
        "figures": {column: _plain(figures) for column, figures in findings.columns.items()},
        "reconstruction": {"model": _plain(findings.reconstruction), "nearest": _plain(findings.nearest)},
        "worst_by_identity": findings.worst,
        "record": findings.record,
    }


def write_report(task: Evaluation, findings: Findings, folder: Path, *, show_photos: bool) -> tuple[Path, Path]:
    """Write JSON and page; earlier ones are replaced.

    Args:
        task: What was measured; pictures for the page are painted again.
        findings: The figures.
        folder: Made if need be, for its owner only (P-38).
        show_photos: Whether photos and their names stand beside the pictures.

    Returns:
        Paths of the JSON file and of the page.

    Raises:
        StorageError: A file cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    texts = {
        RESULT: json.dumps(as_result(findings), indent=1) + "\n",
        PAGE: _page(task, findings, show_photos=show_photos),
    }
    for name, text in texts.items():
        with atomic_writer(folder / name, overwrite=True) as stream:
            stream.write(text.encode())
    return folder / RESULT, folder / PAGE


def _plain(figures: Mapping[str, Measurement]) -> dict[str, object]:
    return {key: dataclasses.asdict(figure) for key, figure in figures.items()}


def _cell(figure: Measurement | None, key: str) -> str:
    return "-" if figure is None else figure.text(_DIGITS.get(key, _DIGITS_ELSE))


def _size(figures: Mapping[str, Measurement]) -> str:
    kid = figures["kid"]
    return f"{kid.n} vs {kid.reference}" if kid.reference is not None else str(kid.n)


# The page -------------------------------------------------------------------------


def _page(task: Evaluation, findings: Findings, *, show_photos: bool) -> str:
    first, second = table(findings)
    parts = {
        "TITLE": html.escape(f"Evaluation of {task.style.loaded.manifest.bundle.name}"),
        "PROTOCOL": html.escape(protocol_line(task)),
        "FIGURES": _html_table(first),
        "RECONSTRUCTION": _html_table(second),
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in _notes(findings)),
        "SAMPLES": _grid(task, list(range(min(_ROWS, len(task.photos)))), show_photos=show_photos),
        "WORST": _grid(task, findings.worst, show_photos=show_photos)
        if findings.worst
        else "<p>Not available: it needs the face network.</p>",
        "SHOWN": "Photos stand in the first column."
        if show_photos
        else "Photos are not shown; <code>--show-photos</code> adds them.",
        "RECORD": html.escape(json.dumps(findings.record, indent=1)),
    }
    # One pass, so that a marker inside a value stays what it is.
    return re.sub(r"@([A-Z]+)@", lambda found: parts[found[1]], _TEMPLATE)


def _notes(findings: Findings) -> list[str]:
    found: list[str] = []
    groups = {**{COLUMNS[key]: figures for key, figures in findings.columns.items()},
              "reconstruction": findings.reconstruction, "nearest training image": findings.nearest}  # fmt: skip
    for title, figures in groups.items():
        found += [f"{figure.name}, {title}: {figure.note}" for figure in figures.values() if figure.note]
    return found


def _html_table(content: Table) -> str:
    header, rows = content
    head = "".join(f"<th>{html.escape(word)}</th>" for word in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _grid(task: Evaluation, indices: Sequence[int], *, show_photos: bool) -> str:
    seeds = task.seeds[:_STYLES_SHOWN]
    rows = []
    for index in indices:
        shown = list(to_uint8(task.photos.batch([index]))) if show_photos else []
        rows.append([_small(picture) for picture in (*shown, *task.paint([index], seeds)[0])])
    columns = [*(["photo"] if show_photos else []), *(f"style {seed}" for seed in seeds)]
    names = [task.photos.names[index] for index in indices] if show_photos else ()
    stream = io.BytesIO()
    contact_sheet(rows, columns=columns, names=names).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    alt = f"{len(indices)} photos, one a row, in {len(seeds)} styles"
    return f'<p><img src="data:image/png;base64,{data}" alt="{alt}"></p>'


def _small(picture: Pixels) -> Pixels:
    return picture if len(picture) <= _SIDE else fit_square(picture, _SIDE)


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; }
table { border-collapse: collapse; } td, th { border: 1px solid #8886; padding: .3rem .7rem; text-align: left; }
pre { overflow-x: auto; background: #8882; padding: .7rem; font-size: .8rem; }
</style></head><body>
<h1>@TITLE@</h1>
<p>@PROTOCOL@</p>
<h2>Figures</h2>
<p>Distances are to the style images. The floor is the distance between two random halves of them: nothing real
is nearer. Raw photos are what no stylization at all would get, colour transfer what a few numbers of a style
image would.</p>
@FIGURES@
<h2>Reconstruction of held-out style images</h2>
@RECONSTRUCTION@
<h2>Read this before quoting a figure</h2>
<ul><li>Figures compare only within this table: another number of pictures, size, filter or extractor gives others.
</li>@NOTES@</ul>
<h2>First photos</h2>
<p>@SHOWN@ This page stays with you: it shows what was made from people's photos.</p>
@SAMPLES@
<h2>Least alike</h2>
<p>The photos whose pictures the face network finds least like them, worst first.</p>
@WORST@
<h2>What the figures depend on</h2>
<pre>@RECORD@</pre>
</body></html>
"""
