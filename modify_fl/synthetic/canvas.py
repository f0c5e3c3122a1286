"""The surface a face is drawn on: pixels, coordinates and soft shapes (see the package)."""

import numpy as np
from PIL import Image

from modify_fl.synthetic.person import Colour, Person, Plane

__all__ = ["Canvas", "bump", "ramp"]


class Canvas:
    """Pixels, and the coordinates of the picture and of the turned face.

    Attributes:
        pixel: Side of a pixel in canvas units.
        x, y: Coordinates of the picture, float32 [S, S].
        fx, fy: Coordinates on the face, as if it were seen straight, float32 [S, S].
        turn: Sine of the yaw.
        rgb: What is painted so far, linear RGB, float32 [S, S, 3].
    """

    def __init__(self, side: int, person: Person) -> None:
        """Start with a black canvas of ``side`` pixels for a person in a given pose."""
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
        return np.asarray(np.clip(0.5 - distance / edge, 0, 1), np.float32)

    def paint(self, mask: Plane, colour: Colour) -> None:
        """Cover the picture with ``colour`` where ``mask`` is 1."""
        rows = np.flatnonzero(mask.any(axis=1))
        if rows.size == 0:
            return
        band = slice(int(rows[0]), int(rows[-1]) + 1)
        part = self.rgb[band]  # [rows, S, 3]
        part += mask[band, :, None] * ((colour if colour.ndim == 1 else colour[band]) - part)

    def shade(self, factor: Plane) -> None:
        """Darken every pixel by a factor."""
        self.rgb *= factor[..., None]

    def spread(self, table: Plane) -> Plane:
        """Stretch a small table over the canvas, smoothly."""
        side = self.x.shape[0]
        return np.asarray(Image.fromarray(table).resize((side, side), Image.Resampling.BICUBIC))


def bump(x: Plane, y: Plane, at: tuple[float, float], radius: tuple[float, float]) -> Plane:
    """Return a bell of height 1 with these half-axes (where it falls to 1/e)."""
    return np.asarray(np.exp(-(((x - at[0]) / radius[0]) ** 2) - ((y - at[1]) / radius[1]) ** 2), np.float32)


def ramp(value: Plane, low: float, high: float) -> Plane:
    """Return 0 below ``low``, 1 above ``high``, and a smooth step between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
