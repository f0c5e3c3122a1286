"""Do the comparisons of the paper again on public faces, and write what came out (M-44 to M-48).

    TORCH_HOME=weights python benchmarks/table1.py DATA --out runs/table1
    TORCH_HOME=weights python benchmarks/table1.py DATA --out runs/quick --quick

DATA is laid out like that of ``tools/train_release.py``. Its rule decides, by
person, what is trained on: paintings train stage 1 and kept-out paintings are
the reference; congress trains stage 2; the kept-out people of congress and
london are painted and measured, one photo each. The base model has seen none
of what is kept out.

All four comparisons run in one folder and share what they can. Stopped, the
same command goes on. Writes ``table1.md`` and ``table1.png`` into ``--results``;
the picture shows outputs only. ``--quick`` is a smoke run of a few minutes: its
figures mean nothing, and its page goes into the folder ``page`` of ``--out``.

How the defaults fit three hours on two cores: with B minutes for stage 1 and A
for stage 2, each training seed takes B for the style, B for two more cuts
each, 1.3 B for phase A with two phases B, B + A for the StarGAN; A each for
offline, online, unpaired and offline at two more cuts: 5.3 B + 6 A. Test-time
takes 50 steps of about 0.21 s a photo; measuring about 11 minutes a seed, most of
it Inception. With B = 4, A = 1.5, 48 photos and 3 seeds: ``planned_minutes``.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modify_fl.config import Budget, Runtime, preset
from modify_fl.console import Console
from modify_fl.errors import ModifyError
from modify_fl.overrides import override
from style_provider.starts import choose_start

if TYPE_CHECKING:
    from modify_fl.data import ImageSet
    from style_provider.reproduction.experiments import Outcome
    from style_provider.reproduction.task import Material, Reproduction

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "table1": "Table 1: beside other methods",
    "modes": "Figure 2 (g) to (i): ways to adapt",
    "xi": "Figure 4: the cut between content and style",
    "swap": "Figure 3: phase B with and without L_swap",
}
SIDE, STORED = 64, 128
_INTRODUCTION = (
    "Written by the command below, table and verdicts alike. The directions are those of M-47; values of the paper "
    "are not comparable (other data, size and compute). [reproduction.md](../reproduction.md) says what each row is.\n"
)
QUICK = {
    "budget": "20steps", "adapt_budget": "10steps", "seeds": 1, "photos": 6, "styles": 3,
    "changes": ["test_time_steps=5"],
}  # fmt: skip
TEST_TIME_SECONDS, MEASURE_MINUTES, START_MINUTES = 50 * 0.21, 11.0, 3.0


def planned_minutes(stage1: float, stage2: float, photos: int, seeds: int) -> float:
    """Return the expected length of everything on two cores, in minutes; see the module docstring.

    Args:
        stage1: B, minutes.
        stage2: A, minutes.
        photos: Photos that are measured; measuring was timed with 48.
        seeds: Training seeds.
    """
    trained = 5.3 * stage1 + 6 * stage2 + photos * TEST_TIME_SECONDS / 60
    return seeds * (trained + MEASURE_MINUTES * photos / 48 + START_MINUTES)


def material(data: Path, photos: int) -> "Material":
    """Return the four sets at 64 px, split as the base model was.

    Args:
        data: Folder of aligned faces.
        photos: Held-out photos to measure on, spread evenly over all there are.
    """
    import torch

    from modify_fl.data import ImageSet, to_uint8
    from style_provider.reproduction.task import Material

    styles, reference = split(data, "style/paintings")
    faces, kept = split(data, "content/congress")
    people = [one_each(kept), one_each(split(data, "content/london")[1])]
    pixels = [torch.from_numpy(to_uint8(p.batch(range(len(p))))).permute(0, 3, 1, 2) for p in people]  # [N, 3, R, R]
    unseen = ImageSet.of(torch.cat(pixels), [name for p in people for name in p.names])
    count = min(photos, len(unseen))
    chosen = [index * len(unseen) // count for index in range(count)]
    return Material(styles=styles, reference=reference, photos=faces, held_out=unseen.subset(chosen))


def split(data: Path, source: str) -> tuple["ImageSet", "ImageSet"]:
    """Return what may be trained on, and what is kept out."""
    from modify_fl.data import load_images

    rules = release_rules()
    images = load_images(data / source / str(STORED), resolution=SIDE)
    kept = [rules.held_out(name, rules.SOURCES[source]) for name in images.names]
    both = [[index for index, out in enumerate(kept) if out is wanted] for wanted in (False, True)]
    return images.subset(both[0]), images.subset(both[1])


def one_each(images: "ImageSet") -> "ImageSet":
    """Return the first photo of every person: two of one would count as two people in the AUC."""
    first = {release_rules().person(name): index for index, name in reversed(list(enumerate(images.names)))}
    return images.subset(sorted(first.values()))


def release_rules():  # noqa: ANN201 - a module
    """Return the program that trained the base; its split is the one that counts."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tools import train_release

    return train_release


def request(options: argparse.Namespace, console: Console) -> "Reproduction":
    """Read pictures and networks; return the whole task."""
    from modify_fl.metrics.instruments import Instruments
    from modify_fl.perceptual import PerceptualNets
    from modify_fl.training.runtime import resolve
    from style_provider.reproduction.task import Reproduction

    origin, chosen = choose_start(options.init, override(preset("quick-64"), options.changes))
    runtime = Runtime(device="cpu", threads=options.threads)
    resolve(runtime, bf16=False)
    nets = PerceptualNets.find(require=options.require)
    return Reproduction(
        material=material(options.data, options.photos), preset=chosen, origin=origin,
        budget=Budget.parse(options.budget), adapt_budget=Budget.parse(options.adapt_budget),
        seeds=tuple(range(options.seeds)), styles=tuple(range(options.styles)), runtime=runtime, folder=options.out,
        nets=nets, instruments=Instruments.find(trained_identity=nets.identity.name, require=options.require),
        console=console,
    )  # fmt: skip


