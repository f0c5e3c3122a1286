"""Training with privacy: charged before it runs, told nothing, resumed with fresh draws (P-19, P-27, P-28, P-41)."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import Adapted, LoadedStyle
from modify_fl.config import StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, DataError, InterruptedRunError, PrivacyBudgetError
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.settings import DpSettings
from modify_fl.training import private
from modify_fl.training.private import PrivateStylization, PrivateTask, adapt_private
from modify_fl.training.runtime import resolve
from modify_fl.training.subsets import trainable_names
from modify_fl.training.views import PhotoUnits
from tests.modify_fl.training.conftest import RUNTIME

SETTINGS = DpSettings(n_public=20, batch=5, steps=4, noise_multiplier=1.0, max_grad_norm=0.1, delta=1e-3)
EACH = [[index] for index in range(8)]


def task(style: LoadedStyle, **changes: object) -> PrivateTask:
    given = {
        "style": style, "settings": SETTINGS, "recipe": PrivateConfig(learning_rate=1e-3),
        "config": StylizationConfig(subset="lora"), "seed": 1,
    }  # fmt: skip
    return PrivateTask(**(given | changes))  # type: ignore[arg-type]


def run(
    folder: Path, made: PrivateTask, photos: ImageSet, nets: PerceptualNets, *,
    charge: Callable[[int], object] = lambda steps: None, emit: Callable[[TrainingEvent], None] = lambda event: None,
    fresh: bool = False, groups: list[list[int]] = EACH,
) -> Adapted:  # fmt: skip
    return adapt_private(
        made, photos, groups, runtime=RUNTIME, nets=nets, folder=folder, emit=emit, charge=charge, fresh=fresh
    )


@pytest.mark.parametrize("part", [("heads", "micro"), ("lora", "opacus"), ("all", "micro")], ids="-".join)
def test_every_step_is_charged_before_it_runs(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, part: tuple[str, str]
) -> None:
    subset, engine = part
    paid: list[int] = []
    made = task(
        style, config=StylizationConfig(subset=subset), settings=replace(SETTINGS, engine=engine),  # type: ignore[arg-type]
    )  # fmt: skip
    result = run(tmp_path, made, photos, no_nets, charge=paid.append)
    assert paid == [1, 1, 1, 1]
    assert set(result.tensors) == set(trainable_names(style.model.encoder, made.config.subset))
    old = style.model.encoder.state_dict()
    assert any(not torch.equal(value, old[name]) for name, value in result.tensors.items())
    assert (result.summary.steps, result.summary.images_seen) == (4, 20)  # steps times B0, whatever was drawn


def test_two_runs_with_one_seed_differ(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    one, two = (run(tmp_path / name, task(style), photos, no_nets).tensors for name in "ab")
    assert not any(torch.equal(one[name], two[name]) for name in one if name.startswith("heads."))


def test_no_private_figure_is_told_or_stored(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    told: list[TrainingEvent] = []
    made = task(style, settings=replace(SETTINGS, steps=12))
    run(tmp_path, made, photos, no_nets, emit=told.append)
    assert {event.kind for event in told} >= {"start", "tick", "done", "phase"}
    assert all(not event.values for event in told)
    assert {event.images_seen % SETTINGS.batch for event in told} == {0}
    stored = {path.name for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert stored == {"current", "state.json", "trained.safetensors", "average.safetensors", "optimizer.safetensors"}
    state = json.loads(next((tmp_path / "checkpoints").glob("*/state.json")).read_text())
    assert set(state) == {"step", "images_seen", "seconds", "processes"}  # no generator, no count (P-19)


def test_a_run_that_stopped_goes_on_and_charges_the_rest(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    paid: list[int] = []

    def charge(steps: int) -> None:
        paid.append(steps)
        if len(paid) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="stopped after 2 steps"):
        run(tmp_path, task(style), photos, no_nets, charge=charge)
    result = run(tmp_path, task(style), photos, no_nets, charge=charge)
    assert result.summary.steps == 4
    assert len(paid) == 4  # every step is saved: none is lost, none is charged twice


def test_a_step_that_was_charged_and_lost_stays_charged_and_is_drawn_anew(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []
    calls = 0
    original = PrivateStylization._descend

    def crash(self: PrivateStylization, update: torch.Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt  # the process dies between the charge and the checkpoint
        original(self, update)

    monkeypatch.setattr(PrivateStylization, "_descend", crash)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, task(style), photos, no_nets, charge=paid.append)
    result = run(tmp_path, task(style), photos, no_nets, charge=paid.append)
    assert result.summary.steps == 4
    assert len(paid) == 5


def test_a_budget_that_is_gone_ends_the_run_with_what_was_charged(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    told: list[TrainingEvent] = []
    paid: list[int] = []

    def charge(steps: int) -> None:
        if len(paid) == 3:
            raise PrivacyBudgetError("nothing is left")
        paid.append(steps)

    result = run(tmp_path, task(style), photos, no_nets, charge=charge, emit=told.append)
    assert result.summary.steps == 3
    assert [e.message for e in told if e.kind == "warning" and "ended" in e.message] == [
        "ended after 3 of 4 steps: nothing is left"
    ]


def test_a_budget_for_nothing_is_an_error_and_leaves_no_result(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    def refuse(steps: int) -> None:
        raise PrivacyBudgetError("nothing is left")

    with pytest.raises(PrivacyBudgetError, match="nothing is left"):
        run(tmp_path, task(style), photos, no_nets, charge=refuse)


def test_a_failed_preflight_charges_nothing(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []

    def fail(*_: object, **__: object) -> None:
        raise PrivacyBudgetError("photos can change each other's gradients", code="E_PREFLIGHT")

    monkeypatch.setattr(private, "preflight", fail)
    with pytest.raises(PrivacyBudgetError, match="change each other"):
        run(tmp_path, task(style), photos, no_nets, charge=paid.append)
    assert paid == []


def test_other_settings_do_not_go_on_with_a_run(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    run(tmp_path, task(style), photos, no_nets)
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, task(style, settings=replace(SETTINGS, noise_multiplier=0.5)), photos, no_nets)
    assert "noise_multiplier was 1.0, now 0.5" in caught.value.why


def test_it_starts_from_public_weights_and_releases_all_that_differs(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    old = style.model.encoder.state_dict()
    start = {"stem.weight": old["stem.weight"] + 0.5}
    result = run(tmp_path, task(style, start=start), photos, no_nets)
    assert torch.equal(result.tensors["stem.weight"], start["stem.weight"])
    assert {name for name in result.tensors if name.startswith("heads.")}


def test_next_to_no_noise_lowers_the_loss(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    # The direction is right: with sigma 1e-6 this is plain training on clipped gradients.
    settings = DpSettings(
        n_public=8, batch=8, steps=25, noise_multiplier=1e-6, max_grad_norm=1.0, delta=1e-3, sampling_rate=1.0
    )
    made = task(
        style,
        settings=settings,
        config=StylizationConfig(subset="all", painted=0.0),
        recipe=PrivateConfig(learning_rate=3e-3, ema=0.0),
    )
    compute = resolve(RUNTIME)
    stage = PrivateStylization(
        made, PhotoUnits(photos, EACH, seed=1, augmentations=1, per_person=4), compute=compute, nets=no_nets,
        charge=lambda steps: None,
    )  # fmt: skip
    batch = photos.batch(list(range(8)))

    def loss() -> float:
        with torch.no_grad():
            return float(stage.loss(batch, stage.engine.codes(batch), 0).mean())

    before = loss()
    for _ in range(25):
        stage.step()
    assert loss() < 0.9 * before


def test_views_and_persons_train_too(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    made = task(style, settings=replace(SETTINGS, unit="person", augmentations=2, per_person=2, steps=1))
    result = run(tmp_path, made, photos, no_nets, groups=[[0, 1, 2], [3], [4, 5, 6, 7]])
    assert result.summary.steps == 1


@pytest.mark.parametrize(("recipe", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_both_optimisers_are_there(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, recipe: str, kind: type[torch.optim.Optimizer]
) -> None:
    made = task(style, recipe=PrivateConfig(optimizer=recipe, critic="none"))  # type: ignore[arg-type]
    stage = PrivateStylization(
        made, PhotoUnits(photos, EACH, seed=1, augmentations=1, per_person=4), compute=resolve(RUNTIME), nets=no_nets,
        charge=lambda steps: None,
    )  # fmt: skip
    assert isinstance(stage.optimizer, kind)
    assert made.loss_config().lambda_adv_x == 0.0
    stage.step()
    assert stage.step_count == 1


def test_no_photos_are_an_error(tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    with pytest.raises(DataError, match="no photo"):
        run(tmp_path, task(style), photos, no_nets, groups=[])


def test_several_processes_are_refused(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        run(tmp_path, task(style), photos, no_nets)
