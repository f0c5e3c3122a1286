"""``style-provider evaluate`` (M-43 to M-48, U-49, U-70, U-73)."""

import json
import re
import stat
from pathlib import Path

import pytest
from programs import QUICK, Result, client, draw_photos, provider

from protocol.provider import read_provider_key

_FIGURES = {"kid", "fid", "lpips_diversity", "identity_cosine", "identity_auc"}


def evaluate(studio: Path, cwd: Path, *more: str | Path) -> Result:
    return provider(
        "evaluate", studio / "style.mdfy", "--dataset", "synthetic", "--style-limit", "12", "--photos", "photos",
        "--styles", "3", "--key", studio / "keys" / "studio.mdfykey", "--out", "report", "--threads", "1", *more,
        cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_photos(tmp_path / "photos", 4)
    return tmp_path


@pytest.fixture(scope="module")
def measured(studio: Path, shared_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """One evaluation with all networks, looked at by several tests."""
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    folder = tmp_path_factory.mktemp("measured")
    draw_photos(folder / "photos", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_weights))
        done = evaluate(studio, folder, "--require-all", "--json")
    assert done.code == 0, done.err
    return folder / "report", done


def test_every_figure_stands_beside_its_baselines(measured: tuple[Path, Result]) -> None:
    result = measured[1].json["result"]
    assert {column: set(figures) for column, figures in result["figures"].items()} == {
        "style": _FIGURES, "floor": {"kid", "fid"}, "photos": {"kid", "fid"}, "colour": _FIGURES,
    }  # fmt: skip
    for figures in result["figures"].values():
        for figure in figures.values():
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["resolution"] == 32
    assert result["figures"]["style"]["kid"]["n"] == 12
    assert result["figures"]["style"]["kid"]["seeds"] == [0, 1, 2]
    assert result["figures"]["photos"]["kid"]["n"] == 4
    # One image of 12 was held out; the nearest of the other 11 is looked for.
    rows = result["reconstruction"]
    assert {figure["n"] for kind in rows.values() for figure in kind.values()} == {1}
    assert "of 11 images" in rows["nearest"]["lpips"]["note"]
    assert sorted(result["worst_by_identity"]) == [0, 1, 2, 3]


def test_few_pictures_are_a_warning(measured: tuple[Path, Result]) -> None:
    assert any("FID is biased" in warning for warning in measured[1].json["warnings"])


def test_record_names_what_figures_depend_on(measured: tuple[Path, Result]) -> None:
    """M-48; identity is measured by a network that was not trained on."""
    written = json.loads((measured[0] / "report.json").read_text())
    record = written["record"]
    assert written["figures"] == measured[1].json["result"]["figures"]
    assert record["networks"]["face"]["name"] == "facenet-casia-webface"
    assert set(record) >= {
        "bundle", "reference", "photos", "resolution", "filter", "format", "xi_trained", "xi", "blend_width",
        "style_seeds", "training_seed", "networks", "losses", "dp", "software", "device",
    }  # fmt: skip
    assert (record["reference"]["images"], record["photos"]["images"]) == (12, 4)


def test_same_seed_same_figures(studio: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without networks the reconstructions are what can be compared."""
    results = [evaluate(studio, folder, "--json", "--overwrite").json["result"] for _ in range(2)]
    assert results[0] == results[1]
    values = results[0]["reconstruction"]["model"]
    assert values["lpips"]["value"] is None
    assert values["psnr"]["value"] > 0


def test_missing_networks_leave_no_figure(studio: Path, folder: Path) -> None:
    """M-43: said aloud, never 0, and the other figures are still there."""
    done = evaluate(studio, folder)
    assert done.code == 0, done.err
    assert done.err.count("not available") >= 3
    assert re.search(r"KID x 1000 +lower +not available +not available", done.out)
    assert "wrote" in done.out
    figures = json.loads((folder / "report" / "report.json").read_text())["figures"]
    assert all(figure["value"] is None for column in figures.values() for figure in column.values())


def test_all_figures_can_be_demanded(studio: Path, folder: Path) -> None:
    refused = evaluate(studio, folder, "--require-all", "--json")
    assert refused.code == 12
    assert refused.json["error"]["code"] == "E_WEIGHTS"
    assert not (folder / "report").exists()


def test_page_needs_no_network_and_hides_photos(studio: Path, folder: Path) -> None:
    assert evaluate(studio, folder).code == 0
    page = (folder / "report" / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    assert not re.search(r"@[A-Z]+@", page)
    assert "p0.png" not in page
    assert page.count("<img") == 1  # the grid; worst cases need the face network
    assert stat.S_IMODE((folder / "report").stat().st_mode) == 0o700
    shown = evaluate(studio, folder, "--show-photos", "--overwrite")
    assert shown.code == 0, shown.err
    again = (folder / "report" / "report.html").read_text()
    assert "Photos stand in the first column" in again
    assert len(again) > len(page)


def test_reports_are_not_replaced_silently(studio: Path, folder: Path) -> None:
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text("{}")
    assert evaluate(studio, folder).code == 9


def test_dry_run_touches_nothing(studio: Path, folder: Path) -> None:
    planned = evaluate(studio, folder, "--dry-run")
    assert planned.code == 0, planned.err
    assert "4 photos in 3 styles (seeds 0 to 2) against 12 style images" in planned.out
    assert not (folder / "report").exists()


def test_rows_beyond_training_are_refused(studio: Path, folder: Path) -> None:
    refused = evaluate(studio, folder, "--xi", "9", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "E_CONFIG")


def test_unknown_signer_is_refused_before_pictures(studio: Path, folder: Path) -> None:
    made = provider("keygen", "--name", "Else", "--out", "other", "--no-passphrase", cwd=folder)
    assert made.code == 0, made.err
    refused = provider(
        "evaluate", studio / "style.mdfy", "--dataset", "nowhere", "--photos", "nowhere", "--key",
        folder / "other" / "else.mdfykey", "--json", cwd=folder,
    )  # fmt: skip
    assert refused.code == 5


def test_other_set_of_images_holds_nothing_out(studio: Path, folder: Path) -> None:
    """With one image there is no held-out one to find, and no floor."""
    (folder / "one").mkdir()
    draw_photos(folder / "one", 1)
    done = provider(
        "evaluate", studio / "style.mdfy", "--dataset", "one", "--photos", "photos", "--styles", "1", "--out", "report",
        "--key", studio / "keys" / "studio.mdfykey", "--threads", "1", "--json", cwd=folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.json["result"]["reconstruction"]["model"]["l1"]
    assert found["value"] is None
    assert "held-out" in found["note"]


def test_adapter_is_measured_with_the_key_of_its_maker(
    studio: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODIFY_CONFIG", str(folder / "config"))
    key = studio / "keys" / "studio.mdfykey"
    trusted = client("trust", "add", key, "--fingerprint", read_provider_key(key).fingerprint, cwd=folder)
    assert trusted.code == 0, trusted.err
    words = ("adapt", "--bundle", studio / "style.mdfy", "--budget", "2steps", "--out", "a.mdfa", *QUICK)
    made = client(*words, cwd=folder)
    assert made.code == 0, made.err
    assert evaluate(studio, folder, "--adapter", "a.mdfa").code == 5
    own = next((folder / "config" / "identity").glob("*.mdfykey"))
    done = evaluate(studio, folder, "--adapter", "a.mdfa", "--key", own, "--json")
    assert done.code == 0, done.err
    assert len(done.json["result"]["record"]["adapter"]) == 64
