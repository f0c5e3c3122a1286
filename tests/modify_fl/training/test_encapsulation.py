"""Stage 1 (M-27 to M-31, M-40, M-52) on tiny networks and drawn faces."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import Encapsulated
from modify_fl.config import Budget, Preset
from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.errors import ConfigError, InterruptedRunError
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training import early_end
from modify_fl.training.encapsulation import Encapsulation, encapsulate
from modify_fl.training.runtime import resolve
from modify_fl.training.schedule import Schedule
from tests.modify_fl.training.conftest import RUNTIME, equal_states


def _run(
    folder: Path, images: ImageSet, preset: Preset, nets: PerceptualNets, *,
    budget: str = "20steps", emit: Callable[[TrainingEvent], None] = lambda _: None, fresh: bool = False, seed: int = 5,
) -> Encapsulated:  # fmt: skip
    return encapsulate(
        images, preset=preset, budget=Budget.parse(budget), seed=seed, runtime=RUNTIME, nets=nets, folder=folder,
        emit=emit, fresh=fresh,
    )  # fmt: skip


def _trainer(images: ImageSet, preset: Preset, nets: PerceptualNets, steps: int = 20) -> Encapsulation:
    schedule = Schedule.plan(preset.encapsulation, steps * preset.encapsulation.batch)
    return Encapsulation(images, preset=preset, schedule=schedule, seed=5, compute=resolve(RUNTIME), nets=nets)


@pytest.mark.parametrize("stop_after", [10, 18])
def test_interrupted_run_gives_the_same_bits(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, stop_after: int
) -> None:
    """M-52: 20 steps equal some, SIGTERM, resume and the rest; phase B starts at step 17."""
    straight = _run(tmp_path / "a", paintings, tiny(), no_nets)

    def interrupt(event: TrainingEvent) -> None:
        if (event.kind == "phase" and stop_after > 16) or (event.kind == "tick" and event.step == stop_after):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="stopped after"):
        _run(tmp_path / "b", paintings, tiny(), no_nets, emit=interrupt)
    resumed = _run(tmp_path / "b", paintings, tiny(), no_nets)
    assert resumed.summary.steps == straight.summary.steps == 20
    assert equal_states(straight.model, resumed.model)
    assert equal_states(straight.discriminator, resumed.discriminator)


def test_same_call_after_the_end_returns_at_once(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """U-35: a finished run is not trained again."""
    first = _run(tmp_path, paintings, tiny(), no_nets, budget="4steps")
    events: list[TrainingEvent] = []
    again = _run(tmp_path, paintings, tiny(), no_nets, budget="4steps", emit=events.append)
    assert [e.kind for e in events if e.kind == "tick"] == []
    assert equal_states(first.model, again.model)


def test_other_settings_are_refused_with_a_list(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """U-35: the differences are named; --fresh starts anew."""
    _run(tmp_path, paintings, tiny(), no_nets, budget="4steps")
    with pytest.raises(ConfigError, match="other settings") as caught:
        _run(tmp_path, paintings, tiny(lambda_r=0.7), no_nets, budget="4steps", seed=6)
    assert "seed was 5, now 6" in caught.value.why
    assert "preset.encapsulation.lambda_r was 0.8, now 0.7" in caught.value.why
    assert _run(tmp_path, paintings, tiny(), no_nets, budget="2steps", fresh=True).summary.steps == 2


def test_phase_a_leaves_m_alone(paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets) -> None:
    """M-27: M gets no gradient in phase A, E and D move."""
    trainer = _trainer(paintings, tiny(), no_nets)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for _ in range(3):
        trainer.step()
    after = trainer.model.state_dict()
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"encoder", "generator", "offset"}


def test_phase_b_freezes_all_but_m(paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets) -> None:
    """M-27, M-28: averaged E and D enter phase B and stay as they are; M moves."""
    trainer = _trainer(paintings, tiny(), no_nets)
    while trainer.phase != "remap":
        trainer.step()
    average = {k: v.clone() for k, v in trainer.average.state_dict().items()}
    trainer.step()
    first = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for name, value in first.items():
        if not name.startswith("remapping."):
            assert torch.equal(value, average[name]), name
    trainer.step()
    moved = {n.partition(".")[0] for n, v in trainer.model.state_dict().items() if not torch.equal(v, first[n])}
    assert moved == {"remapping"}


def test_m_starts_with_the_moments_of_the_style_set(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-28, ADR 5, ADR 11: over z, M has the mean and the widened spread of the style codes of phase A."""
    trainer = _trainer(paintings, tiny(), no_nets)
    while trainer.phase != "remap":
        trainer.step()
    trainer._enter_remap()
    codes = trainer._style_rows()
    spread = trainer.config.style_spread  # ADR 11
    assert torch.allclose(trainer.style_mean, codes.mean(0), atol=1e-6)
    assert torch.allclose(trainer.style_std, spread * codes.std(0), rtol=1e-3, atol=1e-6)
    z = torch.randn(4096, 16, generator=torch.Generator().manual_seed(1))
    rows = trainer.model.remap(z)
    # Eleven directions of twelve pictures and sixteen features: all fit; 4096 draws leave 3 % of noise.
    assert torch.allclose(rows.mean(0), trainer.style_mean, atol=0.1 * trainer.style_std.mean().item())
    assert rows.std(0).mean().item() == pytest.approx(trainer.style_std.mean().item(), rel=0.05)
    assert rows.std(0).norm().item() == pytest.approx(trainer.style_std.norm().item(), rel=0.05)


