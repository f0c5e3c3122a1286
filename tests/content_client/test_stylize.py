"""``content-client stylize`` (U-22, U-40, U-45, U-65 to U-67)."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, client, draw_photos


def _stylize(desk: Path, *words: str | Path) -> object:
    return client("stylize", "--bundle", "style.mdfy", *words, "--threads", "1", "--json", cwd=desk)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_picture_per_photo_and_style(desk: Path) -> None:
    result = client("stylize", "--bundle", "style.mdfy", "photos", "--styles", "3", "--seed", "4", "--out", "out",
                    "--threads", "1", cwd=desk)  # fmt: skip
    assert result.code == 0, result.err
    names = {f"p{photo}-s{seed}.png" for photo in (0, 1) for seed in (4, 5, 6)}
    assert {path.name for path in (desk / "out").iterdir()} == names | {"contact-sheet.png", "results.jsonl"}
    assert _pixels(desk / "out" / "p0-s4.png").shape == (32, 32, 3)
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["photo"] for record in records] == ["p0.png", "p1.png"]
    assert records[0]["outputs"] == ["p0-s4.png", "p0-s5.png", "p0-s6.png"]
    assert records[0]["seeds"] == [4, 5, 6]


def test_same_seed_same_picture(desk: Path) -> None:
    assert _stylize(desk, "photos", "--seed", "2", "--out", "a").code == 0
    assert _stylize(desk, "photos", "--styles", "2", "--seed", "1", "--out", "b").code == 0
    # A style is named by its seed, whatever else is drawn beside it.
    assert (_pixels(desk / "a" / "p0.png") == _pixels(desk / "b" / "p0-s2.png")).all()
    assert (_pixels(desk / "b" / "p0-s1.png") != _pixels(desk / "b" / "p0-s2.png")).any()


def test_strength_zero_and_xi_zero_leave_the_style_out(desk: Path) -> None:
    for name, words in {"none": ("--strength", "0"), "xi": ("--xi", "0"), "full": ()}.items():
        assert _stylize(desk, "photos/p0.png", "--out", name, *words).code == 0
    none, xi, full = (_pixels(desk / name / "p0.png") for name in ("none", "xi", "full"))
    assert (none == xi).all()  # both are D(E(x)) (M-25, M-26)
    assert (none != full).any()


def test_larger_xi_than_trained_is_refused(desk: Path) -> None:
    result = _stylize(desk, "photos", "--xi", "5", "--out", "out")  # 32 px: xi = 4 (M-24)
    assert result.code == 2
    assert result.json["error"]["expected"] == "0 to 4"
    assert not (desk / "out").exists()


def test_adapter_is_used(desk: Path) -> None:
    words = ("--budget", "4steps", "--set", "learning_rate=0.002", "--subset", "all")
    assert client("adapt", "--bundle", "style.mdfy", *words, *QUICK, cwd=desk).code == 0
    assert _stylize(desk, "photos", "--out", "plain").code == 0
    assert _stylize(desk, "photos", "--adapter", "photos.mdfa", "--out", "adapted").code == 0
    assert (_pixels(desk / "plain" / "p0.png") != _pixels(desk / "adapted" / "p0.png")).any()


def test_one_bad_photo_does_not_stop_the_others(desk: Path) -> None:
    (desk / "photos" / "bad.jpg").write_bytes(b"no picture")
    result = _stylize(desk, "photos", "--out", "out")
    assert result.code == 13
    assert result.json["result"]["failed"] == ["bad.jpg"]
    assert (desk / "out" / "p1.png").is_file()
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["failed", "written", "written"]


def test_no_readable_photo_writes_nothing(desk: Path) -> None:
    (desk / "bad.jpg").write_bytes(b"no picture")
    assert _stylize(desk, "bad.jpg", "--out", "out").code == 10
    assert not (desk / "out").exists()


def test_existing_results_are_never_replaced_silently(desk: Path) -> None:
    assert _stylize(desk, "photos", "--out", "out").code == 0
    before = (desk / "out" / "p0.png").read_bytes()
    assert _stylize(desk, "photos", "--out", "out", "--seed", "9").code == 9
    assert (desk / "out" / "p0.png").read_bytes() == before
    assert _stylize(desk, "photos", "--out", "out", "--seed", "9", "--overwrite").code == 0
    assert (desk / "out" / "p0.png").read_bytes() != before


@pytest.mark.parametrize(("words", "noted"), [((), True), (("--no-provenance",), False)])
def test_provenance_names_no_path_and_no_time(words: tuple[str, ...], noted: bool, desk: Path) -> None:
    assert _stylize(desk, "photos/p0.png", "--out", "out", "--seed", "3", *words).code == 0
    with Image.open(desk / "out" / "p0.png") as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert bool(text) is noted
    if noted:
        assert sorted(json.loads(text["modify-fl"])) == ["bundle", "seed", "strength", "version", "width", "xi"]


def test_dry_run_writes_nothing(desk: Path) -> None:
    result = _stylize(desk, "photos", "--styles", "2", "--out", "out", "--dry-run")
    assert (result.code, result.json["result"]["pictures"]) == (0, 4)
    assert not (desk / "out").exists()


def test_contact_sheet_shows_the_first_forty_photos(desk: Path) -> None:
    draw_photos(desk / "many", 41)
    result = client("stylize", "--bundle", "style.mdfy", "many", "--out", "out", "--threads", "1", cwd=desk)
    assert result.code == 0
    assert "it shows the first 40 photos" in result.out
    # Rows of 32 + 4 + 14 pixels, a line of captions and a margin above.
    assert _pixels(desk / "out" / "contact-sheet.png").shape[0] == 4 + 14 + 40 * 50
