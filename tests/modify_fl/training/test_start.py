"""Stage 1 from a base: weights of step 0, FreezeD, exact resume, the record (M-23, M-52, ADR 6)."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from basekit import tiny_base

from modify_fl.artifacts import Encapsulated
from modify_fl.base.start import Start, load_base
from modify_fl.config import PRESETS, Budget, EncapsulationConfig, Preset
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.encapsulation import Encapsulation, encapsulate
from modify_fl.training.runtime import resolve
from modify_fl.training.schedule import Schedule
from tests.modify_fl.training.conftest import NETWORK, RUNTIME, equal_states


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return load_base(tiny_base(tmp_path / "base", NETWORK), NETWORK)


@pytest.fixture
def from_base(tiny: Callable[..., Preset]) -> Preset:
    """Tiny networks with both recipes."""
    preset = tiny()
    recipe = replace(
        preset.encapsulation, parts=(0.0, 0.1, 0.6, 0.3), discriminator_start=0.0, identity_start=0.0, freeze_d=2,
        learning_rate=1e-3,
    )  # fmt: skip
    return replace(preset, from_base=recipe)


def _run(
    folder: Path, images: ImageSet, preset: Preset, nets: PerceptualNets, start: Start | None, *,
    emit: Callable[[TrainingEvent], None] = lambda _: None, budget: str = "20steps",
) -> Encapsulated:  # fmt: skip
    return encapsulate(
        images, preset=preset, budget=Budget.parse(budget), seed=5, runtime=RUNTIME, nets=nets, folder=folder,
        emit=emit, start=start,
    )  # fmt: skip


def _trainer(images: ImageSet, preset: Preset, nets: PerceptualNets, start: Start | None) -> Encapsulation:
    preset = preset.for_start(given=start is not None)
    schedule = Schedule.plan(preset.encapsulation, 20 * preset.encapsulation.batch)
    return Encapsulation(
        images, preset=preset, schedule=schedule, seed=5, compute=resolve(RUNTIME), nets=nets, start=start
    )


def test_networks_begin_with_the_weights_of_the_file(
    paintings: ImageSet, from_base: Preset, no_nets: PerceptualNets, start: Start
) -> None:
    """E, D, the offset, M, their average and Dis are those of the file at step 0; optimisers are fresh."""
    trainer = _trainer(paintings, from_base, no_nets, start)
    for part, state in start.states.items():
        networks = [trainer.model, trainer.average] if part != "discriminator" else [trainer]
        assert trainer.features is not None
        copies = [getattr(network, part) for network in networks]
        for network in [*copies, trainer.features] if part == "discriminator" else copies:
            now = network.state_dict()
            assert now.keys() == state.keys()
            assert all(torch.equal(now[name], value) for name, value in state.items())
    assert not any(optimizer.state for optimizer in trainer.optimizers.values())


def test_without_a_start_they_are_the_seeds(paintings: ImageSet, from_base: Preset, no_nets: PerceptualNets) -> None:
    trainer = _trainer(paintings, from_base, no_nets, None)
    assert equal_states(trainer.model, StyleModel.build(NETWORK, 5))
    assert equal_states(trainer.discriminator, build_discriminator(NETWORK, 5))
    assert trainer.config.freeze_d == 0


def test_frozen_blocks_stay_and_others_move(
    paintings: ImageSet, from_base: Preset, no_nets: PerceptualNets, start: Start
) -> None:
    """FreezeD: the layers next to the picture keep the base's weights in both phases."""
    trainer = _trainer(paintings, from_base, no_nets, start)
    before = start.states["discriminator"]
    for _ in range(18):  # phase B starts at step 14
        trainer.step()
    assert trainer.phase == "remap"
    moved = {name for name, value in trainer.discriminator.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith(("from_rgb.", "blocks.0.", "blocks.1."))}
    assert moved == before.keys() - frozen
    model = trainer.model.state_dict()
    still = [n for n, v in model.items() if torch.equal(v, start.states[n.partition(".")[0]][n.partition(".")[2]])]
    assert all(name.endswith(("gains", ".noise")) for name in still)


