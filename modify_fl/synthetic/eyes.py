"""Eyes, brows and glasses (see the package)."""

import numpy as np

from modify_fl.synthetic.canvas import Canvas, ramp
from modify_fl.synthetic.head import face_outline
from modify_fl.synthetic.person import Person, Plane

__all__ = ["draw_eyes", "draw_glasses"]


def draw_eyes(canvas: Canvas, person: Person) -> None:
    """Draw both eyes and brows; x runs outwards from the middle of each eye."""
    for sign in (-1, 1):
        x = (canvas.fx - sign * person.eye_gap) * sign
        y = canvas.fy + 0.05 - 0.08 * x
        u = np.clip(x / person.eye_size, -1.2, 1.2)
        open_ = person.eye_size * person.eye_open * (1 - 0.2 * max(person.smile, 0))
        upper = y + open_ * (1 - u**2)
        lower = y - 0.7 * open_ * (1 - u**2)
        lid = np.maximum(-upper, lower)
        mask = canvas.soft(lid)
        shadow = 0.62 + 0.38 * ramp(upper, 0, 0.06)
        canvas.paint(mask, np.array([0.78, 0.74, 0.72], np.float32) * shadow[..., None])
        _draw_iris(canvas, person, (x, y + 0.006, mask), sign)
        lash = canvas.soft(np.abs(upper) - 0.011 - 0.006 * person.soft, 0.012) * (np.abs(u) < 1.1)
        canvas.paint(lash * 0.85, person.hair * 0.15)
        canvas.paint(canvas.soft(np.abs(lower) - 0.004, 0.012) * (np.abs(u) < 1) * 0.4, person.skin * 0.3)
        crease = canvas.soft(np.abs(upper + 0.03) - 0.004, 0.014) * (np.abs(u) < 0.95)
        canvas.paint(crease * 0.45, person.skin * 0.35)
        _draw_brow(canvas, person, x, sign)


def _draw_iris(canvas: Canvas, person: Person, opening: tuple[Plane, Plane, Plane], sign: int) -> None:
    x, y, eye = opening
    gaze = -0.35 * person.yaw * person.eye_size * sign
    radius = np.sqrt((x - gaze) ** 2 + y**2)
    size = 0.47 * person.eye_size
    ring = 0.55 + 0.65 * ramp(radius, 0.2 * size, 0.7 * size) - 0.75 * ramp(radius, 0.75 * size, size)
    canvas.paint(eye * canvas.soft(radius - size), person.iris * ring[..., None])
    canvas.paint(eye * canvas.soft(radius - 0.45 * size), np.full(3, 0.004, np.float32))
    spark = np.sqrt((x - gaze - sign * 0.3 * size * np.sign(person.lamp[0])) ** 2 + (y + 0.35 * size) ** 2)
    canvas.paint(eye * canvas.soft(spark - 0.22 * size) * 0.9, np.full(3, 0.95, np.float32))


def _draw_brow(canvas: Canvas, person: Person, x: Plane, sign: int) -> None:
    u = np.clip((x + 0.02) / 0.16, -1, 1)
    arch = -0.06 - person.brow_height + 0.035 * u**2 - 0.02 * u
    thick = person.brow_weight * (1 - 0.55 * ramp(u, -0.2, 1))
    hairs = 0.8 + 0.2 * np.interp(x + 0.4 * canvas.fy * sign, np.linspace(-1, 1, 512), person.strands[3])
    mask = canvas.soft(np.abs(canvas.fy - arch) - thick, 0.02) * canvas.soft(np.abs(x + 0.02) - 0.15, 0.05)
    canvas.paint(mask * 0.85 * hairs.astype(np.float32), person.hair * 0.5 + person.skin * 0.06)


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Draw frame, bridge, temples and a glint on the lenses."""
    x = np.abs(canvas.fx)
    lens = (((x - person.eye_gap) / 0.19) ** 4 + ((canvas.fy + 0.03) / 0.145) ** 4) ** 0.25 - 1
    frame = canvas.soft(np.abs(lens) * 0.16 - 0.009)
    bridge = canvas.soft(np.maximum(np.abs(canvas.fy + 0.07 - x**2) - 0.01, x - 0.07))
    temple = canvas.soft(np.maximum(np.abs(canvas.fy + 0.07) - 0.012, person.eye_gap + 0.18 - x))
    temple = temple * canvas.soft(face_outline(canvas, person))
    canvas.paint(canvas.soft(lens * 0.16) * 0.03, np.ones(3, np.float32))
    canvas.paint(np.clip(frame + bridge + temple, 0, 1), person.cloth * 0.12)
