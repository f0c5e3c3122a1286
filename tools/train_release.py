"""Train the face models that stage 1 starts from, and export them into the package (M-23, ADR 6).

    TORCH_HOME=weights python tools/train_release.py train DATA --out runs/base-64 --budget 140m --slice 8m
    python tools/train_release.py export runs/base-64 DATA --out modify_fl/base

DATA is a folder of aligned faces (``style/paintings/128`` and so on, see
``SOURCES``). The same ``train`` command goes on where the last slice ended. A
fixed part of every source, whole persons and paintings, is never trained on; its
names are written to ``held-out.txt`` beside the checkpoints, one path a line,
for the evaluation.

``split`` writes the same two parts as plain folders, for whoever wants to train on
one and measure on the other::

    python tools/train_release.py split DATA --out faces
    style-provider package --dataset faces/train/style/paintings ...
    style-provider evaluate ... --dataset faces/train/style/paintings --reference faces/held-out/style/paintings

``export`` only reads the run: averaged weights of E, D, the offset and M, and
Dis, of the newest checkpoint. A run that is still going on can be exported too;
record and model card then say how far it was. The name of the run's folder is
the name of the base.

To go on from exported weights, with the identity term this time, as a new run
with fresh optimisers, the adversary from the first step and a lower rate::

    python tools/train_release.py train DATA --out runs/base-64-id --budget 60m \
        --from modify_fl/base/base-64.safetensors
    python tools/train_release.py export runs/base-64-id DATA --out modify_fl/base --name base-64

``--set`` changes any setting of the recipe, as in ``style-provider package``.

A base of twice the side grows out of one that is there (ADR 17), and is then trained in the same way::

    python tools/train_release.py grow modify_fl/base/base-64.safetensors DATA --preset quick-128 --out runs/grown-128
    python tools/train_release.py train DATA --preset quick-128 --out runs/base-128 --budget 60m \
        --from runs/grown-128/grown-128.safetensors

On a GPU machine the same commands serve, without slices: install the package
with its dependencies, carry DATA and the folder TORCH_HOME over, and add
``--device cuda`` (``--preset good-128 --budget 3h``, for instance); then carry
``runs/NAME`` back, or export there. A run goes on only on a device of the same
kind to the same bits (M-40); on another it goes on all the same.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modify_fl.base.card import BaseCard, Source, read_card
from modify_fl.base.export import write_base
from modify_fl.base.faces import FaceCodes
from modify_fl.base.start import MODEL_PARTS, Start, load_base
from modify_fl.config import Budget, CriticConfig, EncapsulationConfig, NetworkConfig, Runtime, preset
from modify_fl.console import Console
from modify_fl.data import ImageSet, load_images
from modify_fl.datasets import open_pictures
from modify_fl.errors import ConfigError, DataError, InterruptedRunError, ModifyError
from modify_fl.events import TrainingEvent
from modify_fl.networks.model import StyleModel
from modify_fl.overrides import override
from modify_fl.perceptual import PerceptualNets
from modify_fl.progress import MetricsLog
from modify_fl.training import checkpoint
from modify_fl.training.encapsulation import encapsulate
from modify_fl.training.growth import grow, teach
from modify_fl.training.runtime import resolve

SOURCES = {
    "style/paintings": 0.20, "style/engravings": 0.20,
    "content/congress": 0.10, "content/london": 0.50, "content/ai_cc0": 0.10,
}  # fmt: skip
"""Folder of each source and the share of its people that is held out."""

CREDITS = {
    "style/paintings": (
        "oil portraits: Commons, Bioguide, Smithsonian NPG, Met, Rijksmuseum; some of unstated photographers",
        "public domain by date, CC0",
    ),
    "style/engravings": (
        "engravings, lithographs, early photographs: Commons, Bioguide, Art Institute of Chicago",
        "public domain by date",
    ),
    "content/congress": ("official portraits of the US congress", "public domain (US government)"),
    "content/london": (
        "Face Research Lab London Set, DeBruine and Jones 2017, doi 10.6084/m9.figshare.5047666", "CC BY 4.0"
    ),
    "content/ai_cc0": ("generated people", "CC0"),
}  # fmt: skip
"""What each source is, and its licence."""

PHOTOS = "content/"
"""Where the photos are; all else is somebody's style."""