def test_interrupted_run_from_a_base_gives_the_same_bits(
    tmp_path: Path, paintings: ImageSet, from_base: Preset, no_nets: PerceptualNets, start: Start
) -> None:
    """M-52: 20 steps equal 10, SIGTERM, and 10 with another SIGTERM where phase B starts, at step 14."""
    straight = _run(tmp_path / "a", paintings, from_base, no_nets, start)

    def interrupt(event: TrainingEvent) -> None:
        if (event.kind, event.step) in {("tick", 10), ("phase", 14)}:
            os.kill(os.getpid(), signal.SIGTERM)

    for steps in (10, 14):
        with pytest.raises(InterruptedRunError, match=f"stopped after {steps} steps"):
            _run(tmp_path / "b", paintings, from_base, no_nets, start, emit=interrupt)
    resumed = _run(tmp_path / "b", paintings, from_base, no_nets, start)
    assert resumed.summary.steps == straight.summary.steps == 20
    assert equal_states(straight.model, resumed.model)
    assert equal_states(straight.discriminator, resumed.discriminator)
    assert resumed.summary.init == start.label


def test_another_start_is_refused_with_the_difference(
    tmp_path: Path, paintings: ImageSet, from_base: Preset, no_nets: PerceptualNets, start: Start
) -> None:
    _run(tmp_path / "run", paintings, from_base, no_nets, start, budget="2steps")
    record = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert record["settings"]["init"] == start.label
    assert record["settings"]["preset"]["encapsulation"]["freeze_d"] == 2
    other = replace(start, digest="ff" * 32)
    with pytest.raises(ConfigError, match="other settings") as caught:
        _run(tmp_path / "run", paintings, from_base, no_nets, other, budget="2steps")
    assert caught.value.why == f"init was {start.label}, now tiny sha256:ffffffffffff"
    with pytest.raises(ConfigError, match="other settings") as caught:
        _run(tmp_path / "run", paintings, from_base, no_nets, None, budget="2steps")
    assert f"init was {start.label}, now scratch" in caught.value.why


def test_recipe_for_a_base_changes_nothing_without_one(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], from_base: Preset, no_nets: PerceptualNets
) -> None:
    """From scratch, a preset with a second recipe gives the bits of one without it."""
    plain = _run(tmp_path / "a", paintings, tiny(), no_nets, None, budget="4steps")
    both = _run(tmp_path / "b", paintings, from_base, no_nets, None, budget="4steps")
    assert equal_states(plain.model, both.model)
    assert equal_states(plain.discriminator, both.discriminator)
    assert both.summary.init == "scratch"


def test_nothing_that_was_not_trained_is_frozen(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    with pytest.raises(ConfigError, match="2 blocks of Dis are to stay frozen"):
        _run(tmp_path, paintings, tiny(freeze_d=2), no_nets, None)
    with pytest.raises(ConfigError, match="freeze_d must be at most 3 at 32 pixels, got 4"):
        tiny(freeze_d=4)
    with pytest.raises(ConfigError, match="freeze_d must lie between 0 and 3 at 32 px, got 4"):
        build_discriminator(NETWORK, 0).freeze(4)
    with pytest.raises(ConfigError, match="freeze_d must not be negative"):
        EncapsulationConfig(freeze_d=-1)


def test_recipes_of_the_presets() -> None:
    """ADR 7: shorter, gentler, no reconstruct-only part, more of phase B; the paper's preset has none."""
    assert PRESETS["paper-1024"].from_base is None
    assert PRESETS["paper-1024"].for_start(given=True) == PRESETS["paper-1024"]
    for name in ("quick-64", "quick-128", "good-128", "gpu-256"):
        scratch, base = PRESETS[name].encapsulation, PRESETS[name].from_base
        assert base is not None
        assert base.parts[0] == base.discriminator_start == base.identity_start == 0
        assert base.parts[3] > scratch.parts[3]
        assert base.learning_rate < scratch.learning_rate
        assert (base.batch, base.critic, base.mix) == (scratch.batch, scratch.critic, scratch.mix)
        assert Budget.parse(base.budget).amount < Budget.parse(scratch.budget).amount
        assert base.ema_half_life < scratch.ema_half_life
