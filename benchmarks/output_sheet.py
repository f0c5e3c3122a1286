"""Put outputs of ``content-client stylize`` on one sheet, without the photos they were made from.

    python benchmarks/output_sheet.py SHEET.png OUT_DIR [OUT_DIR ...] [--every 20]

For reports that may be shared: a contact sheet of the program shows the photos
beside the results, this one shows results only; a column for each photo, a row
for each style of each folder. ``--people DIR`` puts the inputs above them, where
they are nobody's photos (``tools/draw_people.py``). Smaller pictures are enlarged
to the largest.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modify_fl.faces.decode import decode_image, save_png
from modify_fl.sheet import contact_sheet


def styled(folder: Path, every: int) -> list[list[NDArray[np.uint8]]]:
    """Return the pictures of a folder, style by style."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [json.loads(line) for line in lines][::every]
    columns = [[decode_image(folder / name) for name in record["outputs"]] for record in chosen]
    return [list(row) for row in zip(*columns, strict=True)]


def enlarged(rows: list[list[NDArray[np.uint8]]]) -> list[list[NDArray[np.uint8]]]:
    """Bring all pictures to the side of the largest."""
    side = max(len(picture) for row in rows for picture in row)
    return [
        [np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)) for picture in row]
        for row in rows
    ]


def main() -> None:
    """Read ``results.jsonl`` of the folders and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every so many photos")
    parser.add_argument("--people", type=Path, help="the inputs, if they show nobody")
    args = parser.parse_args()
    rows = [row for folder in args.folders for row in styled(folder, args.every)]
    if args.people:
        rows.insert(0, [decode_image(path) for path in sorted(args.people.iterdir())[:: args.every]])
    save_png(np.asarray(contact_sheet(enlarged(rows))), args.sheet)


if __name__ == "__main__":
    main()
