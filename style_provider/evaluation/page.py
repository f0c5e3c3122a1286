"""The page of an evaluation: no script, no network, charts with their numbers beside them (U-70, U-71, U-73)."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modify_fl.charts import CSS, Bar, bar_chart, histogram, line_chart
from modify_fl.metrics.collector import LABELS
from style_provider.evaluation.measure import COLUMNS, Findings
from style_provider.evaluation.tables import (
    BETTER,
    Table,
    figure_text,
    notes,
    protocol_line,
    reference_line,
    seed_table,
    table,
    training_line,
)
from style_provider.evaluation.task import Evaluation
from style_provider.evaluation.training import Course

__all__ = ["Grid", "page"]

_COARSE = 10
_NO_FACES = "<p>Not available: it needs the face network.</p>"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A picture of pictures."""

    png: bytes
    """A whole PNG file."""
    alt: str
    """What it shows, for those who cannot see it."""


def page(
    task: Evaluation, findings: Findings, grids: Mapping[str, Grid], *, courses: Sequence[Course], show_photos: bool
) -> str:
    """Return the page as HTML.

    Args:
        task: What was measured; of several trainings, the first.
        findings: The figures.
        grids: ``samples``, and ``worst`` where the face network is there.
        courses: Trainings to draw.
        show_photos: Whether the grids hold photos.
    """
    first, second = table(findings)
    each = seed_table(findings)
    parts = {
        "TITLE": html.escape(f"Evaluation of {task.style.loaded.manifest.bundle.name}"),
        "CHARTCSS": CSS,
        "PROTOCOL": html.escape(protocol_line(task)),
        "FIGURES": _table(first, f"{reference_line(task)} {training_line(findings)}"),
        "SEEDS": _table(each, "Each training with its own interval over photos.") if each else "",
        "CHARTS": _charts(findings),
        "COSINES": _cosines(findings),
        "RECONSTRUCTION": _table(second, _held_line(task, findings)),
        "NOTES": "".join(f"<li>{html.escape(note)}</li>" for note in notes(findings)),
        "SAMPLES": _picture(grids["samples"]),
        "WORST": _picture(grids["worst"]) if "worst" in grids else _NO_FACES,
        "SHOWN": _shown(findings, show_photos=show_photos),
        "TRAINING": "".join(_training(course) for course in courses),
        "RECORD": html.escape(json.dumps(findings.record, indent=1)),
    }
    # One pass, so that a marker inside a value stays what it is.
    return re.sub(r"@([A-Z]+)@", lambda found: parts[found[1]], _TEMPLATE)


def _held_line(task: Evaluation, findings: Findings) -> str:
    count = findings.reconstruction["l1"].n
    source = "of --reference" if task.reference is not None else "of --dataset that the bundle held out"
    return f"{count} style images {source}; the nearest training image is searched in --dataset."


def _shown(findings: Findings, *, show_photos: bool) -> str:
    photos = (
        "Photos stand in the first column."
        if show_photos
        else "Photos are not shown; <code>--show-photos</code> adds them."
    )
    return photos + (" Pictures are those of the first bundle." if findings.seeds else "")


# Charts ---------------------------------------------------------------------------


def _charts(findings: Findings) -> str:
    return "".join(_figure_chart(key, label, findings) for key, label in LABELS.items())


def _figure_chart(key: str, label: str, findings: Findings) -> str:
    titles = {**COLUMNS, "style": "style, mean"} if findings.seeds else COLUMNS
    columns = [(titles[name], figures.get(key)) for name, figures in findings.columns.items()]
    columns += [
        (f"training seed {each.record['training_seed']}", each.columns["style"][key]) for each in findings.seeds
    ]
    bars = [
        Bar(label=name, value=figure.value, low=figure.low, high=figure.high, text=figure_text(key, figure))
        for name, figure in columns
        if figure is not None
    ]
    if all(bar.value is None for bar in bars):
        return ""
    better = f", {BETTER[key]} is better" if BETTER[key] else ""
    return _figure(bar_chart(bars, title=f"{label}: style, floor and baselines"), f"{label}{better}")


