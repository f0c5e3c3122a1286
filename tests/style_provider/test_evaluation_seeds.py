"""Several trainings taken together (M-46)."""

import pytest

from modify_fl.metrics.collector import LABELS
from modify_fl.metrics.figures import Estimate, Measurement, unavailable
from style_provider.evaluation.measure import RECONSTRUCTION, Findings
from style_provider.evaluation.seeds import pool
from style_provider.evaluation.tables import as_result, seed_table, table, training_line


def figure(name: str, value: float | None) -> Measurement:
    estimate = unavailable("no network") if value is None else Estimate(value=value, low=value - 9, high=value + 9)
    return Measurement.of(name, estimate, n=12, resolution=32, reference=5)


def findings(seed: int, value: float | None) -> Findings:
    figures = {key: figure(label, value) for key, label in LABELS.items()}
    rows = {key: figure(label, value) for key, label in RECONSTRUCTION.items()}
    floor = {key: figure(LABELS[key], 1.0) for key in ("kid", "fid")}
    return Findings(
        columns={"style": figures, "floor": floor, "photos": floor, "colour": figures}, reconstruction=rows,
        nearest=rows, worst=[seed], record={"training_seed": seed, "resolution": 32}, warnings=("FID is biased",),
    )  # fmt: skip


def test_one_training_stays_as_it_is() -> None:
    one = findings(0, 3.0)
    assert pool([one]) is one
    assert seed_table(one) is None
    assert "One training" in training_line(one)
    assert "trainings" not in as_result(one)


def test_several_are_mean_lowest_and_highest() -> None:
    """Of 2, 3 and 7: mean 4, from 2 to 7; the interval over photos (here 9 to both sides) stays with each."""
    pooled = pool([findings(seed, value) for seed, value in ((4, 3.0), (5, 2.0), (6, 7.0))])
    kid = pooled.columns["style"]["kid"]
    assert (kid.value, kid.low, kid.high) == pytest.approx((4.0, 2.0, 7.0))
    assert "3 training seeds" in kid.note
    assert pooled.reconstruction["psnr"].value == pytest.approx(4.0)
    assert pooled.columns["floor"]["kid"].value == 1.0  # no training changes it
    assert pooled.record == {"resolution": 32, "each": [{"training_seed": seed} for seed in (4, 5, 6)]}
    assert pooled.warnings == ("FID is biased",)
    header, rows = table(pooled)[0]
    assert header[2] == "style, mean of 3 trainings"
    assert rows[0][2] == "4.00 [2.00, 7.00]"
    each = seed_table(pooled)
    assert each is not None
    assert each[0][2:] == [f"training seed {seed}" for seed in (4, 5, 6)]
    assert each[1][0][2:] == ["3.00 [-6.00, 12.00]", "2.00 [-7.00, 11.00]", "7.00 [-2.00, 16.00]"]
    assert len(each[1]) == len(LABELS) + len(RECONSTRUCTION)
    written = as_result(pooled)["trainings"]
    assert [training["training_seed"] for training in written] == [4, 5, 6]  # type: ignore[attr-defined]


def test_figure_that_one_training_lacks_is_not_available() -> None:
    """M-43: a mean over fewer trainings than named would be a lie."""
    pooled = pool([findings(0, 1.0), findings(1, None)])
    assert pooled.columns["style"]["kid"].value is None
    assert pooled.columns["style"]["kid"].note.startswith("not available")


@pytest.mark.parametrize(("count", "few"), [(2, True), (3, False)])
def test_fewer_than_three_trainings_are_too_few(count: int, few: bool) -> None:
    line = training_line(pool([findings(seed, 1.0) for seed in range(count)]))
    assert f"{count} trainings" in line
    assert ("3 or more are needed" in line) is few
