"""What sites gain by adapting one encoder together, on held-out photos of each.

    TORCH_HOME=weights python benchmarks/federation_quality.py DATA BUNDLE --key KEY.mdfykey --out runs/federation

DATA is laid out like that of ``tools/train_release.py``, whose rule decides by person what may be trained on.
Three sites that are not alike: the first and the second half of congress by name (official portraits), and London
(neutral and smiling volunteers; two photos of each). Rows, every training by ``content-client`` as a user starts it:

* no stage 2;
* each site alone, with as many local steps as it takes in all rounds;
* federated, ``content-client federate simulate --privacy none``;
* pooled: all photos in one place, with as many steps as one site takes; with ``--long`` also with as many as all sites
  take together.

Kept-out people of every site, one photo each, are measured, each site apart and all together. Each row is kept
in ``--out`` and not repeated. Writes ``federation-quality.md`` into ``--results``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from table1 import machine, one_each, release_rules, split

from modify_fl.data import ImageSet, to_uint8
from modify_fl.metrics.collector import Collector
from modify_fl.metrics.figures import mean_estimate
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import compare_reconstructions
from modify_fl.perceptual import PerceptualNets
from modify_fl.style import Style
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from style_provider.evaluation.task import Evaluation

FIGURES = {
    "lpips": "LPIPS to the photo", "auc": "identity AUC", "cosine": "identity cosine", "kid": "KID x 1000",
}  # fmt: skip
SITES = ("congress A to K", "congress L to Z", "London")
PAGE = """Written by the command below. Machine: {machine}. `quick-64`; {train} photos of the sites {names} are trained
on; {measured} people that nothing was trained on are measured in {styles} styles of their own each against {reference}
paintings kept out. {rounds} rounds of {steps} local steps on every site, one training seed ({seed}). LPIPS compares
D(E'(x)) with x; identity and KID are of painted pictures; intervals: 95 %. `--privacy none`: nothing here is private
towards the coordinator.
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Photos of one site, before and after the split by person."""

    name: str
    folder: Path
    """Photos to train on, as the programs read them."""
    held: ImageSet
    """Kept-out people, one photo each."""


def make_sites(data: Path, out: Path) -> list[Site]:
    """Return the three sites; their training photos are linked into ``out``."""
    sites = []
    for source, names in (("content/congress", SITES[:2]), ("content/london", SITES[2:])):
        train, kept = (part.names for part in split(data, source))
        held = one_each(split(data, source)[1])
        people = sorted({release_rules().person(name) for name in (*train, *kept)})
        middle = people[len(people) // 2]
        for index, name in enumerate(names):
            mine = [len(names) == 1 or (release_rules().person(n) >= middle) == bool(index) for n in train]
            own = [len(names) == 1 or (release_rules().person(n) >= middle) == bool(index) for n in held.names]
            folder = out / "sites" / name.replace(" ", "-").lower()
            folder.mkdir(parents=True, exist_ok=True)
            for path, wanted in zip(train, mine, strict=True):
                link = folder / Path(path).name
                if wanted and not link.exists():
                    link.symlink_to((data / source / "128" / path).resolve())
            held_here = held.subset([i for i, wanted in enumerate(own) if wanted])
            sites.append(Site(name=name, folder=folder, held=held_here))
    return sites


def pool(sites: Sequence[Site], out: Path) -> Path:
    """Return a folder with the photos of all sites."""
    folder = out / "sites" / "pooled"
    folder.mkdir(parents=True, exist_ok=True)
    for site in sites:
        for path in site.folder.iterdir():
            link = folder / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
    return folder


def commands(options: argparse.Namespace, sites: Sequence[Site]) -> dict[str, list[str]]:
    """Return the arguments of ``content-client`` for each row that trains something, by its title."""
    alone, together = options.rounds * options.local_steps, options.rounds * options.local_steps * len(sites)
    common = ["--no-align", "--threads", str(options.threads), "--seed", str(options.seed)]
    adapt = ["adapt", "--bundle", str(options.bundle), *common]

    def pooled(steps: int) -> list[str]:
        return [*adapt, "--photos", str(pool(sites, options.out)), "--budget", f"{steps}steps"]

    return {
        **{
            f"{site.name} alone, {alone} steps": [*adapt, "--photos", str(site.folder), "--budget", f"{alone}steps"]
            for site in sites
        },
        f"federated, {options.rounds} rounds of {options.local_steps} steps": [
            "federate", "simulate", str(options.bundle), *common, "--privacy", "none",
            *(word for site in sites for word in ("--site", str(site.folder))),
            "--rounds", str(options.rounds), "--local-steps", str(options.local_steps),
        ],
        **{f"pooled, {steps} steps": pooled(steps) for steps in ((alone, together) if options.long else (alone,))},
    }  # fmt: skip


def train(options: argparse.Namespace, title: str, words: Sequence[str]) -> tuple[Path, float]:
    """Run a command unless its adapter is there; return the adapter and the minutes it took."""
    name = "".join(c if c.isalnum() else "-" for c in title.lower())
    adapter, minutes = options.out / f"{name}.mdfa", options.out / f"{name}.minutes"
    if not (adapter.exists() and minutes.exists()):
        start = time.monotonic()
        program = Path(sys.executable).with_name("content-client")
        subprocess.run([program, *words, "--out", adapter], check=True)  # noqa: S603
        minutes.write_text(f"{(time.monotonic() - start) / 60:.1f}", encoding="utf-8")
    return adapter, float(minutes.read_text(encoding="utf-8"))


def measure(
    styles: Mapping[str, Style], sites: Sequence[Site], options: argparse.Namespace, instruments: Instruments
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the figures of all rows, as printed, on all kept-out photos and on those of each site."""
    photos = ImageSet.of(
        torch.cat([site.held.images for site in sites]), [name for site in sites for name in site.held.names]
    )
    starts = [sum(len(site.held) for site in sites[:index]) for index in range(len(sites))]
    places = {"all sites": range(len(photos))} | {
        site.name: range(start, start + len(site.held)) for site, start in zip(sites, starts, strict=True)
    }
    paintings, reference = split(options.data, "style/paintings")
    seeds, found = tuple(range(options.styles)), {place: {} for place in places}
    target, plain = Collector(instruments=instruments), Collector(instruments=instruments)
    for images, collector in ((reference, target), (photos, plain)):
        for chunk in batches(images):
            collector.add(to_uint8(images.batch(chunk))[:, None])
    for title, style in styles.items():
        task = Evaluation(
            style=style, styles=paintings, photos=photos, seeds=seeds, seed=options.seed, xi=None, reference=reference
        )
        painted = Collector(instruments=instruments, seeds=seeds)
        for chunk in batches(photos):
            painted.add(task.paint_each(chunk))
        likeness = compare_reconstructions(photos, style.reconstruct, instruments.lpips).lpips
        for place, own in places.items():
            mine, theirs = painted.part(own), plain.part(own)
            figures = mine.distances(target.features, seed=options.seed) | mine.identity(theirs, seed=options.seed)
            found[place][title] = {
                "lpips": f"{mean_estimate(likeness[list(own)], seed=options.seed).value:.4f}",
                "auc": figures["identity_auc"].text(3), "cosine": figures["identity_cosine"].text(3),
                "kid": figures["kid"].text(1),
            }  # fmt: skip
        print(f"measured: {title}", flush=True)
    return found


def batches(images: ImageSet) -> list[list[int]]:
    """Return the positions of pictures, sixteen at a time."""
    return [list(range(start, min(start + 16, len(images)))) for start in range(0, len(images), 16)]


def table(figures: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return one Markdown table."""
    lines = [f"| row | {' | '.join(FIGURES.values())} |", "|" + "---|" * (1 + len(FIGURES))]
    lines += [f"| {title} | {' | '.join(found[key] for key in FIGURES)} |" for title, found in figures.items()]
    return [*lines, ""]


def verdict(figures: Mapping[str, Mapping[str, str]]) -> str:
    """Say whether the federation beat every site alone on the photos of all sites, by likeness and identity."""

    def figure(title: str, key: str) -> float:
        return float(figures[title][key].split()[0])

    alone = [title for title in figures if " alone, " in title]
    together = next(title for title in figures if title.startswith("federated"))
    said = []
    for key, sign in (("lpips", -1), ("auc", 1), ("kid", -1)):
        best = max(alone, key=lambda title: sign * figure(title, key))
        won = sign * figure(together, key) > sign * figure(best, key)
        word = "beats" if won else "does not beat"
        said.append(
            f"- {FIGURES[key]}: federated ({figure(together, key):g}) {word} every site alone "
            f"(best: {figure(best, key):g}, {best.split(' alone')[0]})"
        )
    return "On the photos of all sites:\n\n" + "\n".join(said)


def page(
    options: argparse.Namespace, sites: Sequence[Site], made: Mapping[str, tuple[Path, float]],
    figures: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> str:  # fmt: skip
    """Return the result page."""
    files = {
        str(options.data): "DATA", str(options.bundle): "BUNDLE", str(options.key): "KEY.mdfykey",
        str(options.adapter_key): "adapter.mdfykey", str(options.out): "runs/federation",
        str(options.results): "docs/results",
    }  # fmt: skip
    lines = [
        "# Sites that learn together\n", verdict(figures["all sites"]), "",
        f"```sh\npython benchmarks/federation_quality.py {' '.join(files.get(w, w) for w in sys.argv[1:])}\n```\n",
        PAGE.format(
            machine=machine(), train=" + ".join(str(len(list(site.folder.iterdir()))) for site in sites),
            names=", ".join(site.name for site in sites), measured=" + ".join(str(len(site.held)) for site in sites),
            styles=options.styles, reference=len(split(options.data, "style/paintings")[1]), rounds=options.rounds,
            steps=options.local_steps, seed=options.seed,
        ),
    ]  # fmt: skip
    for place, found in figures.items():
        lines += [f"## Measured on people of {place}\n", *table(found)]
    lines += ["## Minutes of each training\n", "| row | minutes |", "|---|---|"]
    lines += [f"| {title} | {minutes:g} |" for title, (_, minutes) in made.items()]
    return "\n".join([*lines, ""])


def main() -> None:
    """Train what is missing, measure it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--adapter-key", type=Path, required=True, help="adapter.mdfykey of the identity folder")
    parser.add_argument("--out", type=Path, default=Path("runs/federation"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--local-steps", type=int, default=20)
    parser.add_argument("--styles", type=int, default=2)
    parser.add_argument("--long", action="store_true", help="pooled training of all steps too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sites = make_sites(options.data, options.out)
    made = {title: train(options, title, words) for title, words in commands(options, sites).items()}
    kept = options.out / "figures.json"
    if not kept.is_file():
        trust = TrustStore.of(read_provider_key(options.key), read_provider_key(options.adapter_key))
        styles = {"no stage 2": Style.load(options.bundle, trust=trust)} | {
            title: Style.load(options.bundle, trust=trust, adapter=adapter) for title, (adapter, _) in made.items()
        }
        instruments = Instruments.find(trained_identity=PerceptualNets.find().identity.name)
        kept.write_text(json.dumps(measure(styles, sites, options, instruments)), encoding="utf-8")
    figures = json.loads(kept.read_text(encoding="utf-8"))
    (options.results / "federation-quality.md").write_text(page(options, sites, made, figures), encoding="utf-8")


if __name__ == "__main__":
    main()