SPLIT_PARTS = ("train", "held-out")
"""Folders that ``split`` writes."""

_TOLD_EVERY = 100
_NOT_THE_PERSON = (re.compile(r"(neutral|smiling)"), re.compile(r"(full)?_\d$"))
_STORED = {64: 128, 128: 128, 256: 256}
_LICENCE = "Apache-2.0, as the package; name the sources below"


def person(path: str) -> str:
    """Name what all pictures of one person, or of one painting, have in common."""
    stem = Path(path).stem
    for pattern in _NOT_THE_PERSON:
        stem = pattern.sub("", stem)
    return stem


def held_out(path: str, share: float) -> bool:
    """Decide by a hash of the person, so that the split never changes."""
    first = hashlib.sha256(person(path).encode()).digest()[:4]
    return int.from_bytes(first) < share * 2**32


def base_images(data: Path, resolution: int) -> tuple[ImageSet, list[str]]:
    """Return the pictures to train on, and the paths of those kept out."""
    pictures, names, kept = [], [], []
    for source, share in SOURCES.items():
        folder = f"{source}/{_STORED[resolution]}"
        images = load_images(data / folder, resolution=resolution)
        for index, name in enumerate(images.names):
            path = f"{folder}/{name}"
            if held_out(name, share):
                kept.append(path)
            else:
                pictures.append(images.images[index])
                names.append(path)
    return ImageSet.of(torch.stack(pictures), names), kept


def split(data: Path, out: Path) -> dict[str, tuple[int, int]]:
    """Write the fixed split as folders: ``train/SOURCE/128/`` and ``held-out/SOURCE/128/``.

    Files are linked where the disk allows it and copied elsewhere; neither they
    nor their names change.

    Args:
        data: The faces, laid out as in ``SOURCES``.
        out: Made if need be; must hold neither part yet.

    Returns:
        Number of pictures in both parts, by source.

    Raises:
        ConfigError: ``out`` holds a split already.
        DataError: A source is missing.
    """
    for part in SPLIT_PARTS:
        if (out / part).exists():
            raise ConfigError(f"{out / part} exists", why="two splits must not mix", fix="choose another --out")
    counts = {}
    for source, share in SOURCES.items():
        folder = f"{source}/{_STORED[128]}"
        with open_pictures(data / folder) as files:
            names = files.names
        kept = [held_out(name, share) for name in names]
        for name, out_of_training in zip(names, kept, strict=True):
            _link(data / folder / name, out / SPLIT_PARTS[out_of_training] / folder / name)
        counts[source] = (len(names) - sum(kept), sum(kept))
    return counts


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def base_recipe(config: EncapsulationConfig) -> EncapsulationConfig:
    """Return the recipe of the base from nothing: no identity term (half of a step), little of phase B.

    M of the base is a start only; each style measures its own codes anew (ADR 5).
    The cut moves, so that styles can have another xi (ADR 7).
    """
    return replace(
        config, lambda_id=0.0, parts=(0.05, 0.10, 0.75, 0.10), discriminator_start=0.04, ema_half_life=5000,
        mix_spread=2,
    )  # fmt: skip


def continued_recipe(config: EncapsulationConfig) -> EncapsulationConfig:
    """Return the recipe for going on from exported weights: all terms from the first step, a quarter of the rate.

    Half of the rate undoes for a long time what was learnt.

    No block of Dis is frozen: the pictures are the same as before, and many. They
    paint each other, since there are photos among them.
    """
    return replace(
        config, parts=(0.0, 0.0, 0.96, 0.04), discriminator_start=0.0, identity_start=0.0, ema_half_life=5000,
        learning_rate=config.learning_rate / 4, lambda_id=1.0, identity_every=4, mix_spread=2, people=0,
    )  # fmt: skip


# Export -----------------------------------------------------------------------


