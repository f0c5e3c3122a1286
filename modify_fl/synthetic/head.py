"""Skin, nose, mouth and beard, and the outline of the face (see the package)."""

import numpy as np

from modify_fl.synthetic.canvas import Canvas, bump, ramp
from modify_fl.synthetic.person import Colour, Person, Plane

__all__ = ["draw_beard", "draw_mouth", "draw_nose", "face_outline", "lit_skin"]


def face_outline(canvas: Canvas, person: Person, grow: float = 0.0) -> Plane:
    """Return the distance to the edge of the face, below 0 inside."""
    x = np.abs(canvas.fx) / (person.cheek + grow)
    down = np.clip(canvas.fy / (person.chin + grow), 0, None)
    up = np.clip(-canvas.fy / (0.86 + grow), 0, None)
    lower = ((x * (1 + person.taper * down)) ** person.jaw + down**2.15) ** (1 / person.jaw)
    upper = np.sqrt(x**2 + up**2)
    return np.asarray((np.where(canvas.fy > 0, lower, upper) - 1) * person.cheek, np.float32)


def _height(canvas: Canvas, person: Person) -> Plane:
    """Return how far the face comes forward: an ellipsoid, hollows and bumps."""
    x, y = np.abs(canvas.fx), canvas.fy
    z = 0.75 * np.sqrt(np.clip(1 - (x / (person.cheek * 1.04)) ** 2 - ((y - 0.03) / 0.98) ** 2, 0.01, 1))
    eyes = (person.eye_gap, -0.05)
    z -= 0.055 * bump(x, y, (eyes[0] - 0.02, -0.06), (0.14, 0.075))
    z += 0.03 * bump(x, y, eyes, (0.085, 0.06))
    z += 0.03 * bump(x, y, (0.22, -0.06 - person.brow_height), (0.2, 0.05))
    z += (0.03 + 0.03 * max(person.smile, 0)) * bump(x, y, (0.32, 0.2), (0.16, 0.14))
    z += 0.035 * bump(x, y, (0.0, 0.47), (0.24, 0.16))
    z += 0.05 * bump(x, y, (0.0, person.chin - 0.11), (0.13, 0.09))
    return np.asarray(z + _nose_height(canvas, person), np.float32)


def _nose_height(canvas: Canvas, person: Person) -> Plane:
    tip = person.nose_length
    t = np.clip((canvas.fy + 0.14) / (tip + 0.14), 0, 1)
    x = canvas.fx - np.float32(canvas.turn * 0.2) * t
    width = 0.045 + 0.35 * np.float32(person.nose_width) * t
    under = 1 - ramp(canvas.fy + 4 * x**2, tip, tip + 0.075)
    ridge = 0.14 * t**1.2 * np.exp(-((x / width) ** 2)) * under
    ball = 0.045 * bump(x, canvas.fy, (0.0, tip - 0.005), (0.05, 0.045))
    wings = 0.06 * bump(np.abs(x), canvas.fy, (0.95 * person.nose_width, tip + 0.012), (0.034, 0.034))
    return np.asarray(ridge + ball + wings, np.float32)


def _light(canvas: Canvas, height: Plane, lamp: tuple[float, float], ambient: float) -> tuple[Plane, Plane]:
    """Return diffuse and specular light on a height field."""
    slope_y, slope_x = np.gradient(height, canvas.pixel)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    lx, ly, lz = lamp[0], -lamp[1], 0.9
    norm = float(np.sqrt(lx * lx + ly * ly + lz * lz))
    facing = (-slope_x * lx - slope_y * ly + lz) / (length * norm)
    # Wrapped a little round the edge, as light does in skin.
    diffuse = np.clip((facing + 0.25) / 1.25, 0, 1)
    half = np.clip((-slope_x * lx - slope_y * ly + lz + norm) / (length * np.sqrt(2 * norm * (norm + lz))), 0, 1)
    return (ambient + (1 - ambient) * diffuse).astype(np.float32), (half**24).astype(np.float32)


def lit_skin(canvas: Canvas, person: Person, lamp: tuple[float, float], ambient: float) -> Colour:
    """Return skin under a lamp for the whole canvas, [S, S, 3]; arguments as in ``draw_face``."""
    diffuse, shine = _light(canvas, _height(canvas, person), lamp, ambient)
    x, y = np.abs(canvas.fx), canvas.fy
    flush = 0.5 * bump(x, y, (0.33, 0.2), (0.16, 0.13)) + 0.4 * bump(x, y, (0, person.nose_length), (0.09, 0.06))
    tint = np.stack([1 + 0.04 * flush, 1 - 0.16 * flush, 1 - 0.14 * flush], -1)  # [S, S, 3]
    mottle = 1 + 0.05 * canvas.spread(person.coarse[0]) + 0.025 * canvas.spread(person.fine)
    folds = 1 - (0.1 + 0.22 * person.age) * _fold(canvas, person)
    # Shadows on skin are redder than its lit parts.
    warm = diffuse[..., None] ** np.array([0.92, 1.06, 1.12], np.float32)  # [S, S, 3]
    lit = person.skin * tint * warm * (mottle * folds)[..., None]
    return np.asarray(lit + 0.09 * shine[..., None], np.float32)


