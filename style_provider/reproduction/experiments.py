"""The four experiments of M-47: what is trained, which rows, which directions.

Legend of shapes: R resolution.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modify_fl.metrics.figures import Measurement
from style_provider.reproduction.measure import HEADINGS, ColourPainter, Yardstick, pooled
from style_provider.reproduction.painters import Painter
from style_provider.reproduction.swap import ARMS, SWAP_HEADINGS, Swap
from style_provider.reproduction.task import Experiment, Reproduction, ablation
from style_provider.reproduction.training import Adaptation, Trainings
from style_provider.reproduction.units import Figures, Units
from style_provider.reproduction.verdicts import Direction, about_equal, below, monotone

__all__ = ["Outcome", "experiment"]

RAW, COLOUR = "raw photos", "colour transfer"
OFFLINE, ONLINE, TEST_TIME = "MODIFY offline", "MODIFY online", "MODIFY test-time"
NONE, UNPAIRED, STARGAN = "no stage 2", "unpaired pSp", "StarGAN v2 (compact)"

_SHOWN = 6
_STYLES_SHOWN = 2

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an experiment found."""

    name: Experiment
    """Which one."""
    columns: Mapping[str, str]
    """Figures of the table by key, as printed."""
    rows: Mapping[str, Sequence[Figures]]
    """Figures of each row, training seed by training seed; one where no training is behind it."""
    directions: Sequence[Direction]
    """Expected directions and what came out (M-47)."""
    shown: Mapping[str, Sequence[Pixels]]
    """Pictures that were made here, by column of the sheet; never a picture from outside, uint8 [R, R, 3]."""

    def pooled(self) -> dict[str, Figures]:
        """Return each row over its training seeds (M-46)."""
        return _pool(self.rows)


