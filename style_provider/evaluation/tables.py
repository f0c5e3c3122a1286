"""The figures of an evaluation as words: tables, the line of the protocol, what programs read (U-73)."""

import dataclasses
from collections.abc import Mapping

from modify_fl.metrics.collector import LABELS
from modify_fl.metrics.figures import Measurement
from style_provider.evaluation.measure import COLUMNS, RECONSTRUCTION, Findings
from style_provider.evaluation.seeds import SEEDS_WANTED
from style_provider.evaluation.task import Evaluation

__all__ = [
    "BETTER", "Table", "as_result", "figure_text", "notes", "protocol_line", "reference_line", "seed_table", "table",
    "training_line",
]  # fmt: skip

BETTER: Mapping[str, str] = {"kid": "lower", "fid": "lower", "lpips_diversity": "", "identity_cosine": "higher",
                             "identity_auc": "higher", "lpips": "lower", "psnr": "higher", "l1": "lower"}  # fmt: skip
"""The good direction of each figure; nothing where there is none."""

_SCHEMA = 1
_DIGITS: Mapping[str, int] = {"kid": 2, "fid": 1, "psnr": 2}
_DIGITS_ELSE = 4

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


def table(findings: Findings) -> tuple[Table, Table]:
    """Return both tables as words: header and rows.

    Returns:
        The figures of the set with floor and baselines beside them; the
        reconstruction with the nearest training image beside it.
    """
    titles = {**COLUMNS, "style": f"style, mean of {len(findings.seeds)} trainings"} if findings.seeds else COLUMNS
    header = ["", "better", *titles.values()]
    rows = [
        [label, BETTER[key], *(figure_text(key, findings.columns[column].get(key)) for column in COLUMNS)]
        for key, label in LABELS.items()
    ]
    rows.append(["pictures", "", *(_size(findings.columns[column]) for column in COLUMNS)])
    below = [
        [label, BETTER[key], figure_text(key, findings.reconstruction[key]), figure_text(key, findings.nearest[key])]
        for key, label in RECONSTRUCTION.items()
    ]
    return (header, rows), (["", "better", "D(E(y))", "nearest training image"], below)


def seed_table(findings: Findings) -> Table | None:
    """Return the figures of each training seed with its own interval over photos; none where there is one."""
    if not findings.seeds:
        return None
    header = ["", "better", *(f"training seed {each.record['training_seed']}" for each in findings.seeds)]
    rows = [
        [label, BETTER[key], *(figure_text(key, each.columns["style"].get(key)) for each in findings.seeds)]
        for key, label in LABELS.items()
    ]
    rows += [
        [f"{label} of D(E(y))", BETTER[key], *(figure_text(key, each.reconstruction[key]) for each in findings.seeds)]
        for key, label in RECONSTRUCTION.items()
    ]
    return header, rows


def figure_text(key: str, figure: Measurement | None) -> str:
    """Return a figure as people read it; a dash where it makes no sense."""
    return "-" if figure is None else figure.text(_DIGITS.get(key, _DIGITS_ELSE))


def protocol_line(task: Evaluation) -> str:
    """Return the protocol in one line (U-73)."""
    kept = " kept out of training" if task.reference is not None else ""
    return (
        f"{len(task.photos)} photos, each in {len(task.seeds)} styles of its own ({task.style_numbers}), against "
        f"{len(task.target)} style images"
        f"{kept}, {task.style.resolution} px, antialiased bicubic, 95 % intervals over photos"
    )


def reference_line(task: Evaluation) -> str:
    """Say which pictures the distances are to, for captions (M-44)."""
    if task.reference is not None:
        return (
            f"Reference of KID, FID, floor and colour transfer: {len(task.reference)} style images that were kept out "
            "of every training (--reference)."
        )
    return (
        f"Reference of KID, FID, floor and colour transfer: all {len(task.styles)} style images (--dataset); the "
        "bundle was trained on most of them."
    )


def training_line(findings: Findings) -> str:
    """Say how many trainings stand behind the figures, and what the brackets are (M-46)."""
    count = max(1, len(findings.seeds))
    few = f" {SEEDS_WANTED} or more are needed to judge a recipe." if count < SEEDS_WANTED else ""
    if findings.seeds:
        seeds = ", ".join(str(each.record["training_seed"]) for each in findings.seeds)
        return (
            f"{count} trainings, training seeds {seeds}: in the columns of the style, brackets are the lowest and "
            f"highest of them.{few}"
        )
    return f"One training: brackets say what other photos would change, not what another training seed would.{few}"


def notes(findings: Findings) -> list[str]:
    """Return what a reader must know of single figures, one sentence each."""
    groups = {**{COLUMNS[key]: figures for key, figures in findings.columns.items()},
              "reconstruction": findings.reconstruction, "nearest training image": findings.nearest}  # fmt: skip
    return [
        f"{figure.name}, {title}: {figure.note}"
        for title, figures in groups.items()
        for figure in figures.values()
        if figure.note
    ]


def as_result(findings: Findings) -> dict[str, object]:
    """Return the figures for programs; the same in the file and in the envelope."""
    found = {"schema": _SCHEMA, **_figures(findings), "record": findings.record}
    if findings.likeness is not None:
        found["cosines"] = {"from": -1, "to": 1, **dataclasses.asdict(findings.likeness)}
    if findings.seeds:
        found["trainings"] = [
            {"training_seed": each.record["training_seed"], **_figures(each)} for each in findings.seeds
        ]
    return found


def _figures(findings: Findings) -> dict[str, object]:
    return {
        "figures": {column: _plain(figures) for column, figures in findings.columns.items()},
        "reconstruction": {"model": _plain(findings.reconstruction), "nearest": _plain(findings.nearest)},
        "worst_by_identity": findings.worst,
    }


def _plain(figures: Mapping[str, Measurement]) -> dict[str, object]:
    return {key: dataclasses.asdict(figure) for key, figure in figures.items()}


def _size(figures: Mapping[str, Measurement]) -> str:
    kid = figures["kid"]
    return f"{kid.n} vs {kid.reference}" if kid.reference is not None else str(kid.n)
