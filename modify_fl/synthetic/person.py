"""Who is drawn: shape, colours, pose and lamp of one face, from a seed (see the package)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Colour", "Draws", "Person", "Plane", "draw_person"]

Plane = NDArray[np.float32]
"""One value per pixel of the canvas, [S, S]; tables that are stretched over it are smaller."""
Colour = NDArray[np.float32]
"""Linear RGB, [3] or [S, S, 3]."""

_SKINS = ("f6d7c3", "efc6ab", "e3b08f", "d39b76", "b97f5a", "9a6444", "7a4c33", "5c3826")
_HAIRS = ("16110f", "2a1c14", "3f2817", "5d3b1f", "86582c", "b98d4f", "d9bd86", "8a3d1c", "8f8c87", "bab6ae")
_IRISES = ("3b2415", "5a3a1e", "6e5a2c", "4d6a3f", "4f7794", "7b97a8")
_BACKDROPS = ("8fa3b5", "b9b4a8", "6f7f6a", "a88f7b", "c9d3da", "59616b", "d8cbb8", "7a6a80", "e4e4e0", "38506b")
_CLOTHES = ("2b3a55", "7b2d33", "3c5b46", "d9d6cf", "1f1f24", "8a6f4e", "6a4c77", "4f7ea3", "c0563f")
_OLD_BACKDROPS = ("3a2c1c", "2b2a1c", "44301f", "1f1c18", "4a3d28", "332522")
_OLD_CLOTHES = ("1a1614", "3b1512", "25261a", "4a2f16", "1b2230", "5a4326")


def _rgb(code: str) -> Colour:
    """Return a hexadecimal sRGB colour as linear light."""
    levels = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return np.array([level**2.2 for level in levels], np.float32)


class Draws:
    """Random numbers of one face; only ``random`` is used, whose stream does not change."""

    def __init__(self, seed: int, index: int) -> None:
        """Start the stream of face ``index``."""
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed % 2**64, index])))

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self._rng.random()

    def around(self, centre: float, spread: float) -> float:
        """Return a number near ``centre``; the mean of three is rounder than one."""
        return centre + spread * (2 * float(self._rng.random(3).mean()) - 1)

    def chance(self, share: float) -> bool:
        """Return whether something that happens in ``share`` of all cases happens."""
        return self._rng.random() < share

    def pick(self, codes: tuple[str, ...]) -> Colour:
        """Return one of several colours, linear RGB [3]."""
        return _rgb(codes[int(self._rng.random() * len(codes))])

    def table(self, *shape: int) -> Plane:
        """Return uniform numbers in [-1, 1), float32 of that shape."""
        return (self._rng.random(shape) * 2 - 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Person:
    """One face: who, how posed, how lit.

    Lengths are in canvas units, angles in radians, colours linear RGB [3]; what
    is neither is a weight from 0 to 1.
    """

    skin: Colour
    lips: Colour
    hair: Colour
    iris: Colour
    back: Colour
    cloth: Colour
    old_back: Colour
    old_cloth: Colour
    soft: float  # 0 angular and sturdy, 1 soft and slender
    age: float
    cheek: float
    jaw: float  # exponent of the outline below the eyes: 2 is an ellipse, more is squarer
    taper: float  # how much narrower the face gets towards the chin
    chin: float
    eye_gap: float
    eye_size: float
    eye_open: float  # height of the eye over half its width
    brow_height: float
    brow_weight: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_weight: float
    smile: float  # below 0 the corners of the mouth turn down
    teeth: bool
    collar: float  # depth of the neckline
    hairline: float
    parting: float  # where the hairline is highest
    drop: float  # how far the hairline comes down at the temples
    sweep: float  # exponent of the hairline
    volume: float  # thickness of the hair round the skull
    length: float  # height at which the hair ends
    curl: float
    beard: float
    moustache: bool
    glasses: bool
    yaw: float
    pitch: float
    roll: float
    lamp: tuple[float, float]  # to the right and upwards, per unit towards the viewer
    strands: Plane  # [6, 512]
    coarse: Plane  # [2, 6, 6]
    fine: Plane  # [64, 64]


def draw_person(draws: Draws) -> Person:
    """Make up a person; the order of the draws is part of the data set and must stay."""
    soft = draws.between(0, 1)
    male = soft < 0.5
    age = draws.between(0, 1)
    skin = draws.pick(_SKINS) * draws.between(0.9, 1.06)
    grey = age > 0.8
    dark = float(skin.mean()) < 0.3  # fair hair and eyes are rare with dark skin
    hair = draws.pick(_HAIRS[-2:] if grey else _HAIRS[:3] if dark else _HAIRS[:-2])
    bald = male and draws.chance(0.15)
    lips = skin * np.array([0.84, 0.5, 0.5], np.float32)
    return Person(
        skin=skin,
        lips=lips * np.array([1.0, 0.7, 0.8], np.float32) if soft > 0.6 else lips,
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
        drop=0.75 if bald else draws.between(0.3, 0.5),
        sweep=draws.between(1.5, 4),
        volume=draws.between(0.02, 0.05) if bald else draws.between(0.05, 0.17) * (0.7 + 0.6 * soft),
        length=draws.between(-0.1, 0.15) if male else draws.between(0.0, 1.5),
        curl=0.0 if bald else draws.between(0, 1) ** 2,
        beard=draws.between(0.4, 1) if male and draws.chance(0.4) else 0.0,
        moustache=male and draws.chance(0.25),
        glasses=draws.chance(0.13),
        yaw=draws.around(0, 0.7),
        pitch=draws.around(0, 0.3),
        roll=draws.around(0, 0.08),
        lamp=(draws.between(-0.9, 0.9), draws.between(0.1, 0.75)),
        strands=draws.table(6, 512),
        coarse=draws.table(2, 6, 6),
        fine=draws.table(64, 64),
    )
