"""Put outputs of ``content-client stylize`` on one sheet, without the photos they were made from.

    python benchmarks/output_sheet.py OUT_DIR SHEET.png [--every 20]

For reports that may be shared: a contact sheet of the program shows the photos
beside the results, this one shows results only.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from modify_fl.faces.decode import decode_image, save_png
from modify_fl.sheet import contact_sheet


def main() -> None:
    """Read ``results.jsonl`` of the folder and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--every", type=int, default=20, help="take every so many photos")
    args = parser.parse_args()
    lines = (args.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [json.loads(line) for line in lines][:: args.every]
    rows = [[decode_image(args.folder / name) for name in record["outputs"]] for record in chosen]
    columns = [f"style {seed}" for seed in chosen[0]["seeds"]]
    save_png(np.asarray(contact_sheet(rows, columns=columns)), args.sheet)


if __name__ == "__main__":
    main()
