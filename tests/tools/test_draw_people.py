"""The program that draws people who do not exist (ADR 7)."""

from pathlib import Path

import numpy as np
import pytest

from modify_fl.faces.decode import decode_image
from tools import draw_people


def test_people_are_drawn_the_same_for_a_seed_and_differ_from_each_other(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert draw_people.main([str(tmp_path / name), "--count", "3", "--seed", seed]) == 0
    first, again, other = ([decode_image(p) for p in sorted((tmp_path / n).glob("*.png"))] for n in ("a", "b", "c"))
    assert len(first) == 3
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(np.array_equal(x, y) for x, y in zip(first, other, strict=True))
    assert np.abs(np.asarray(first[0], float) - np.asarray(first[1], float)).mean() > 5  # grey levels


def test_it_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_people.main([str(tmp_path / "x"), "--count", "0"]) == 2
    assert draw_people.main([str(tmp_path / "x"), "--preset", "paper-1024"]) == 2
    assert "cannot draw" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
