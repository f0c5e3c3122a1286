"""Faces drawn by a small seeded program, as photos or as paintings.

They stand in for real pictures where there are none: in tests, and in a first
trial without any download. Rules this module keeps: face i depends on the seed
and on i alone, so a longer set begins with the shorter one; a person keeps
shape, pose and features in both looks and at every resolution; eyes and mouth
lie where the FFHQ alignment puts them; only numpy and Pillow are used.

A face is a height field lit by one lamp; hair, eyes and the rest are masks
with soft edges, painted from back to front. Everything is drawn at twice the
resolution and averaged.

Legend: coordinates run from -1 (left, top) to 1; S is the side of the canvas
in pixels, twice the resolution R; colours are linear light in [0, 1].
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["Look", "draw_faces"]

Look = Literal["photo", "painting"]
"""``photo``: even light, plain colours. ``painting``: dark warm palette, brush strokes, canvas."""

Plane = NDArray[np.float32]
Colour = NDArray[np.float32]

_SUPERSAMPLING = 2
_SKINS = ("f6d7c3", "efc6ab", "e3b08f", "d39b76", "b97f5a", "9a6444", "7a4c33", "5c3826")
_HAIRS = ("16110f", "2a1c14", "3f2817", "5d3b1f", "86582c", "b98d4f", "d9bd86", "8a3d1c", "9a9792", "d8d5d0")
_IRISES = ("3b2415", "5a3a1e", "6e5a2c", "4d6a3f", "4f7794", "7b97a8")
_BACKDROPS = ("8fa3b5", "b9b4a8", "6f7f6a", "a88f7b", "c9d3da", "59616b", "d8cbb8", "7a6a80", "e4e4e0", "38506b")
_CLOTHES = ("2b3a55", "7b2d33", "3c5b46", "d9d6cf", "1f1f24", "8a6f4e", "6a4c77", "4f7ea3", "c0563f")
_OLD_BACKDROPS = ("3a2c1c", "2b2a1c", "44301f", "1f1c18", "4a3d28", "332522")
_OLD_CLOTHES = ("1a1614", "3b1512", "25261a", "4a2f16", "1b2230", "5a4326")


def _rgb(code: str) -> Colour:
    """Return a hexadecimal sRGB colour as linear light."""
    return (np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255) ** 2.2


class _Draws:
    """Random numbers of one face; only ``random`` is used, whose stream does not change."""

    def __init__(self, seed: int, index: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed % 2**64, index])))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._rng.random()

    def around(self, centre: float, spread: float) -> float:
        """Return a number near ``centre``; the mean of three is rounder than one."""
        return centre + spread * (2 * float(self._rng.random(3).mean()) - 1)

    def chance(self, share: float) -> bool:
        return self._rng.random() < share

    def pick(self, codes: tuple[str, ...]) -> Colour:
        return _rgb(codes[int(self._rng.random() * len(codes))])

    def table(self, *shape: int) -> Plane:
        """Return uniform numbers in [-1, 1)."""
        return (self._rng.random(shape) * 2 - 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Person:
    """One face: who, how posed, how lit. Lengths in canvas units, angles in radians."""

    skin: Colour
    lips: Colour
    hair: Colour
    iris: Colour
    back: Colour
    cloth: Colour
    old_back: Colour
    old_cloth: Colour
    soft: float
    age: float
    cheek: float
    jaw: float
    taper: float
    chin: float
    eye_gap: float
    eye_size: float
    eye_open: float
    brow_height: float
    brow_weight: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_weight: float
    smile: float
    teeth: bool
    collar: float
    hairline: float
    parting: float
    sweep: float
    volume: float
    length: float
    curl: float
    beard: float
    moustache: bool
    glasses: bool
    yaw: float
    pitch: float
    roll: float
    lamp: tuple[float, float]
    strands: Plane
    coarse: Plane
    fine: Plane


def _person(draws: _Draws) -> _Person:
    soft = draws.between(0, 1)
    male = soft < 0.5  # noqa: PLR2004 - one half
    age = draws.between(0, 1)
    skin = draws.pick(_SKINS) * draws.between(0.9, 1.06)
    grey = age > 0.75  # noqa: PLR2004 - the oldest quarter
    dark = float(skin.mean()) < 0.3  # noqa: PLR2004 - fair hair is rare with dark skin
    hair = draws.pick(_HAIRS[-2:] if grey else _HAIRS[:3] if dark else _HAIRS[:-2])
    bald = male and draws.chance(0.15)
    lips = skin * np.array([0.84, 0.5, 0.5], np.float32)
    return _Person(
        skin=skin,
        lips=lips * np.array([1.0, 0.7, 0.8], np.float32) if soft > 0.6 else lips,  # noqa: PLR2004 - painted lips
        hair=hair,
        iris=draws.pick(_IRISES[:3] if dark else _IRISES),
        back=draws.pick(_BACKDROPS),
        cloth=draws.pick(_CLOTHES),
        old_back=draws.pick(_OLD_BACKDROPS),
        old_cloth=draws.pick(_OLD_CLOTHES),
        soft=soft,
        age=age,
        cheek=draws.around(0.575, 0.05),
        jaw=draws.around(2.35 if male else 2.05, 0.3),
        taper=draws.around(0.12 if male else 0.2, 0.12),
        chin=draws.around(0.87 if male else 0.84, 0.05),
        eye_gap=draws.around(0.25, 0.02),
        eye_size=draws.around(0.115, 0.015),
        eye_open=draws.around(0.5, 0.12),
        brow_height=draws.around(0.15, 0.03),
        brow_weight=draws.around(0.030 if male else 0.022, 0.008),
        nose_width=draws.around(0.085, 0.02),
        nose_length=draws.around(0.25, 0.03),
        mouth_width=draws.around(0.19, 0.03),
        lip_weight=draws.around(0.05 if male else 0.062, 0.014),
        smile=draws.between(-0.25, 1),
        teeth=draws.chance(0.35),
        collar=draws.between(0.02, 0.3),
        hairline=-0.98 if bald else draws.around(-0.5, 0.14),
        parting=draws.around(0, 0.35),
        sweep=draws.between(0.9, 2.6),
        volume=draws.between(0.02, 0.05) if bald else draws.between(0.05, 0.17) * (0.7 + 0.6 * soft),
        length=draws.between(-0.1, 0.15) if male else draws.between(0.0, 1.5),
        curl=draws.between(0, 1) ** 2,
        beard=draws.between(0.4, 1) if male and draws.chance(0.4) else 0.0,
        moustache=male and draws.chance(0.25),
        glasses=draws.chance(0.13),
        yaw=draws.around(0, 0.45),
        pitch=draws.around(0, 0.3),
        roll=draws.around(0, 0.08),
        lamp=(draws.between(-0.9, 0.9), draws.between(0.1, 0.75)),
        strands=draws.table(6, 512),
        coarse=draws.table(2, 6, 6),
        fine=draws.table(64, 64),
    )


class _Canvas:
    """Pixels, and the coordinates of the picture and of the turned face."""

    def __init__(self, side: int, person: _Person) -> None:
        axis = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)
        self.pixel = 2 / side
        self.x, self.y = np.meshgrid(axis, axis)  # [S, S]
        self.rgb = np.zeros((side, side, 3), np.float32)
        sin, cos = np.sin(person.roll), np.cos(person.roll)
        turned_x = (self.x * cos + self.y * sin).astype(np.float32)
        turned_y = (self.y * cos - self.x * sin).astype(np.float32)
        depth = np.sqrt(np.clip(1 - (turned_x / 0.72) ** 2, 0, 1))
        # A turned head moves what is near one way and the outline the other.
        self.turn = float(np.sin(person.yaw))
        self.fx = (turned_x - self.turn * 0.5 * (depth - 0.93)).astype(np.float32)
        self.fy = (turned_y + np.float32(person.pitch) * (0.35 * turned_x**2 - 0.03)).astype(np.float32)

    def soft(self, distance: Plane, width: float = 0.0) -> Plane:
        """Return 1 inside (distance below 0), 0 outside; the edge is ``width`` or one pixel wide."""
        edge = max(width, 1.2 * self.pixel)
        return np.clip(0.5 - distance / edge, 0, 1)

    def paint(self, mask: Plane, colour: Colour) -> None:
        self.rgb += mask[..., None] * (colour - self.rgb)

    def shade(self, factor: Plane) -> None:
        self.rgb *= factor[..., None]

    def spread(self, table: Plane) -> Plane:
        """Stretch a small table over the canvas, smoothly."""
        side = self.x.shape[0]
        return np.asarray(Image.fromarray(table).resize((side, side), Image.Resampling.BICUBIC))


def _bump(x: Plane, y: Plane, at: tuple[float, float], radius: tuple[float, float]) -> Plane:
    return np.exp(-(((x - at[0]) / radius[0]) ** 2) - ((y - at[1]) / radius[1]) ** 2)


def _ramp(value: Plane, low: float, high: float) -> Plane:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _outline(canvas: _Canvas, person: _Person, grow: float = 0.0) -> Plane:
    """Return the distance to the edge of the face, below 0 inside."""
    x = np.abs(canvas.fx) / (person.cheek + grow)
    down = np.clip(canvas.fy / (person.chin + grow), 0, None)
    up = np.clip(-canvas.fy / (0.86 + grow), 0, None)
    lower = ((x * (1 + person.taper * down)) ** person.jaw + down**2.15) ** (1 / person.jaw)
    upper = np.sqrt(x**2 + up**2)
    return (np.where(canvas.fy > 0, lower, upper) - 1) * np.float32(person.cheek)


def _height(canvas: _Canvas, person: _Person) -> Plane:
    x, y = np.abs(canvas.fx), canvas.fy
    z = 0.75 * np.sqrt(np.clip(1 - (x / (person.cheek * 1.04)) ** 2 - ((y - 0.03) / 0.98) ** 2, 0.01, 1))
    eyes = (person.eye_gap, -0.05)
    z -= 0.055 * _bump(x, y, (eyes[0] - 0.02, -0.06), (0.14, 0.075))
    z += 0.03 * _bump(x, y, eyes, (0.085, 0.06))
    z += 0.03 * _bump(x, y, (0.22, -0.06 - person.brow_height), (0.2, 0.05))
    z += (0.03 + 0.03 * max(person.smile, 0)) * _bump(x, y, (0.32, 0.2), (0.16, 0.14))
    z += 0.035 * _bump(x, y, (0.0, 0.47), (0.24, 0.16))
    z += 0.05 * _bump(x, y, (0.0, person.chin - 0.11), (0.13, 0.09))
    return (z + _nose_height(canvas, person)).astype(np.float32)


def _nose_height(canvas: _Canvas, person: _Person) -> Plane:
    tip = person.nose_length
    t = np.clip((canvas.fy + 0.14) / (tip + 0.14), 0, 1)
    x = canvas.fx - np.float32(canvas.turn * 0.2) * t
    width = 0.045 + 0.35 * np.float32(person.nose_width) * t
    under = 1 - _ramp(canvas.fy + 4 * x**2, tip + 0.0, tip + 0.075)
    ridge = 0.14 * t**1.2 * np.exp(-((x / width) ** 2)) * under
    ball = 0.045 * _bump(x, canvas.fy, (0.0, tip - 0.005), (0.05, 0.045))
    wings = 0.06 * _bump(np.abs(x), canvas.fy, (0.95 * person.nose_width, tip + 0.012), (0.034, 0.034))
    return ridge + ball + wings


def _light(canvas: _Canvas, height: Plane, lamp: tuple[float, float], ambient: float) -> tuple[Plane, Plane]:
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


def _skin(canvas: _Canvas, person: _Person, lamp: tuple[float, float], ambient: float) -> Colour:
    """Return lit skin for the whole canvas, [S, S, 3]."""
    diffuse, shine = _light(canvas, _height(canvas, person), lamp, ambient)
    x, y = np.abs(canvas.fx), canvas.fy
    flush = 0.5 * _bump(x, y, (0.33, 0.2), (0.16, 0.13)) + 0.4 * _bump(x, y, (0, person.nose_length), (0.09, 0.06))
    tint = np.stack([1 + 0.04 * flush, 1 - 0.16 * flush, 1 - 0.14 * flush], -1)  # [S, S, 3]
    mottle = 1 + 0.05 * canvas.spread(person.coarse[0]) + 0.025 * canvas.spread(person.fine)
    folds = 1 - (0.1 + 0.22 * person.age) * _fold(canvas, person)
    # Shadows on skin are redder than its lit parts.
    warm = diffuse[..., None] ** np.array([0.92, 1.06, 1.12], np.float32)  # [S, S, 3]
    lit = person.skin * tint * warm * (mottle * folds)[..., None]
    return (lit + 0.09 * shine[..., None]).astype(np.float32)


def _fold(canvas: _Canvas, person: _Person) -> Plane:
    """Return the lines from nose to mouth and those under the eyes and on the forehead."""
    x, y = np.abs(canvas.fx), canvas.fy
    t = np.clip((y - person.nose_length) / 0.2, 0, 1)
    line = np.exp(-(((x - person.nose_width - 0.03 - 0.11 * t) / 0.02) ** 2))
    line = line * _ramp(y, person.nose_length - 0.03, person.nose_length + 0.06) * (1 - _ramp(y, 0.38, 0.5))
    bags = _bump(x, y - 0.3 * (x - person.eye_gap) ** 2, (person.eye_gap - 0.01, 0.055), (0.1, 0.016))
    furrows = person.age**2 * (_bump(x, y, (0, -0.37), (0.22, 0.012)) + _bump(x, y, (0, -0.44), (0.2, 0.012)))
    return np.clip(line + 0.8 * bags + furrows, 0, 1)


def _draw_back(canvas: _Canvas, person: _Person, colour: Colour, cloth: Colour, depth: float) -> None:
    glow = 1 + depth * canvas.spread(person.coarse[1]) - depth * 0.5 * (canvas.x**2 + canvas.y**2)
    glow = glow + 0.25 * depth * canvas.x * person.lamp[0] * -1
    canvas.rgb[:] = colour * np.clip(glow, 0.15, 2)[..., None]
    if person.length > 0.2:  # noqa: PLR2004 - hair that shows behind the neck
        _draw_hair(canvas, person, _hair_behind(canvas, person), 0.55)
    _draw_body(canvas, person, cloth)


def _draw_body(canvas: _Canvas, person: _Person, cloth: Colour) -> None:
    x = canvas.x - 0.06 * canvas.turn
    half = 0.36 - 0.07 * person.soft
    neck = canvas.soft(np.abs(x) - half - 0.25 * np.clip(canvas.y - 0.85, 0, 1) ** 2)
    neck = neck * _ramp(canvas.y, 0.3, 0.4)
    roundness = np.sqrt(np.clip(1 - (x / (half * 1.15)) ** 2, 0.05, 1))
    shadow = 0.45 + 0.4 * _ramp(canvas.y - 0.4 * np.abs(x), person.chin - 0.1, person.chin + 0.35)
    canvas.paint(neck, person.skin * (roundness * shadow * 0.85)[..., None])
    aside = np.abs(x) - half
    slope = 0.84 + 0.3 * np.clip(aside, 0, 1) ** 1.4
    collar = slope + person.collar * np.clip(1 - (x / half) ** 2, 0, 1) ** 0.7
    shoulder = np.where(aside < 0, collar, slope)
    folds = 0.75 + 0.3 * canvas.spread(person.coarse[0]) + 0.3 * (0.5 - np.abs(x)) - 0.2 * x * -person.lamp[0]
    folds = folds * (1 - 0.35 * np.exp(-(((canvas.y - shoulder - 0.035) / 0.012) ** 2)))
    canvas.paint(canvas.soft(shoulder - canvas.y), cloth * np.clip(folds, 0.3, 1.3)[..., None])


def _head(canvas: _Canvas, person: _Person) -> Plane:
    """Return the distance to the outline of the hair round the skull, below 0 inside."""
    x = canvas.fx / (person.cheek + person.volume)
    y = (canvas.fy + 0.2) / (0.66 + 0.9 * person.volume)
    wave = person.curl * 0.07 * canvas.spread(person.fine[:20, :20])
    return (np.sqrt(x**2 + np.where(y < 0, y, y * 0.55) ** 2) - 1 + wave) * np.float32(0.6)


def _hair_behind(canvas: _Canvas, person: _Person) -> Plane:
    width = person.cheek + person.volume + 0.04 * np.sin(6 * canvas.fy + 3 * person.curl)
    curtain = np.maximum(np.abs(canvas.fx) - width, np.maximum(-0.2 - canvas.fy, canvas.fy - person.length))
    return canvas.soft(np.minimum(_head(canvas, person), curtain), 0.03)


def _hair_front(canvas: _Canvas, person: _Person) -> Plane:
    """Return the hair above the hairline and beside the face."""
    x = canvas.fx - np.float32(person.parting)
    fringe = 0.05 * canvas.spread(person.strands[:, :16])
    line = person.hairline + person.sweep * np.abs(x) ** 2.4 + fringe
    # Beside the face the hair thins out towards the ear, or falls on as a lock.
    low = 0.16 if person.length > 0.2 else max(person.length, -0.05)  # noqa: PLR2004 - as in _draw_back
    down = _ramp(canvas.fy, low - 0.3, low)
    sides = np.abs(canvas.fx) - (person.cheek - 0.05) - 0.07 * down * (1 if person.length < 0.2 else 0.6)  # noqa: PLR2004
    cap = np.maximum(_head(canvas, person), np.minimum(canvas.fy - line, -sides))
    return canvas.soft(np.maximum(cap, canvas.fy - low - 0.04), 0.03)


def _draw_hair(canvas: _Canvas, person: _Person, mask: Plane, level: float) -> None:
    angle = np.arctan2(canvas.fx - 0.4 * person.parting, canvas.fy + 1.15) / np.pi  # [-1, 1]
    angle = angle + person.curl * 0.025 * canvas.spread(person.fine[:14, :14])
    grid = np.linspace(-1, 1, person.strands.shape[1])
    tone = sum(np.interp(angle * scale, grid, person.strands[i]) for i, scale in enumerate((1.0, 0.37, 0.11)))
    band = np.exp(-(((canvas.fy + 0.66 + 0.25 * person.lamp[0] * canvas.fx) / 0.14) ** 2))
    light = level * (0.85 + 0.22 * np.asarray(tone) - 0.25 * person.lamp[0] * -canvas.fx) + 0.5 * level * band
    canvas.paint(mask, (person.hair + 0.012) * np.clip(light, 0.15, 2.2)[..., None].astype(np.float32))


def _draw_eyes(canvas: _Canvas, person: _Person) -> None:
    for sign in (-1, 1):
        x = (canvas.fx - sign * person.eye_gap) * sign
        y = canvas.fy + 0.05 - 0.08 * x
        u = np.clip(x / person.eye_size, -1.2, 1.2)
        open_ = person.eye_size * person.eye_open * (1 - 0.2 * max(person.smile, 0))
        upper = y + open_ * (1 - u**2)
        lower = y - 0.7 * open_ * (1 - u**2)
        lid = np.maximum(-upper, lower)
        mask = canvas.soft(lid)
        shadow = 0.62 + 0.38 * _ramp(upper, 0, 0.06)
        canvas.paint(mask, np.array([0.78, 0.74, 0.72], np.float32) * shadow[..., None])
        _draw_iris(canvas, person, x, y + 0.006, mask, sign)
        lash = canvas.soft(np.abs(upper) - 0.011 - 0.006 * person.soft, 0.012) * (np.abs(u) < 1.1)
        canvas.paint(lash * 0.85, person.hair * 0.15)
        canvas.paint(canvas.soft(np.abs(lower) - 0.004, 0.012) * (np.abs(u) < 1) * 0.4, person.skin * 0.3)
        crease = canvas.soft(np.abs(upper + 0.03) - 0.004, 0.014) * (np.abs(u) < 0.95)
        canvas.paint(crease * 0.45, person.skin * 0.35)
        _draw_brow(canvas, person, x, sign)


def _draw_iris(canvas: _Canvas, person: _Person, x: Plane, y: Plane, eye: Plane, sign: int) -> None:
    gaze = -0.35 * person.yaw * person.eye_size * sign
    radius = np.sqrt((x - gaze) ** 2 + y**2)
    size = 0.47 * person.eye_size
    ring = 0.55 + 0.65 * _ramp(radius, 0.2 * size, 0.7 * size) - 0.75 * _ramp(radius, 0.75 * size, size)
    canvas.paint(eye * canvas.soft(radius - size), person.iris * ring[..., None])
    canvas.paint(eye * canvas.soft(radius - 0.45 * size), np.full(3, 0.004, np.float32))
    spark = np.sqrt((x - gaze - sign * 0.3 * size * np.sign(person.lamp[0])) ** 2 + (y + 0.35 * size) ** 2)
    canvas.paint(eye * canvas.soft(spark - 0.22 * size) * 0.9, np.full(3, 0.95, np.float32))


def _draw_brow(canvas: _Canvas, person: _Person, x: Plane, sign: int) -> None:
    u = np.clip((x + 0.02) / 0.16, -1, 1)
    arch = -0.06 - person.brow_height + 0.035 * u**2 - 0.02 * u
    thick = person.brow_weight * (1 - 0.55 * _ramp(u, -0.2, 1))
    hairs = 0.8 + 0.2 * np.interp(x * 1.0 + 0.4 * canvas.fy * sign, np.linspace(-1, 1, 512), person.strands[3])
    mask = canvas.soft(np.abs(canvas.fy - arch) - thick, 0.02) * canvas.soft(np.abs(x + 0.02) - 0.15, 0.05)
    canvas.paint(mask * 0.85 * hairs.astype(np.float32), person.hair * 0.5 + person.skin * 0.06)


def _draw_nose(canvas: _Canvas, person: _Person) -> None:
    tip = person.nose_length
    x = canvas.fx - np.float32(canvas.turn * 0.2)
    under = _bump(x, canvas.fy, (0.0, tip + 0.05), (person.nose_width + 0.02, 0.022))
    canvas.shade(1 - 0.3 * under)
    holes = _bump(np.abs(x), canvas.fy + 0.25 * np.abs(x), (0.55 * person.nose_width, tip + 0.05), (0.026, 0.014))
    canvas.paint(0.85 * holes, person.skin * np.array([0.16, 0.08, 0.06], np.float32))
    wings = np.sqrt(((np.abs(x) - 0.7 * person.nose_width) / 0.05) ** 2 + ((canvas.fy - tip - 0.012) / 0.045) ** 2)
    side = np.exp(-(((wings - 1.15) / 0.25) ** 2)) * _ramp(np.abs(x), 0.6 * person.nose_width, person.nose_width)
    canvas.shade(1 - 0.3 * side)


def _draw_mouth(canvas: _Canvas, person: _Person) -> None:
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
    light = 0.85 + 0.5 * _bump(x, middle, (0, 0.6 * person.lip_weight), (0.12, 0.03))
    canvas.paint(canvas.soft(lower, 0.014) * (u < 1), person.lips * (light * 1.05)[..., None])
    canvas.paint(canvas.soft(upper, 0.014) * (u < 1), person.lips * 0.68)
    if person.teeth:
        inside = canvas.soft(np.maximum(-(middle + 0.3 * gap), middle - 0.75 * gap), 0.012) * (u < 0.92)  # noqa: PLR2004
        canvas.paint(inside, np.array([0.66, 0.62, 0.56], np.float32) * (1 - 0.5 * u**2)[..., None])
    seam = canvas.soft(np.abs(middle + 0.3 * gap) - 0.006, 0.014) * (u < 1.04)  # noqa: PLR2004 - just past the corner
    canvas.paint(seam * 0.7, person.lips * 0.12)
    canvas.shade(1 - 0.22 * _bump(x, middle - gap - full, (0, 0.03), (0.12, 0.025)))


def _draw_beard(canvas: _Canvas, person: _Person) -> None:
    x, y = np.abs(canvas.fx), canvas.fy
    grain = 0.75 + 0.25 * canvas.spread(person.fine)
    colour = person.hair * 0.7 + person.skin * 0.05
    if person.beard:
        edge = 0.36 - 0.9 * np.clip(x - 0.2, 0, 1) ** 1.3
        lips = np.sqrt((x / (person.mouth_width + 0.04)) ** 2 + ((y - 0.49) / 0.11) ** 2) - 1
        cheeks = np.maximum(np.maximum(edge - y + 0.05, _outline(canvas, person, 0.02)), -0.1 * lips)
        canvas.paint(canvas.soft(cheeks, 0.09) * person.beard * grain, colour)
    if person.moustache or person.beard > 0.7:  # noqa: PLR2004 - full beards
        arch = 0.385 + 0.35 * x**2
        mask = canvas.soft(np.abs(y - arch) - 0.035 * (1 - (x / 0.26) ** 2), 0.02) * (x < 0.25)  # noqa: PLR2004
        canvas.paint(mask * 0.9 * grain, colour)


def _draw_glasses(canvas: _Canvas, person: _Person) -> None:
    x = np.abs(canvas.fx)
    lens = (((x - person.eye_gap) / 0.19) ** 4 + ((canvas.fy + 0.03) / 0.145) ** 4) ** 0.25 - 1
    frame = canvas.soft(np.abs(lens) * 0.16 - 0.009)
    bridge = canvas.soft(np.maximum(np.abs(canvas.fy + 0.07 - x**2) - 0.01, x - 0.07))
    temple = canvas.soft(np.maximum(np.abs(canvas.fy + 0.07) - 0.012, person.eye_gap + 0.18 - x))
    temple = temple * canvas.soft(_outline(canvas, person))
    canvas.paint(canvas.soft(lens * 0.16) * 0.07, np.ones(3, np.float32))
    canvas.paint(np.clip(frame + bridge + temple, 0, 1), person.cloth * 0.12)


def _draw_face(canvas: _Canvas, person: _Person, lamp: tuple[float, float], ambient: float) -> None:
    skin = _skin(canvas, person, lamp, ambient)
    ear = np.sqrt(((np.abs(canvas.fx) - person.cheek - 0.005) / 0.07) ** 2 + ((canvas.fy - 0.06) / 0.16) ** 2) - 1
    canvas.paint(canvas.soft(ear * 0.08), skin * 0.75 + person.skin * 0.08)
    canvas.paint(canvas.soft(_outline(canvas, person)), skin)
    _draw_nose(canvas, person)
    _draw_beard(canvas, person)
    _draw_mouth(canvas, person)
    _draw_eyes(canvas, person)
    hair = _hair_front(canvas, person)
    # Hair throws a soft shadow on the skin below it.
    canvas.shade(1 - 0.35 * np.roll(hair, hair.shape[0] // 28, axis=0) * (1 - hair))
    _draw_hair(canvas, person, hair, 1.0)
    if person.glasses:
        _draw_glasses(canvas, person)


def _photo(canvas: _Canvas, person: _Person) -> Plane:
    _draw_back(canvas, person, person.back, person.cloth, 0.22)
    _draw_face(canvas, person, person.lamp, 0.34)
    return np.clip(canvas.rgb * 1.12, 0, 1) ** (1 / 2.2)


def _painting(canvas: _Canvas, person: _Person) -> Plane:
    lamp = (1.1 if person.lamp[0] > 0 else -1.1, person.lamp[1])
    _draw_back(canvas, person, person.old_back, person.old_cloth, 0.5)
    _draw_face(canvas, person, lamp, 0.14)
    tone = np.clip(canvas.rgb, 0, 1) ** (1 / 2.2)
    return tone


def draw_faces(look: Look, count: int, resolution: int, seed: int) -> NDArray[np.uint8]:
    """Draw ``count`` faces, uint8 [N, R, R, 3]."""
    faces = np.empty((count, resolution, resolution, 3), np.uint8)
    for index in range(count):
        person = _person(_Draws(seed, index))
        canvas = _Canvas(_SUPERSAMPLING * resolution, person)
        pixels = (_photo if look == "photo" else _painting)(canvas, person)
        faces[index] = _reduce(pixels)
    return faces


def _reduce(pixels: Plane) -> NDArray[np.uint8]:
    side = pixels.shape[0] // _SUPERSAMPLING
    blocks = pixels.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING, 3)
    return np.rint(blocks.mean((1, 3)) * 255).astype(np.uint8)
