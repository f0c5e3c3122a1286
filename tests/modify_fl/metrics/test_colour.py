"""Reinhard's colour transfer (M-45)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modify_fl.errors import ShapeError
from modify_fl.metrics.colour import from_lab, match_statistics, reinhard, to_lab


def noise(count: int, side: int, seed: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def test_known_colours() -> None:
    """Values of CIE: white is (100, 0, 0), black (0, 0, 0), pure red (53.24, 80.09, 67.20) under D65."""
    colours = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, -1]])[:, :, None, None]
    lab = to_lab(colours)[:, :, 0, 0]
    assert torch.allclose(lab[0], torch.tensor([100.0, 0, 0]).double(), atol=1e-4)
    assert torch.allclose(lab[1], torch.zeros(3).double(), atol=1e-4)
    assert torch.allclose(lab[2], torch.tensor([53.24, 80.09, 67.20]).double(), atol=0.02)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_there_and_back_is_the_same_picture(seed: int) -> None:
    pictures = noise(2, 8, seed)
    assert torch.allclose(from_lab(to_lab(pictures)), pictures, atol=1e-4)


def test_statistics_become_those_of_the_target() -> None:
    lab, target = to_lab(noise(2, 16, 1)), to_lab(noise(2, 12, 2, -0.8, 0.2))
    matched = match_statistics(lab, target)
    for own, wanted in ((matched.mean((2, 3)), target.mean((2, 3))),
                        (matched.std((2, 3), correction=0), target.std((2, 3), correction=0))):  # fmt: skip
        assert torch.allclose(own, wanted, atol=1e-6)


def test_pictures_get_the_target_colours() -> None:
    """Where no colour has to be clipped, the picture itself has the target's statistics."""
    photos, targets = noise(3, 16, 1, -0.3, 0.3), noise(3, 16, 2, -0.2, 0.4)
    lab, wanted = to_lab(reinhard(photos, targets)), to_lab(targets)
    assert torch.allclose(lab.mean((2, 3)), wanted.mean((2, 3)), atol=0.5)
    assert torch.allclose(lab.std((2, 3)), wanted.std((2, 3)), atol=0.5)


def test_own_colours_change_nothing() -> None:
    photos = noise(1, 8, 5)
    assert torch.allclose(reinhard(photos, photos), photos, atol=1e-4)


def test_flat_picture_gets_the_mean() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    assert bool(reinhard(flat, noise(1, 8, 1)).isfinite().all())


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError):
        reinhard(noise(2, 8, 1), noise(1, 8, 1))
    with pytest.raises(ShapeError):
        to_lab(torch.zeros(3, 8, 8))
