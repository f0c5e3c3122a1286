"""Several trainings of one style taken together: mean, and range over training seeds (M-46).

The bootstrap interval of one bundle says what other photos would change; only
other trainings say what another training seed would change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modify_fl.metrics.figures import Measurement
from style_provider.evaluation.measure import Findings

__all__ = ["SEEDS_WANTED", "pool"]

SEEDS_WANTED = 3
"""Figures of a training come from so many trainings or more (M-46)."""


def pool(findings: Sequence[Findings]) -> Findings:
    """Take findings of several training seeds together; those of one stay as they are.

    Args:
        findings: One for each bundle, on the same pictures, at least one.

    Returns:
        Means as values, the lowest and the highest seed as ends; floor and
        baselines, which no training changes, as they are. Worst cases and
        the spread of cosines are those of the first bundle.
    """
    first = findings[0]
    if len(findings) == 1:
        return first
    columns = {**first.columns, "style": _pooled([each.columns["style"] for each in findings])}
    return replace(
        first, columns=columns, reconstruction=_pooled([each.reconstruction for each in findings]),
        record=_common([each.record for each in findings]), seeds=tuple(findings),
        warnings=tuple(dict.fromkeys(warning for each in findings for warning in each.warnings)),
    )  # fmt: skip


def _pooled(tables: Sequence[Mapping[str, Measurement]]) -> dict[str, Measurement]:
    return {key: _over_seeds([table[key] for table in tables]) for key in tables[0]}


def _over_seeds(figures: Sequence[Measurement]) -> Measurement:
    values = [figure.value for figure in figures if figure.value is not None]
    if len(values) < len(figures):
        return next(figure for figure in figures if figure.value is None)
    note = f"mean, lowest and highest of {len(values)} training seeds"
    return replace(
        figures[0], value=sum(values) / len(values), low=min(values), high=max(values),
        note="; ".join(part for part in (note, figures[0].note) if part),
    )  # fmt: skip


def _common(records: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return what all records agree on, and below ``each`` the rest, training by training."""
    shared = {key for key in records[0] if all(record[key] == records[0][key] for record in records)}
    return {
        **{key: value for key, value in records[0].items() if key in shared},
        "each": [{key: value for key, value in record.items() if key not in shared} for record in records],
    }
