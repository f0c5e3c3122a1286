"""What each part of the recipe of stage 1 brings: short runs of equal length, and their figures.

    TORCH_HOME=weights python benchmarks/recipe.py DATA --runs runs/recipe --out docs/results/recipe.md \
        default: alone:people=0 'no features:lambda_adv_f=0'

DATA is laid out as for ``tools/train_release.py``; styles are its paintings (or
``--style``) that a base was trained on, photos those of the congress and London
sets that it was not. A variant is ``NAME:key=value;key=value``, settings as
after ``package --set``. Each run is kept in ``--runs`` and skipped when it is
there, so the command goes on where it was stopped, and the table has all of them.

Pictures are D({E_l(x), M(z)}) of the stage-1 networks, without stage 2, two z a
photo. KID is over all pairs, not over subsets, so it compares rows of this table.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from modify_fl.base.card import find_base
from modify_fl.base.start import load_base
from modify_fl.config import Budget, Preset, Runtime, preset
from modify_fl.data import ImageSet, load_images, to_uint8
from modify_fl.metrics.distances import squared_mmd
from modify_fl.metrics.identity import identity_auc
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import pairwise_lpips
from modify_fl.networks.model import StyleModel
from modify_fl.overrides import override
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.encapsulation import encapsulate
from tools.train_release import SOURCES, held_out

PHOTOS = ("content/congress", "content/london")
COLUMNS = {
    "kid": "KID, training styles", "kid_held_out": "KID, held-out styles", "kid_recon": "KID of D(E(y)), held out",
    "lpips": "LPIPS of D(E(y)), held out", "auc": "identity AUC", "diversity": "diversity", "seconds": "seconds",
}  # fmt: skip


def part(data: Path, source: str, resolution: int, *, kept: bool) -> ImageSet:
    """Return the pictures of a source that the bases were trained on, or those kept out."""
    images = load_images(data / source / "128", resolution=resolution)
    share = SOURCES[source]
    return images.subset([i for i, name in enumerate(images.names) if held_out(name, share) == kept])


class Bench:
    """Pictures and networks that all variants share."""

    def __init__(self, data: Path, style: str, resolution: int) -> None:
        """Load everything; features of the references are computed once."""
        self.styles, self.unseen = (part(data, style, resolution, kept=kept) for kept in (False, True))
        photos = [part(data, source, resolution, kept=True).images for source in PHOTOS]
        self.photos = ImageSet.of(torch.cat(photos), [str(i) for i in range(sum(map(len, photos)))])
        tools = Instruments.find(trained_identity="facenet-vggface2", require=True)
        if tools.inception is None or tools.lpips is None or tools.face is None:
            raise SystemExit("all measuring networks are needed")
        self.inception, self.lpips, self.face = tools.inception, tools.lpips, tools.face
        self.seen_features, self.unseen_features, self.photo_features = (
            self.features(images.batch(range(len(images)))) for images in (self.styles, self.unseen, self.photos)
        )

    def features(self, pictures: Tensor) -> Tensor:
        """Return Inception features of [N, 3, R, R], float32 [N, 2048]."""
        return torch.cat([self.inception.features(to_uint8(chunk)) for chunk in pictures.split(16)])

    @torch.no_grad()
    def measure(self, model: StyleModel) -> dict[str, float]:
        """Return the figures of one model."""
        photos, unseen = (images.batch(range(len(images))) for images in (self.photos, self.unseen))
        draws = torch.Generator().manual_seed(0)
        codes = torch.cat([model.encode(chunk) for chunk in photos.split(32)])
        painted = []
        for _ in range(2):
            z = torch.randn(len(photos), model.remapping.z_dim, generator=draws)
            rows = model.fuse(codes, model.remap(z)).split(32)
            painted.append(torch.cat([model.decode(chunk) for chunk in rows]).clamp(-1, 1))
        again = torch.cat([model.decode(model.encode(chunk)) for chunk in unseen.split(32)]).clamp(-1, 1)
        features, own = self.features(torch.cat(painted)), self.features(again)
        faces = torch.cat([self.face(chunk) for chunk in photos.split(16)])
        others = torch.cat([self.face(chunk) for chunk in painted[0].split(16)])
        pairs = zip(unseen.split(16), again.split(16), strict=True)
        return {
            "kid": 1000 * squared_mmd(features, self.seen_features),
            "kid_held_out": 1000 * squared_mmd(features, self.unseen_features),
            "kid_recon": 1000 * squared_mmd(own, self.unseen_features),
            "lpips": float(torch.cat([self.lpips(a, b) for a, b in pairs]).mean()),
            "auc": float(identity_auc(faces, others[:, None], seed=0).value or 0.0),
            "diversity": sum(pairwise_lpips(self.lpips, torch.stack(p)) for p in zip(*painted, strict=True))
            / len(photos),
        }


def train(bench: Bench, chosen: Preset, options: argparse.Namespace, folder: Path, seed: int) -> dict[str, float]:
    """Train one variant and measure it."""
    card = find_base(chosen.network)
    start = load_base(card, chosen.network) if card else None
    begin = time.monotonic()
    done = encapsulate(
        bench.styles, preset=chosen, budget=Budget.parse(options.budget), seed=seed,
        runtime=Runtime(device="cpu", threads=options.threads), nets=PerceptualNets.find(require=True), folder=folder,
        emit=lambda _: None, start=start,
    )  # fmt: skip
    return {"seconds": time.monotonic() - begin, **bench.measure(done.model)}


def page(bench: Bench, found: list[dict[str, object]], options: argparse.Namespace) -> str:
    """Return the table of all runs that are there."""
    raw = [1000 * squared_mmd(bench.photo_features, f) for f in (bench.seen_features, bench.unseen_features)]
    told = (
        f"Made by `benchmarks/recipe.py`: {options.budget} from {found[0]['start']}, {options.style}, "
        f"{len(bench.styles)} pictures to train on, {len(bench.unseen)} kept out, {len(bench.photos)} photos kept out, "
        f"two z; no stage 2. {platform.machine()}, {options.threads} thread. KID x 1000 over all pairs. "
        f"Raw photos: {raw[0]:.1f} against training styles, {raw[1]:.1f} against held-out ones."
    )
    lines = [
        "# What the parts of the recipe bring", "", told, "",
        "| variant | settings | seed | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]  # fmt: skip
    for row in found:
        values = " | ".join(f"{row[key]:.3g}" for key in COLUMNS)
        lines.append(f"| {row['name']} | {row['settings'] or '-'} | {row['seed']} | {values} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("variants", nargs="+", metavar="NAME:key=value;...")
    parser.add_argument("--style", default="style/paintings")
    parser.add_argument("--preset", default="quick-64")
    parser.add_argument("--budget", default="3kimg")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = preset(options.preset)
    bench = Bench(options.data, options.style, wanted.network.resolution)
    card = find_base(wanted.network)
    for text in options.variants:
        name, _, settings = text.partition(":")
        chosen = override(wanted, [change for change in settings.split(";") if change])
        for seed in options.seeds:
            result = options.runs / f"{name}-{seed}.json"
            if not result.exists():
                figures = train(bench, chosen, options, options.runs / f"{name}-{seed}", seed)
                row = {"name": name, "settings": settings, "seed": seed, "start": card.label if card else "scratch"}
                result.write_text(json.dumps(row | figures), encoding="utf-8")
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(options.runs.glob("*.json"))]
    options.out.write_text(page(bench, found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
