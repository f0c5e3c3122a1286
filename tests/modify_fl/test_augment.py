"""Differentiable augmentation (M-29)."""

import torch

from modify_fl.augment import Augmentation, augment, draw_augmentation, flip, jitter
from modify_fl.streams import generator


def _draws(
    colour: float = 0.5, shift: tuple[float, float] = (0.0, 0.0), hole: tuple[float, float] = (9.0, 9.0)
) -> Augmentation:
    """Draws that change nothing unless told: colour 0.5 is neutral, the hole lies outside."""
    return Augmentation(colour=torch.full((1, 3), colour), shift=torch.tensor([shift]), hole=torch.tensor([hole]))


def _picture() -> torch.Tensor:
    return torch.rand(1, 3, 16, 16, generator=generator(0, "test")) * 2 - 1


def test_neutral_draws_change_nothing() -> None:
    """Brightness 0, saturation 1, contrast 1, no shift, no hole."""
    assert torch.allclose(augment(_picture(), _draws()), _picture(), atol=1e-6)


def test_translation_moves_by_an_eighth() -> None:
    """A full shift is two pixels of sixteen; grey comes in."""
    moved = augment(_picture(), _draws(shift=(1.0, 0.0)))
    assert torch.allclose(moved[:, :, :-2], _picture()[:, :, 2:], atol=1e-6)
    assert (moved[:, :, -2:] == 0).all()


def test_cutout_takes_half_the_side() -> None:
    """A hole in the middle covers 8 x 8 of 16 x 16 pixels."""
    cut = augment(torch.ones(1, 3, 16, 16), _draws(hole=(0.5, 0.5)))
    assert (cut == 0).sum().item() == 3 * 8 * 8
    assert (cut[:, :, 4:12, 4:12] == 0).all()


def test_saturation_zero_is_grey() -> None:
    """All three channels agree when colour 0 also sets saturation to 0."""
    grey = augment(_picture(), _draws(colour=0.0))
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-6)


def test_second_derivative_exists() -> None:
    """M-7, M-15: the penalty differentiates through the augmentation twice."""
    x = _picture().double().requires_grad_()
    draws = draw_augmentation(1, generator(1, "a"))
    assert torch.autograd.gradgradcheck(lambda t: augment(t[:, :, :6, :6], draws).square().sum(), (x,))


def test_draws_depend_on_the_stream_alone() -> None:
    """M-52: same seed, stream and step, same draws; another step, others."""
    first, again, other = (draw_augmentation(4, generator(3, "a", s)).colour for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flip_mirrors_about_half() -> None:
    """Every picture is itself or its mirror image."""
    pictures = torch.rand(64, 3, 4, 4, generator=generator(0, "p"))
    flipped = flip(pictures, generator(0, "flip"))
    mirrored = (flipped != pictures).flatten(1).any(1)
    assert 16 < mirrored.sum().item() < 48  # 8 standard deviations of a fair coin
    assert torch.equal(flipped[mirrored], pictures[mirrored].flip(-1))


def test_jitter_moves_a_little_and_repeats_edges() -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert jitter(images, 0.0, torch.Generator().manual_seed(1)) is images
    moved = jitter(images, 0.04, torch.Generator().manual_seed(1))
    assert moved.shape == images.shape
    assert images.min() - 1e-5 <= moved.min()
    assert moved.max() <= images.max() + 1e-5
    assert not torch.equal(moved, images)
    assert torch.equal(moved, jitter(images, 0.04, torch.Generator().manual_seed(1)))
    # A step at column 16 lies within 4 % of 32 pixels of its place, plus the zoom's share.
    step = torch.zeros(8, 3, 32, 32)
    step[..., 16:] = 1
    assert jitter(step, 0.04, torch.Generator().manual_seed(2))[..., [0, 12, 20, 31]].round(
        decimals=4
    ).unique().tolist() == [0, 1]
