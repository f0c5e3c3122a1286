"""``style-provider evaluate`` (M-43 to M-48, U-49, U-70, U-73)."""

import json
import re
import stat
from pathlib import Path

import pytest
from programs import PACKAGE, QUICK, Result, client, draw_photos, provider

from modify_fl.faces.decode import save_png
from modify_fl.synthetic import draw_faces
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
    # Three images of 12 were held out; the nearest of the other nine is looked for.
    rows = result["reconstruction"]
    assert {figure["n"] for kind in rows.values() for figure in kind.values()} == {3}
    assert "of 9 images" in rows["nearest"]["lpips"]["note"]
    assert sorted(result["worst_by_identity"]) == [0, 1, 2, 3]


def test_spread_of_cosines_is_counted(measured: tuple[Path, Result]) -> None:
    """Four photos in three styles: 12 pairs with the own photo, 36 with another; drawn on the page with a table."""
    cosines = measured[1].json["result"]["cosines"]
    assert (sum(cosines["own"]), sum(cosines["others"])) == (12, 36)
    page = (measured[0] / "report.html").read_text()
    assert page.count("<svg") == 6  # five figures and the cosines
    assert "photos of others" in page
    assert (measured[0] / "worst.png").read_bytes().startswith(b"\x89PNG")


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
    assert 'alt="4 photos, one a row, in 3 styles"' in page
    assert "prefers-color-scheme" in page
    assert "@media print" in page
    assert page.count("<table>") == page.count("<caption>") == 2
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
    assert "4 photos, each in 3 styles of its own (seeds 0 to 11), against 12 style images" in planned.out
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
    words = ("adapt", "--no-align", "--bundle", studio / "style.mdfy", "--budget", "2steps", "--out", "a.mdfa", *QUICK)
    made = client(*words, cwd=folder)
    assert made.code == 0, made.err
    assert evaluate(studio, folder, "--adapter", "a.mdfa").code == 5
    own = next((folder / "config" / "identity").glob("*.mdfykey"))
    done = evaluate(studio, folder, "--adapter", "a.mdfa", "--key", own, "--json")
    assert done.code == 0, done.err
    assert len(done.json["result"]["record"]["adapter"]) == 64


# A reference that was kept out ------------------------------------------------------


@pytest.fixture
def paintings(folder: Path) -> Path:
    """Five drawn paintings that ``package`` has never seen."""
    for index, face in enumerate(draw_faces("painting", 5, 40, 99)):
        save_png(face, folder / "kept" / f"k{index}.png")
    return folder / "kept"


def test_kept_out_reference_serves_distances_and_reconstructions(studio: Path, folder: Path, paintings: Path) -> None:
    done = evaluate(studio, folder, "--reference", "kept", "--json")
    assert done.code == 0, done.err
    record = done.json["result"]["record"]
    assert (record["reference"]["images"], record["reference"]["kept_out"]) == (5, True)
    assert record["style_images"]["images"] == 12
    assert record["reference"]["digest"] != record["style_images"]["digest"]
    rows = done.json["result"]["reconstruction"]
    assert {figure["n"] for kind in rows.values() for figure in kind.values()} == {5}
    assert "of 9 images" in rows["nearest"]["l1"]["note"]  # those that the bundle held out are not searched
    figures = done.json["result"]["figures"]
    assert figures["floor"]["kid"]["n"] == 2  # half of five
    page = (folder / "report" / "report.html").read_text()
    assert "5 style images that were kept out of every training (--reference)" in page
    assert "5 style images of --reference" in page


def test_without_a_reference_the_caption_says_so(studio: Path, folder: Path) -> None:
    done = evaluate(studio, folder)
    assert done.code == 0, done.err
    assert "all 12 style images (--dataset)" in done.out
    record = json.loads((folder / "report" / "report.json").read_text())["record"]
    assert record["reference"]["kept_out"] is False
    assert record["reference"]["digest"] == record["style_images"]["digest"]


def test_reference_that_was_trained_on_is_a_warning(studio: Path, folder: Path) -> None:
    """The same drawing is told by its pixels, whatever its name."""
    done = evaluate(studio, folder, "--reference", "synthetic", "--json")
    assert done.code == 0, done.err
    assert any(
        warning == "12 of 512 pictures of --reference are in --dataset too: they are not kept out"
        for warning in done.json["warnings"]
    )


# Several trainings ------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The studio's style, trained once more with another seed."""
    folder = tmp_path_factory.mktemp("second")
    packed = provider(
        "package", "--dataset", "synthetic", "--limit", "12", "--budget", "20steps", "--out", "second.mdfy",
        "--seed", "1", "--key", studio / "keys" / "studio.pem", *PACKAGE, *QUICK, cwd=folder,
    )  # fmt: skip
    assert packed.code == 0, packed.err
    return folder


def both(studio: Path, second: Path, cwd: Path, *more: str | Path) -> Result:
    return provider(
        "evaluate", studio / "style.mdfy", second / "second.mdfy", "--dataset", "synthetic", "--style-limit", "12",
        "--photos", "photos", "--styles", "2", "--key", studio / "keys" / "studio.mdfykey", "--out", "report",
        "--threads", "1", *more, cwd=cwd,
    )  # fmt: skip


def test_several_trainings_give_mean_and_range(studio: Path, second: Path, folder: Path) -> None:
    done = both(studio, second, folder, "--json")
    assert done.code == 0, done.err
    result = done.json["result"]
    values = [each["reconstruction"]["model"]["l1"]["value"] for each in result["trainings"]]
    pooled = result["reconstruction"]["model"]["l1"]
    assert [each["training_seed"] for each in result["trainings"]] == [0, 1]
    assert (pooled["value"], pooled["low"], pooled["high"]) == pytest.approx((sum(values) / 2, *sorted(values)))
    assert values[0] != values[1]
    # Each is what it is alone.
    alone = evaluate(studio, folder, "--styles", "2", "--overwrite", "--json").json["result"]["reconstruction"]["model"]
    assert alone["l1"]["value"] == pytest.approx(values[0])
    page = folder / "report" / "report.html"
    assert both(studio, second, folder, "--overwrite").code == 0
    assert "2 trainings, training seeds 0, 1" in page.read_text()
    assert "training seed 1" in page.read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--adapter", "one.mdfa"), "every bundle needs its own adapter"),
        (("SAME",), "one bundle is given twice"),
    ],
)
def test_bundles_that_do_not_belong_together_are_refused(
    studio: Path, second: Path, folder: Path, more: tuple[str, ...], said: str
) -> None:
    words = [str(second / "second.mdfy") if word == "SAME" else word for word in more]
    refused = both(studio, second, folder, *words, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "E_CONFIG")
    assert said in refused.json["error"]["what"]


def test_curves_of_runs_stand_on_the_page(studio: Path, second: Path, folder: Path) -> None:
    done = evaluate(studio, folder, "--run", second / "second.mdfy.run")
    assert done.code == 0, done.err
    page = (folder / "report" / "report.html").read_text()
    assert "Training: second.mdfy.run" in page
    assert "images per second against kimg" in page
    assert "loss of Dis against kimg" in page


def test_run_without_reports_is_refused_before_pictures(studio: Path, folder: Path) -> None:
    refused = evaluate(studio, folder, "--run", "photos", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (10, "E_DATA")
    assert not (folder / "report").exists()