def experiment(name: Experiment, task: Reproduction, trainings: Trainings, units: Units) -> Outcome:
    """Carry out one experiment; what is in the folder is not done again."""
    kinds: Mapping[Experiment, Callable[[_Bench], Outcome]] = {
        "table1": _table1, "swap": _swap, "xi": _xi, "modes": _modes,
    }  # fmt: skip
    return kinds[name](_Bench(task=task, trainings=trainings, units=units, yardstick=Yardstick(task=task)))


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all experiments need."""

    task: Reproduction
    trainings: Trainings
    units: Units
    yardstick: Yardstick

    def painter(self, row: str, seed: int) -> Painter:
        """Return who paints a row."""
        modes: dict[str, Adaptation] = {NONE: "none", OFFLINE: "offline", ONLINE: "online", UNPAIRED: "unpaired"}
        if row in modes:
            return self.trainings.painter(seed, modes[row])
        return self.trainings.test_time(seed) if row == TEST_TIME else self.trainings.stargan(seed)

    def figures(self, row: str, seed: int, painter: Painter, *, distances: bool = True) -> Figures:
        """Return the figures of a row; see ``Yardstick.measure``."""
        measure = partial(self.yardstick.measure, painter, distances=distances)
        return self.units.figures(f"figures-{_slug(row)}-s{seed}", measure)

    def measured(self, rows: Sequence[str]) -> dict[str, list[Figures]]:
        """Return the figures of rows with a training behind them; a row that two experiments want is measured once."""
        found: dict[str, list[Figures]] = {row: [] for row in rows}
        for seed in self.task.seeds:
            for row in rows:
                painter = self.painter(row, seed)  # trained before the unit begins
                found[row].append(self.figures(row, seed, painter))
        return found

    def shown(self, rows: Sequence[str]) -> dict[str, list[Pixels]]:
        """Return the first pictures of each row, photo by photo, each in the first styles."""
        count = min(_SHOWN, len(self.task.material.held_out))
        return {row: _flat(self.painter(row, self.task.seeds[0]).painted(range(count))) for row in rows}


def _slug(row: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in row.lower()).split())


def _flat(painted: Pixels) -> list[Pixels]:
    return [picture for styles in painted for picture in styles[:_STYLES_SHOWN]]


def _named(outcome: Mapping[str, Figures], key: str, *rows: str) -> list[tuple[str, Measurement]]:
    return [(row, outcome[row][key]) for row in rows]


def _pool(rows: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    return {row: {key: pooled([each[key] for each in seeds]) for key in seeds[0]} for row, seeds in rows.items()}


def _table1(bench: _Bench) -> Outcome:
    trained = (OFFLINE, ONLINE, TEST_TIME, UNPAIRED, STARGAN)
    rows: dict[str, list[Figures]] = {
        RAW: [bench.units.figures("figures-raw", bench.yardstick.measure_photos)],
        COLOUR: [
            bench.units.figures("figures-colour", lambda: bench.yardstick.measure(ColourPainter(task=bench.task)))
        ],
        **bench.measured(trained),
    }
    table, directions = _pool(rows), []
    for key in ("kid", "fid"):
        ours, star, raw, unpaired = _named(table, key, OFFLINE, STARGAN, RAW, UNPAIRED)
        directions += [below(HEADINGS[key], ours, star), below(HEADINGS[key], star, raw)]
        directions += [below(HEADINGS[key], ours, raw), below(HEADINGS[key], star, unpaired, gate=False)]
    for key in ("identity_cosine", "identity_auc"):
        ours, star, unpaired = _named(table, key, OFFLINE, STARGAN, UNPAIRED)
        directions += [about_equal(HEADINGS[key], ours, unpaired), below(HEADINGS[key], star, ours)]
    columns = {key: HEADINGS[key] for key in ("kid", "fid", "lpips_diversity", "identity_cosine", "identity_auc")}
    return Outcome(name="table1", columns=columns, rows=rows, directions=directions, shown=bench.shown(trained))


def _modes(bench: _Bench) -> Outcome:
    modes = (OFFLINE, ONLINE, TEST_TIME)
    rows = bench.measured((NONE, *modes))
    table, directions = _pool(rows), []
    for key in ("identity_cosine", "plain_identity_cosine"):
        for mode in modes:
            none, own = _named(table, key, NONE, mode)
            directions.append(below(HEADINGS[key], none, own))
    keys = (
        "kid", "identity_cosine", "identity_auc", "to_photo", "plain_identity_cosine", "plain_identity_auc",
        "plain_to_photo",
    )  # fmt: skip
    columns = {key: HEADINGS[key] for key in keys}
    return Outcome(
        name="modes", columns=columns, rows=rows, directions=directions, shown=bench.shown((NONE, *modes))
    )  # fmt: skip


def _swap(bench: _Bench) -> Outcome:
    swap = Swap(bench.task, bench.units)
    rows: dict[str, list[Figures]] = {arm: [] for arm in ARMS}
    for seed in bench.task.seeds:
        for arm in ARMS:
            rows[arm].append(swap.figures(arm, seed, bench.yardstick))
    table, (on, off) = _pool(rows), ARMS
    directions = [
        below(heading, *_named(table, key, on, off), gate=key != "fid") for key, heading in SWAP_HEADINGS.items()
    ]
    pictures = {arm: swap.result(arm, bench.task.seeds[0])["pictures"].numpy() for arm in ARMS}
    shown = {arm: _flat(found[:_SHOWN]) for arm, found in pictures.items()}
    return Outcome(name="swap", columns=SWAP_HEADINGS, rows=rows, directions=directions, shown=shown)


def _xi(bench: _Bench) -> Outcome:
    """Measure one bundle for each cut, and the bundle of the preset with every xi' below its own."""
    network, own = bench.task.preset.network, bench.task.preset.network.style_rows
    cuts = {f"trained xi {xi}": (None if xi == own else xi, None) for xi in ablation(network.n_styles)}
    sweep = {f"run-time xi' {xi}": (None, None if xi == own else xi) for xi in range(own + 1)}
    rows: dict[str, list[Figures]] = {row: [] for row in (*cuts, *sweep)}
    shown: dict[str, list[Pixels]] = {}
    count = min(_SHOWN, len(bench.task.material.held_out))
    for seed in bench.task.seeds:
        for row, (trained, used) in (cuts | sweep).items():
            painter = replace(bench.trainings.painter(seed, "offline", xi=trained), xi=used)
            same = OFFLINE if (trained, used) == (None, None) else row  # measured once for all experiments
            # KID along the sweep would take long and decide nothing.
            rows[row].append(bench.figures(same, seed, painter, distances=used is None))
            if row not in shown:
                shown[row] = _flat(painter.painted(range(count)))
    table = _pool(rows)
    directions = []
    for along, part in (("the trained xi", cuts), ("xi' at run time", sweep)):
        falling = _named(table, "identity_cosine", *part)
        rising = _named(table, "lpips_diversity", *part)
        directions += [
            monotone(HEADINGS["identity_cosine"], falling, along, rising=False),
            monotone(HEADINGS["lpips_diversity"], rising, along, rising=True),
        ]
    columns = {key: HEADINGS[key] for key in ("identity_cosine", "lpips_diversity", "identity_auc", "kid")}
    return Outcome(name="xi", columns=columns, rows=rows, directions=directions, shown=shown)