def export(run: Path, data: Path, out: Path, *, name: str = "", licence: str = _LICENCE) -> BaseCard:
    """Write the newest checkpoint of ``run`` as a base into ``out``; the run is only read.

    The photos of ``data`` that were trained on give the moments of the codes (ADR 7).

    Raises:
        ConfigError: There is no run, or it cannot be exported.
        DataError: Its checkpoint cannot be read.
    """
    try:
        record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"there is no run in {run}", fix="name the folder given to train --out") from error
    saved = _newest(run)
    settings = record["settings"]
    recipe, schedule = settings["preset"]["encapsulation"], saved.values["schedule"]
    seen = int(str(saved.values["images_seen"]))
    identity = settings["identity"] if recipe["lambda_id"] else "none"
    card = BaseCard(
        name=name or run.resolve().name, network=NetworkConfig(**settings["preset"]["network"]),
        critic=CriticConfig(**recipe["critic"]), images_seen=seen, images_planned=schedule["total"],  # type: ignore[index]
        steps=saved.step, seed=settings["seed"], init=settings.get("init", "scratch"),
        perceptual=settings["perceptual"], identity=identity,
        weights={key.removeprefix("lambda_"): value for key, value in recipe.items() if key.startswith("lambda_")},
        remapped=seen > schedule["remap_start"],  # type: ignore[index]
        sources=_credits(run), licence=licence, folder=out,
    )  # fmt: skip
    states = _states(saved.tensors)
    return write_base(card, states | {"faces": face_codes(data, card.network, states)})


