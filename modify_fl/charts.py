"""Charts as SVG text, for pages that need no network (U-70).

Every chart carries its title for screen readers, prints its values as text and
takes its colours from ``CSS``, which knows light, dark and printed pages. The
two colours are told apart by colour-blind people too (Okabe and Ito), and never
carry a meaning that no word carries.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["CSS", "Band", "Bar", "Point", "bar_chart", "histogram", "line_chart", "ticks"]

CSS = """
svg { max-width: 100%; height: auto; font: 13px system-ui, sans-serif; --one: #0072b2; --two: #d55e00; }
svg text { fill: currentColor; } svg .axis { stroke: currentColor; opacity: .5; } svg .small { font-size: 11px; }
svg .bar { fill: var(--one); opacity: .75; } svg .whisker { stroke: currentColor; stroke-width: 1.5; fill: none; }
svg .line { stroke: var(--one); stroke-width: 1.5; fill: none; } svg .band { fill: currentColor; opacity: .08; }
svg .one { fill: var(--one); fill-opacity: .5; stroke: var(--one); }
svg .two { fill: var(--two); fill-opacity: .15; stroke: var(--two); stroke-dasharray: 4 2; }
@media screen and (prefers-color-scheme: dark) { svg { --one: #56b4e9; --two: #e69f00; } }
"""
"""Colours of all charts; stands once in the page."""

_WIDE, _ROW, _LABEL, _TEXT = 720, 26, 150, 170
_SMALL_WIDE, _SMALL_HIGH, _LEFT, _BELOW, _ABOVE = 340, 182, 52, 34, 34
_TICKS = 4

Point = tuple[float, float]
"""x and y, finite."""
Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of a bar chart."""

    label: str
    """Stands before the bar."""
    value: float | None
    """Length of the bar; none where there is no figure."""
    low: float | None = None
    """Lower end of the interval; none where there is none."""
    high: float | None = None
    """Upper end."""
    text: str = ""
    """The figure as people read it, after the bar."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A stretch of the x axis that has a name, such as a phase of a run."""

    label: str
    """Stands above it."""
    start: float
    """First x."""
    end: float
    """Last x."""


def ticks(low: float, high: float) -> list[float]:
    """Return two to six round numbers between ``low`` and ``high``, ascending."""
    if not high > low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def bar_chart(bars: Sequence[Bar], *, title: str) -> str:
    """Draw horizontal bars from 0, each with its interval and its figure.

    Args:
        bars: From top to bottom.
        title: What the bars measure.

    Returns:
        One ``svg`` element.
    """
    ends = [0.0, *(end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None)]
    low, high = min(ends), max(ends)
    width, bottom = _WIDE - _LABEL - _TEXT, len(bars) * _ROW + 4
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return _LABEL + width * (value - low) / span

    parts = [_line(x(0), 0, x(0), bottom)]
    marks = ticks(low, high) if high > low else []
    parts += [_words(x(value), bottom + 14, _number(value), anchor="middle", small=True) for value in marks]
    for row, bar in enumerate(bars):
        parts += _bar(bar, row * _ROW + 4, x)
    return _svg(parts, _WIDE, bottom + 20, title)


def histogram(groups: Sequence[tuple[str, Sequence[int]]], *, title: str, low: float, high: float) -> str:
    """Draw one or two distributions over each other, each as shares of its own total.

    Args:
        groups: Name and counts in equal bins; the same number of bins in both.
        title: What is counted.
        low: Where the first bin begins.
        high: Where the last bin ends.

    Returns:
        One ``svg`` element.
    """
    wide, high_px, top = _WIDE, 220, 30
    shares = [[count / max(1, sum(counts)) for count in counts] for _, counts in groups]
    peak = max((share for row in shares for share in row), default=0.0) or 1.0
    width, height = wide - _LEFT - 10, high_px - top - _BELOW

    def x(value: float) -> float:
        return _LEFT + width * (value - low) / (high - low)

    def y(share: float) -> float:
        return top + height * (1 - share / peak)

    parts = [_line(_LEFT, y(0), wide - 10, y(0))]
    parts += [_words(x(value), high_px - 14, _number(value), anchor="middle", small=True) for value in ticks(low, high)]
    parts += [_words(_LEFT - 6, y(peak) + 4, f"{peak:.0%}", anchor="end", small=True)]
    for place, ((name, _), row) in enumerate(zip(groups, shares, strict=True)):
        kind, step = ("one", "two")[place % 2], (high - low) / len(row)
        corners = [(x(low), y(0))]
        for index, share in enumerate(row):
            corners += [(x(low + index * step), y(share)), (x(low + (index + 1) * step), y(share))]
        corners.append((x(high), y(0)))
        parts.append(f'<polygon class="{kind}" points="{_points(corners)}"/>')
        left = _LEFT + place * 300
        parts.append(f'<rect class="{kind}" x="{left}" y="4" width="16" height="12"/>')
        parts.append(_words(left + 22, 14, name))
    return _svg(parts, wide, high_px, title)


def line_chart(points: Sequence[Point], *, title: str, x_label: str, bands: Sequence[Band] = ()) -> str:
    """Draw one quantity over another, on its own scale.

    Args:
        points: Pairs of finite numbers, ascending in x, at least one.
        title: What is drawn; stands above it.
        x_label: Unit of x.
        bands: Stretches of x that have names; every second one is shaded.

    Returns:
        One ``svg`` element.
    """
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    first, last, low, high = min(xs), max(xs), min(ys), max(ys)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    width, height = _SMALL_WIDE - _LEFT - 12, _SMALL_HIGH - _ABOVE - _BELOW

    def x(value: float) -> float:
        return _LEFT + width * (value - first) / ((last - first) or 1.0)

    def y(value: float) -> float:
        return _ABOVE + height * (high - value) / (high - low)

    parts = [_words(_LEFT, 13, title)]
    for place, band in enumerate(bands):
        start, end = (min(max(mark, first), last) for mark in (band.start, band.end))
        if place % 2:
            parts.append(f'<rect class="band" {_box(x(start), _ABOVE, x(end) - x(start), height)}/>')
        parts.append(_words(x(start) + 3, _ABOVE - 5, band.label, small=True))
    bottom = _ABOVE + height
    parts += [_line(_LEFT, _ABOVE, _LEFT, bottom), _line(_LEFT, bottom, _SMALL_WIDE - 12, bottom)]
    parts += [_words(_LEFT - 5, y(value) + 4, _number(value), anchor="end", small=True) for value in ticks(low, high)]
    marks = ticks(first, last)
    parts += [_words(x(value), bottom + 13, _number(value), anchor="middle", small=True) for value in marks]
    parts.append(_words(_LEFT + width / 2, bottom + 27, x_label, anchor="middle", small=True))
    parts.append(f'<polyline class="line" points="{_points([(x(a), y(b)) for a, b in points])}"/>')
    return _svg(parts, _SMALL_WIDE, _SMALL_HIGH, f"{title} against {x_label}")


# Parts of a chart -----------------------------------------------------------------


def _bar(bar: Bar, top: float, x: Scale) -> list[str]:
    middle = top + _ROW / 2
    parts = [
        _words(_LABEL - 8, middle + 2, bar.label, anchor="end"),
        _words(_WIDE - _TEXT + 10, middle + 2, bar.text or "not available"),
    ]
    if bar.value is None:
        return parts
    left, right = sorted((x(0), x(bar.value)))
    parts.append(f'<rect class="bar" {_box(left, top + 2, right - left, _ROW - 8)}/>')
    if bar.low is not None and bar.high is not None:
        a, b, line = x(bar.low), x(bar.high), top + _ROW / 2 - 2
        path = f"M{a:.1f} {line - 4:.1f}v8M{b:.1f} {line - 4:.1f}v8M{a:.1f} {line:.1f}H{b:.1f}"
        parts.append(f'<path class="whisker" d="{path}"/>')
    return parts


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
    name = html.escape(title)
    return (
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def _words(x: float, y: float, text: str, *, anchor: str = "start", small: bool = False) -> str:
    kind = ' class="small"' if small else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="axis" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'


def _points(pairs: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _number(value: float) -> str:
    return f"{value:.3g}" if value else "0"
