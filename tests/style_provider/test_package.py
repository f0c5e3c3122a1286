"""``style-provider package``, ``verify`` and ``inspect`` (U-30, U-34 to U-40, B-25, B-44)."""

import json
import shutil
from pathlib import Path

import pytest
from programs import QUICK, TINY, draw_photos, provider

from protocol.verify import inspect_bundle


@pytest.fixture
def keys(studio: Path, tmp_path: Path) -> Path:
    shutil.copytree(studio / "keys", tmp_path / "keys")
    return tmp_path


def test_bundle_says_what_it_is(studio: Path) -> None:
    manifest = inspect_bundle(studio / "style.mdfy").manifest
    assert manifest.provenance.training.steps == 4
    assert manifest.privacy.training_data.number_of_images == "10 to 99"
    assert not manifest.privacy.dp.applied
    # One of 12 images was held out (a tenth, rounded), and its figures are in the manifest.
    assert {figure.samples for figure in manifest.evaluation} == {1}
    values = {figure.metric.split()[0]: figure.value for figure in manifest.evaluation}
    assert values["PSNR"] is not None
    assert values["LPIPS"] is None  # no weights here: absent, never 0 (M-43)


def test_run_is_recorded_beside_the_bundle(studio: Path) -> None:
    events = [json.loads(line) for line in (studio / "style.mdfy.run" / "metrics.jsonl").read_text().splitlines()]
    assert {"start", "warning", "done"} <= {event["kind"] for event in events}
    assert json.loads((studio / "style.mdfy.run" / "config.json").read_text())["settings"]["seed"] == 0


def test_defaults_work_as_typed(keys: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--limit", "8", "--budget", "2steps", "--holdout", "0",
                      *TINY, *QUICK, cwd=keys)  # fmt: skip
    assert result.code == 0, result.err
    assert (keys / "synthetic.mdfy").is_file()
    assert "M-41" in result.err  # the replacement of LPIPS is said aloud
    again = provider("package", "--dataset", "synthetic", "--limit", "8", *TINY, *QUICK, cwd=keys)
    assert again.code == 9


def test_same_command_goes_on_and_other_settings_stop(keys: Path) -> None:
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--out", "s.mdfy", *TINY, *QUICK, "--json")
    first = provider(*words, "--budget", "2steps", cwd=keys)
    assert first.code == 0, first.err
    repeated = provider(*words, "--budget", "2steps", "--overwrite", cwd=keys)
    assert repeated.code == 0
    assert "going on after step 2" in repeated.err
    other = provider(*words, "--budget", "3steps", "--overwrite", cwd=keys)
    assert other.code == 2
    assert other.json["error"]["why"] == "budget was 2steps, now 3steps"
    fresh = provider(*words, "--budget", "3steps", "--overwrite", "--fresh", cwd=keys)
    assert (fresh.code, fresh.json["result"]["steps"]) == (0, 3)


def test_dry_run_touches_nothing(keys: Path) -> None:
    before = sorted(keys.rglob("*"))
    for budget, steps in (("40steps", 40), ("40img", 10), ("2m", None)):
        words = ("package", "--dataset", "synthetic", "--limit", "8", "--dry-run", "--json", "--budget", budget)
        result = provider(*words, *TINY, cwd=keys)
        assert (result.code, result.json["result"]["steps"]) == (0, steps)
    assert sorted(keys.rglob("*")) == before


def test_show_config_prints_the_settings_in_force(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--show-config", "--set", "w_dim=7", cwd=tmp_path)
    assert result.code == 0
    assert json.loads(result.out)["network"]["w_dim"] == 7


def test_missing_dataset_is_answered_in_three_lines(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "metfaces", cwd=tmp_path)
    assert result.code == 10
    assert len(result.err.splitlines()) == 3
    assert "https://github.com/NVlabs/metfaces-dataset" in result.err
    assert "CC BY-NC 2.0" in result.err
    assert "synthetic" in result.err


def test_missing_key_is_answered_with_keygen(tmp_path: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--json", cwd=tmp_path)
    assert result.code == 2
    assert result.json["error"]["fix"][:2] == ["style-provider", "keygen"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--preset", "huge"), 2),
        (("--budget", "soon"), 2),
        (("--device", "quantum"), 2),
        (("--out", "nowhere/x.mdfy"), 2),
        (("--holdout", "1.5"), 2),
        (("--limit", "1"), 10),
        (("--require-perceptual",), 12),
        (("--key", "keys/other.pem"), 9),
    ],
)
def test_everything_is_checked_before_training(words: tuple[str, ...], code: int, keys: Path) -> None:
    result = provider("package", "--dataset", "synthetic", "--limit", "8", *TINY, *words, cwd=keys)
    assert result.code == code, result.err
    assert not list(keys.glob("*.mdfy"))


def test_unreadable_images_are_named(keys: Path) -> None:
    draw_photos(keys / "set", 24)
    (keys / "set" / "broken.jpg").write_bytes(b"no picture")
    result = provider("package", "--dataset", "set", "--budget", "1steps", *TINY, *QUICK, "--json", cwd=keys)
    assert result.code == 0, result.err
    assert result.json["result"]["skipped"] == ["broken.jpg"]  # 1 of 25 is below 5 %
    (keys / "set" / "broken2.jpg").write_bytes(b"no picture")
    stopped = provider("package", "--dataset", "set", "--budget", "1steps", *TINY, *QUICK, "--out", "b.mdfy", cwd=keys)
    assert stopped.code == 10
    assert not (keys / "b.mdfy").exists()


def test_verify_lists_every_step(studio: Path) -> None:
    result = provider("verify", "style.mdfy", cwd=studio)
    assert result.code == 0
    assert [line.split()[1] for line in result.out.splitlines()[:12]] == [str(number) for number in range(1, 13)]


def test_verify_needs_to_know_which_key(studio: Path, tmp_path: Path) -> None:
    assert provider("verify", studio / "style.mdfy", cwd=tmp_path).code == 2
    result = provider("verify", studio / "style.mdfy", "--key", studio / "keys" / "studio.mdfykey", cwd=tmp_path)
    assert result.code == 0


def test_inspect_marks_every_line_unless_checked(studio: Path) -> None:
    unknown = provider("inspect", "style.mdfy", cwd=studio)
    assert unknown.code == 0
    assert all(line.startswith("unverified") for line in unknown.out.splitlines())
    known = provider("inspect", "style.mdfy", "--key", "keys/studio.mdfykey", cwd=studio)
    assert "unverified" not in known.out
    # B-44: it never says so much as "valid" of the file; "valid" is only the label of its dates.
    assert known.out.count("valid") == 1
    assert "without differential privacy" in known.out
    body = provider("inspect", "style.mdfy", "--json", cwd=studio).json
    assert body["result"]["verified"] is False
    assert body["result"]["manifest"]["format"] == "mdfy"
