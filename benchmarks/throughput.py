"""Images per second of stage 1, stage 2 and ``stylize``, and where the time of a step goes.

    python benchmarks/throughput.py [--weights DIR] [--threads 1 2] [--precision fp32 bf16]

Runs on drawn faces, because speed does not depend on what is in the pictures.
With ``--weights`` (laid out like TORCH_HOME) the perceptual and the identity
network take part, as in real use; without it their replacements do (M-41,
M-42). Every figure is the median of several steps; compare figures of one run
only, since machines are noisy. Prints Markdown.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Preset, Runtime, preset
from modify_fl.data import ImageSet, load_images
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.style import Style
from modify_fl.styles import seeded
from modify_fl.training.encapsulation import Encapsulation
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.schedule import Schedule
from modify_fl.training.stage2 import Stylization

WARM_UP, STEPS, FAR = 2, 8, 10**9
PARTS = {"reconstruct": (FAR, FAR), "adversarial": (0, FAR), "remap": (0, 0)}


def pace(step: Callable[[], object], images: int) -> float:
    """Return images per second from the median of several calls."""
    times = []
    for count in range(WARM_UP + STEPS):
        start = time.perf_counter()
        step()
        if count >= WARM_UP:
            times.append(time.perf_counter() - start)
    return images / statistics.median(times)


def stage1(images: ImageSet, chosen: Preset, part: str, compute: Compute, nets: PerceptualNets) -> Encapsulation:
    """Return a trainer that stays in one part of the schedule."""
    early, remap = PARTS[part]
    schedule = Schedule(
        batch=chosen.encapsulation.batch, discriminator_start=early, identity_start=early, ramp_start=early,
        ramp_end=early, remap_start=remap, total=FAR,
    )  # fmt: skip
    return Encapsulation(images, preset=chosen, schedule=schedule, seed=0, compute=compute, nets=nets)


class _Unsigned:
    """Stands for a verified bundle: the benchmark times networks, and these were just built here."""

    def __init__(self) -> None:
        self.manifest, self.payload_digest = None, ""


def built_style(chosen: Preset) -> LoadedStyle:
    """Return untrained networks; their speed is that of trained ones."""
    model = StyleModel.build(chosen.network, 0).eval().requires_grad_(requires_grad=False)
    critic = build_discriminator(chosen.network, 0).eval().requires_grad_(requires_grad=False)
    return LoadedStyle(
        model=model, discriminator=critic, network=chosen.network, critic=chosen.encapsulation.critic,
        bundle=_Unsigned(),  # type: ignore[arg-type]
    )  # fmt: skip


def rows(chosen: Preset, images: ImageSet, compute: Compute, nets: PerceptualNets) -> list[tuple[str, int, float]]:
    """Measure every kind of step: name, batch, images per second."""
    batch = chosen.encapsulation.batch
    found = [
        (f"stage 1, {part}", batch, pace(stage1(images, chosen, part, compute, nets).step, batch)) for part in PARTS
    ]
    style = built_style(chosen)
    for mode, subset in (("offline", "heads"), ("offline", "all"), ("test-time", "all")):
        config = replace(chosen.stylization, subset=subset)
        stage = Stylization(
            style, images, mode=mode, config=config, total=FAR, seed=0, compute=compute, nets=nets,  # type: ignore[arg-type]
        )  # fmt: skip
        found.append((f"stage 2, {mode}, {subset}", stage.batch, pace(stage.step, stage.batch)))
    painter = Style(style)
    for count in (1, 16):
        photos = images.batch(list(range(count)))
        found.append(("stylize", count, pace(lambda photos=photos: painter.paint(photos, seeded([1])), count)))  # type: ignore[misc]
    return found


def convolution_share(trainer: Encapsulation) -> float:
    """Return the share of a step's CPU time that convolutions take, 0 to 1."""
    for _ in range(WARM_UP):
        trainer.step()
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        for _ in range(STEPS):
            trainer.step()
    times = {event.key: event.self_cpu_time_total for event in watched.key_averages()}
    return sum(value for name, value in times.items() if "conv" in name.lower()) / sum(times.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("no-weights"))
    parser.add_argument("--preset", default="quick-64")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    args = parser.parse_args()
    chosen = preset(args.preset)
    images = load_images("synthetic", resolution=chosen.network.resolution, look="painting", limit=64)
    nets = PerceptualNets.find(args.weights)
    print(f"{args.preset}, torch {torch.__version__}, {nets.perceptual.name}, {nets.identity.name}\n")
    print("| threads | precision | step | batch | images/s | images/s per core |\n|---|---|---|---|---|---|")
    for threads in args.threads:
        for precision in args.precision:
            compute = resolve(Runtime(device="cpu", threads=threads, precision=precision))
            for name, batch, speed in rows(chosen, images, compute, nets):
                print(
                    f"| {threads} | {precision} | {name} | {batch} | {speed:.1f} | {speed / threads:.1f} |", flush=True
                )
    share = convolution_share(stage1(images, chosen, "adversarial", compute, nets))
    print(f"\nshare of convolutions in the last adversarial step: {share:.0%}")


if __name__ == "__main__":
    main()
