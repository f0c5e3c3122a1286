"""What differential privacy costs in likeness and style, on real photos (P-55).

    TORCH_HOME=weights python benchmarks/dp_utility.py DATA BUNDLE --key KEY.mdfykey --out runs/dp

DATA is laid out like that of ``tools/train_release.py``, whose rule decides by
person what may be trained on: the photos of congress are the vault, those of
london the public faces; kept-out people of both, one photo each, are measured,
against paintings kept out. BUNDLE was made from paintings of the same split
(``style-provider package`` on the ``split`` folders, or ``benchmarks/table1.py``).

Rows: no stage 2; public faces only; differential privacy at each ``--epsilon``, each
in a vault of its own, starting from the public faces; without privacy on the same
photos, with as many gradients, from the same start. Each row is a unit, kept in
``--out``; a training that was stopped goes on, and a finished one is not repeated.
Writes ``dp-utility.md`` and a sheet of outputs of people who do not exist. With
``--dp-schedule quick`` about a quarter of an hour of a slow core for each row with privacy, and
three for the public faces.
"""

import argparse
import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from table1 import machine, one_each, split
from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.base.card import find_base
from modify_fl.base.start import load_base
from modify_fl.bundle import load_style
from modify_fl.config import Budget, Runtime, preset
from modify_fl.console import Console, Verbosity
from modify_fl.data import ImageSet, to_uint8
from modify_fl.faces.decode import save_png
from modify_fl.metrics.figures import Measurement
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import compare_reconstructions
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.recipe import DP_SCHEDULES, PrivateConfig
from modify_fl.privacy.settings import DpSettings
from modify_fl.sheet import contact_sheet
from modify_fl.style import Style
from modify_fl.styles import Controls, seeded
from modify_fl.training.private import PrivateTask, adapt_private, public_clip, started
from modify_fl.training.runtime import resolve
from modify_fl.training.stylization import adapt
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from style_provider.evaluation.measure import evaluate_styles
from style_provider.evaluation.task import Evaluation

PEOPLE, STYLES, SEED = 6, 2, 0
HEAD = ("row", "LPIPS to the photo", "identity AUC", "identity cosine", "KID x 1000", "minutes of training")
KEYS = ("lpips", "auc", "cosine", "kid")
PAGE = """Machine: {machine}. `quick-64`; {vault} photos of congress are the vault (stated as {n}), {public} photos of
London the public faces, adapted to for {budget}; {measured} people that nothing was trained on are measured in {styles}
styles of their own each, against {reference} paintings kept out ({paintings} made the style). Privacy: {steps} steps of
{batch} photos, subset {subset}, rate {rate:g}, C the median norm on public faces; each epsilon in a vault of its own.
Without privacy: as many gradients from the same start, over the whole encoder. One training seed ({seed}); sampling and
noise come from the system. LPIPS compares D(E'(x)) with x; identity and KID are of painted pictures; intervals: 95 %.
"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that the rows share."""

    style: LoadedStyle
    photos: ImageSet
    """The vault."""
    public: ImageSet
    measured: ImageSet
    """People that nothing was trained on."""
    paintings: ImageSet
    reference: ImageSet
    """Paintings kept out of everything."""
    source: Path
    """Folder of the vault."""
    options: argparse.Namespace
    runtime: Runtime
    nets: PerceptualNets
    console: Console

    @property
    def out(self) -> Path:
        """Home of all units."""
        folder: Path = self.options.out
        return folder


def load(options: argparse.Namespace) -> Bench:
    """Verify the bundle and read the pictures."""
    trust = TrustStore.of(read_provider_key(options.key))
    with open_bundle(options.bundle, trust=trust, now=datetime.now(UTC)) as bundle:
        style = load_style(bundle, record=False)
    photos, kept = split(options.data, "content/congress")
    public, others = split(options.data, "content/london")
    paintings, reference = split(options.data, "style/paintings")
    people = [one_each(kept), one_each(others)]
    pixels = torch.cat([p.images for p in people])
    measured = ImageSet.of(pixels, [name for p in people for name in p.names])
    return Bench(
        style=style, photos=photos, public=public, measured=measured.subset(range(min(options.limit, len(measured)))),
        paintings=paintings, reference=reference, source=options.data / "content/congress/128", options=options,
        runtime=Runtime(device="cpu", threads=options.threads), nets=PerceptualNets.find(),
        console=Console("dp_utility", "run", Verbosity()),
    )  # fmt: skip


# Rows -------------------------------------------------------------------------


def after_public(bench: Bench) -> Mapping[str, Tensor]:
    """Return E' after public faces alone (P-51)."""
    return adapt(
        bench.style, bench.public, mode="offline", config=preset("quick-64").stylization,
        budget=Budget.parse(bench.options.public_budget), seed=SEED, runtime=bench.runtime, nets=bench.nets,
        folder=bench.out / "public.run", emit=bench.console.emit,
    ).tensors  # fmt: skip


