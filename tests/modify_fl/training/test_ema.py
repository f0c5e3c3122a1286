"""Averaged weights (M-29)."""

import pytest
import torch
from torch import nn

from modify_fl.training.ema import ema_decay, update_ema


def test_decay_warms_up_to_the_half_life() -> None:
    """M-29: (1 + step) / (10 + step) at first, then half after ``half_life`` images."""
    assert ema_decay(0, batch=16, half_life=2000) == pytest.approx(0.1)
    beta = ema_decay(10**6, batch=16, half_life=2000)
    assert beta ** (2000 / 16) == pytest.approx(0.5)


def test_average_moves_and_buffers_are_copied() -> None:
    """One update takes the average a quarter of the way when beta is 0.75."""
    average, current = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.fill_(0.0)
        current.weight.fill_(4.0)
        current.running_mean.fill_(7.0)  # type: ignore[union-attr]
    update_ema(average, current, 0.75)
    assert average.weight.tolist() == [1.0, 1.0]
    assert average.running_mean.tolist() == [7.0, 7.0]  # type: ignore[union-attr]
    update_ema(average, current, 0.0)
    assert average.weight.tolist() == [4.0, 4.0]
