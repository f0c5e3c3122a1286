"""The program that trains and exports base models (M-23, ADR 6)."""

import json
from pathlib import Path

import pytest
import torch
from basekit import tiny_base

from modify_fl.base.card import read_card
from modify_fl.base.start import load_base
from modify_fl.config import PRESETS
from modify_fl.faces.decode import save_png
from modify_fl.synthetic import draw_faces
from modify_fl.training import checkpoint
from tools import train_release

_CHANGES = tuple(
    word
    for change in (
        "w_dim=16", "z_dim=16", "channel_base=256", "channel_max=16", "enc_base=512", "enc_max=16", "pyramid=16",
        "trunk=16", "remap_width=16", "encapsulation.batch=4",
    )
    for word in ("--set", change)
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces in the layout of the real ones."""
    root = tmp_path_factory.mktemp("faces")
    for source in train_release.SOURCES:
        (root / source / "128").mkdir(parents=True)
        for index, face in enumerate(draw_faces("painting", 6, 64, 3)):
            save_png(face, root / source / "128" / f"face{index // 2}_{index % 2}.png")
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps with tiny networks."""
    folder = tmp_path_factory.mktemp("runs") / "tiny-64"
    code = train_release.main(
        ["train", str(data), "--out", str(folder), "--budget", "2steps", "--threads", "1", "--device", "cpu", *_CHANGES]
    )
    assert code == 0
    return folder


@pytest.mark.parametrize(
    ("path", "who"),
    [
        ("london/128/001_neutral.jpg", "001_"),
        ("london/128/001_smiling.jpg", "001_"),
        ("paintings/met_192770_1.jpg", "met_192770"),
        ("paintings/met_192770.jpg", "met_192770"),
        ("congress/jane_doefull_2.jpg", "jane_doe"),
    ],
)
def test_pictures_of_one_person_have_one_name(path: str, who: str) -> None:
    assert train_release.person(path) == who


def test_split_is_stable_and_by_person() -> None:
    """SHA-256 of the name decides, whatever the folder, the file type and the number of the picture."""
    names = [f"person{i}" for i in range(1000)]
    kept = {name for name in names if train_release.held_out(f"{name}.jpg", 0.2)}
    assert 150 < len(kept) < 250  # 200 expected, standard deviation 13
    for name in names:
        for variant in (f"{name}_1.jpg", f"other/folder/{name}.png"):
            assert train_release.held_out(variant, 0.2) == (name in kept)
    assert kept <= {name for name in names if train_release.held_out(name, 0.5)}  # a larger share only adds
    assert not any(train_release.held_out(name, 0) for name in names)
    # SHA-256 of person0 begins with bf, of person1 with 24; 0.2 of 256 is 33 in hexadecimal.
    assert not train_release.held_out("person0", 0.2)
    assert train_release.held_out("person1", 0.2)


def test_held_out_pictures_are_never_trained_on(data: Path, run: Path) -> None:
    images, kept = train_release.base_images(data, 64)
    assert len(images) + len(kept) == 30
    assert not set(images.names) & set(kept)
    assert (run / "held-out.txt").read_text(encoding="utf-8").split() == kept
    people = [{(Path(n).parent, train_release.person(n)) for n in names} for names in (images.names, kept)]
    assert not people[0] & people[1]


def test_split_writes_the_same_parts_as_folders(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every picture lies in one of the two, byte for byte, and held out is what training holds out."""
    out = tmp_path / "faces"
    assert train_release.main(["split", str(data), "--out", str(out)]) == 0
    images, kept = train_release.base_images(data, 64)
    found = {
        part: {path.relative_to(out / part).as_posix() for path in (out / part).rglob("*.png")}
        for part in ("train", "held-out")
    }
    assert found == {"train": set(images.names), "held-out": set(kept)}
    for part, names in found.items():
        for name in names:
            assert (out / part / name).read_bytes() == (data / name).read_bytes()
    assert "style/paintings: " in capsys.readouterr().err
    assert train_release.main(["split", str(data), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_split_copies_where_links_fail(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    counts = train_release.split(data, tmp_path)
    assert sum(sum(pair) for pair in counts.values()) == 30 == len(list(tmp_path.rglob("*.png")))


def test_export_writes_the_averaged_weights(data: Path, run: Path, tmp_path: Path) -> None:
    assert train_release.main(["export", str(run), str(data), "--out", str(tmp_path)]) == 0
    card = read_card(tmp_path / "tiny-64.json")
    assert (card.name, card.steps, card.images_seen, card.finished) == ("tiny-64", 2, 8, 1.0)
    assert (card.identity, card.init, card.remapped) == ("none", "scratch", True)
    assert sum(source.held_out for source in card.sources) == len((run / "held-out.txt").read_text().split())
    saved = checkpoint.load(run)
    assert saved is not None
    for part, state in load_base(card, card.network).states.items():
        for name, value in state.items():
            group = (
                saved.tensors["discriminator"][name]
                if part == "discriminator"
                else (saved.tensors["average"][f"{part}.{name}"])
            )
            assert torch.allclose(value, group, rtol=5e-4, atol=1e-7)  # float16


def test_unfinished_run_is_exported_and_says_so(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "half"
    shutil.copytree(run, copy)
    state = next(copy.glob("checkpoints/*/state.json"))
    values = json.loads(state.read_text())
    values["schedule"] |= {"remap_start": 12, "total": 16}
    state.write_text(json.dumps(values))
    assert train_release.main(["export", str(copy), str(data), "--out", str(tmp_path / "out")]) == 0
    assert "50% of the planned run" in capsys.readouterr().err
    card = read_card(tmp_path / "out" / "half.json")
    assert (card.finished, card.remapped) == (0.5, False)
    assert "**unfinished**: 50%" in (tmp_path / "out" / "half.md").read_text(encoding="utf-8")


def test_export_needs_a_run_with_a_checkpoint(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_release.main(["export", str(tmp_path / "none"), str(data), "--out", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_bytes((run / "config.json").read_bytes())
    assert train_release.main(["export", str(tmp_path / "new"), str(data), "--out", str(tmp_path)]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_training_goes_on_from_an_export(data: Path, run: Path, tmp_path: Path) -> None:
    """The new run begins with the exported weights, and its own export names them."""
    base = train_release.export(run, data, tmp_path / "base")
    words = [
        "train", str(data), "--out", str(tmp_path / "more"), "--budget", "2steps", "--threads", "1", "--device", "cpu",
        "--from", str(base.weights_file), *_CHANGES, "--set", "encapsulation.learning_rate=0",
        "--set", "ema_half_life=0",
    ]  # fmt: skip
    assert train_release.main(words) == 0
    again = train_release.export(tmp_path / "more", data, tmp_path / "again", name="second")
    assert (again.init, again.identity) == (base.label, "laplacian")
    old, new = load_base(base, base.network).states, load_base(again, base.network).states
    # The rate of E, D and Dis is 0, so they are still the exported ones.
    for part in ("encoder", "generator", "offset", "discriminator"):
        assert all(torch.equal(new[part][name], value) for name, value in old[part].items()), part


def test_from_needs_a_base_that_fits(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny_base(tmp_path)
    words = ["train", str(data), "--out", str(tmp_path / "run"), "--from", str(base.weights_file)]
    assert train_release.main(words) == 2
    assert "tiny does not fit these networks" in capsys.readouterr().err


def test_recipes_differ_where_they_must() -> None:
    scratch = PRESETS["quick-64"].encapsulation
    base, more = train_release.base_recipe(scratch), train_release.continued_recipe(scratch)
    assert base.lambda_id == 0.0 < scratch.lambda_id <= more.lambda_id
    assert base.mix_spread == more.mix_spread > scratch.mix_spread == 0  # a base serves any xi
    assert (more.identity_start, more.discriminator_start, more.parts[0], more.freeze_d) == (0, 0, 0, 0)
    assert more.learning_rate < scratch.learning_rate
