"""Stage 2 (M-33 to M-40) on tiny networks and drawn photos."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import Adapted, LoadedStyle, Mode
from modify_fl.config import Budget, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, DataError, InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.style import Style, own_styles
from modify_fl.styles import seeded
from modify_fl.training.runtime import resolve
from modify_fl.training.stage2 import Stylization
from modify_fl.training.stylization import adapt, adapt_to_photo, photo_seed
from modify_fl.training.subsets import trainable_names
from tests.modify_fl.training.conftest import RUNTIME, equal_states

CONFIG = StylizationConfig(batch=2, steps=6, online_steps=6)


def _stage(
    style: LoadedStyle, photos: ImageSet, nets: PerceptualNets, mode: Mode = "offline", **changes: object
) -> Stylization:
    config = StylizationConfig(**({"batch": 2, "steps": 6, "learning_rate": 1e-3} | changes))  # type: ignore[arg-type]
    return Stylization(style, photos, mode=mode, config=config, total=12, seed=3, compute=resolve(RUNTIME), nets=nets)


def _adapt(
    folder: Path, style: LoadedStyle, photos: ImageSet, nets: PerceptualNets, *, mode: Mode = "offline",
    budget: str = "20steps", emit: Callable[[TrainingEvent], None] = lambda _: None,
) -> Adapted:  # fmt: skip
    return adapt(
        style, photos, mode=mode, config=CONFIG, budget=Budget.parse(budget), seed=3, runtime=RUNTIME, nets=nets,  # type: ignore[arg-type]
        folder=folder, emit=emit,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["offline", "online", "test-time"])
def test_only_the_encoder_moves(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, mode: Mode) -> None:
    """M-33: D, M, the offset and the frozen E have the same bits after training; E' has others."""
    before = {k: v.clone() for k, v in style.model.state_dict().items()}
    stage = _stage(style, photos, no_nets, mode)
    inner = {k: v.clone() for k, v in stage.model.state_dict().items()}
    for _ in range(6):
        stage.step()
    assert all(torch.equal(v, before[k]) for k, v in style.model.state_dict().items())
    assert all(torch.equal(v, inner[k]) for k, v in stage.model.state_dict().items())
    assert not equal_states(stage.encoder, style.model.encoder)


@pytest.mark.parametrize("subset", ["heads", "all"])
def test_only_the_subset_moves(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, subset: str) -> None:
    """M-38: what is not in the subset keeps its bits, and at step 0 E' is E."""
    stage = _stage(style, photos, no_nets, subset=subset)
    assert equal_states(stage.encoder, style.model.encoder)
    for _ in range(3):
        stage.step()
    old = style.model.encoder.state_dict()
    moved = {name for name, value in stage.encoder.state_dict().items() if not torch.equal(value, old[name])}
    assert moved <= set(stage.trained)
    assert any(name.startswith("heads.") for name in moved)
    assert any(name.startswith("blocks.") for name in moved) == (subset == "all")


