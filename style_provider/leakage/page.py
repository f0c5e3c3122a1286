"""The provider's page of an audit: figures, and pictures beside the images they come near (P-74, P-85).

It shows style images and stays with the provider. No script, no network.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.charts import CSS, Bar, bar_chart
from modify_fl.data import to_uint8
from modify_fl.faces.decode import fit_square
from modify_fl.sheet import contact_sheet
from style_provider.leakage.copies import drawn
from style_provider.leakage.findings import Finding, closest
from style_provider.leakage.report import PAGE, Told

__all__ = ["pages"]

_PAIRS = 20
_SIDE = 128

Pixels = NDArray[np.uint8]


def pages(told: Told) -> list[tuple[str, bytes]]:
    """Return the page and its pictures, names first.

    Args:
        told: The audit; pictures are drawn again, they were not kept.
    """
    sheets = {
        f"closest-{name.lower()}.png": (
            f"The {_PAIRS} drawn pictures nearest to a training image in {name}: picture left, image right.",
            _closest(told, name),
        )
        for name in told.material.spaces.names
    }
    if len(told.result.completed):
        sheets["completions.png"] = (
            "Training images whose lower half was completed best: image left, completion right.", _completed(told),
        )  # fmt: skip
    return [(PAGE, _page(told, sheets).encode()), *((name, png) for name, (_, png) in sheets.items())]


def _closest(told: Told, space: str) -> bytes:
    near = told.result.neighbours
    chosen = list(closest(near, space, _PAIRS))
    images = told.material.trained.batch(near.nearest[space][chosen].tolist())
    return _sheet(drawn(told.material, chosen), images)


def _completed(told: Told) -> bytes:
    images = told.material.sample[0].batch(list(told.result.completed))
    return _sheet(images, told.result.completions)


def _sheet(left: Tensor, right: Tensor) -> bytes:
    """Return pairs as a picture, five pairs a row."""
    pairs = [
        [_small(pixels) for pixels in pair] for pair in zip(to_uint8(left), to_uint8(right.clamp(-1, 1)), strict=True)
    ]
    rows = [[picture for pair in pairs[at : at + 5] for picture in pair] for at in range(0, len(pairs), 5)]
    stream = io.BytesIO()
    contact_sheet(rows).save(stream, "PNG")
    return stream.getvalue()


def _small(picture: Pixels) -> Pixels:
    return picture if len(picture) <= _SIDE else fit_square(picture, _SIDE)


def _page(told: Told, sheets: dict[str, tuple[str, bytes]]) -> str:
    title = html.escape(f"What {told.material.style.manifest.bundle.name} gives away")
    bars = [
        Bar(label=f.name, value=f.value, low=f.low, high=f.high, text=f.text())
        for f in told.result.findings
        if f.name.startswith(("AUC", "membership AUC", "completion AUC", "control AUC"))
    ]
    chart = bar_chart(bars, title="How well each attack tells training images from held-out ones; 0.5 is chance")
    reasons = "".join(f"<li>{html.escape(s)}</li>" for s in (*told.verdict.refusals, *told.verdict.warnings))
    shown = "".join(
        f'<h2>{html.escape(words)}</h2><img alt="{html.escape(words)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for words, png in sheets.values()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2em .8em; text-align: left; border-bottom: 1px solid #ccc; }}
img {{ max-width: 100%; image-rendering: pixelated; }} {CSS}
</style></head><body>
<h1>{title}</h1>
<p><strong>This page shows style images and stays with you.</strong> What enters the bundle are figures alone.</p>
<p>Status: <strong>{told.verdict.status}</strong> for {told.style_data} images, {told.date}.
These are attacks that were tried, not a bound.</p>
<ul>{reasons}</ul>
{_table(told.headlines)}
{chart if bars else ""}
<h2>All figures</h2>
{_table(told.result.findings)}
{shown}
</body></html>
"""


def _table(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(f.name)}</td><td>{html.escape(f.text())}</td>"
        f"<td>{html.escape('; '.join(filter(None, (f.numbers, f.note))))}</td></tr>"
        for f in findings
    )
    return f"<table><thead><tr><th>figure</th><th>found</th><th>how sure</th></tr></thead><tbody>{rows}</tbody></table>"
