"""Faces drawn by a small seeded program, as photos or as paintings.

They stand in for real pictures where there are none: in tests, and in a first
trial without any download. Rules this package keeps: face i depends on the seed
and on i alone, so a longer set begins with the shorter one; a person keeps
shape, pose and features in both looks and at every resolution; eyes and mouth
lie where the FFHQ alignment puts them; only numpy and Pillow are used.

A face is a height field lit by one lamp; hair, eyes and the rest are masks
with soft edges, painted from back to front. Everything is drawn at twice the
resolution and averaged::

    person     who: shape, colours, pose, lamp
    canvas     pixels, coordinates, soft shapes
    head hair eyes portrait   what is painted, from back to front
    brush      what makes a painting of it

Legend: coordinates run from -1 (left, top) to 1 (right, bottom); S is the side
of the canvas in pixels, twice the resolution R; colours are linear light.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modify_fl.errors import ConfigError
from modify_fl.synthetic.brush import brush_strokes, weave
from modify_fl.synthetic.canvas import Canvas, bump
from modify_fl.synthetic.person import Draws, Person, Plane, draw_person
from modify_fl.synthetic.portrait import draw_backdrop, draw_face

__all__ = ["Look", "draw_faces"]

Look = Literal["photo", "painting"]
"""``photo``: even light, plain colours. ``painting``: dark warm palette, brush strokes, canvas."""

_SUPERSAMPLING = 2
_GAMMA = 1 / 2.2
_VARNISH = np.array([1.3, 1.1, 0.82], np.float32)


def draw_faces(look: Look, count: int, resolution: int, seed: int) -> NDArray[np.uint8]:
    """Draw faces that are aligned like FFHQ.

    Args:
        look: As photos or as paintings; face i is the same person in both.
        count: N.
        resolution: R, any number of pixels.
        seed: Face i depends on ``seed`` and i alone.

    Returns:
        sRGB, uint8 [N, R, R, 3]; the same bytes for the same arguments.

    Raises:
        ConfigError: ``count`` is negative, ``resolution`` below 8, or the look unknown.
    """
    if count < 0 or resolution < 8 or look not in {"photo", "painting"}:
        raise ConfigError(f"cannot draw {count} faces of {resolution} pixels in the look {look}")
    faces = np.empty((count, resolution, resolution, 3), np.uint8)
    for index in range(count):
        draws = Draws(seed, index)
        person = draw_person(draws)
        canvas = Canvas(_SUPERSAMPLING * resolution, person)
        tone = _photo(canvas, person) if look == "photo" else _painting(canvas, person, draws)  # [S, S, 3]
        faces[index] = _reduce(tone)
    return faces


def _photo(canvas: Canvas, person: Person) -> Plane:
    draw_backdrop(canvas, person, person.back, person.cloth, 0.22)
    draw_face(canvas, person, person.lamp, 0.34)
    return np.asarray(np.clip(canvas.rgb * 1.12, 0, 1) ** _GAMMA, np.float32)


def _painting(canvas: Canvas, person: Person, draws: Draws) -> Plane:
    lamp = (1.1 if person.lamp[0] > 0 else -1.1, person.lamp[1])
    draw_backdrop(canvas, person, person.old_back, person.old_cloth, 0.5)
    draw_face(canvas, person, lamp, 0.2)
    tone = np.asarray(np.clip(canvas.rgb * _VARNISH, 0, 1) ** _GAMMA, np.float32)
    # Painters take a fine brush for eyes, nose and mouth.
    x, y = np.abs(canvas.fx), canvas.fy
    fine = np.maximum(bump(x, y, (person.eye_gap, -0.08), (0.16, 0.11)), bump(x, y, (0, 0.35), (0.22, 0.22)))
    painted = brush_strokes(tone, draws)
    painted += 0.75 * fine[..., None] * (tone - painted)
    return weave(painted, draws)


def _reduce(tone: Plane) -> NDArray[np.uint8]:
    """Average blocks of pixels, [S, S, 3] in [0, 1] -> uint8 [R, R, 3]."""
    side = tone.shape[0] // _SUPERSAMPLING
    blocks = tone.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING, 3)
    return np.asarray(np.rint(blocks.mean((1, 3)) * 255), np.uint8)
