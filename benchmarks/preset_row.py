"""One row of ``presets.py``: a process of its own, so that its peak memory is that of this row alone.

    python benchmarks/preset_row.py '{"preset": "quick-64", ...}' WEIGHTS STEPS SECONDS

Prints one JSON object. Torch is imported late: the table's process needs only
what is above.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

    from modify_fl.training.runtime import Compute

KINDS = ("stage 1, phase A", "stage 1, phase B", "stage 2, offline", "inference")
GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: what is measured."""

    preset: str
    """Name of the preset."""
    kind: str
    """One of ``KINDS``."""
    threads: int
    """Compute threads."""
    precision: str
    """``fp32`` or ``bf16``."""
    device: str
    """``cpu`` or ``cuda``."""
    batch: int
    """Pictures of one step."""


def status(process: int, field: str) -> float:
    """Return a line of /proc/PID/status in GB; 0 where there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 / GIGA if found else 0.0


def measure(case: Case, *, weights: Path, steps: int, seconds: float) -> dict[str, float]:
    """Return images per second, peak memory in GB and the share of convolutions.

    Args:
        case: What to measure.
        weights: Folder of LPIPS and the face network.
        steps: At most so many steps are timed, after one of warm-up.
        seconds: No step begins later than this after the first.

    The mean, not the median: the identity term and the penalty come every few steps, all of them in the first.
    """
    from modify_fl.config import Runtime
    from modify_fl.training.runtime import resolve

    compute = resolve(Runtime(device=case.device, threads=case.threads, precision=case.precision))  # type: ignore[arg-type]
    work, parameters = _work(case, weights, compute)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or (len(times) <= steps and time.perf_counter() < end):
        start = time.perf_counter()
        work()
        _wait(case.device)
        times.append(time.perf_counter() - start)
    peak = _peak(case.device)  # before the profiler, which needs memory too
    return {
        "images_per_second": case.batch / statistics.mean(times[1:]), "steps": len(times) - 1, "peak_gb": peak,
        "convolutions": _convolution_share(work, case.device), "parameters": parameters,
    }  # fmt: skip


def _work(case: Case, weights: Path, compute: "Compute") -> tuple[Callable[[], object], int]:
    """Return one step of the work, and the number of parameters of all networks of the style."""
    from throughput import FAR, built_style, stage1

    from modify_fl.config import preset
    from modify_fl.data import load_images
    from modify_fl.perceptual import PerceptualNets
    from modify_fl.style import Style
    from modify_fl.styles import seeded
    from modify_fl.training.stage2 import Stylization

    found = preset(case.preset)
    chosen = replace(
        found, encapsulation=replace(found.encapsulation, batch=case.batch),
        stylization=replace(found.stylization, batch=case.batch),
    )  # fmt: skip
    images = load_images("synthetic", resolution=chosen.network.resolution, look="painting", limit=max(4, case.batch))
    nets = PerceptualNets.find(weights, device=compute.device)
    if case.kind.startswith("stage 1"):
        part = "adversarial" if case.kind == KINDS[0] else "remap"
        trainer = stage1(images, chosen, part, compute, nets)
        return trainer.step, _count(trainer.model, trainer.discriminator)
    style = built_style(chosen)
    count = _count(style.model, style.discriminator)
    if case.kind == "inference":
        painter, photos = Style(style), images.batch(list(range(case.batch)))
        return lambda: painter.paint(photos, seeded([1])), count
    stage2 = Stylization(
        style, images, mode="offline", config=chosen.stylization, total=FAR, seed=0, compute=compute, nets=nets
    )
    return stage2.step, count


def _count(*modules: "Module | None") -> int:
    return sum(value.numel() for module in modules if module is not None for value in module.parameters())


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _peak(device: str) -> float:
    """Return GB: of the accelerator, or of the whole process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / GIGA
    return status(os.getpid(), "VmHWM")


def _convolution_share(work: Callable[[], object], device: str) -> float:
    """Return the share of one step's compute time in convolutions, forward and backward, 0 to 1."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=kinds) as watched:
        work()
        _wait(device)
    field = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    times = [(event.key, getattr(event, field)) for event in watched.key_averages()]
    return sum(value for name, value in times if "conv" in name.lower()) / max(1, sum(value for _, value in times))


def main() -> None:
    """Measure the row that is named and print it."""
    case, weights, steps, seconds = sys.argv[1:]
    found = measure(Case(**json.loads(case)), weights=Path(weights), steps=int(steps), seconds=float(seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