def test_swap_uses_restyled_image(paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets) -> None:
    """Row 1 of the table: the gradient reaches M through y_z, and y_r in its place gives another loss (M-9)."""
    trainer = _trainer(paintings, tiny(lambda_adv_z=0.0, lambda_mom=0.0), no_nets)
    model, split = trainer.model, trainer.preset.network.split
    pictures = paintings.batch([0, 1])
    codes = model.encode(pictures).detach()
    rows = model.remap(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
    restyled = model.decode(model.fuse(codes, rows))
    through_picture = model.encode(restyled)[:, split:].sum()
    (gradient,) = torch.autograd.grad(through_picture, model.remapping.last.weight, retain_graph=True)
    assert gradient.abs().sum().item() > 0
    from modify_fl import losses

    swapped = losses.swap(rows, model.encode(restyled)[:, split:])
    plain = losses.swap(rows, model.encode(model.decode(codes))[:, split:])
    assert not torch.allclose(swapped, plain)


def test_other_image_differs(paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets) -> None:
    """Row 9 of the table: the real pictures of a step are other pictures than its inputs (M-6)."""
    from modify_fl.data import other_indices, shuffled_indices

    trainer = _trainer(paintings, tiny(), no_nets)
    for step in range(20):
        own = shuffled_indices(len(paintings), trainer.seed, step * 4, 4)
        assert all(a != b for a, b in zip(own, other_indices(own, len(paintings), trainer.seed, step), strict=True))


def test_dis_loss_independent_of_lambda(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """Row 13 of the table: Dis trains with weight 1 whatever lambda_adv is (M-6)."""
    figures = []
    for weight in (0.1, 7.0):
        trainer = _trainer(paintings, tiny(lambda_adv_r=weight, parts=(0.0, 0.0, 0.75, 0.25)), no_nets)
        figures.append(trainer.step()["dis"])
    assert torch.equal(figures[0], figures[1])


def test_paper_recipe_runs_with_its_penalty_every_step(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, paper_recipe: dict[str, object]
) -> None:
    """M-7, M-31: wgan-lp, the adversary from step 0, no average."""
    trainer = _trainer(paintings, tiny(**paper_recipe), no_nets, steps=8)
    figures = [trainer.step() for _ in range(8)]
    assert all("penalty" in f for f in figures)
    assert "adv" in figures[0]
    assert "swap" in figures[-1]
    assert equal_states(trainer.average, trainer.model)


def test_seed_changes_the_result(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-40: equal seeds give equal bits, other seeds other bits."""
    first, same, other = (
        _run(tmp_path / str(i), paintings, tiny(), no_nets, budget="3steps", seed=s) for i, s in enumerate((1, 1, 2))
    )
    assert equal_states(first.model, same.model)
    assert not equal_states(first.model, other.model)


def test_learning_lowers_the_reconstruction_error(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """Sixty steps of phase A halve the error of the first ones."""
    trainer = _trainer(paintings, tiny(), no_nets, steps=100)
    errors = [float(trainer.step()["r"]) for _ in range(60)]
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_time_budget_becomes_images(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-30: a time is turned into whole steps before the first one and written to the record."""
    result = _run(tmp_path, paintings, tiny(), no_nets, budget="3s")
    record = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert f'"images": {result.summary.images_seen}' in record
    assert result.summary.images_seen % 4 == 0


def test_too_strong_a_discriminator_is_reported(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-54: the share of pictures told right is averaged over about 200 steps; above 98 % there is a warning."""
    trainer = _trainer(paintings, tiny(parts=(0.0, 0.0, 0.75, 0.25)), no_nets, steps=2)
    figures = trainer.step()
    assert 0 <= float(figures["dis_right"]) <= 1
    assert trainer.dis_right == pytest.approx(0.5 + (float(figures["dis_right"]) - 0.5) / 200)
    trainer.step()
    assert not any("Dis tells" in w for w in trainer.snapshot(tmp_path))
    trainer.dis_right = 0.99
    assert any("Dis tells 99% of the pictures right" in w for w in trainer.snapshot(tmp_path))


def test_samples_are_written(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """M-54: the last step writes a grid of pictures, reconstructions and four styles."""
    from PIL import Image

    _run(tmp_path, paintings, tiny(), no_nets, budget="4steps")
    with Image.open(tmp_path / "samples" / "00000016.png") as grid:
        assert grid.size == (8 * 32, 6 * 32)


def test_one_process_at_a_time(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """A second run in the same folder is refused while the first holds its lock."""
    from modify_fl.training.loop import run_lock

    with run_lock(tmp_path), pytest.raises(ConfigError, match="another process"):
        _run(tmp_path, paintings, tiny(), no_nets, budget="2steps")


def test_critics_see_half_of_the_batch_painted(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content rows of the picture before, style rows of its own (ADR 7); the first half is plain reconstruction."""
    trainer = _trainer(paintings, tiny(batch=4, mix=0.5, parts=(0.0, 0.0, 1.0, 0.0), discriminator_start=0.0), no_nets)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(trainer, "_train_critics", lambda _real, fake: seen.append(fake) or {})
    indices = shuffled_indices(len(paintings), trainer.seed, 0, 4)
    pictures = trainer._batch(indices, "flip")
    with torch.no_grad():
        codes, split = trainer.model.encode(pictures), trainer.preset.network.split
        plain = trainer.model.decode(codes)
        crossed = trainer.model.decode(torch.cat([codes.roll(1, 0)[:, :split], codes[:, split:]], 1))
    trainer.step()
    assert torch.allclose(seen[0][:2], plain[:2], atol=1e-5)
    assert torch.allclose(seen[0][2:], crossed[2:], atol=1e-5)
    assert not torch.allclose(seen[0][2:], plain[2:], atol=1e-3)


def test_people_of_the_start_are_painted_in_both_phases(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    """With drawn people, guests are some of them; without, they are the pictures themselves (ADR 7)."""
    guests = _trainer(paintings, tiny(batch=4), no_nets).guests
    pictures = torch.rand(4, 3, 32, 32)
    assert torch.equal(guests.invite(pictures, 0), pictures.roll(1, 0))
    assert torch.equal(guests.mixed(pictures, 0), pictures)
    drawn = replace(guests, people=torch.full((3, 3, 32, 32), 255, dtype=torch.uint8))
    assert torch.equal(drawn.invite(pictures, 0), torch.ones(4, 3, 32, 32))
    assert torch.equal(drawn.mixed(pictures, 0), torch.cat([pictures[:2], torch.ones(2, 3, 32, 32)]))


def test_the_cut_moves_within_its_spread(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    guests = _trainer(paintings, tiny(batch=4), no_nets).guests
    split, rows = guests.network.split, guests.network.n_styles
    assert {guests.cut(step) for step in range(20)} == {split}
    assert {replace(guests, spread=1).cut(step) for step in range(60)} == {split - 1, split, split + 1}
    assert {replace(guests, spread=9).cut(step) for step in range(200)} <= set(range(1, rows))


def test_phase_a_ends_where_the_images_are_learnt_by_heart(
    paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-82: held-out images that no model could reconstruct end it at the first look; none, or no limit, never do."""
    monkeypatch.setattr(early_end, "_GAP_STEPS", 2)
    noise = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    unseen = ImageSet.of(noise, ["a", "b", "c"])
    preset = tiny(stop_gap=1.05)
    for images, limit, ends in (
        (unseen, 1.05, True),
        (unseen, 0.0, False),
        (None, 1.05, False),
        (paintings, 1.05, False),
    ):
        chosen = replace(preset, encapsulation=replace(preset.encapsulation, stop_gap=limit))
        schedule = Schedule.plan(chosen.encapsulation, 20 * chosen.encapsulation.batch)
        trainer = Encapsulation(
            paintings, preset=chosen, schedule=schedule, seed=5, compute=resolve(RUNTIME), nets=no_nets, unseen=images
        )
        trainer.step()
        assert trainer.at_pace(0.0) == ""  # looked at every second step
        trainer.step()
        assert ("worse reconstructed" in trainer.at_pace(0.0)) is ends
        assert (trainer.phase == "remap") is ends


def test_jitter_changes_what_is_learnt_and_nothing_else(
    tmp_path: Path, paintings: ImageSet, tiny: Callable[..., Preset], no_nets: PerceptualNets
) -> None:
    plain, moved = (
        _run(tmp_path / str(amount), paintings, tiny(jitter=amount), no_nets, budget="2steps") for amount in (0.0, 0.04)
    )
    assert plain.summary == replace(moved.summary, seconds=plain.summary.seconds)
    assert not equal_states(plain.model, moved.model)
