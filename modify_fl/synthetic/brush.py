"""What makes a painting of a picture: brush strokes and canvas (see the package)."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from modify_fl.synthetic.person import Draws, Plane

__all__ = ["brush_strokes", "weave"]

_PASSES = ((0.1, 400), (0.055, 900), (0.028, 1700))  # width as a share of the side, number of strokes tried
_THREADS = 60
_STROKE_ERROR = 24.0  # a stroke is set only where the colours are off by more, summed over RGB in grey levels


def brush_strokes(tone: Plane, draws: Draws) -> Plane:
    """Paint a picture over with strokes along its edges, from broad to fine.

    Args:
        tone: sRGB in [0, 1], float32 [S, S, 3].
        draws: Places, directions and tints of the strokes; as many draws at every size.

    Returns:
        The painting, as ``tone``; the relief of the paint can leave [0, 1] a little.
    """
    side = tone.shape[0]
    scene = Image.fromarray(np.rint(tone * 255).astype(np.uint8))
    painted = scene.filter(ImageFilter.GaussianBlur(_PASSES[0][0] * side / 4))
    relief = Image.new("L", (side, side), 128)
    for width, count in _PASSES:
        _paint_over(scene, painted, relief, width * side, draws.table(5, count))
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(side / 160)), np.float32) / 255
    slope_y, slope_x = np.gradient(height, 160 / side)
    light = np.asarray(slope_x + slope_y, np.float32)  # [S, S]
    return np.asarray(painted, np.float32) / 255 + 0.25 * light[..., None]


def _paint_over(scene: Image.Image, painted: Image.Image, relief: Image.Image, width: float, place: Plane) -> None:
    """Set the strokes of one pass; ``place`` holds row, column, angle, length and tint of each, [5, count]."""
    model = np.asarray(scene.filter(ImageFilter.GaussianBlur(width / 6)), np.float32)  # [S, S, 3]
    slope_y, slope_x = np.gradient(model.mean(-1))
    row, column = ((place[:2] + 1) / 2 * (scene.width - 1)).astype(int)  # [count] each
    angle = np.arctan2(slope_x[row, column], -slope_y[row, column]) + 0.35 * place[2]
    # Where the picture is flat there is no edge to follow: strokes fall one way, more or less.
    flat = np.hypot(slope_x, slope_y)[row, column] < 60 / scene.width
    angle = np.where(flat, 0.9 + 0.8 * place[2], angle)
    reach = width * (0.5 + 0.3 * place[3])
    dx, dy = np.cos(angle) * reach, np.sin(angle) * reach
    lines = np.stack([column - dx, row - dy, column + dx, row + dy], -1).tolist()  # [count, 4]
    colours = np.clip(model[row, column] * (1 + 0.07 * place[4][:, None]), 0, 255).astype(int).tolist()
    heights = (128 + 90 * place[3]).astype(int).tolist()
    off = np.abs(model - np.asarray(painted, np.float32)).sum(-1)[row, column]
    pen, plough = ImageDraw.Draw(painted), ImageDraw.Draw(relief)
    for i in np.flatnonzero(off > _STROKE_ERROR).tolist():
        pen.line(lines[i], tuple(colours[i]), max(1, round(width / 2.2)))
        plough.line(lines[i], heights[i], max(1, round(width / 2.2)))


def weave(tone: Plane, draws: Draws) -> Plane:
    """Lay the threads and the grain of a canvas over a painting and clip it to [0, 1]."""
    side = tone.shape[0]
    thread = np.sin(np.arange(side) / side * 2 * np.pi * _THREADS)
    grain = np.asarray(Image.fromarray(draws.table(128, 128)).resize((side, side), Image.Resampling.BICUBIC))
    texture = 0.012 * (thread[:, None] + thread[None, :]) + 0.025 * grain  # [S, S]
    return np.asarray(np.clip(tone + texture[..., None], 0, 1), np.float32)
