"""The contact sheet of a run: the first photos beside what became of them (U-74).

Letters: side of a thumbnail in pixels; S styles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from content_client.results import Job, Record
from modify_fl.faces.decode import read_picture, save_png
from modify_fl.sheet import contact_sheet

__all__ = ["SHEET_ROWS", "WHOLE_SIDE", "Overview", "thumbnail"]

SHEET_ROWS = 40
"""Photos on a sheet."""
WHOLE_SIDE = 160
"""Side of a thumbnail of a whole photo."""

Pixels = NDArray[np.uint8]


@dataclass(kw_only=True)
class Overview:
    """Thumbnails of the photos that a run painted, and the sheet of them."""

    side: int
    """Of every thumbnail."""
    rows: dict[int, list[Pixels]] = field(default_factory=dict)
    """By photo, uint8 [side, side, 3]: the photo, then its pictures."""

    def add(self, index: int, pictures: Sequence[Pixels]) -> None:
        """Keep the row of a photo, if it will be shown.

        Args:
            index: Which photo.
            pictures: The photo and its pictures, uint8 [H, W, 3] each.
        """
        if index < SHEET_ROWS:
            self.rows[index] = [thumbnail(pixels, self.side) for pixels in pictures]

    def write(self, job: Job, records: Sequence[Record]) -> None:
        """Write the sheet.

        Args:
            job: Photos, styles and the name of the sheet.
            records: What became of each photo; those of an earlier call are read from disk.

        Raises:
            StorageError: It cannot be written.
        """
        first = [index for index, record in enumerate(records) if record.outputs][:SHEET_ROWS]
        for index in first:
            if index not in self.rows:
                outputs = records[index].outputs[:: len(records[index].outputs) // len(job.styles)]
                pictures = [read_picture(job.photos[index].read()), *(read_picture(job.out / name) for name in outputs)]
                self.rows[index] = [thumbnail(picture.pixels, self.side) for picture in pictures]
        columns = ["photo", *(style.mark for style in job.styles)]
        names = [job.photos[index].name for index in first]
        sheet = contact_sheet([self.rows[index] for index in first], columns=columns, names=names)
        save_png(np.asarray(sheet), job.sheet)


def thumbnail(pixels: Pixels, side: int) -> Pixels:
    """Return a picture, uint8 [H, W, 3], within a white square, uint8 [side, side, 3]."""
    height, width = pixels.shape[:2]
    if (height, width) == (side, side):
        return pixels
    share = side / max(height, width)
    step = max(1, int(1 / share / 2))  # every so many pixels: at least twice the thumbnail's, which are then averaged
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    page = Image.new("RGB", (side, side), "white")
    page.paste(image.resize(size, Image.Resampling.BICUBIC), ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(page)
