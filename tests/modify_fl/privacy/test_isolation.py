"""The loss of the real trainer, with critic, face network and decoder: photos do not meet in it (P-60)."""

import copy
from dataclasses import replace

import pytest
import torch
from basekit import TINY_NETWORK
from stylekit import bare_style
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import StylizationConfig
from modify_fl.networks.encoder import fold_gains
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.preflight import Preflight, preflight, random_pictures
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.settings import DpSettings
from modify_fl.training.private import PrivateStylization, PrivateTask
from modify_fl.training.runtime import Compute
from modify_fl.training.views import PhotoUnits

SETTINGS = DpSettings(n_public=20, batch=5, steps=4, noise_multiplier=1.0, max_grad_norm=0.01, delta=1e-3)


class SmallFace(nn.Module):
    """A face network with batch normalisation, as R of equation 1 has it; harmless in evaluation mode only."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.net(images), dim=1)


def real_style() -> LoadedStyle:
    style = bare_style(TINY_NETWORK)
    fold_gains(style.model.encoder)
    return style


def real_stage(style: LoadedStyle | None = None, *, bf16: bool = False, **weights: float) -> PrivateStylization:
    """Return the real trainer over random networks, nothing trained yet, without photos."""
    task = PrivateTask(
        style=style or real_style(), settings=SETTINGS, recipe=PrivateConfig(),
        config=replace(StylizationConfig(subset="lora"), **weights),  # type: ignore[arg-type]
    )  # fmt: skip
    return PrivateStylization(
        task, PhotoUnits(_NOTHING, [], seed=0, augmentations=1, per_person=1),  # type: ignore[arg-type]
        compute=Compute(device=torch.device("cpu"), bf16=bf16, threads=1),
        nets=PerceptualNets(face=copy.deepcopy(SmallFace())),  # type: ignore[arg-type]
        charge=lambda steps: None,
    )  # fmt: skip


_NOTHING: list[int] = []


def checked(stage: PrivateStylization) -> Preflight:
    side = TINY_NETWORK.resolution
    return preflight(stage.engine, shape=(3, side, side))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_gradient_is_the_same_bit_by_bit_whoever_else_is_in_the_step(bf16: bool) -> None:
    """Kernels round by shape; in bfloat16 that alone moved a gradient by more than P-60 allows."""
    engine = real_stage(bf16=bf16, lambda_adv_x=1.0).engine
    side = TINY_NETWORK.resolution
    photos = [random_pictures(1, (3, side, side)) for _ in range(engine.chunk + 2)]
    together = list(engine.clipped(iter(photos), 0))
    for count in (1, 2, 3, engine.chunk, engine.chunk + 1):
        fresh = real_stage(bf16=bf16, lambda_adv_x=1.0).engine  # knows no embedding yet
        fewer = list(fresh.clipped(iter(photos[:count]), 0))
        assert all(torch.equal(one, other) for one, other in zip(fewer, together, strict=False)), count


def test_photos_do_not_meet_in_the_loss_of_the_real_trainer() -> None:
    assert checked(real_stage(lambda_adv_x=1.0)).isolation <= 1e-5