def private_task(bench: Bench, epsilon: float, vault: Vault, numbers: Path) -> PrivateTask:
    """Return a run with privacy; noise for the budget and C from public faces are fixed at the first start."""
    options, schedule = bench.options, DP_SCHEDULES[bench.options.dp_schedule]
    task = PrivateTask(
        style=bench.style, recipe=PrivateConfig(learning_rate=options.learning_rate), seed=SEED,
        config=replace(preset("quick-64").stylization, subset=options.subset), start=after_public(bench),
        settings=DpSettings(
            epsilon=epsilon, delta=options.delta, n_public=options.n_public, batch=schedule.batch, steps=schedule.steps,
            noise_multiplier=1.0,
        ),
    )  # fmt: skip
    if not numbers.is_file():
        noise = vault.noise_multiplier_for(schedule.batch / options.n_public, schedule.steps, epsilon)
        clip = public_clip(task, bench.public, compute=resolve(bench.runtime, bf16=False), nets=bench.nets)
        numbers.write_text(json.dumps({"noise_multiplier": noise, "max_grad_norm": clip}), encoding="utf-8")
    return replace(task, settings=replace(task.settings, **json.loads(numbers.read_text(encoding="utf-8"))))


def with_privacy(bench: Bench, epsilon: float) -> Mapping[str, Tensor]:
    """Return E' after public faces and the vault, in a vault of its own with budget ``epsilon``."""
    name = f"dp-{epsilon:g}"
    home, photos = bench.out / f"{name}.vault", bench.out / f"{name}.photos"  # a vault marks its photos: not DATA
    os.environ["MODIFY_DATA_DIR"] = str(home.resolve())
    if not home.exists():
        shutil.copytree(bench.source, photos, dirs_exist_ok=True, copy_function=shutil.copyfile)
        photos.chmod(0o700)
        Vault.create(photos, epsilon_max=epsilon, delta=bench.options.delta)
    with Vault.open(photos, run=name) as vault:
        task = private_task(bench, epsilon, vault, bench.out / f"{name}.numbers.json")

        def charge(steps: int) -> None:
            vault.charge(run=name, bundle=bench.style.digest, settings=task.settings, steps=steps)

        return adapt_private(
            task, bench.photos, [[index] for index in range(len(bench.photos))], runtime=bench.runtime,
            nets=bench.nets, folder=bench.out / f"{name}.run", emit=bench.console.emit, charge=charge,
        ).tensors  # fmt: skip


def without_privacy(bench: Bench) -> Mapping[str, Tensor]:
    """Return E' after public faces and the photos, plainly, with as many gradients as with privacy."""
    schedule, model = DP_SCHEDULES[bench.options.dp_schedule], copy.deepcopy(bench.style.model)
    model.encoder = started(bench.style, after_public(bench)).eval().requires_grad_(requires_grad=False)
    return adapt(
        replace(bench.style, model=model), bench.photos, mode="offline", config=preset("quick-64").stylization,
        budget=Budget(kind="images", amount=schedule.batch * schedule.steps), seed=SEED, runtime=bench.runtime,
        nets=bench.nets, folder=bench.out / "plain.run", emit=bench.console.emit,
    ).tensors  # fmt: skip


def rows(bench: Bench) -> dict[str, Callable[[], Mapping[str, Tensor]]]:
    """Return what makes the trained tensors of each row, by its title."""
    return {
        "no stage 2": dict,
        "public faces only": lambda: after_public(bench),
        **{
            f"privacy, epsilon {e:g} at delta {bench.options.delta:g}, unit image": partial(with_privacy, bench, e)
            for e in bench.options.epsilon
        },
        "without privacy": lambda: without_privacy(bench),
    }


# Figures ----------------------------------------------------------------------


def measure(
    bench: Bench, made: Mapping[str, Mapping[str, Tensor]], instruments: Instruments
) -> dict[str, dict[str, str]]:  # fmt: skip
    """Return the figures of all rows, as printed; photos and paintings are looked at once."""
    painters = [painter(bench, tensors) for tensors in made.values()]
    tasks = [
        Evaluation(
            style=own, styles=bench.paintings, photos=bench.measured, seeds=tuple(range(STYLES)), seed=SEED, xi=None,
            reference=bench.reference,
        )
        for own in painters
    ]  # fmt: skip
    found = evaluate_styles(tasks, instruments, bench.console.emit)
    return {
        name: row(own, findings.columns["style"], bench.measured, instruments)
        for name, own, findings in zip(made, painters, found, strict=True)
    }


def row(
    own: Style, style: Mapping[str, Measurement], photos: ImageSet, instruments: Instruments
) -> dict[str, str]:  # fmt: skip
    """Return the figures of one row, as printed."""
    likeness = compare_reconstructions(photos, own.reconstruct, instruments.lpips).lpips
    return {
        "lpips": "not available" if likeness is None else f"{float(likeness.mean()):.4f}",
        "auc": style["identity_auc"].text(3), "cosine": style["identity_cosine"].text(3), "kid": style["kid"].text(1),
    }  # fmt: skip


def painter(bench: Bench, tensors: Mapping[str, Tensor]) -> Style:
    """Return the style with some encoder."""
    return Style(bench.style, started(bench.style, tensors).eval().requires_grad_(requires_grad=False))


