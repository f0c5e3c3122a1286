"""``style-provider reproduce``: every comparison on tiny networks, taken up again, refused, measured (M-45, M-47)."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from programs import QUICK, TINY, Result, provider
from safetensors.torch import load_file

from modify_fl.config import Budget, Runtime, preset
from modify_fl.console import Console, Verbosity
from modify_fl.data import ImageSet, load_images, to_uint8
from modify_fl.errors import ConfigError, DataError, InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.faces.decode import save_png
from modify_fl.metrics.instruments import Instruments
from modify_fl.overrides import override
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.synthetic import draw_faces
from modify_fl.training.encapsulation import encapsulate
from style_provider.reproduction.run import reproduce
from style_provider.reproduction.swap import DRAWS, Swap
from style_provider.reproduction.task import Experiment, Material, Reproduction
from style_provider.reproduction.units import Units
from style_provider.starts import Origin

_SETTINGS = (*TINY, "--set", "test_time_steps=2", "--set", "stylization.batch=2")
_NO_IDENTITY = ("--set", "encapsulation.lambda_id=0", "--set", "stylization.lambda_id=0")  # the largest network
_NAMES = ("table1", "modes", "xi", "swap")
_RUNTIME = Runtime(device="cpu", threads=1, precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sets of drawn faces, no face in two of them."""
    root = tmp_path_factory.mktemp("material")
    sets = {"styles": ("painting", 6), "reference": ("painting", 4), "photos": ("photo", 4), "held": ("photo", 3)}
    for seed, (name, (look, count)) in enumerate(sets.items()):
        (root / name).mkdir()
        for index, face in enumerate(draw_faces(look, count, 40, seed)):  # type: ignore[arg-type]
            save_png(face, root / name / f"{name}{index}.png")
    return root


def run(folder: Path, name: str, out: str, *more: str, **changes: str) -> Result:
    sets = {"dataset": "styles", "reference": "reference", "photos": "photos", "held-out": "held"} | changes
    words = [word for option, value in sets.items() for word in (f"--{option}", value)]
    return provider(
        "reproduce", name, *words, "--out", out, "--budget", "4steps", "--adapt-budget", "2steps", "--seeds", "1",
        "--styles", "2", *_SETTINGS, *QUICK, *more, cwd=folder,
    )  # fmt: skip


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted((folder / "units").rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def bare(folder: Path) -> Path:
    """All four comparisons without any measuring network, in one folder."""
    for name in _NAMES:
        done = run(folder, name, "bare")
        assert done.code == 0, done.err
    return folder / "bare"


@pytest.fixture(scope="module")
def measured(folder: Path, shared_weights: Path) -> Path:
    """All four comparisons with all measuring networks, in one folder."""
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_weights))
        for name in _NAMES:
            done = run(folder, name, "all", "--require-perceptual", *_NO_IDENTITY)
            assert done.code == 0, done.err
    return folder / "all"


