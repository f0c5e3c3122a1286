"""The compact StarGAN v2: networks, and a few steps of its training (M-45)."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modify_fl.baselines.stargan import PAINTING, PHOTO, StarGan, StarGanSizes
from modify_fl.baselines.trainer import StarGanConfig, StarGanTrainer
from modify_fl.baselines.training import train_stargan
from modify_fl.config import PRESETS, Budget, NetworkConfig, Runtime
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import ConfigError, DataError, InterruptedRunError, ShapeError
from modify_fl.events import TrainingEvent
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.training.runtime import resolve

RUNTIME = Runtime(device="cpu", threads=1, precision="fp32")
SIZES = StarGanSizes(resolution=32, base=256, channel_max=16, style_dim=8, z_dim=4, mapping_width=16)


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return load_images("synthetic", resolution=32, look="photo", limit=6)


@pytest.fixture(scope="module")
def paintings() -> ImageSet:
    return load_images("synthetic", resolution=32, look="painting", limit=5)


def _trainer(photos: ImageSet, paintings: ImageSet, **changes: object) -> StarGanTrainer:
    config = StarGanConfig(**({"batch": 4, "penalty_every": 2} | changes))  # type: ignore[arg-type]
    return StarGanTrainer(
        photos, paintings, sizes=SIZES, config=config, total=400, seed=5, compute=resolve(RUNTIME)
    )  # fmt: skip


def _train(
    folder: Path, photos: ImageSet, paintings: ImageSet, emit: Callable[[TrainingEvent], None] = lambda _: None
) -> StarGan:
    net, seconds = train_stargan(
        photos, paintings, sizes=SIZES, config=StarGanConfig(batch=4), budget=Budget.parse("14steps"), seed=5,
        runtime=RUNTIME, folder=folder, emit=emit,
    )  # fmt: skip
    assert seconds > 0
    return net


def test_as_many_parameters_as_the_method() -> None:
    """M-45: "of similar size": within a fifth of E, D, M and Dis together."""
    network = PRESETS["quick-64"].network
    own = [*StyleModel.build(network, 0).parameters(), *build_discriminator(network, 0).parameters()]
    theirs = StarGan.build(StarGanSizes.like(network), 0).parameters()
    assert sum(p.numel() for p in theirs) == pytest.approx(sum(p.numel() for p in own), rel=0.2)


def test_style_code_decides_the_picture(photos: ImageSet) -> None:
    net, batch = StarGan.build(SIZES, 1), photos.batch([0, 1])
    target = torch.full((2,), PAINTING)
    one, other = (net.draw(torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)), target) for seed in (1, 2))
    assert net(batch, one).shape == batch.shape
    assert not torch.allclose(net(batch, one), net(batch, other))
    assert torch.equal(net(batch, one), StarGan.build(SIZES, 1)(batch, one))


def test_each_domain_has_its_own_branch(photos: ImageSet) -> None:
    """A batch of mixed domains is judged as each sample alone."""
    net, batch = StarGan.build(SIZES, 1), photos.batch([0, 1])
    mixed = net.score(batch, torch.tensor([PHOTO, PAINTING]))
    assert torch.allclose(mixed[:1], net.score(batch[:1], torch.tensor([PHOTO])), atol=1e-5)
    assert torch.allclose(mixed[1:], net.score(batch[1:], torch.tensor([PAINTING])), atol=1e-5)
    assert not torch.allclose(mixed[:1], net.score(batch[:1], torch.tensor([PAINTING])), atol=1e-5)
    both = net.style_of(batch, torch.tensor([PHOTO, PHOTO])), net.style_of(batch, torch.tensor([PAINTING, PAINTING]))
    assert not torch.allclose(*both)


def test_wrong_sizes_are_refused(photos: ImageSet) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        StarGanSizes(resolution=48)
    with pytest.raises(ShapeError, match=r"\[B, 3, 32, 32\]"):
        StarGan.build(SIZES, 0)(torch.zeros(1, 3, 64, 64), torch.zeros(1, 8))


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_every_resolution_builds(resolution: int) -> None:
    """M-13: nothing is written down twice."""
    sizes = StarGanSizes.like(NetworkConfig(resolution=resolution, channel_base=512, channel_max=16, w_dim=16))
    net, picture = StarGan.build(sizes, 0), torch.zeros(1, 3, resolution, resolution)
    painted = net(picture, torch.zeros(1, sizes.style_dim))
    assert painted.shape == picture.shape
    assert net.score(painted, torch.tensor([PAINTING])).shape == (1, 1)


def test_references_move_the_generator_alone(photos: ImageSet, paintings: ImageSet) -> None:
    """As in the paper: steps with reference pictures leave the mapping network and the style encoder alone."""
    trainer = _trainer(photos, paintings)

    def moved() -> set[str]:
        before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.step()
        after = trainer.model.state_dict()
        return {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}

    assert moved() == {"generator", "mapping", "encoder", "discriminator"}
    assert moved() == {"generator", "discriminator"}


def test_diversity_is_rewarded_less_and_less(photos: ImageSet, paintings: ImageSet) -> None:
    """Equation 3: its weight falls linearly to 0 over the run."""
    trainer = _trainer(photos, paintings)
    pictures, styles = trainer._batch(), [torch.zeros(4, 8), torch.ones(4, 8)]
    fake = trainer.model(pictures, styles[0])
    full = trainer._maker_terms(pictures, fake, styles)["diversity"]
    trainer.images_seen = 300  # of 400
    assert full < 0
    assert trainer._maker_terms(pictures, fake, styles)["diversity"].item() == pytest.approx(full.item() / 4)
    trainer.images_seen = 400
    assert trainer._maker_terms(pictures, fake, styles)["diversity"].item() == 0


def test_references_of_a_step_differ(photos: ImageSet, paintings: ImageSet) -> None:
    """Two equal references would make the diversity term 0 for ever; targets are the other domain."""
    trainer = _trainer(photos, paintings)
    first, second = trainer._references("reference-first"), trainer._references("reference-second")
    assert not torch.equal(first, second)
    assert trainer.targets.tolist() == [PAINTING, PAINTING, PHOTO, PHOTO]
    flipped = torch.cat([paintings.batch(range(5)), paintings.batch(range(5)).flip(-1)])
    assert all(any(torch.equal(picture, known) for known in flipped) for picture in first[:2])


def test_cycle_is_learnt(photos: ImageSet, paintings: ImageSet) -> None:
    trainer = _trainer(photos, paintings, learning_rate=2e-3)
    costs = [trainer.step()["cycle"].item() for _ in range(30)]
    assert sum(costs[-5:]) < 0.8 * sum(costs[:5])


def test_resume_is_exact(tmp_path: Path, photos: ImageSet, paintings: ImageSet) -> None:
    """M-52: stopped after ten steps and taken up again, the bits are those of a run that was not stopped."""
    whole = _train(tmp_path / "whole", photos, paintings)

    def stop(event: TrainingEvent) -> None:
        if event.kind == "tick":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        _train(tmp_path / "parts", photos, paintings, stop)
    parts = _train(tmp_path / "parts", photos, paintings)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_other_settings_and_empty_sets_are_refused(tmp_path: Path, photos: ImageSet, paintings: ImageSet) -> None:
    _train(tmp_path, photos, paintings)
    with pytest.raises(ConfigError, match="other settings"):
        _train(tmp_path, photos.subset([0, 1]), paintings)
    with pytest.raises(DataError, match="needs photos"):
        _train(tmp_path / "new", photos.subset([]), paintings)


def test_a_time_becomes_images_once(tmp_path: Path, photos: ImageSet, paintings: ImageSet) -> None:
    """M-30: the number is written down, and at least two steps are taken."""
    train_stargan(
        photos, paintings, sizes=SIZES, config=StarGanConfig(batch=4), budget=Budget.parse("0.1s"), seed=1,
        runtime=RUNTIME, folder=tmp_path, emit=lambda _: None,
    )  # fmt: skip
    text = (tmp_path / "config.json").read_text()
    assert '"images"' in text
    assert (tmp_path / "checkpoints" / "current").is_file()
