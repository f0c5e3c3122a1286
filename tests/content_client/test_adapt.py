"""``content-client adapt``: three modes, defaults, what is left behind (M-34, M-35, M-39, U-35)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from programs import QUICK, client, draw_photos

from modify_fl.faces.decode import save_png
from modify_fl.synthetic import draw_faces
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle


def test_defaults_work_as_typed(desk: Path) -> None:
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "2steps", *QUICK, cwd=desk)
    assert result.code == 0, result.err
    manifest = inspect_bundle(desk / "photos.mdfa").manifest
    assert manifest.release == "local-only"
    assert manifest.provenance.training.mode == "offline"
    assert client("verify", "photos.mdfa", cwd=desk).code == 0


@pytest.mark.parametrize(
    ("mode", "out", "made"),
    [("offline", "new/deep/a.mdfa", "new/deep/a.mdfa"), ("test-time", "new/deep", "new/deep/p0.png")],
)
def test_a_folder_that_is_not_there_is_made(desk: Path, mode: str, out: str, made: str) -> None:
    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--mode", mode, "--set", "test_time_steps=1", *QUICK)
    words += ("--budget", "2steps") if mode == "offline" else ()
    looked = client(*words, "--out", out, "--dry-run", cwd=desk)
    assert (looked.code, (desk / "new").exists()) == (0, False), looked.err
    refused = client(*words, "--out", f"style.mdfy/{out}", cwd=desk)
    assert (refused.code, "style.mdfy is no folder" in refused.err) == (2, True), refused.err
    result = client(*words, "--out", out, cwd=desk)
    assert result.code == 0, result.err
    assert (desk / made).is_file()


def test_photos_come_from_the_environment(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "photos").rename(desk / "mine")
    monkeypatch.setenv("MODIFY_PHOTOS", "mine")
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", "--dry-run", "--json", cwd=desk)
    assert result.json["result"]["out"] == "mine.mdfa"
    assert not list(desk.glob("*.mdfa*"))


def test_missing_photos_are_one_sentence(desk: Path) -> None:
    shutil.rmtree(desk / "photos")
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", cwd=desk)
    assert result.code == 10
    assert result.err.splitlines()[1].endswith("$MODIFY_PHOTOS is not set and there is no folder ./photos")


@pytest.mark.parametrize("subset", ["heads", "lora", "all"])
def test_an_adapter_of_every_subset_stylizes(desk: Path, subset: str) -> None:
    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "2steps", "--subset", subset, *QUICK)
    assert client(*words, cwd=desk).code == 0
    assert inspect_bundle(desk / "photos.mdfa").manifest.provenance.training.subset == subset
    painted = client(
        "stylize",
        "--no-align",
        "--bundle",
        "style.mdfy",
        "--adapter",
        "photos.mdfa",
        "photos/p0.png",
        "--out",
        "out",
        cwd=desk,
    )
    assert painted.code == 0, painted.err


def test_online_mode_writes_an_adapter(desk: Path) -> None:
    words = (
        "adapt",
        "--no-align",
        "--bundle",
        "style.mdfy",
        "--mode",
        "online",
        "--budget",
        "3steps",
        "--out",
        "o.mdfa",
        *QUICK,
    )
    result = client(*words, "--json", cwd=desk)
    assert result.code == 0, result.err
    body = result.json["result"]
    assert (body["mode"], body["steps"], body["images_seen"]) == ("online", 3, 3)  # one photo per step


def test_online_mode_shows_each_photo_after_its_step(desk: Path) -> None:
    # M-34: one picture per photo, made by the encoder as it was after this photo's step
    words = ("--bundle", "style.mdfy", "--mode", "online", "--budget", "2steps", "--pictures", "painted", *QUICK)
    done = client("adapt", "--no-align", *words, cwd=desk)
    assert done.code == 0, done.err
    assert sorted(p.name for p in (desk / "painted").iterdir()) == ["p0.png", "p1.png"]
    refused = client("adapt", "--no-align", *words, "--mode", "offline", cwd=desk)
    assert refused.code == 2
    assert "--pictures belongs to online mode" in refused.err


def test_same_command_goes_on(desk: Path) -> None:
    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "2steps", *QUICK)
    assert client(*words, cwd=desk).code == 0
    assert client(*words, cwd=desk).code == 9  # the result exists
    again = client(*words, "--overwrite", cwd=desk)
    assert again.code == 0
    assert "going on after step 2" in again.err
    lines = (desk / "photos.mdfa.run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines].count("start") == 2


def test_test_time_mode_writes_pictures_and_forgets(desk: Path) -> None:
    words = (
        "adapt",
        "--no-align",
        "--bundle",
        "style.mdfy",
        "--mode",
        "test-time",
        "--set",
        "test_time_steps=2",
        *QUICK,
    )
    result = client(*words, cwd=desk)
    assert result.code == 0, result.err
    made = sorted(path.name for path in (desk / "photos-stylized").iterdir())
    assert made == ["contact-sheet.png", "p0.png", "p1.png", "results.jsonl"]
    assert not list(desk.glob("*.mdfa"))
    assert client(*words, cwd=desk).code == 9
    kept = client(*words, "--keep", "--overwrite", "--json", cwd=desk)
    assert kept.code == 0, kept.err
    for adapter in kept.json["result"]["adapters"]:
        assert inspect_bundle(desk / adapter).manifest.release == "local-only"


def test_test_time_mode_reports_photos_it_cannot_read(desk: Path) -> None:
    draw_photos(desk / "photos", 21)
    (desk / "photos" / "broken.jpg").write_bytes(b"no picture")
    words = (
        "adapt",
        "--no-align",
        "--bundle",
        "style.mdfy",
        "--mode",
        "test-time",
        "--set",
        "test_time_steps=1",
        *QUICK,
    )
    result = client(*words, "--out", "out", "--json", cwd=desk)
    assert result.code == 13
    records = [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text().splitlines()]
    assert len(records) == 22  # every input has one line (U-66)
    assert [record["photo"] for record in records if record["status"] == "failed"] == ["broken.jpg"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--mode", "sideways"), 2),
        (("--keep",), 2),
        (("--mode", "test-time", "--budget", "5m"), 2),
        (("--budget", "0m"), 2),
        (("--subset", "feet"), 2),
        (("--set", "network.w_dim=3"), 2),
        (("--out", "style.mdfy/a.mdfa"), 2),
        (("--photos", "nowhere"), 10),
        (("--require-perceptual",), 12),
    ],
)
def test_everything_is_checked_before_training(words: tuple[str, ...], code: int, desk: Path) -> None:
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", *QUICK, *words, cwd=desk)
    assert result.code == code, result.err
    assert not list(desk.glob("*.mdfa"))


def test_config_is_shown(desk: Path) -> None:
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", "--show-config", "--subset", "all", cwd=desk)
    assert json.loads(result.out)["subset"] == "all"


def test_plan_names_the_length_of_each_mode(desk: Path) -> None:
    for mode, length in (("offline", "1500 steps"), ("test-time", "50 steps for each photo")):
        result = client(
            "adapt", "--no-align", "--bundle", "style.mdfy", "--dry-run", "--mode", mode, "--json", cwd=desk
        )
        assert result.json["result"]["length"] == length


def test_plan_is_measured(desk: Path) -> None:
    # U-34, M-30: 1500 steps of 8 photos at the pace of a few real steps; a budget in photos is a number of steps.
    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--dry-run", *QUICK)
    before = sorted(desk.rglob("*"))
    body = client(*words, "--json", cwd=desk).json["result"]
    assert (body["steps"], body["images_seen"]) == (1500, 12_000)
    assert body["seconds"] > 1
    assert body["memory"] > 100e6
    body = client(*words, "--budget", "80img", "--json", cwd=desk).json["result"]
    assert (body["steps"], body["images_seen"]) == (10, 80)
    assert sorted(desk.rglob("*")) == before


def test_one_process_modes_refuse_several(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # M-56
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = client("adapt", "--no-align", "--bundle", "style.mdfy", "--mode", "test-time", cwd=desk)
    assert result.code == 2
    assert "the mode test-time is one process" in result.err


def test_unknown_provider_is_refused_before_any_photo_is_read(studio: Path, tmp_path: Path) -> None:
    result = client("adapt", "--no-align", "--bundle", studio / "style.mdfy", "--photos", "nowhere", cwd=tmp_path)
    assert result.code == 5
    assert "content-client trust add" in result.err


def test_a_dry_run_leaves_no_trace_of_use(desk: Path) -> None:
    # U-34, B-42
    def seen() -> int:
        store = TrustStore.default()
        return sum(len(store.last_seen(provider)) for provider in store.providers())

    words = ("adapt", "--no-align", "--bundle", "style.mdfy", "--budget", "2steps", *QUICK)
    assert client(*words, "--dry-run", cwd=desk).code == 0
    assert seen() == 0
    assert client(*words, cwd=desk).code == 0
    assert seen() == 1  # the style; the adapter stays on this machine


def test_faces_of_whole_photos_are_found_and_photos_without_one_are_named(desk: Path) -> None:
    for index, person in enumerate(draw_faces("photo", 3, 130, 1)):
        photo = np.full((180, 220, 3), 190, np.uint8)
        photo[30:160, 50:180] = person
        save_png(photo, desk / "whole" / f"{index}.png")
    save_png(np.full((90, 90, 3), 120, np.uint8), desk / "whole" / "wall.png")
    words = ("adapt", "--bundle", "style.mdfy", "--photos", "whole", "--budget", "2steps", *QUICK)
    result = client(*words, "--json", cwd=desk)
    assert result.code == 0, result.err
    assert result.json["result"]["photos"] == 3
    assert result.json["result"]["skipped"] == ["wall.png"]
    assert "wall.png left out: no face found" in result.err
