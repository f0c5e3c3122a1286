"""What every preset costs: peak memory, images per second, share of convolutions.

    python benchmarks/presets.py --weights $TORCH_HOME --out docs/results/presets.md
    python benchmarks/presets.py --weights $TORCH_HOME --preset paper-1024 --threads 2 --out docs/results/presets.md

Each row is a process of its own, on drawn faces and with untrained networks,
since neither changes speed or memory. Results are kept in ``--keep``: the same
command goes on where it was stopped, and rows of several commands end in one
table. A process that needs more than ``--memory`` is ended and tried again with
half the batch, down to 1; one that takes longer than ``--timeout`` is ended.

With ``--weights`` (laid out like TORCH_HOME) LPIPS and the face network take
part, as in real use. Compare rows of one machine only.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from preset_row import GIGA, KINDS, Case, status

COLUMNS = ("preset", "work", "threads", "precision", "batch", "peak GB", "images/s", "convolutions", "remark")
RESERVE = 0.7
"""GB that are left to the rest of the machine."""


def watched(case: Case, options: argparse.Namespace) -> dict[str, object]:
    """Measure a case in a process of its own, ended where it needs too much memory or time."""
    words = [
        sys.executable, str(Path(__file__).with_name("preset_row.py")), json.dumps(asdict(case)), str(options.weights),
        str(options.steps), str(options.seconds),
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        environment = os.environ | {"OMP_NUM_THREADS": str(case.threads)}
        child = subprocess.Popen(words, stdout=out, stderr=err, env=environment)  # noqa: S603 - the file beside this one
        failed = _ended(child, case, options)
        if failed:
            return failed
        out.seek(0)
        err.seek(0)
        text = err.read()
        if child.returncode:
            short = "out of memory" in text.lower() or "can't allocate memory" in text.lower()
            if short or child.returncode == -9:  # the kernel ends with -9 what needs too much
                return {"failed": "memory", "used": "the machine has"}
            sys.exit(text)
        found: dict[str, object] = json.loads(out.read().splitlines()[-1])
        return found


def _ended(child: "subprocess.Popen[bytes]", case: Case, options: argparse.Namespace) -> dict[str, object]:
    """Wait for a row; end it, and say why, where it takes too much of the machine."""
    end = time.monotonic() + options.timeout
    while child.poll() is None:
        time.sleep(0.1)
        used = status(child.pid, "VmRSS") if case.device == "cpu" else 0.0
        if used > options.memory or (used and _available() < RESERVE):
            failed: dict[str, object] = {"failed": "memory", "used": f"{used:.1f} GB"}
        elif time.monotonic() > end:
            failed = {"failed": "time"}
        else:
            continue
        child.kill()
        child.wait()
        return failed
    return {}


def _available() -> float:
    """Return GB that the machine still has; plenty where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) * 1024 / GIGA for line in lines if line.startswith("MemAvailable:"))