def people(bench: Bench) -> Tensor:
    """Return faces of nobody, drawn by the base model, uint8 [N, 3, R, R]."""
    card = find_base(bench.style.network)
    if card is None:
        raise SystemExit("no base model draws people for this preset")
    drawn = StyleModel.build(bench.style.network, 0).eval()
    start = load_base(card, bench.style.network)
    start.apply(drawn, build_discriminator(bench.style.network, 0))
    pictures = start.people(drawn.generator, PEOPLE, 1)
    if pictures is None:
        raise SystemExit(f"{card.name} draws no people")
    return pictures


def painted(bench: Bench, tensors: Mapping[str, Tensor], faces: Tensor) -> list[np.ndarray]:
    """Return people who do not exist in one style, a picture each."""
    return list(to_uint8(painter(bench, tensors).paint(faces.float() / 127.5 - 1, seeded((11,)), Controls())[0]))


def page(bench: Bench, figures: Mapping[str, Mapping[str, str]], command: str) -> str:
    """Return the result page; its first line says whether privacy was worth it (P-55)."""
    options, schedule = bench.options, DP_SCHEDULES[bench.options.dp_schedule]
    lines = [
        "# What differential privacy costs\n", verdict(figures), "",
        f"```sh\n{command}\n```\n",
        PAGE.format(
            machine=machine(), vault=len(bench.photos), public=len(bench.public), measured=len(bench.measured),
            styles=STYLES, paintings=len(bench.paintings), reference=len(bench.reference), batch=schedule.batch,
            steps=schedule.steps, n=options.n_public, subset=options.subset, rate=options.learning_rate,
            budget=options.public_budget, seed=SEED,
        ),
        f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD),
    ]  # fmt: skip
    for name, found in figures.items():
        lines.append(f"| {name} | {' | '.join(found[key] for key in KEYS)} | {found['minutes']} |")
    lines += ["", "![people who do not exist, one row of pictures for each row of the table](dp-utility.png)", ""]
    return "\n".join(lines)


def verdict(figures: Mapping[str, Mapping[str, str]]) -> str:
    """Say whether any run with privacy beat the public faces and no stage 2 in likeness, by the identity AUC."""

    def auc(name: str) -> float:
        return float(figures[name]["auc"].split()[0])

    def interval(name: str) -> tuple[float, float]:
        low, high = figures[name]["auc"].split("[")[1].rstrip("]").split(", ")
        return float(low), float(high)

    private = [name for name in figures if name.startswith("privacy")]
    others = ("public faces only", "no stage 2")
    better = [name for name in private if auc(name) > max(map(auc, others))]
    if not better:
        return (
            "**Privacy did not beat adaptation to public faces alone, or none, at any epsilon, by the identity AUC.**"
        )
    sure = any(interval(name)[0] > max(interval(other)[1] for other in others) for name in better)
    how = "" if sure else ", by less than the width of the intervals"
    return f"By the identity AUC these runs beat public faces alone and no stage 2{how}: {'; '.join(better)}."


def main() -> None:
    """Make what is missing, measure it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/dp"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--epsilon", type=float, nargs="+", default=[8.0, 3.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--n-public", type=int, default=600)
    parser.add_argument("--dp-schedule", default="quick", choices=list(DP_SCHEDULES))
    parser.add_argument("--public-budget", default="300steps")
    parser.add_argument("--subset", default="lora", choices=["lora", "heads", "all"])
    parser.add_argument("--learning-rate", type=float, default=PrivateConfig().learning_rate)
    parser.add_argument("--limit", type=int, default=200, help="measure the first so many people")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bench, made, spent = load(options), {}, options.out / "minutes.json"
    minutes: dict[str, float] = json.loads(spent.read_text(encoding="utf-8")) if spent.is_file() else {}
    for name, make in rows(bench).items():
        start = time.monotonic()
        made[name] = make()
        minutes[name] = max(minutes.get(name, 0.0), round((time.monotonic() - start) / 60, 1))
        spent.write_text(json.dumps(minutes), encoding="utf-8")  # a finished row takes no time when it is read again
        print(f"{name}: {minutes[name]} minutes", flush=True)
    kept = options.out / "figures.json"
    if not kept.is_file():
        found = measure(bench, made, Instruments.find(trained_identity=bench.nets.identity.name))
        kept.write_text(json.dumps(found), encoding="utf-8")
    figures = {
        name: {**row, "minutes": f"{minutes[name]:g}"}
        for name, row in json.loads(kept.read_text(encoding="utf-8")).items()
    }
    faces = people(bench)
    sheet = [list(faces.permute(0, 2, 3, 1).numpy()), *(painted(bench, tensors, faces) for tensors in made.values())]
    save_png(np.asarray(contact_sheet(sheet)), options.results / "dp-utility.png")
    places = {
        str(options.data): "DATA", str(options.bundle): "BUNDLE", str(options.key): "KEY.mdfykey",
        str(options.out): "runs/dp", str(options.results): "docs/results",
    }  # fmt: skip
    words = " ".join(places.get(word, word) for word in sys.argv[1:])
    (options.results / "dp-utility.md").write_text(
        page(bench, figures, f"python benchmarks/dp_utility.py {words}"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
