"""Styles of different sides, measured alike: every picture is enlarged to one side before it is looked at (ADR 17).

    TORCH_HOME=weights python benchmarks/sides.py '64 px=small.mdfy' '128 px=large.mdfy' --key bench.mdfykey \
        --photos DATA/held-out/content/congress/128 DATA/held-out/content/london/128 \
        --reference DATA/held-out/style/paintings/128 --side 128

``evaluate`` measures a bundle at its own side, where a smaller one has the easier task. Here photos are reduced to
the side of each bundle, painted without stage 2 in ``--styles`` styles of their own, enlarged with the filter of
M-49, and compared with photos and style images at ``--side``. Prints a Markdown table.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl.data import ImageSet, load_images, to_uint8
from modify_fl.metrics.collector import LABELS, Collector
from modify_fl.metrics.figures import Measurement
from modify_fl.metrics.instruments import Instruments
from modify_fl.style import Style, own_styles
from protocol.provider import read_provider_key
from protocol.trust import TrustStore

_BATCH = 16
_DIGITS = {"kid": 1, "fid": 1}


def together(folders: Sequence[Path], side: int) -> ImageSet:
    """Return the pictures of several folders as one set, at one side."""
    sets = [load_images(folder, resolution=side) for folder in folders]
    images = torch.cat([one.images for one in sets])
    return ImageSet.of(images, [f"{at}/{name}" for at, one in enumerate(sets) for name in one.names])


def enlarged(pictures: Tensor, side: int) -> Tensor:
    """Return pictures [..., 3, R, R] at another side."""
    if pictures.shape[-1] == side:
        return pictures
    flat = pictures.flatten(0, -4)
    flat = functional.interpolate(flat, size=side, mode="bicubic", antialias=True, align_corners=False)
    return flat.clamp(-1, 1).view(*pictures.shape[:-2], side, side)


def measure(
    tools: Instruments, style: Style | None, photos: ImageSet, side: int, count: int
) -> Collector:  # fmt: skip
    """Look at photos in ``count`` styles of their own, or with ``style`` left out at the photos themselves."""
    seeds = tuple(range(count)) if style else ()
    found = Collector(instruments=tools, seeds=seeds)
    for at in range(0, len(photos), _BATCH):
        chunk = range(at, min(at + _BATCH, len(photos)))
        faces = photos.batch(chunk)
        if style:
            pictures = style.paint_each(faces, seeds=[own_styles(index, seeds) for index in chunk])  # [B, S, 3, R, R]
        else:
            pictures = faces[:, None]  # [B, 1, 3, R, R]
        found.add(to_uint8(enlarged(pictures, side)))
    return found


def main() -> None:
    """Measure the photos, then every bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--key", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="photos that nothing was trained on")
    parser.add_argument("--reference", type=Path, required=True, help="style images that nothing was trained on")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--styles", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trust, now = TrustStore.of(*map(read_provider_key, options.key)), datetime.now(UTC)
    tools = Instruments.find(trained_identity="facenet-vggface2", require=True)
    images = load_images(options.reference, resolution=options.side)
    known = measure(tools, None, images, options.side, 0).features
    plain = measure(tools, None, together(options.photos, options.side), options.side, 0)
    print(f"{now:%Y-%m-%d}; {len(images)} style images, {options.styles} styles a photo, side {options.side}")
    print(f"| pictures | {' | '.join(LABELS.values())} |")
    print(f"|{'---|' * (1 + len(LABELS))}")
    print(line("raw photos", plain.distances(known, seed=options.seed)))
    for text in options.bundles:
        name, _, path = text.partition("=")
        style = Style.load(path, trust=trust)
        found = measure(tools, style, together(options.photos, style.resolution), options.side, options.styles)
        figures = found.distances(known, seed=options.seed) | found.diversity(seed=options.seed)
        print(line(name, figures | found.identity(plain, seed=options.seed)), flush=True)


def line(name: str, figures: dict[str, Measurement]) -> str:
    """Return one row."""
    cells = [figures[key].text(_DIGITS.get(key, 3)) if key in figures else "-" for key in LABELS]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
