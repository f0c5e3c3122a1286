"""Who sees what: README and ``preview`` say the same (F-33)."""

from pathlib import Path

import pytest

from modify_fl.federated.visibility import COLUMNS, rows, table

_README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_readme_has_the_table_of_the_program() -> None:
    assert table() in _README.read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", ["none", "dp"])
@pytest.mark.parametrize("secagg", [False, True])
def test_each_mode_shows_its_own_row_about_updates(mode: str, secagg: bool) -> None:
    shown = rows(mode, secagg=secagg)
    updates = [row for row in shown if row.item.startswith("one site's update")]
    assert len(shown) == 7
    assert len(updates) == 1
    assert all(len(row.cells()) == len(COLUMNS) for row in shown)
    assert ("in clear" in updates[0].coordinator) == (mode == "none" and not secagg)


def test_nothing_is_called_private_without_differential_privacy() -> None:
    for secagg in (False, True):
        assert "private" not in " ".join(cell for row in rows("none", secagg=secagg) for cell in row.cells())
