"""Charts as SVG text (U-70)."""

import re
from xml.etree import ElementTree as ET

import pytest

from modify_fl.charts import CSS, Band, Bar, bar_chart, histogram, line_chart, ticks


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own text


def words(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 5, 10]),  # 10 / 4 = 2.5, the next of 1, 2, 5 is 5
        (0, 1, [0, 0.5, 1]),
        (-3, 120, [0, 50, 100]),
        (0.2, 0.3, [0.2, 0.25, 0.3]),  # 0.025 is above 0.02
        (7, 7, [7]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize("power", range(-6, 7))
def test_there_are_two_to_six_ticks(power: int) -> None:
    for high in (1, 1.3, 1.9, 2.7, 4.2, 6.6, 9.9):
        found = ticks(0, high * 10**power)
        assert 2 <= len(found) <= 6
        assert found == sorted(found)


def test_bars_are_as_long_as_their_values() -> None:
    """Two bars from 0 on one scale: 20 is twice as long as 10, and a value below 0 lies left of 0."""
    svg = bar_chart(
        [Bar(label="a", value=10, text="ten"), Bar(label="b", value=20), Bar(label="c", value=-5)], title="t"
    )
    bars = [element for element in parsed(svg).iter("rect") if element.get("class") == "bar"]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(widths[0] / 2, abs=0.2)
    zero = float(bars[0].get("x", "0"))
    assert float(bars[2].get("x", "0")) + widths[2] == pytest.approx(zero, abs=0.2)
    assert {"a", "ten", "b", "c"} <= set(words(svg))


def test_interval_reaches_from_low_to_high() -> None:
    svg = bar_chart([Bar(label="a", value=10, low=5, high=20)], title="t")
    (path,) = [element.get("d", "") for element in parsed(svg).iter("path")]
    left, right = (float(x) for x in re.findall(r"M([\d.]+) ", path)[:2])
    bar = next(element for element in parsed(svg).iter("rect"))
    zero, width = float(bar.get("x", "0")), float(bar.get("width", "0"))
    assert left == pytest.approx(zero + width / 2, abs=0.2)
    assert right == pytest.approx(zero + 2 * width, abs=0.2)


def test_missing_figure_has_no_bar() -> None:
    """M-43: never a bar of length 0."""
    svg = bar_chart([Bar(label="a", value=None), Bar(label="b", value=1)], title="t")
    assert svg.count('class="bar"') == 1
    assert "not available" in words(svg)
    assert 'class="bar"' not in bar_chart([Bar(label="a", value=None)], title="t")


def test_histogram_draws_shares() -> None:
    """Both groups are drawn as shares, so 1 of 2 pairs is as high as 50 of 100."""
    svg = histogram([("own", (1, 1)), ("others", (50, 50))], title="t", low=-1, high=1)
    polygons = [element.get("points") for element in parsed(svg).iter("polygon")]
    assert polygons[0] == polygons[1]
    assert {"own", "others", "50%"} <= set(words(svg))
    assert histogram([("none", (0, 0))], title="t", low=0, high=1)


def test_line_keeps_its_points_inside() -> None:
    points = [(0.0, 1.0), (5.0, 3.0), (10.0, 2.0)]
    bands = (Band(label="one", start=0, end=5), Band(label="two", start=5, end=99))
    svg = line_chart(points, title="loss <x>", x_label="kimg", bands=bands)
    (line,) = parsed(svg).iter("polyline")
    drawn = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert drawn[1][1] < drawn[2][1] < drawn[0][1]  # up is small in SVG
    (shade,) = (element for element in parsed(svg).iter("rect") if element.get("class") == "band")
    assert float(shade.get("x", "0")) + float(shade.get("width", "0")) == pytest.approx(drawn[2][0], abs=0.2)
    assert {"loss <x>", "kimg", "one", "two"} <= set(words(svg))


def test_one_point_is_a_chart() -> None:
    assert "polyline" in line_chart([(3.0, 0.0)], title="t", x_label="kimg")


def test_every_chart_has_a_name_for_screen_readers() -> None:
    svg = bar_chart([Bar(label="a", value=1)], title='KID "best" & <worst>')
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'KID "best" & <worst>' == next(root.iter("title")).text


def test_colours_know_dark_pages_and_need_no_network() -> None:
    assert "prefers-color-scheme: dark" in CSS
    assert "url" not in CSS
