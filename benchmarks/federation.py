"""What a federated round costs beside the training of its sites: bytes, time, and memory that grows with sites.

    python benchmarks/federation.py [--local-steps 10] [--repeats 5] [--seed 0] [--page docs/results/federation.md]

The style is one that comes with the package. Every message is what Flower would carry, as bytes, by way of
``LocalGrid``.

* Bytes: of the serialized messages of one round of three sites; the whole model is packed in the same way.
* Time: a round of three sites, and the same steps of the same sites without any federation, by turns; medians.
* Growth: a process for each number of sites, which all answer without training, so that what grows is the
  coordinator's; peak of resident memory (``VmHWM``, Linux) at the end, less the peak before the round.
"""

# ruff: noqa: E402 - Flower is silenced before it is imported

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from table1 import machine

from modify_fl.federated.environment import set_environment

set_environment()

import torch

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_style
from modify_fl.config import Runtime, preset
from modify_fl.data import load_images
from modify_fl.federated.compat import Message, RecordDict, message_to_proto
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.records import Instruction, make_record
from modify_fl.federated.simulation import OpenSite, Traffic, plan_simulation, simulate
from modify_fl.federated.site import OpenTraining
from modify_fl.federated.tensors import Shortened, first_tensors
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.release import Reply
from modify_fl.privacy.statement import no_guarantee
from modify_fl.ready import DEMO_KEY, demo_pictures, ready_bundles
from modify_fl.training.runtime import resolve
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle

STYLE = "paintings"
GROWTH = (3, 10, 50, 200)


@dataclass(frozen=True)
class Idle:
    """A site that moves every value a little and trains nothing."""

    style: LoadedStyle

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, None]:
        """See ``Training``."""
        tensors = {name: value + 1e-6 for name, value in instruction.tensors.items()}
        statement = no_guarantee("a benchmark")
        reply = Reply(
            tensors=tensors, bundle=self.style.digest, round=instruction.round, settings={}, statement=statement
        )
        return reply, Shortened(tensors=tensors, norm=0.0, kept=0.0), None


def open_style() -> LoadedStyle:
    """Return the shipped style."""
    trust = TrustStore.of(read_provider_key(DEMO_KEY))
    with open_bundle(ready_bundles()[STYLE], trust=trust, now=datetime.now(UTC)) as bundle:
        return load_style(bundle, record=False)


def plan_of(style: LoadedStyle, subset: str, *, sites: int = 3, steps: int = 1, secagg: bool = False) -> FederationPlan:
    """Return a plan of one round."""
    return plan_simulation(
        style, sites=sites, subset=subset, rounds=1, local_steps=steps, batch=4, learning_rate=1e-4,  # type: ignore[arg-type]
        secagg=secagg,
    )  # fmt: skip


def run_round(style: LoadedStyle, plan: FederationPlan, sites: list) -> Traffic:  # type: ignore[type-arg]
    """Run one round, and return what it carried."""
    traffic = Traffic()
    with tempfile.TemporaryDirectory() as folder:
        done = simulate(
            style, plan, sites, Path(folder), tell=lambda _: None, complain=lambda _, error: print(error),
            watch=traffic.count,
        )  # fmt: skip
    if done.rounds[0].accepted != plan.sites:
        raise RuntimeError(f"the round did not come about: {done.rounds[0]}")
    return traffic


def bytes_table(style: LoadedStyle) -> str:
    """Return bytes of a site and round, both ways together."""
    carried = {
        subset: [run_round(style, plan_of(style, subset, secagg=secagg), [Idle(style)] * 3) for secagg in (False, True)]
        for subset in ("heads", "lora", "all")
    }
    record = make_record(style.model.state_dict())
    whole = 2 * len(message_to_proto(Message(RecordDict({"arrays": record}), 1, "train")).SerializeToString())
    lines = [
        "| travels | plain, MB | of the whole model | with `--secagg`, MB | times plain |",
        "|---|---|---|---|---|",
    ]
    for subset, traffics in carried.items():
        plain, masked = ((traffic.down + traffic.up) / 3 for traffic in traffics)
        lines.append(
            f"| {subset} | {plain / 1e6:.3f} | {100 * plain / whole:.1f} % "
            f"| {masked / 1e6:.3f} | {masked / plain:.2f} |"
        )
    lines.append(f"| the whole model | {whole / 1e6:.3f} | 100 % | | |")
    return "\n".join(lines)


