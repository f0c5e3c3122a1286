"""Stage 2 in Python: verify a style, adapt to one face, paint it, and a whole photo (a few seconds).

    python examples/04_stylize.py runs/example

Needs the folder that 01_encapsulate.py makes. The photo is drawn; it and the
encoder that was adapted to it stay in this process.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from modify_fl.config import Runtime, preset
from modify_fl.data import load_images, to_uint8
from modify_fl.faces.decode import save_png
from modify_fl.perceptual import PerceptualNets
from modify_fl.sheet import contact_sheet
from modify_fl.style import Style
from modify_fl.styles import seeded
from modify_fl.synthetic import draw_faces
from modify_fl.training.runtime import resolve
from modify_fl.training.stylization import adapt_to_photo
from protocol.provider import read_provider_key
from protocol.trust import TrustStore


def main(folder: Path) -> None:
    """Paint one face in three styles, before and after test-time training, and a whole photo."""
    trust = TrustStore.of(read_provider_key(folder / "studio.mdfykey"))
    style = Style.load(folder / "style.mdfy", trust=trust)
    photo = load_images("synthetic", resolution=style.resolution, look="photo", limit=1).batch([0])  # [1, 3, R, R]
    adapted = adapt_to_photo(
        style.loaded, photo, config=replace(preset("quick-64").stylization, test_time_steps=20), seed=0,
        compute=resolve(Runtime(threads=1, precision="fp32")), nets=PerceptualNets(),
    )  # fmt: skip
    print(f"loss {adapted.first_loss:.3f} before, {adapted.last_loss:.3f} after")
    rows = []
    for painter in (style, style.with_encoder(adapted.encoder)):
        pictures = [photo[0], painter.reconstruct(photo)[0], *painter.paint(photo, seeded((1, 2, 3)))[:, 0]]
        rows.append([to_uint8(picture) for picture in pictures])
    sheet = contact_sheet(rows, columns=["photo", "xi 0", "z 1", "z 2", "z 3"], names=["before", "after"])
    save_png(np.asarray(sheet), folder / "sheet.png")
    print(f"look at {folder / 'sheet.png'}")
    group = style.stylize(_drawn_group(), seed=2, strength=0.8)  # a whole photo: faces found, painted and put back
    group.save(folder / "group.png")
    print(f"and at {folder / 'group.png'}, {len(group.faces)} faces")


def _drawn_group() -> np.ndarray:
    """Return a photo of two people before a wall, uint8 [H, W, 3]; use a path of your own instead."""
    photo = np.full((200, 340, 3), 190, np.uint8)
    for left, person in zip((20, 180), draw_faces("photo", 2, 140, 3), strict=True):
        photo[30:170, left : left + 140] = person
    return photo


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
