"""Faces in photos: are they found, aligned as the prepared crops were, turned upright, and how long does it take?

    python benchmarks/faces.py PHOTOS PREPARED [--every 1]

PHOTOS holds photos as users have them, in folders; PREPARED the same people's aligned pictures in folders of the same
names (any depth), each named like its photo or ending in ``_NAME``. Everything runs on one thread of the CPU.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.faces.align import Alignment
from modify_fl.faces.decode import decode_image
from modify_fl.faces.detect import Face, FaceDetector
from modify_fl.faces.paste import Patch, paste

Pixels = NDArray[np.uint8]

_REPEATS = 20
_SAME = 0.05  # landmarks of one face in two crops differ by less than this share of the side


def largest(detector: FaceDetector, pixels: Pixels) -> Face | None:
    """Return the largest face of a photo, if there is one."""
    return max(detector.detect(pixels), key=lambda face: face.size, default=None)


def pairs(photos: Path, prepared: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield every photo with its prepared picture, the largest, where there is one."""
    for photo in sorted(photos.rglob("*.jpg")):
        same = [p for p in prepared.rglob(f"*{photo.name}") if f"/{photo.parent.name}/" in p.as_posix()]
        named = [p for p in same if p.name == photo.name or p.name.endswith(f"_{photo.name}")]
        yield photo, max(named, key=lambda path: path.stat().st_size, default=None)


def shift(detector: FaceDetector, ours: Pixels, theirs: Pixels) -> float | None:
    """Return the median distance of the landmarks of two crops, as a share of their side."""
    found = [largest(detector, crop) for crop in (ours, theirs)]
    if None in found:
        return None
    first, second = (face.landmarks / len(crop) for face, crop in zip(found, (ours, theirs), strict=True) if face)
    return float(np.median(np.hypot(*(first - second).T)))


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median processor time of ``work``."""
    work()
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


def timing(resolution: int, side: int) -> str:
    """Measure crop and paste of a face of ``side`` pixels in a photo of 900."""
    photo = np.random.default_rng(0).integers(0, 256, (900, 900, 3)).astype(np.uint8)
    eyes_and_mouth = np.array([[-0.13, -0.03], [0.12, 0.0], [0, 0.1], [-0.1, 0.24], [0.1, 0.25]])  # a little askew
    alignment = Alignment.of(450 + side * eyes_and_mouth, resolution)
    crop = alignment.crop(photo)
    patch = Patch(crop=crop, painted=255 - crop, alignment=alignment)
    cut, laid = milliseconds(lambda: alignment.crop(photo)), milliseconds(lambda: paste(photo, [patch]))
    return f"{resolution:4d} px, face of {alignment.side:.0f}: crop {cut:.1f} ms, paste {laid:.1f} ms"


def main() -> None:
    """Print what was found, and how fast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every so many photos")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector, paths, shifts = FaceDetector(), Counter[str](), []
    turned, upright = 0, 0
    for photo, prepared in list(pairs(args.photos, args.prepared))[:: args.every]:
        pixels = decode_image(photo)
        face = largest(detector, pixels)
        paths[face.path if face else "not found"] += 1
        if face is None:
            continue
        crop = Alignment.of(face.landmarks, 128).crop(pixels)
        theirs = decode_image(prepared) if prepared else None
        if theirs is not None and (distance := shift(detector, crop, theirs)) is not None:
            shifts.append(distance)
        for turns in (1, 2, 3):
            lying = np.ascontiguousarray(np.rot90(pixels, turns))
            other = largest(detector, lying)
            again = Alignment.of(other.landmarks, 128).crop(lying) if other else None
            turned += 1
            distance = None if again is None else shift(detector, again, crop)
            upright += distance is not None and distance < _SAME
    print("found:", ", ".join(f"{count} {path}" for path, count in sorted(paths.items())))
    if shifts:
        print(f"landmarks of {len(shifts)} crops against the prepared ones, in shares of the side:", end=" ")
        print(f"median {np.median(shifts):.4f}, largest {max(shifts):.4f}")
    print(f"upright from turned photos: {upright} of {turned}")
    for resolution, side in ((64, 160), (64, 450), (128, 160), (128, 450)):
        print(timing(resolution, side))


if __name__ == "__main__":
    main()