def result(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def test_table1_has_every_row_and_direction(bare: Path) -> None:
    found = result(bare, "table1")
    assert list(found["rows"]) == [
        "raw photos", "colour transfer", "MODIFY offline", "MODIFY online", "MODIFY test-time", "unpaired pSp",
        "StarGAN v2 (compact)",
    ]  # fmt: skip
    assert set(found["rows"]["raw photos"]) == {"kid", "fid"}
    claims = [direction["claim"] for direction in found["directions"]]
    assert "KID x 1000: MODIFY offline below StarGAN v2 (compact)" in claims
    assert "KID x 1000: StarGAN v2 (compact) below raw photos" in claims
    assert "identity cosine: MODIFY offline about equal to unpaired pSp" in claims
    assert "identity cosine: StarGAN v2 (compact) below MODIFY offline" in claims
    assert [d["claim"] for d in found["directions"] if not d["gate"]] == [
        f"{key}: StarGAN v2 (compact) below unpaired pSp" for key in ("KID x 1000", "FID")
    ]
    # All that is trained has a time, the baseline as long as both stages.
    assert set(found["training_seconds"]) == {
        f"{name}-s0" for name in ("stage1", "offline", "online", "unpaired", "test-time", "stargan")
    }
    assert min(found["training_seconds"].values()) >= 0
    assert json.loads((bare / "runs" / "stargan-s0" / "config.json").read_text())["settings"]["budget"] == "6steps"


def test_modes_stand_beside_no_stage_2(bare: Path) -> None:
    found = result(bare, "modes")
    assert list(found["rows"]) == ["no stage 2", "MODIFY offline", "MODIFY online", "MODIFY test-time"]
    claims = {direction["claim"] for direction in found["directions"]}
    assert len(claims) == 6
    assert "identity cosine of D(E'(x)): no stage 2 below MODIFY test-time" in claims


def test_xi_has_three_bundles_and_a_sweep(bare: Path) -> None:
    """M-24: 2, 4 and 6 rows at 32 px, and xi' from 0 to the preset's 4."""
    found = result(bare, "xi")
    assert list(found["rows"]) == [
        *(f"trained xi {xi}" for xi in (2, 4, 6)), *(f"run-time xi' {xi}" for xi in range(5)),
    ]  # fmt: skip
    assert "kid" not in found["rows"]["run-time xi' 2"]
    assert {p.name for p in (bare / "units").glob("stage1*.mdfy")} == {
        "stage1-s0.mdfy", "stage1-xi2-s0.mdfy", "stage1-xi6-s0.mdfy",
    }  # fmt: skip
    claims = [direction["claim"] for direction in found["directions"]]
    assert claims == [
        f"{figure} with {along}"
        for along in ("the trained xi", "xi' at run time")
        for figure in ("identity cosine falls", "LPIPS diversity rises")
    ]


def test_swap_arms_share_phase_a(bare: Path) -> None:
    found = result(bare, "swap")
    assert list(found["rows"]) == ["with L_swap", "without L_swap"]
    made = {arm: load_file(bare / "units" / f"swap-{arm}-s0.made.safetensors") for arm in ("on", "off")}
    assert torch.equal(made["on"]["style"], made["off"]["style"])  # E is that of phase A in both
    assert not torch.equal(made["on"]["drawn"], made["off"]["drawn"])
    # The code gap by hand: the norm of the difference of two means.
    gap = (made["on"]["style"].double().mean(0) - made["on"]["drawn"].double().mean(0)).norm()
    assert found["rows"]["with L_swap"]["gap"]["value"] == pytest.approx(gap.item())
    assert len(found["directions"]) == 4
    assert not (bare / "runs" / "swap-a-s0" / "checkpoints").exists()  # both arms are done


def test_nothing_is_invented_without_networks(bare: Path) -> None:
    """M-43: figures are not available, and so are the verdicts; codes need no network."""
    verdicts = {d["claim"].partition(":")[0]: d["verdict"] for d in result(bare, "swap")["directions"]}
    assert verdicts["KID x 1000"] == "not available"
    assert verdicts["code gap"] in {"holds", "within intervals", "does not hold"}
    assert {d["verdict"] for d in result(bare, "table1")["directions"]} == {"not available"}
    assert "not available" in (bare / "table1.md").read_text()


def test_reports_are_complete(bare: Path) -> None:
    for name in _NAMES:
        text, found = (bare / f"{name}.md").read_text(), result(bare, name)
        assert all(f"{d['claim']}: {d['verdict']}" in text for d in found["directions"])
        assert all(f"| {row} |" in text for row in found["rows"])
        assert "3 held-out photos in 2 styles against 4 held-out style images at 32 px" in text
    record = result(bare, "table1")["record"]
    assert record["training_seeds"] == [0]
    assert record["pictures"]["held-out"]["images"] == 3


def test_sheets_show_nothing_from_outside(bare: Path, folder: Path) -> None:
    """Every cell of a sheet differs from every photo and style image, enlarged as cells are."""
    outside = [
        np.asarray(picture).repeat(4, 0).repeat(4, 1)
        for name in ("styles", "reference", "photos", "held")
        for picture in to_uint8(_images(folder, name).batch(range(len(_images(folder, name)))))
    ]
    for name in _NAMES:
        sheet = np.asarray(Image.open(bare / f"{name}.png")).astype(np.int16)
        shown = len(result(bare, name)["rows"]) - (2 if name == "table1" else 0)  # no photo, no colour transfer
        assert sheet.shape[1] == 4 + shown * 132
        cells = [
            sheet[y : y + 128, x : x + 128]
            for y in range(18, sheet.shape[0] - 128, 132)
            for x in range(4, sheet.shape[1] - 127, 132)
        ]
        assert len(cells) >= 2 * shown
        assert all(np.abs(cell - picture).mean() > 5 for cell in cells for picture in outside)


def test_second_run_does_nothing_again(bare: Path, folder: Path) -> None:
    """Every unit is skipped; one that is missing is made anew, and no other."""
    before, table = stamps(bare), result(bare, "table1")
    lost = bare / "units" / "figures-modify-online-s0.json"
    lost.unlink()
    again = run(folder, "table1", "bare")
    assert again.code == 0, again.err
    assert "style-provider: training" not in again.err
    after = stamps(bare)
    assert {path for path in after if after[path] != before[path]} == {str(lost)}
    assert result(bare, "table1")["training_seconds"] == table["training_seconds"]
    assert result(bare, "table1")["directions"] == table["directions"]


def test_more_seeds_may_be_added(bare: Path, folder: Path) -> None:
    before = stamps(bare)
    done = run(folder, "swap", "bare", "--seeds", "2")
    assert done.code == 0, done.err
    assert {path: stamp for path, stamp in stamps(bare).items() if path in before} == before
    found = result(bare, "swap")
    values = [each["gap"] for each in found["seeds"]["with L_swap"]]
    assert len(values) == 2
    pooled = found["rows"]["with L_swap"]["gap"]
    assert pooled["value"] == pytest.approx((values[0][0] + values[1][0]) / 2)
    assert (pooled["low"], pooled["high"]) == (min(v[1] for v in values), max(v[2] for v in values))


@pytest.mark.slow
def test_figures_of_all_rows(measured: Path) -> None:
    found = result(measured, "table1")
    for row in list(found["rows"])[1:]:
        for key in ("kid", "fid", "lpips_diversity", "identity_cosine", "identity_auc"):
            figure = found["rows"][row][key]
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert {d["verdict"] for d in found["directions"]} <= {"holds", "within intervals", "does not hold"}
    assert {"inception", "lpips", "face"} == set(found["record"]["measured_with"])


@pytest.mark.slow
def test_what_two_experiments_want_is_measured_once(measured: Path) -> None:
    modes, table, xi = (result(measured, name)["rows"] for name in ("modes", "table1", "xi"))
    assert modes["MODIFY online"]["kid"] == table["MODIFY online"]["kid"]
    assert xi["trained xi 4"]["kid"] == table["MODIFY offline"]["kid"]
    assert xi["run-time xi' 4"] == xi["trained xi 4"]


@pytest.mark.slow
def test_no_style_rows_no_diversity(measured: Path) -> None:
    """M-25: with xi' = 0 all styles are the same picture, D(E'(x))."""
    rows, modes = result(measured, "xi")["rows"], result(measured, "modes")["rows"]
    assert rows["run-time xi' 0"]["lpips_diversity"]["value"] == pytest.approx(0, abs=1e-6)
    assert rows["run-time xi' 2"]["lpips_diversity"]["value"] > 0
    bare = modes["MODIFY offline"]["plain_identity_cosine"]["value"]
    assert rows["run-time xi' 0"]["identity_cosine"]["value"] == pytest.approx(bare, abs=1e-5)
    assert modes["no stage 2"]["to_photo"]["value"] > 0


def test_other_settings_are_refused(folder: Path, bare: Path) -> None:
    refused = run(folder, "swap", "bare", "--styles", "3", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "E_CONFIG")
    assert "other settings" in refused.json["error"]["what"]
    assert "styles" in refused.json["error"]["why"]


@pytest.mark.parametrize(
    ("changes", "code", "what"),
    [
        ({"reference": "styles"}, 3, "trained on too"),
        ({"held-out": "photos"}, 3, "trained on too"),
    ],
)
def test_pictures_on_both_sides_are_refused(folder: Path, changes: Mapping[str, str], code: int, what: str) -> None:
    refused = run(folder, "table1", "never", "--json", **changes)
    assert refused.code != 0
    assert refused.json["error"]["code"] == "E_DATA"
    assert what in refused.json["error"]["what"]
    assert not (folder / "never").exists()


def test_words_that_make_no_sense_are_refused(folder: Path) -> None:
    assert "table1, swap, xi, modes" in run(folder, "fig9", "never").err
    mixed = run(folder, "swap", "never", "--adapt-budget", "1m", "--json")
    assert mixed.json["error"]["code"] == "E_CONFIG"
    assert not (folder / "never").exists()


def test_the_commands_of_the_method_are_understood(folder: Path) -> None:
    """M-47 writes ``evaluate --reproduce NAME``."""
    words = [word for name in ("dataset", "reference", "photos", "held-out") for word in (f"--{name}", "held")]
    same = provider("evaluate", "--reproduce", "modes", *words, "--out", "never", *TINY, *QUICK, "--json", cwd=folder)
    assert same.json["command"] == "reproduce"
    assert same.json["error"]["code"] == "E_DATA"  # one set on both sides: it was read
    assert provider("evaluate", *words, "--reproduce", "fig9", "--out", "never", cwd=folder).code == 2
    assert not (folder / "never").exists()


def test_dry_run_touches_nothing(folder: Path) -> None:
    planned = run(folder, "modes", "never", "--dry-run")
    assert planned.code == 0, planned.err
    assert "3 held-out photos in 2 styles against 4 held-out style images at 32 px" in planned.out
    assert not (folder / "never").exists()


# In the library ---------------------------------------------------------------------


class _Quiet(Console):
    """Says nothing, and asks for a stop at a given event."""

    def __init__(self, stop_in: str = "") -> None:
        super().__init__("test", "reproduce", Verbosity(quiet=True))
        self._stop_in = stop_in

    def emit(self, event: TrainingEvent) -> None:
        if event.kind == "tick" and event.phase == self._stop_in:
            os.kill(os.getpid(), signal.SIGTERM)


def _images(folder: Path, name: str) -> ImageSet:
    return load_images(folder / name, resolution=32)


def _task(folder: Path, out: Path, console: Console, budget: str = "20steps") -> Reproduction:
    changes = [word for word in _SETTINGS if word != "--set"]
    nowhere = Path("/nowhere")
    return Reproduction(
        material=Material(
            styles=_images(folder, "styles"), reference=_images(folder, "reference"),
            photos=_images(folder, "photos"), held_out=_images(folder, "held"),
        ),
        preset=override(preset("quick-64"), changes).for_start(given=False), origin=Origin(),
        budget=Budget.parse(budget), adapt_budget=Budget.parse("2steps"), seeds=(0,), styles=(0, 1),
        runtime=_RUNTIME, folder=out, nets=PerceptualNets.find(nowhere), instruments=Instruments.find(nowhere),
        console=console,
    )  # fmt: skip


@pytest.fixture(scope="module")
def uncut(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uncut")
    reproduce(["swap"], _task(folder, out, _Quiet()))
    return out


@pytest.mark.parametrize("part", ["adversarial", "remap"])
def test_a_stopped_comparison_goes_on_to_the_same_bits(tmp_path: Path, folder: Path, uncut: Path, part: str) -> None:
    """M-52, in phase A and in phase B of an arm: 20 steps, a report at every tenth."""
    names: list[Experiment] = ["swap"]
    with pytest.raises(InterruptedRunError):
        reproduce(names, _task(folder, tmp_path, _Quiet(part)))
    reproduce(names, _task(folder, tmp_path, _Quiet()))
    for arm in ("on", "off"):
        whole, parts = (home / "units" / f"swap-{arm}-s0.made.safetensors" for home in (uncut, tmp_path))
        assert whole.read_bytes() == parts.read_bytes()


def test_arm_with_swap_is_stage_1_itself(tmp_path: Path, folder: Path) -> None:
    """Cutting the run at the switch changes nothing: M is that of an uncut run with the same seed."""
    task = _task(folder, tmp_path / "swap", _Quiet(), budget="14steps")
    with Units.open(task.folder, task.settings(), task.console, fresh=False) as units:
        made = Swap(task, units).result("with L_swap", 0)
    whole = encapsulate(
        task.material.styles, preset=task.preset, budget=task.budget, seed=0, runtime=_RUNTIME, nets=task.nets,
        folder=tmp_path / "whole", emit=lambda _: None,
    )  # fmt: skip
    codes = torch.cat([whole.model.encode(task.material.styles.batch([i])) for i in range(6)])
    assert torch.equal(codes[:, whole.model.split :].flatten(1), made["style"])
    z = torch.randn(DRAWS, task.preset.network.z_dim, generator=generator(0, "z-gap"))
    assert torch.equal(whole.model.remap(z).flatten(1), made["drawn"])


def test_damaged_unit_is_named(tmp_path: Path, folder: Path) -> None:
    task = _task(folder, tmp_path, _Quiet())
    with Units.open(tmp_path, task.settings(), task.console, fresh=False) as units:
        units.path("figures-raw.json").write_text("{")
        with pytest.raises(DataError, match=r"cannot read .*figures-raw.json"):
            units.values("figures-raw", dict)
        assert units.values("other", lambda: {"a": 1}) == {"a": 1}
        assert units.values("other", lambda: {"a": 2}) == {"a": 1}
    with Units.open(tmp_path, task.settings(), task.console, fresh=True) as units:
        assert units.values("other", lambda: {"a": 2}) == {"a": 2}


def test_one_process_holds_a_folder(tmp_path: Path, folder: Path) -> None:
    task = _task(folder, tmp_path, _Quiet())
    with (
        Units.open(tmp_path, task.settings(), task.console, fresh=False),
        pytest.raises(ConfigError, match="another process"),
        Units.open(tmp_path, task.settings(), task.console, fresh=False),
    ):
        pass