@torch.no_grad()
def face_codes(data: Path, network: NetworkConfig, states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the fields of ``FaceCodes`` over the codes of all photos that were trained on."""
    model = StyleModel.build(network, 0).eval()
    for part in MODEL_PARTS:
        getattr(model, part).load_state_dict(dict(states[part]))
    images, _ = base_images(data, network.resolution)
    photos = [index for index, path in enumerate(images.names) if path.startswith(PHOTOS)]
    codes = [model.encode(images.batch(photos[at : at + 32])) for at in range(0, len(photos), 32)]
    return dict(vars(FaceCodes.measure(torch.cat(codes))))


def _newest(run: Path) -> checkpoint.Checkpoint:
    try:
        found = checkpoint.load(run)
    except DataError:  # the run may have replaced it under our eyes
        found = checkpoint.load(run)
    if found is None:
        raise ConfigError(f"the run in {run} has no checkpoint yet", fix="wait two minutes")
    return found


def _states(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the averaged networks part by part, and Dis, which has no average."""
    states: dict[str, dict[str, Tensor]] = {part: {} for part in MODEL_PARTS}
    for full, value in tensors["average"].items():
        part, _, name = full.partition(".")
        states[part][name] = value
    return states | {"discriminator": dict(tensors["discriminator"])}


def _credits(run: Path) -> tuple[Source, ...]:
    path = run / "held-out.txt"
    kept = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return tuple(
        Source(name=name, licence=licence, held_out=sum(line.startswith(f"{folder}/") for line in kept))
        for folder, (name, licence) in CREDITS.items()
    )


# Growth -----------------------------------------------------------------------


def grow_base(options: argparse.Namespace, console: Console) -> BaseCard:
    """Write a base of twice the side, named after the folder ``--out``.

    Raises:
        ConfigError: The preset is not the old base with twice the side.
        DataError: A source is missing.
    """
    old, wanted = read_card(options.origin.with_suffix(".json")), preset(options.preset)
    start = load_base(old, old.network)
    model, critic = grow(start, old.network, wanted.network, options.seed)
    images, kept = base_images(options.data, wanted.network.resolution)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "held-out.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    teacher = StyleModel.build(old.network, 0).encoder
    teacher.load_state_dict(dict(start.states["encoder"]))

    def report(step: int, error: float) -> None:
        if not step % _TOLD_EVERY:
            console.note(f"step {step} of {options.steps}, error {error:.3f}")

    error = teach(
        model.encoder, teacher, images, steps=options.steps, batch=options.batch, seed=options.seed,
        compute=resolve(Runtime(device="cpu", threads=options.threads)), report=report,
    )  # fmt: skip
    console.note(f"E gives the old codes with an error of {error:.3f} of their variance")
    states = {part: getattr(model, part).state_dict() for part in MODEL_PARTS}
    seen = options.steps * options.batch
    card = replace(
        old, name=options.out.resolve().name, network=wanted.network, images_seen=seen, images_planned=seen,
        steps=options.steps, seed=options.seed, init=f"{old.label}, grown", remapped=False,
        sources=_credits(options.out), folder=options.out,
    )  # fmt: skip
    faces = face_codes(options.data, wanted.network, states)
    return write_base(card, states | {"discriminator": critic.state_dict(), "faces": faces})


# Training ---------------------------------------------------------------------


def train(options: argparse.Namespace, console: Console) -> int:
    """Train one slice; return 0 when the whole budget is done, 75 when there is more to do."""
    chosen, start = preset(options.preset), None
    recipe = base_recipe if options.origin is None else continued_recipe
    chosen = replace(chosen, encapsulation=recipe(chosen.encapsulation), from_base=None)
    chosen = override(chosen, options.changes)
    if options.origin is not None:
        start = _start(options.origin, chosen.network)
    images, kept = base_images(options.data, chosen.network.resolution)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "held-out.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")

    runtime = Runtime(device=options.device, threads=options.threads)
    nets = PerceptualNets.find(require=False, device=resolve(runtime, bf16=False).device)
    console.note(f"{len(images)} pictures to train on, {len(kept)} kept out")
    if options.slice:
        timer = threading.Timer(Budget.parse(options.slice).amount, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
    with MetricsLog(options.out / "metrics.jsonl", fresh=False) as metrics:

        def emit(event: TrainingEvent) -> None:
            metrics.write(event)
            console.emit(event)

        try:
            encapsulate(
                images, preset=chosen, budget=Budget.parse(options.budget), seed=options.seed, runtime=runtime,
                nets=nets, folder=options.out, emit=emit, start=start,
            )  # fmt: skip
        except InterruptedRunError as stopped:
            console.note(str(stopped))
            return 75
    return 0


def _start(path: Path, network: NetworkConfig) -> Start:
    return load_base(read_card(path.with_suffix(".json")), network)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands: Any = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("train", help="train a slice, or go on")
    new.add_argument("data", type=Path)
    new.add_argument("--out", type=Path, required=True, help="folder of the run")
    new.add_argument("--from", dest="origin", type=Path, help="exported base weights (.safetensors) to begin with")
    new.add_argument("--preset", default="quick-64")
    new.add_argument("--budget", default="140m", help="of the whole run, such as 140m or 400kimg")
    new.add_argument("--slice", default=None, help="stop after this time with a checkpoint, such as 8m")
    new.add_argument("--seed", type=int, default=1)
    new.add_argument("--threads", type=int, default=None)
    new.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    new.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    out = commands.add_parser("export", help="write a run's weights as a base")
    out.add_argument("run", type=Path, help="folder of the run; its name is the name of the base")
    out.add_argument("data", type=Path, help="the same DATA")
    out.add_argument("--out", type=Path, required=True, help="folder of the base, such as modify_fl/base")
    out.add_argument("--name", default="", help="another name than the run's")
    out.add_argument("--licence", default=_LICENCE, help="of the weights")
    grown = commands.add_parser("grow", help="write a base of twice the side")
    grown.add_argument("origin", type=Path, help="exported base weights (.safetensors)")
    grown.add_argument("data", type=Path, help="the same DATA")
    grown.add_argument("--out", type=Path, required=True, help="folder of the new base; its name is that of the base")
    grown.add_argument("--preset", default="quick-128")
    grown.add_argument("--steps", type=int, default=3000, help="in which E is taught")
    grown.add_argument("--batch", type=int, default=16)
    grown.add_argument("--seed", type=int, default=1)
    grown.add_argument("--threads", type=int, default=1)
    parts = commands.add_parser("split", help="write trained-on and held-out pictures as two folders")
    parts.add_argument("data", type=Path)
    parts.add_argument("--out", type=Path, required=True, help="gets train/ and held-out/")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; an error is one sentence with its own exit code."""
    options = _parser().parse_args(arguments)
    console = Console("train_release", options.command)
    try:
        if options.command == "train":
            return train(options, console)
        if options.command == "split":
            for source, (trained, kept) in split(options.data, options.out).items():
                console.note(f"{source}: {trained} to train on, {kept} held out")
            return 0
        if options.command == "grow":
            card = grow_base(options, console)
            console.note(f"wrote {card.weights_file}")
            return 0
        card = export(options.run, options.data, options.out, name=options.name, licence=options.licence)
    except ModifyError as error:
        return console.fail(error)
    console.note(f"{card.label}: {card.finished:.0%} of the planned run, {card.images_seen / 1000:.1f} kimg")
    console.note(f"wrote {card.weights_file} ({card.weights_file.stat().st_size / 1e6:.1f} MB), its .json and its .md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