def test_low_rank_updates_move_linear_weights_only(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """M-38: at step 0 the adapter equals the bundle; after training its linear weights differ, and nothing else."""
    stage = _stage(style, photos, no_nets, subset="lora")
    old = style.model.encoder.state_dict()
    assert all(torch.equal(value, old[name]) for name, value in stage.result(0.0).tensors.items())
    stage.step()
    moved = {name for name, value in stage.result(0.0).tensors.items() if not torch.equal(value, old[name])}
    assert moved == {name for name in old if name.startswith(("heads.", "trunks.")) and name.endswith(".weight")}
    assert stage.result(0.0).subset == "lora"


def test_adversary_is_zero_at_step_zero(wgan_style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    """M-12: under WGAN, E' = E makes L_adv^x exactly 0."""
    stage = _stage(wgan_style, photos, no_nets)
    batch = photos.batch([0, 1])
    critic = stage.adversary
    assert critic is not None
    assert critic.config.adversary == "wgan-lp"
    with torch.no_grad():
        loss = critic.discriminator(stage.pseudo_real(batch)).mean() - critic.discriminator(stage.stylize(batch)).mean()
    assert loss.item() == 0.0


def test_pseudo_real_constant_during_training(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    """Row 7 of the table: the real samples come from the frozen E, whatever E' has become (M-36)."""
    stage = _stage(style, photos, no_nets, subset="all", learning_rate=1e-2)
    batch = photos.batch([0, 1])
    before, painted = stage.pseudo_real(batch), stage.stylize(batch)
    for _ in range(4):
        stage.step()
    assert torch.equal(stage.pseudo_real(batch), before)
    assert not torch.equal(stage.stylize(batch), painted)


@pytest.mark.parametrize("source", ["m", "mix"])
def test_pseudo_real_from_m(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, source: str) -> None:
    """M-36: ``m`` uses M(z) for all, ``mix`` for the second half."""
    plain = _stage(style, photos, no_nets).pseudo_real(photos.batch([0, 1]))
    drawn = _stage(style, photos, no_nets, pseudo_real=source).pseudo_real(photos.batch([0, 1]))
    assert torch.allclose(drawn[0], plain[0], atol=1e-6) == (source == "mix")
    assert not torch.allclose(drawn[1], plain[1], atol=1e-6)


def test_test_time_changes_weights_and_lowers_loss(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """Row 8 of the table: exactly 50 steps with an optimiser that moves E' (M-34, M-35)."""
    result = adapt_to_photo(
        style, photos.batch([0]), config=StylizationConfig(), seed=1, compute=resolve(RUNTIME), nets=no_nets
    )
    assert result.adapted.summary.steps == 50
    assert result.last_loss < result.first_loss
    assert not equal_states(result.encoder, style.model.encoder)


def test_test_time_does_not_depend_on_other_photos(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """M-35: permuting a folder changes nothing; the seed follows from the pixels."""
    config = StylizationConfig(test_time_steps=3)
    results = {}
    for order in ([0, 1], [1, 0]):
        for index in order:
            out = adapt_to_photo(
                style, photos.batch([index]), config=config, seed=1, compute=resolve(RUNTIME), nets=no_nets
            )
            results.setdefault(index, []).append(out)
    for first, second in results.values():
        assert equal_states(first.encoder, second.encoder)
    assert photo_seed(1, photos.batch([0])) != photo_seed(1, photos.batch([1]))
    assert photo_seed(1, photos.batch([0])) != photo_seed(2, photos.batch([0]))


def test_online_takes_photos_in_order(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """M-34: one photo per step in the order of arrival; its picture is made after its step."""
    seen: list[int] = []
    adapt(
        style, photos, mode="online", config=CONFIG, budget=Budget.parse("10steps"), seed=3, runtime=RUNTIME,
        nets=no_nets, folder=tmp_path, emit=lambda _: None, deliver=lambda index, picture: seen.append(index),
    )  # fmt: skip
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_interrupted_run_gives_the_same_bits(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, mode: Mode
) -> None:
    """M-52: 20 steps equal 10, SIGTERM, resume and 10."""
    straight = _adapt(tmp_path / "a", style, photos, no_nets, mode=mode)

    def interrupt(event: TrainingEvent) -> None:
        if event.kind == "tick" and event.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        _adapt(tmp_path / "b", style, photos, no_nets, mode=mode, emit=interrupt)
    resumed = _adapt(tmp_path / "b", style, photos, no_nets, mode=mode)
    assert resumed.summary.steps == 20
    assert straight.tensors.keys() == resumed.tensors.keys()
    assert all(torch.equal(v, resumed.tensors[k]) for k, v in straight.tensors.items())


def test_run_on_another_bundle_is_refused(
    tmp_path: Path, style: LoadedStyle, wgan_style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """U-35: a run folder belongs to one bundle."""
    _adapt(tmp_path, style, photos, no_nets, budget="2steps")
    with pytest.raises(ConfigError, match="other settings") as caught:
        _adapt(tmp_path, wgan_style, photos, no_nets, budget="2steps")
    assert "bundle was" in caught.value.why


def test_nothing_of_the_photos_is_left_in_the_result(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    """M-37, M-39: the result holds the trained subset and nothing else; no preview is written (P-38)."""
    result = _adapt(tmp_path, style, photos, no_nets, budget="2steps")
    assert set(result.tensors) == set(trainable_names(style.model.encoder, CONFIG.subset))
    assert not list(tmp_path.rglob("*.png"))


def test_photo_must_be_one_picture(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    """A batch is a mistake in test-time mode."""
    with pytest.raises(DataError, match="one picture"):
        adapt_to_photo(style, photos.batch([0, 1]), config=CONFIG, seed=1, compute=resolve(RUNTIME), nets=no_nets)


def test_luma_keeps_the_hue_free(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    """M-33: with ``luma`` a shift of hue costs nothing in L_r."""
    batch = photos.batch([0])
    shifted = batch + torch.tensor([0.2, -0.2, 0.0])[None, :, None, None]
    rgb, luma = (
        _stage(style, photos, no_nets, luma=flag, lambda_r=0.5).terms(batch, shifted)["r"].item()
        for flag in (False, True)
    )
    assert rgb > 0.01
    assert luma == pytest.approx(0.0, abs=1e-10)


def test_likeness_is_judged_as_it_will_be_shown(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    """Every second photo of the stream is decoded with M(z) before the identity term sees it (ADR 9)."""
    stage = _stage(style, photos, no_nets, batch=4, painted=0.5)
    own = stage.photos.batch([0, 1, 2, 3])
    with torch.no_grad():
        codes = stage.model.encode(own, encoder=stage.encoder)
        output = stage.model.decode(codes)
        judged = stage._in_style(codes, output, slice(0, 4))
    changed = [not torch.equal(a, b) for a, b in zip(output, judged, strict=True)]
    assert changed == [False, True, False, True]
    assert torch.equal(stage.model.encode(own)[:, : stage.split], codes[:, : stage.split])


def test_a_stream_of_single_photos_takes_turns(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    stage = _stage(style, photos, no_nets, "online", painted=0.25)
    turns = []
    for _ in range(8):
        with torch.no_grad():
            own = stage.photos.batch([0])
            codes = stage.model.encode(own, encoder=stage.encoder)
            output = stage.model.decode(codes)
            turns.append(not torch.equal(output, stage._in_style(codes, output, slice(0, 1))))
        stage.images_seen += 1
    assert turns == [False, False, False, True] * 2


def test_each_photo_is_painted_in_styles_of_its_own(style: LoadedStyle, photos: ImageSet) -> None:
    """M-44: no two photos of a measured set share a style; the pictures are those of ``paint``."""
    assert own_styles(0, (5, 6)) == (5, 6)
    assert own_styles(2, (5, 6)) == (9, 10)
    two, painter = photos.batch([0, 1]), Style(style)
    each = painter.paint_each(two, seeds=[own_styles(i, (0, 1, 2)) for i in (0, 1)])
    assert each.shape == (2, 3, *two.shape[1:])
    for index, row in enumerate(each):
        alone = painter.paint(two[index : index + 1], seeded(own_styles(index, (0, 1, 2))))[:, 0]
        assert torch.allclose(row, alone, atol=1e-5)