def _cosines(findings: Findings) -> str:
    likeness = findings.likeness
    if likeness is None:
        return _NO_FACES
    groups = [("own photo", likeness.own), ("photos of others", likeness.others)]
    drawn = histogram(groups, title="Cosine between picture and photo, as a share of the pairs", low=-1, high=1)
    step = 2 / _COARSE
    header = ["cosine from", *(f"{-1 + place * step:.1f}" for place in range(_COARSE))]
    rows = [[name, *(f"{share:.1%}" for share in _coarse(counts))] for name, counts in groups]
    return _figure(drawn, "Pairs of a picture and a photo, by cosine") + _table((header, rows), "Shares of the pairs.")


def _coarse(counts: Sequence[int]) -> list[float]:
    size, total = len(counts) // _COARSE, max(1, sum(counts))
    return [sum(counts[start : start + size]) / total for start in range(0, len(counts), size)]


def _training(course: Course) -> str:
    charts = "".join(
        f"<div>{line_chart(points, title=name, x_label='kimg', bands=course.phases)}</div>"
        for name, points in course.series.items()
    )
    header = ["", "first", "middle", "last", "lowest", "highest"]
    rows = []
    for name, points in course.series.items():
        values = [value for _, value in points]
        shown = (values[0], values[len(values) // 2], values[-1], min(values), max(values))
        rows.append([name, *(f"{value:.4g}" for value in shown)])
    phases = ", ".join(f"{band.label} to {band.end:.1f} kimg" for band in course.phases)
    return (
        f'<h2>Training: {html.escape(course.name)}</h2><p>{html.escape(phases)}</p><div class="charts">{charts}</div>'
        f"{_table((header, rows), 'The curves in numbers; each point is a mean over some steps.')}"
    )


# HTML -----------------------------------------------------------------------------


def _figure(svg: str, caption: str) -> str:
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{svg}</figure>"


def _picture(grid: Grid) -> str:
    data = base64.b64encode(grid.png).decode("ascii")
    return f'<p><img src="data:image/png;base64,{data}" alt="{html.escape(grid.alt)}"></p>'


def _table(content: Table, caption: str) -> str:
    header, rows = content
    head = "".join(f'<th scope="col">{html.escape(word)}</th>' for word in header)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(word)}</td>" for word in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { font-weight: 600; } .wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
td, th { border: 1px solid #8886; padding: .3rem .7rem; text-align: left; } tbody th { font-weight: 400; }
pre { overflow-x: auto; background: #8882; padding: .7rem; font-size: .8rem; }
.charts { display: flex; flex-wrap: wrap; gap: .5rem; }
@media print {
  :root { color-scheme: light; font-size: 11px; } body { max-width: none; margin: 0; }
  pre { white-space: pre-wrap; } figure, tr, img, svg { break-inside: avoid; } h2 { break-after: avoid; }
}
@CHARTCSS@</style></head><body>
<h1>@TITLE@</h1>
<p>@PROTOCOL@</p>
<h2>Figures</h2>
<p>The floor is the distance between two random halves of the reference: nothing real is nearer. Raw photos are what
no stylization at all would get, colour transfer what a few numbers of a style image would.</p>
@FIGURES@
@SEEDS@
@CHARTS@
<h2>Is it still the same person?</h2>
<p>Cosines between the pictures and the photos, by a face network that was not trained with. The further the two
distributions are apart, the better a person is recognised.</p>
@COSINES@
<h2>Reconstruction of held-out style images</h2>
@RECONSTRUCTION@
<h2>Read this before quoting a figure</h2>
<ul><li>Figures compare only within this table: another number of pictures, size, filter or extractor gives others.
</li>@NOTES@</ul>
<h2>First photos</h2>
<p>@SHOWN@ One photo a row, one style a column. This page stays with you: it shows what was made from people's
photos.</p>
@SAMPLES@
<h2>Least alike</h2>
<p>The photos whose pictures the face network finds least like them, worst first.</p>
@WORST@
@TRAINING@
<h2>What the figures depend on</h2>
<pre>@RECORD@</pre>
</body></html>
"""
