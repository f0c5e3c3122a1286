"""``content-client stylize`` (U-22, U-40, U-45, U-65 to U-67)."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, client, draw_photos

from protocol.manifest import Usage
from protocol.trust import config_folder


def _stylize(desk: Path, *words: str | Path) -> object:
    return client("stylize", "--no-align", "--bundle", "style.mdfy", *words, "--threads", "1", "--json", cwd=desk)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_picture_per_photo_and_style(desk: Path) -> None:
    words = ("--bundle", "style.mdfy", "photos", "--styles", "3", "--seed", "4", "--out", "out", "--threads", "1")
    result = client("stylize", "--no-align", *words, cwd=desk)
    assert result.code == 0, result.err
    names = {f"p{photo}-s{seed}.png" for photo in (0, 1) for seed in (4, 5, 6)}
    assert {path.name for path in (desk / "out").iterdir()} == names | {"contact-sheet.png", "results.jsonl"}
    assert _pixels(desk / "out" / "p0-s4.png").shape == (32, 32, 3)
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["photo"] for record in records] == ["p0.png", "p1.png"]
    assert records[0]["outputs"] == ["p0-s4.png", "p0-s5.png", "p0-s6.png"]
    assert records[0]["styles"] == ["s4", "s5", "s6"]


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
    assert client("adapt", "--no-align", "--bundle", "style.mdfy", *words, *QUICK, cwd=desk).code == 0
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
        assert sorted(json.loads(text["modify-fl"])) == [
            "bundle", "preserve_color", "refine", "strength", "style", "truncation", "version", "width", "xi",
        ]  # fmt: skip


def test_dry_run_writes_nothing(desk: Path) -> None:
    result = _stylize(desk, "photos", "--styles", "2", "--out", "out", "--dry-run")
    assert (result.code, result.json["result"]["pictures"]) == (0, 4)
    assert not (desk / "out").exists()


def test_contact_sheet_shows_the_first_forty_photos(desk: Path) -> None:
    draw_photos(desk / "many", 41)
    result = client(
        "stylize", "--no-align", "--bundle", "style.mdfy", "many", "--out", "out", "--threads", "1", cwd=desk
    )
    assert result.code == 0
    assert "it shows the first 40 photos" in result.out
    # Rows of 32 + 4 + 14 pixels, a line of captions and a margin above.
    assert _pixels(desk / "out" / "contact-sheet.png").shape[0] == 4 + 14 + 40 * 50


def test_an_older_release_is_refused_once_a_newer_one_was_used(desk: Path, publish: Callable[..., str]) -> None:
    # B-42: the sequence is advanced by use, after all checks.
    name = str(uuid.uuid4())
    publish(desk / "old.mdfy", Usage(), id=name, sequence=1)
    publish(desk / "new.mdfy", Usage(), id=name, sequence=2)
    publish(desk / "other.mdfy", Usage(), id=name, sequence=2, version="2.0.1")
    assert client("stylize", "--no-align", "photos", "--bundle", "old.mdfy", "--out", "a", cwd=desk).code == 0
    assert client("stylize", "--no-align", "photos", "--bundle", "new.mdfy", "--out", "b", cwd=desk).code == 0
    for bundle, code in (("old.mdfy", "E_ROLLBACK"), ("other.mdfy", "E_EQUIVOCATION")):
        refused = client("stylize", "--no-align", "photos", "--bundle", bundle, "--out", "c", "--json", cwd=desk)
        assert (refused.code, refused.json["error"]["code"]) == (6, code)
    assert not (desk / "c").exists()


def test_terms_are_agreed_to_before_use(desk: Path, publish: Callable[..., str]) -> None:
    publish(desk / "t.mdfy", Usage(requires_acknowledgement=True))
    words = ("stylize", "--no-align", "photos", "--bundle", "t.mdfy", "--out", "out")
    refused = client(*words, cwd=desk)
    assert refused.code == 6
    assert "content-client verify t.mdfy --accept-terms" in refused.err
    assert client("verify", "t.mdfy", "--accept-terms", cwd=desk).code == 0
    assert client(*words, cwd=desk).code == 0


def test_a_lost_record_of_what_was_seen_is_told(desk: Path) -> None:
    # W_STATE_RESET
    words = ("stylize", "--no-align", "photos", "--bundle", "style.mdfy", "--out")
    assert client(*words, "a", cwd=desk).code == 0
    (config_folder() / "trust" / "state.json").unlink()
    done = client(*words, "b", cwd=desk)
    assert done.code == 0
    assert "W_STATE_RESET" in done.err
    verified = client("verify", "style.mdfy", "--json", cwd=desk)
    assert verified.code == 0
