"""Equation 7 under privacy: one loss per photo, and no photo in the loss of another (P-20 to P-25)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import NetworkConfig, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.private_loss import PhotoLoss
from modify_fl.training.runtime import resolve
from tests.modify_fl.training.conftest import RUNTIME


def build(style: LoadedStyle, nets: PerceptualNets, **changes: object) -> PhotoLoss:
    config = StylizationConfig(**changes)  # type: ignore[arg-type]
    return PhotoLoss(style, config=config, seed=1, compute=resolve(RUNTIME), nets=nets)


def losses(loss: PhotoLoss, style: LoadedStyle, photos: Tensor, step: int = 0) -> Tensor:
    with torch.no_grad():
        return loss(photos, style.model.encode(photos), step)


@pytest.mark.parametrize("painted", [0.0, 0.5, 1.0])
def test_a_photo_has_the_same_loss_in_any_company_and_at_any_place(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets, painted: float
) -> None:
    loss = build(style, no_nets, painted=painted)
    batch = photos.batch([0, 1, 2, 3, 4])
    together = losses(loss, style, batch)
    alone = torch.cat([losses(loss, style, photo[None]) for photo in batch])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses(loss, style, batch.flip(0)).flip(0), together, rtol=1e-5, atol=1e-6)


def test_draws_follow_the_photo_the_step_and_the_seed(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    loss, batch = build(style, no_nets, painted=1.0, lambda_id=1.0), photos.batch([0])
    assert torch.equal(losses(loss, style, batch, 3), losses(loss, style, batch, 3))
    assert not torch.equal(losses(loss, style, batch, 3), losses(loss, style, batch, 4))


def test_a_share_of_the_photos_is_judged_as_painted(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    loss, names = build(style, no_nets, painted=0.25), [f"{n}" for n in range(400)]
    painted = sum(loss._draw(name, 0)[0] < 0.25 for name in names)
    assert 60 < painted < 140  # 100 expected, standard deviation 8.7


def test_everything_is_frozen_and_stays_in_evaluation_mode(style: LoadedStyle, no_nets: PerceptualNets) -> None:
    loss = build(style, no_nets)
    loss.train()
    loss.require_frozen()
    assert loss.critic is not None


def test_without_its_weight_the_critic_says_nothing(
    style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets
) -> None:
    batch = photos.batch([0, 1])
    with_critic, without = (losses(build(style, no_nets, lambda_adv_x=w), style, batch) for w in (0.01, 0.0))
    assert not torch.allclose(with_critic, without, atol=1e-9)


def test_a_critic_that_compares_pictures_is_refused(style: LoadedStyle, no_nets: PerceptualNets) -> None:
    coupled = replace(style, network=replace(style.network, minibatch_std=4))
    assert isinstance(coupled.network, NetworkConfig)
    with pytest.raises(ConfigError, match="compares the pictures of a batch"):
        build(coupled, no_nets)


def test_the_bundle_is_not_touched(style: LoadedStyle, photos: ImageSet, no_nets: PerceptualNets) -> None:
    before = {name: value.clone() for name, value in style.model.state_dict().items()}
    losses(build(style, no_nets), style, photos.batch([0]))
    assert all(torch.equal(value, before[name]) for name, value in style.model.state_dict().items())
