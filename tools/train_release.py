"""Train the weights that ship with the package, in slices that lose nothing.

    TORCH_HOME=weights python tools/train_release.py DATA --out runs/base-64 --budget 140m --slice 8m

DATA is a folder of aligned faces (``style/paintings/128`` and so on, see
``SOURCES``). The same command goes on where the last slice ended. A fixed part
of every source is never trained on; its names are written to
``held-out.txt`` beside the checkpoints, one path a line, for the evaluation.
"""

import argparse
import hashlib
import os
import re
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import torch

from modify_fl.config import Budget, EncapsulationConfig, Runtime, preset
from modify_fl.console import Console, MetricsLog
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.encapsulation import encapsulate
from modify_fl.training.runtime import resolve

SOURCES = {
    "style/paintings": 0.20, "style/engravings": 0.20,
    "content/congress": 0.10, "content/london": 0.50, "content/ai_cc0": 0.10,
}  # fmt: skip
"""Folder of each source and the share of its people that is held out."""

_NOT_THE_PERSON = (re.compile(r"(neutral|smiling)"), re.compile(r"(full)?_\d$"))
_STORED = {64: 128, 128: 128, 256: 256}


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


def base_recipe(config: EncapsulationConfig) -> EncapsulationConfig:
    """Return the recipe of the base: no identity term (half of a step), little of phase B.

    M of the base is a start only; each style measures its own codes anew (ADR 5).
    """
    return replace(config, lambda_id=0.0, parts=(0.05, 0.10, 0.75, 0.10), discriminator_start=0.04, ema_half_life=5000)


def main(arguments: list[str] | None = None) -> int:
    """Train one slice; exit 0 when the whole budget is done, 75 when there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", default="quick-64")
    parser.add_argument("--budget", default="140m", help="of the whole run, such as 140m or 400kimg")
    parser.add_argument("--slice", default=None, help="stop after this time with a checkpoint, such as 8m")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(arguments)

    chosen = preset(options.preset)
    chosen = replace(chosen, encapsulation=base_recipe(chosen.encapsulation))
    images, kept = base_images(options.data, chosen.network.resolution)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "held-out.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")

    runtime = Runtime(threads=options.threads)
    nets = PerceptualNets.find(require=False, device=resolve(runtime, bf16=False).device)
    console = Console("train_release", "base")
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
                nets=nets, folder=options.out, emit=emit,
            )  # fmt: skip
        except InterruptedRunError as stopped:
            console.note(str(stopped))
            return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
