"""Hair before and behind the head (see the package)."""

import numpy as np

from modify_fl.synthetic.canvas import Canvas, ramp
from modify_fl.synthetic.person import Person, Plane

__all__ = ["BEHIND", "draw_hair", "hair_behind", "hair_front", "hair_outline"]

BEHIND = 0.2
"""Hair longer than this shows behind the neck, canvas units below the eyes."""


def hair_outline(canvas: Canvas, person: Person) -> Plane:
    """Return the distance to the outline of the hair round the skull, below 0 inside."""
    x = canvas.fx / (person.cheek + person.volume)
    y = (canvas.fy + 0.2) / (0.66 + 0.9 * person.volume)
    wave = person.curl * 0.07 * canvas.spread(person.fine[:20, :20])
    return np.asarray(0.6 * (np.sqrt(x**2 + np.where(y < 0, y, y * 0.55) ** 2) - 1 + wave), np.float32)


def _curtain(canvas: Canvas, person: Person) -> Plane:
    """Return the distance to long hair beside and behind the neck."""
    width = person.cheek + person.volume + 0.04 * np.sin(6 * canvas.fy + 3 * person.curl)
    tips = canvas.fy - person.length - 0.06 * canvas.spread(person.strands[:, 40:60])
    return np.asarray(np.maximum(np.abs(canvas.fx) - width, np.maximum(-0.2 - canvas.fy, tips)), np.float32)


def hair_behind(canvas: Canvas, person: Person) -> Plane:
    """Return the hair that the head hides in part."""
    return canvas.soft(np.minimum(hair_outline(canvas, person), _curtain(canvas, person)), 0.03)


def hair_front(canvas: Canvas, person: Person) -> Plane:
    """Return the hair above the hairline and beside the face."""
    x = canvas.fx - np.float32(person.parting)
    reach = person.cheek - person.parting * np.sign(x)
    line = person.hairline + person.drop * (np.abs(x) / reach) ** person.sweep
    line = line + 0.04 * canvas.spread(person.strands[:, :16])
    long = person.length > BEHIND
    end = person.length if long else max(person.length, -0.05)
    # Short hair thins out towards the ear, long hair swings away from the jaw.
    aside = 0.05 * ramp(canvas.fy, 0.05, 0.6) if long else 0.07 * ramp(canvas.fy, end - 0.3, end)
    beside = person.cheek - 0.05 + aside - np.abs(canvas.fx)
    outer = np.minimum(hair_outline(canvas, person), _curtain(canvas, person)) if long else hair_outline(canvas, person)
    tips = canvas.fy - end - 0.04 - 0.05 * canvas.spread(person.strands[:, 16:40])
    return canvas.soft(np.maximum(np.maximum(outer, tips), np.minimum(canvas.fy - line, beside)), 0.03)


def draw_hair(canvas: Canvas, person: Person, mask: Plane, level: float) -> None:
    """Paint strands of hair where ``mask`` is 1; ``level`` is how much light falls on them."""
    angle = np.arctan2(canvas.fx - 0.4 * person.parting, canvas.fy + 1.15) / np.pi  # [-1, 1]
    angle = angle + person.curl * 0.025 * canvas.spread(person.fine[:14, :14])
    grid = np.linspace(-1, 1, person.strands.shape[1])
    tone = sum(np.interp(angle * scale, grid, person.strands[i]) for i, scale in enumerate((1.0, 0.37, 0.11)))
    band = np.exp(-(((canvas.fy + 0.66 + 0.25 * person.lamp[0] * canvas.fx) / 0.14) ** 2))
    light = level * (0.85 + 0.22 * np.asarray(tone) + 0.25 * person.lamp[0] * canvas.fx) + 0.5 * level * band
    canvas.paint(mask, (person.hair + 0.012) * np.clip(light, 0.15, 2.2)[..., None].astype(np.float32))