def fitting(case: Case, options: argparse.Namespace) -> tuple[Case, dict[str, object]]:
    """Measure a case, with half the batch again and again where memory is short."""
    tried, remark = case, ""
    while True:
        found = watched(tried, options)
        if found.get("failed") == "memory":
            remark = f"batch {tried.batch} needs more than {found['used']}"
        if found.get("failed") != "memory" or tried.batch == 1:
            break
        tried = replace(tried, batch=tried.batch // 2)
    if found.get("failed") == "time":
        remark = f"longer than {options.timeout:.0f} s"
    elif "failed" not in found and found["steps"] != options.steps:
        remark = "; ".join(part for part in (remark, f"mean of {found['steps']} steps") if part)
    return tried, {**found, "remark": remark}


def cases(options: argparse.Namespace) -> list[Case]:
    """Return all rows that are asked for; inference runs in float32 whatever training uses."""
    from modify_fl.config import preset

    found = []
    for name in options.preset:
        chosen = preset(name)
        sizes = dict(zip(KINDS, (chosen.encapsulation.batch,) * 2 + (chosen.stylization.batch, 1), strict=True))
        for kind, batch in sizes.items():
            for threads in options.threads if options.device == "cpu" else options.threads[-1:]:
                precisions = ["fp32"] if kind == "inference" else options.precision
                found += [
                    Case(preset=name, kind=kind, threads=threads, precision=each, device=options.device, batch=batch)
                    for each in precisions
                ]
    return found


_TEXT = """\
Seed 0, drawn faces, untrained networks: neither changes speed or memory. Each row is a process of its own: the mean of
four steps after one of warm-up, fewer where a remark says so. *Peak GB* (10^9 bytes) is the whole process on a CPU,
Python and torch included, and the allocated memory on a GPU. *Convolutions* is their share of the compute time of one
step, forward and backward, blurs included (`torch.profiler`). *Phase A* has Dis and the identity term in force, each as
often as the preset says; *inference* is one photo in one style, always float32. Compare rows of one machine only."""


def report(kept: Mapping[str, dict[str, object]], machines: Sequence[str], commands: Sequence[str]) -> str:
    """Return the page as Markdown."""
    rows = []
    for key, found in kept.items():
        case = Case(**json.loads(key))
        numbers = ["-"] * 3
        if "failed" not in found:
            numbers = [
                f"{found['peak_gb']:.2f}", f"{found['images_per_second']:.3g}", f"{found['convolutions']:.0%}"
            ]  # fmt: skip
        rows.append([
            case.preset, case.kind, str(case.threads), case.precision, str(found["batch"]), *numbers,
            str(found.get("remark", "")),
        ])  # fmt: skip
    sizes = {json.loads(key)["preset"]: found["parameters"] for key, found in kept.items() if "parameters" in found}
    size_rows = [[name, f"{count / 1e6:.1f}"] for name, count in sizes.items()]  # type: ignore[operator]
    return "\n".join([
        "# What every preset costs", "", "Generated by `benchmarks/presets.py`; do not edit.", "", "```sh", *commands,
        "```", "", *(f"Machine: {machine}." for machine in machines), "",
        _TEXT, "", *_table(COLUMNS, rows), "", "## Sizes", "", "E, D, the offset, M and Dis together:", "",
        *_table(("preset", "million parameters"), size_rows), "",
    ])  # fmt: skip


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _machine(device: str, weights: Path) -> str:
    import torch

    from modify_fl.perceptual import PerceptualNets

    nets = PerceptualNets.find(weights)
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()} beside {name}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGA
    return (
        f"{name}, {os.cpu_count()} cores, {memory:.0f} GB, torch {torch.__version__}, perceptual network "
        f"{nets.perceptual.name}, identity network {nets.identity.name}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("no-weights"))
    parser.add_argument("--preset", nargs="+", default=["quick-64", "quick-128", "good-128", "gpu-256", "paper-1024"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=4, help="timed at most, after one of warm-up; whole cycles of 4")
    parser.add_argument("--seconds", type=float, default=60, help="no further step begins after so long")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one row may take")
    parser.add_argument("--memory", type=float, default=24, help="GB that one row may take on a CPU")
    parser.add_argument("--keep", type=Path, default=Path("runs/presets.json"), help="rows measured so far")
    parser.add_argument("--out", type=Path, default=None, help="Markdown; printed if none")
    return parser.parse_args()


def main() -> None:
    """Measure what is not measured yet, then write the table."""
    options = _options()
    store: dict[str, dict[str, object]] = {"rows": {}, "machines": {}, "commands": {}}
    if options.keep.is_file():
        store = json.loads(options.keep.read_text(encoding="utf-8"))
    # The order of the first command stays; dictionaries serve as ordered sets.
    store["commands"][shlex.join(["python", *sys.argv])] = True
    store["machines"][_machine(options.device, options.weights)] = True
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    for case in cases(options):
        key = json.dumps(asdict(case))
        if key in store["rows"]:
            continue
        tried, found = fitting(case, options)
        store["rows"][key] = {**found, "batch": tried.batch}
        print(f"{case.preset}, {case.kind}, {case.threads}, {case.precision}: {found}", file=sys.stderr, flush=True)
        options.keep.write_text(json.dumps(store, indent=1), encoding="utf-8")
    text = report(store["rows"], list(store["machines"]), list(store["commands"]))  # type: ignore[arg-type]
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
