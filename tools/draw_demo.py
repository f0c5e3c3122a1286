"""Draw the data set ``demo``: people who do not exist, as photos and as paintings (modify_fl/ready).

    python -m tools.draw_demo

``photos.zip`` holds draws of the base model (ADR 7). ``paintings.zip`` holds other
people, each painted by the shipped style ``paintings`` in a style of its own. The
same seeds give the same pictures on one machine; nobody is shown.
"""

import argparse
import io
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from modify_fl.console import Console
from modify_fl.data import load_images, to_uint8
from modify_fl.ready import DEMO_KEY, HOME, demo_pictures
from modify_fl.style import Style
from modify_fl.styles import seeded
from protocol.errors import Error
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from tools.draw_people import draw

_COUNT, _PRESET = 240, "quick-64"
_SEEDS = {"photo": 2026, "painting": 2027}
_STYLE = "paintings"
_SAME_DATE = (1980, 1, 1, 0, 0, 0)


def photos(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield name and picture of people drawn by the base, at 64 px."""
    for index, path in enumerate(draw(folder, count=count, seed=seed, name=_PRESET)):
        with Image.open(path) as image:
            yield f"photo-{index:03d}.png", image.convert("RGB")


def paintings(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield name and picture of other people, painted by the shipped style, each in a style of its own."""
    style = Style.load(_STYLE, trust=TrustStore.of(read_provider_key(DEMO_KEY)))
    draw(folder, count=count, seed=seed, name=_PRESET)
    people = load_images(folder, resolution=style.resolution)
    for index in range(count):
        painted = style.paint(people.batch([index]), seeded((index,)))  # [1, 1, 3, R, R]
        yield f"painting-{index:03d}.png", Image.fromarray(to_uint8(painted)[0, 0])


def write(path: Path, pictures: Iterator[tuple[str, Image.Image]]) -> None:
    """Write a ZIP file of PNG files without dates."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, picture in pictures:
            content = io.BytesIO()
            picture.save(content, "PNG", optimize=True)
            archive.writestr(zipfile.ZipInfo(name, _SAME_DATE), content.getvalue())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; an error is one sentence with its own exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HOME)
    parser.add_argument("--count", type=int, default=_COUNT)
    options = parser.parse_args(arguments)
    console = Console("draw_demo", "draw")
    torch.set_num_threads(1)  # sums come out in one order
    try:
        for look, make in (("photo", photos), ("painting", paintings)):
            with tempfile.TemporaryDirectory() as folder:
                path = options.out / demo_pictures(look).name
                write(path, make(Path(folder), options.count, _SEEDS[look]))
                console.note(f"{path.name}: {options.count} pictures, {path.stat().st_size / 1e6:.1f} MB")
    except Error as error:
        return console.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
