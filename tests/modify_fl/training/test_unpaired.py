"""Stage 2 with style images as real samples: the unpaired baseline of M-45."""

from pathlib import Path

import pytest
import torch

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Budget, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.runtime import resolve
from modify_fl.training.stage2 import Stylization
from modify_fl.training.stylization import adapt
from tests.modify_fl.training.conftest import RUNTIME, equal_states

CONFIG = StylizationConfig(batch=2, steps=4, online_steps=4)


def _stage(style: LoadedStyle, photos: ImageSet, nets: PerceptualNets, real: ImageSet | None) -> Stylization:
    return Stylization(
        style, photos, mode="offline", config=CONFIG, total=8, seed=3, compute=resolve(RUNTIME), nets=nets, real=real
    )


def test_critic_sees_style_images(
    style: LoadedStyle, photos: ImageSet, paintings: ImageSet, no_nets: PerceptualNets
) -> None:
    """All else is equal: photos, the first step of E', and the number of real samples."""
    paired, unpaired = _stage(style, photos, no_nets, None), _stage(style, photos, no_nets, paintings)
    batch, part = photos.batch([0, 1]), slice(0, 2)
    assert torch.equal(paired._real(batch, part), paired.pseudo_real(batch))
    real = unpaired._real(batch, part)
    assert real.shape == batch.shape
    pictures = paintings.batch(range(len(paintings)))
    assert all(any(torch.equal(one, known) for known in pictures) for one in real)
    unpaired.images_seen = 2
    assert not torch.equal(unpaired._real(batch, part), real)  # another step, other style images
    unpaired.images_seen = 0
    for stage in (paired, unpaired):
        stage.step()
    # Dis moves after E' in a step: at the first one nothing else has changed yet.
    assert equal_states(paired.encoder, unpaired.encoder)
    assert not equal_states(paired.adversary.discriminator, unpaired.adversary.discriminator)  # type: ignore[union-attr]


def test_run_remembers_its_real_samples(
    tmp_path: Path, style: LoadedStyle, photos: ImageSet, paintings: ImageSet, no_nets: PerceptualNets
) -> None:
    """A run of the method never goes on as the baseline, nor the other way round."""

    def go(real: ImageSet | None) -> None:
        adapt(
            style, photos, mode="offline", config=CONFIG, budget=Budget.parse("2steps"), seed=1, runtime=RUNTIME,
            nets=no_nets, folder=tmp_path, emit=lambda _: None, real=real,
        )  # fmt: skip

    go(paintings)
    go(paintings)
    with pytest.raises(ConfigError, match="other settings"):
        go(None)
