"""Pictures per second that batches are read with, from memory and from a mapped file.

    python benchmarks/reading.py [--count 4000] [--side 128]

The pictures are noise, because speed does not depend on what is in them. The
mapped file is read twice: when the system may still hold it in memory, and after
it was asked to let go of it (Linux), which is what a set far larger than memory
is like. Prints Markdown.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.data_files import PixelFile

BATCH = 16


def make(count: int, side: int, home: Path) -> tuple[ImageSet, ImageSet]:
    """Return the same noise in memory and in a file below ``home``."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 3, side, side)).astype(np.uint8)
    names = [str(index) for index in range(count)]
    file = PixelFile("0" * 64, home)
    with file.making() as writer:
        for picture in noise:
            writer.add(picture)
        writer.finish({"names": names})
    plain = ImageSet.of(torch.from_numpy(noise), names)
    return plain, ImageSet(images=file.pixels(count, side), names=tuple(names), digest=plain.digest, file=file)


def pace(images: ImageSet) -> float:
    """Return pictures per second over one epoch in random order."""
    start = time.perf_counter()
    for at in range(0, len(images) - BATCH + 1, BATCH):
        images.batch(shuffled_indices(len(images), 0, at, BATCH))
    return len(images) / (time.perf_counter() - start)


def forget(images: ImageSet) -> None:
    """Ask the system to drop the file's pages."""
    if images.file is None or not hasattr(os, "posix_fadvise"):
        return
    with (images.file.folder / "pixels.bin").open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--side", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        plain, mapped = make(options.count, options.side, Path(home))
        print(f"{options.count} pictures of {options.side} px, batches of {BATCH}, pictures per second\n")
        print("| from | pace |\n|---|---|")
        print(f"| memory | {pace(plain):.0f} |")
        print(f"| mapped file, warm | {pace(mapped):.0f} |")
        fresh = ImageSet(
            images=PixelFile("0" * 64, Path(home)).pixels(options.count, options.side), names=mapped.names,
            digest=mapped.digest, file=mapped.file,
        )  # fmt: skip
        del mapped
        forget(fresh)
        print(f"| mapped file, let go before | {pace(fresh):.0f} |")


if __name__ == "__main__":
    main()
