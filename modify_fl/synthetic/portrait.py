"""A whole portrait, from the background to the glasses (see the package)."""

import numpy as np

from modify_fl.synthetic.canvas import Canvas, ramp
from modify_fl.synthetic.eyes import draw_eyes, draw_glasses
from modify_fl.synthetic.hair import BEHIND, draw_hair, hair_behind, hair_front, hair_outline
from modify_fl.synthetic.head import draw_beard, draw_mouth, draw_nose, face_outline, lit_skin
from modify_fl.synthetic.person import Colour, Person

__all__ = ["draw_backdrop", "draw_face"]


def draw_backdrop(canvas: Canvas, person: Person, colour: Colour, cloth: Colour, depth: float) -> None:
    """Draw background, long hair and shoulders.

    Args:
        canvas: Surface; everything on it is covered.
        person: Who.
        colour: Of the background, linear RGB [3].
        cloth: Colour of the clothes, linear RGB [3].
        depth: How much the background varies, 0 to 1.
    """
    glow = 1 + depth * canvas.spread(person.coarse[1]) - depth * 0.5 * (canvas.x**2 + canvas.y**2)
    glow = glow + 0.25 * depth * canvas.x * person.lamp[0] * -1
    canvas.rgb[:] = colour * np.clip(glow, 0.15, 2)[..., None]
    if person.length > BEHIND:
        draw_hair(canvas, person, hair_behind(canvas, person), 0.55)
    _draw_body(canvas, person, cloth)


def _draw_body(canvas: Canvas, person: Person, cloth: Colour) -> None:
    x = canvas.x - 0.06 * canvas.turn
    half = 0.36 - 0.07 * person.soft
    neck = canvas.soft(np.abs(x) - half - 0.25 * np.clip(canvas.y - 0.85, 0, 1) ** 2)
    neck = neck * ramp(canvas.y, 0.3, 0.4)
    roundness = np.sqrt(np.clip(1 - (x / (half * 1.15)) ** 2, 0.05, 1))
    shadow = 0.45 + 0.4 * ramp(canvas.y - 0.4 * np.abs(x), person.chin - 0.1, person.chin + 0.35)
    canvas.paint(neck, person.skin * (roundness * shadow * 0.85)[..., None])
    aside = np.abs(x) - half
    slope = 0.84 + 0.3 * np.clip(aside, 0, 1) ** 1.4
    collar = slope + person.collar * np.clip(1 - (x / half) ** 2, 0, 1) ** 0.7
    shoulder = np.where(aside < 0, collar, slope)
    folds = 0.75 + 0.3 * canvas.spread(person.coarse[0]) + 0.3 * (0.5 - np.abs(x)) - 0.2 * x * -person.lamp[0]
    folds = folds * (1 - 0.35 * np.exp(-(((canvas.y - shoulder - 0.035) / 0.012) ** 2)))
    canvas.paint(canvas.soft(shoulder - canvas.y), cloth * np.clip(folds, 0.3, 1.3)[..., None])


def draw_face(canvas: Canvas, person: Person, lamp: tuple[float, float], ambient: float) -> None:
    """Draw head, features and the hair in front.

    Args:
        canvas: Surface that holds the backdrop.
        person: Who.
        lamp: Direction of the light, to the right and upwards, per unit towards the viewer.
        ambient: Share of the light that comes from everywhere, 0 to 1.
    """
    skin = lit_skin(canvas, person, lamp, ambient)
    ear = np.sqrt(((np.abs(canvas.fx) - person.cheek - 0.005) / 0.07) ** 2 + ((canvas.fy - 0.06) / 0.16) ** 2) - 1
    canvas.paint(canvas.soft(ear * 0.08), skin * 0.75 + person.skin * 0.08)
    skull = np.maximum(hair_outline(canvas, person) + person.volume, canvas.fy)
    canvas.paint(canvas.soft(np.minimum(face_outline(canvas, person), skull)), skin)
    draw_nose(canvas, person)
    draw_beard(canvas, person)
    draw_mouth(canvas, person)
    draw_eyes(canvas, person)
    hair = hair_front(canvas, person)
    # Hair throws a soft shadow on the skin below it.
    shift = max(1, hair.shape[0] // 28)
    above = np.pad(hair[:-shift], ((shift, 0), (0, 0)))  # [S, S]
    canvas.shade(1 - 0.35 * above * (1 - hair) * canvas.soft(face_outline(canvas, person)))
    draw_hair(canvas, person, hair, 1.0)
    if person.glasses:
        draw_glasses(canvas, person)
