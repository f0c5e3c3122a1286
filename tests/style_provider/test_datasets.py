"""``style-provider datasets`` (U-24, U-30)."""

from pathlib import Path

import pytest
from programs import draw_photos, provider

from modify_fl.datasets import DATASETS


@pytest.mark.parametrize("words", [("datasets",), ("datasets", "list")])
def test_datasets_are_listed_with_licence_and_place(words: tuple[str, ...], tmp_path: Path) -> None:
    result = provider(*words, cwd=tmp_path)
    assert result.code == 0
    for card in DATASETS.values():
        assert card.name in result.out
        assert card.licence in result.out


def test_datasets_as_json(tmp_path: Path) -> None:
    names = [entry["name"] for entry in provider("datasets", "list", "--json", cwd=tmp_path).json["result"]["datasets"]]
    assert names == sorted(DATASETS)


def test_one_dataset_is_shown(tmp_path: Path) -> None:
    result = provider("datasets", "show", "metfaces", cwd=tmp_path)
    assert result.code == 0
    assert "CC BY-NC 2.0" in result.out
    assert provider("datasets", "show", "nothing", cwd=tmp_path).code == 2


def test_check_names_every_bad_file(tmp_path: Path) -> None:
    draw_photos(tmp_path / "set", 3)
    assert provider("datasets", "check", "set", cwd=tmp_path).code == 0
    (tmp_path / "set" / "broken.jpg").write_bytes(b"not a picture")
    result = provider("datasets", "check", "set", "--json", cwd=tmp_path)
    assert result.code == 13
    assert list(result.json["result"]["unusable"]) == ["broken.jpg"]
    assert result.json["result"]["usable"] == 3


def test_check_has_nothing_to_do_for_drawn_faces(tmp_path: Path) -> None:
    assert provider("datasets", "check", "synthetic", cwd=tmp_path).code == 2