def _fold(canvas: Canvas, person: Person) -> Plane:
    """Return the lines from nose to mouth and those under the eyes and on the forehead."""
    x, y = np.abs(canvas.fx), canvas.fy
    t = np.clip((y - person.nose_length) / 0.2, 0, 1)
    line = np.exp(-(((x - person.nose_width - 0.03 - 0.11 * t) / 0.02) ** 2))
    line = line * ramp(y, person.nose_length - 0.03, person.nose_length + 0.06) * (1 - ramp(y, 0.38, 0.5))
    bags = bump(x, y - 0.3 * (x - person.eye_gap) ** 2, (person.eye_gap - 0.01, 0.055), (0.1, 0.016))
    furrows = person.age**2 * (bump(x, y, (0, -0.37), (0.22, 0.012)) + bump(x, y, (0, -0.44), (0.2, 0.012)))
    return np.asarray(np.clip(line + 0.8 * bags + furrows, 0, 1), np.float32)


def draw_nose(canvas: Canvas, person: Person) -> None:
    """Draw nostrils and the shadows round them; the rest of the nose is in the height field."""
    tip = person.nose_length
    x = canvas.fx - np.float32(canvas.turn * 0.2)
    under = bump(x, canvas.fy, (0.0, tip + 0.05), (person.nose_width + 0.02, 0.022))
    canvas.shade(1 - 0.3 * under)
    holes = bump(np.abs(x), canvas.fy + 0.25 * np.abs(x), (0.55 * person.nose_width, tip + 0.05), (0.026, 0.014))
    canvas.paint(0.85 * holes, person.skin * np.array([0.16, 0.08, 0.06], np.float32))
    wings = np.sqrt(((np.abs(x) - 0.7 * person.nose_width) / 0.05) ** 2 + ((canvas.fy - tip - 0.012) / 0.045) ** 2)
    side = np.exp(-(((wings - 1.15) / 0.25) ** 2)) * ramp(np.abs(x), 0.6 * person.nose_width, person.nose_width)
    canvas.shade(1 - 0.3 * side)


def draw_mouth(canvas: Canvas, person: Person) -> None:
    """Draw lips, and teeth if they show."""
    x = canvas.fx - np.float32(canvas.turn * 0.06)
    smile = person.smile
    half = person.mouth_width * (1 + 0.18 * max(smile, 0))
    u = np.clip(np.abs(x) / half, 0, 1.3)
    middle = canvas.fy - (0.475 + 0.035 * smile - 0.075 * smile * u**2)
    bow = person.lip_weight * 0.8 * (1 - u**2) * (1 - 0.25 * np.exp(-((x / 0.035) ** 2)))
    full = person.lip_weight * 1.15 * np.clip(1 - u**2, 0, 1) ** 0.8
    gap = 0.055 * np.clip(1 - u**2, 0, 1) * max(smile, 0.15) if person.teeth else np.zeros_like(u)
    upper = np.maximum(-(middle + bow + 0.3 * gap), middle)
    lower = np.maximum(-middle, middle - gap - full)
    light = 0.85 + 0.5 * bump(x, middle, (0, 0.6 * person.lip_weight), (0.12, 0.03))
    canvas.paint(canvas.soft(lower, 0.014) * (u < 1), person.lips * (light * 1.05)[..., None])
    canvas.paint(canvas.soft(upper, 0.014) * (u < 1), person.lips * 0.68)
    if person.teeth:
        inside = canvas.soft(np.maximum(-(middle + 0.3 * gap), middle - 0.75 * gap), 0.012) * (u < 0.92)
        canvas.paint(inside, np.array([0.66, 0.62, 0.56], np.float32) * (1 - 0.5 * u**2)[..., None])
    seam = canvas.soft(np.abs(middle + 0.3 * gap) - 0.006, 0.014) * (u < 1.04)
    canvas.paint(seam * 0.7, person.lips * 0.12)
    canvas.shade(1 - 0.22 * bump(x, middle - gap - full, (0, 0.03), (0.12, 0.025)))


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Draw beard and moustache, if there are any."""
    x, y = np.abs(canvas.fx), canvas.fy
    grain = 0.85 + 0.15 * canvas.spread(person.fine)
    colour = person.hair * 0.7 + person.skin * 0.05
    if person.beard:
        edge = 0.36 - 0.9 * np.clip(x - 0.2, 0, 1) ** 1.3
        lips = np.sqrt((x / (person.mouth_width + 0.04)) ** 2 + ((y - 0.49) / 0.11) ** 2) - 1
        cheeks = np.maximum(np.maximum(edge - y + 0.05, face_outline(canvas, person, 0.02)), -0.1 * lips)
        canvas.paint(canvas.soft(cheeks, 0.09) * person.beard * grain, colour)
    if person.moustache or person.beard > 0.7:
        arch = 0.385 + 0.35 * x**2
        mask = canvas.soft(np.abs(y - arch) - 0.035 * (1 - (x / 0.26) ** 2), 0.02) * (x < 0.25)
        canvas.paint(mask * 0.9 * grain, colour)