# The page -------------------------------------------------------------------------


def page(outcomes: Mapping[str, "Outcome"], task: "Reproduction", command: str, spent: float, trained: float) -> str:
    """Return the result page; every sentence about the outcome is computed.

    Args:
        outcomes: By name.
        task: What was asked for.
        command: As it was typed.
        spent: Seconds over all calls that led here.
        trained: Seconds in trainings.
    """
    from style_provider.reproduction.report import markdown

    parts = [
        "# The comparisons of the paper on public faces\n",
        _INTRODUCTION,
        f"```sh\n{command}\n```\n",
        circumstances(task, spent, trained),
        f"{counted(outcomes)}\n",
    ]
    for name, outcome in outcomes.items():
        parts.append(f"## {TITLES[name]}\n\n{markdown(outcome, task)}")
    parts.append(
        f"## Outputs\n\nThe first photos of the table in two styles each, training seed {task.seeds[0]}: "
        f"{'; '.join(outcomes['table1'].shown)}.\n\n![outputs of every trained row](table1.png)\n"
    )
    return "\n".join(parts)


def circumstances(task: "Reproduction", spent: float, trained: float) -> str:
    """Return machine, sizes, lengths and seeds in words."""
    material = task.material
    return (
        f"Machine: {machine()}; {spent / 60:.0f} minutes for everything, {trained / 60:.0f} of them training. "
        f"Pictures at {task.preset.network.resolution} px: {len(material.styles)} paintings to train on, "
        f"{len(material.reference)} kept out; {len(material.photos)} photos to adapt to, {len(material.held_out)} of "
        f"people that nothing was trained on. Stage 1 starts from {task.origin.words} and takes {task.budget}, stage 2 "
        f"{task.adapt_budget}, StarGAN v2 {task.baseline_budget} from random weights. Training seeds "
        f"{', '.join(map(str, task.seeds))}.\n"
    )


def counted(outcomes: Mapping[str, "Outcome"]) -> str:
    """Return the verdicts of all gates in numbers."""
    gates = [direction.verdict for outcome in outcomes.values() for direction in outcome.directions if direction.gate]
    kinds = ("holds", "within intervals", "does not hold", "not available")
    return f"Of {len(gates)} directions: " + ", ".join(f"{gates.count(kind)} {kind}" for kind in kinds) + "."


def machine() -> str:
    """Return the machine in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def command_line(arguments: Sequence[str], data: Path, out: Path) -> str:
    """Return what was typed, without the places of this machine."""
    places = {str(data): "DATA", str(out): f"runs/{out.name}"}
    words = [places.get(word, word) for word in arguments]
    return " ".join(["python benchmarks/table1.py", *words])


# Running --------------------------------------------------------------------------


def carry_out(options: argparse.Namespace, arguments: Sequence[str], console: Console) -> None:
    """Run all four comparisons and write the page."""
    from modify_fl.faces.decode import save_png
    from style_provider.reproduction.report import sheet
    from style_provider.reproduction.run import reproduce

    start = time.monotonic()
    task = request(options, console)
    if task.budget.kind == "seconds":
        lengths = task.budget.amount / 60, task.adapt_budget.amount / 60
        expected = planned_minutes(*lengths, len(task.material.held_out), len(task.seeds))
        console.note(f"expected on two cores: about {expected:.0f} minutes, less what is there already")
    try:
        outcomes = reproduce(list(TITLES), task, fresh=options.fresh)  # type: ignore[arg-type]
    finally:  # time is counted over all calls, also those that were stopped
        options.out.mkdir(parents=True, exist_ok=True)
        with (options.out / "calls.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"seconds": round(time.monotonic() - start, 1)}) + "\n")
    calls = (options.out / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    trained: dict[str, float] = {}
    for name in TITLES:
        trained |= json.loads((options.out / f"{name}.json").read_text(encoding="utf-8"))["training_seconds"]
    text = page(
        outcomes, task, command_line(arguments, options.data, options.out),
        sum(json.loads(line)["seconds"] for line in calls),
        sum(trained.values()),
    )  # fmt: skip
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "table1.md").write_text(text, encoding="utf-8")
    save_png(sheet(outcomes["table1"]), options.results / "table1.png")
    console.say(counted(outcomes))
    console.say(f"wrote {options.results / 'table1.md'} and table1.png")


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ``--quick`` changes what was not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of aligned faces")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results, not for the repository")
    parser.add_argument("--results", type=Path, default=None, help="folder of the page; docs/results unless quick")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few minutes")
    parser.add_argument("--budget", default="4m", help="of stage 1")
    parser.add_argument("--adapt-budget", default="90s", help="of stage 2")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--photos", type=int, default=48, help="held-out photos to measure on")
    parser.add_argument("--styles", type=int, default=10, help="styles of each photo")
    parser.add_argument("--init", default=None, help="base, none, or a file; the base that fits unless given")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="of the preset")
    parser.add_argument("--allow-missing", dest="require", action="store_false", help="go on without some networks")
    parser.add_argument("--fresh", action="store_true", help="throw away what --out holds")
    if "--quick" in arguments:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
    options.results = options.results or (options.out / "page" if options.quick else ROOT / "docs" / "results")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; an error is one sentence with its own exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    console = Console("table1", "quick" if options.quick else "all")
    try:
        carry_out(options, words, console)
    except ModifyError as error:
        return console.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