def time_table(style: LoadedStyle, *, steps: int, repeats: int, seed: int) -> str:
    """Return what a round takes beside its training."""
    plan, compute = plan_of(style, "heads", steps=steps), resolve(Runtime(device="cpu", threads=1))
    photos = load_images(str(demo_pictures("photo")), resolution=style.network.resolution, align=False)
    training = OpenTraining(
        style, photos, plan, config=preset("quick-64").stylization, seed=seed, compute=compute,
        nets=PerceptualNets.find(device=compute.device), reason="a benchmark",
    )  # fmt: skip
    sites = [OpenSite(training=training, photos=photos, seed=seed + number) for number in (1, 2, 3)]
    asked = Instruction(tensors=first_tensors(style, "heads"), round=1, run="alone")
    alone: list[float] = []
    federated: list[float] = []
    for number in range(repeats + 1):
        start = time.perf_counter()
        for site in sites:
            site.answer(asked)
        middle = time.perf_counter()
        run_round(style, plan, sites)
        end = time.perf_counter()
        if number:  # the first warms up
            alone.append(middle - start)
            federated.append(end - middle)
    ratio = statistics.median(with_ / without for with_, without in zip(federated, alone, strict=True))
    return (
        f"| training alone, s | as a federated round, s | ratio, median of {repeats} pairs | range |\n"
        "|---|---|---|---|\n"
        f"| {statistics.median(alone):.2f} | {statistics.median(federated):.2f} | {ratio:.2f} | "
        f"{min(a / b for a, b in zip(federated, alone, strict=True)):.2f} to "
        f"{max(a / b for a, b in zip(federated, alone, strict=True)):.2f} |"
    )


def peak() -> int:
    """Return the peak of resident memory of this process, KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def grow(sites: int, *, secagg: bool) -> None:
    """Run a round of many sites; print the growth of the peak, KiB, and seconds."""
    style = open_style()
    run_round(style, plan_of(style, "all", secagg=secagg), [Idle(style)] * 3)
    before, start = peak(), time.perf_counter()
    run_round(style, plan_of(style, "all", sites=sites, secagg=secagg), [Idle(style)] * sites)
    print(peak() - before, time.perf_counter() - start)


def growth_table() -> str:
    """Return how memory and time of a round grow with sites."""
    lines = ["| sites | peak above that of 3 sites, MiB | round, s |", "|---|---|---|"]
    for sites in GROWTH:
        command = [sys.executable, __file__, "--grow", str(sites)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very file
        told = run.stdout.split()
        lines.append(f"| {sites} | {int(told[-2]) / 1024:.1f} | {float(told[-1]):.2f} |")
    return "\n".join(lines)


def page(words: argparse.Namespace) -> str:
    """Return the page of results."""
    style = open_style()
    command = (
        f"python benchmarks/federation.py --local-steps {words.local_steps} --repeats {words.repeats} "
        f"--seed {words.seed} --parts {' '.join(words.parts)}"
    )
    values = sum(value.numel() for value in style.model.state_dict().values()) / 1e6
    parts = {
        "bytes": lambda: (
            "## Bytes of a site and round, both ways\n\nSerialized messages of one round of three sites, counted as "
            "they are carried.\n\n" + bytes_table(style)
        ),
        "growth": lambda: (
            "## Growth\n\n`all`; sites answer without training, so this is the coordinator, the messages, and one "
            "answer at a time. Resident memory at its peak, above that of a round of three sites in the same "
            "process.\n\n" + growth_table()
        ),
        "time": lambda: (
            f"## Time\n\nThree sites in one process, {words.local_steps} steps of 4 photos each, `heads`; by turns "
            "with the same steps of the same sites without messages, guard or checkpoint.\n\n"
            + time_table(style, steps=words.local_steps, repeats=words.repeats, seed=words.seed)
        ),
    }
    head = (
        f"# What a federated round costs\n\nWritten by `{command}`. Machine: {machine()}, shared with other work. "
        f"Style `{STYLE}` of the package, {style.network.resolution} px, {values:.2f} M values; seed {words.seed}."
    )
    return "\n\n".join([head, *(parts[name]() for name in words.parts)])


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local-steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=("bytes", "growth", "time"), default=["bytes", "growth", "time"])
    parser.add_argument("--page", type=Path)
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--secagg", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    torch.set_num_threads(1)
    if words.grow:
        grow(words.grow, secagg=words.secagg)
        return
    text = page(words) + "\n"
    print(text)
    if words.page:
        words.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
