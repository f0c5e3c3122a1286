"""Mapping network (M-22)."""

import pytest
import torch
from torch.nn import functional

from modify_fl.errors import ConfigError
from modify_fl.networks.mapping import MappingNetwork


def test_forward_as_written_down() -> None:
    # PixelNorm, then per layer: weight * 0.01 / sqrt(W), bias * 0.01, leaky ReLU 0.2 times root 2.
    torch.manual_seed(0)
    mapping = MappingNetwork(6, 2)
    for layer in mapping.layers:
        torch.nn.init.normal_(layer.bias)
    z = torch.randn(4, 6)
    expected = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in mapping.layers:
        linear = expected @ layer.weight.t() * (0.01 / 6**0.5) + 0.01 * layer.bias
        expected = functional.leaky_relu(linear, 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z), expected)


def test_average_is_fixed_and_carries_no_gradient() -> None:
    mapping = MappingNetwork(6, 2)
    average = mapping.average(200)
    assert torch.equal(average, mapping.average(200))
    assert not torch.equal(average, mapping.average(200, seed=1))
    assert average.shape == (6,)
    assert not average.requires_grad


def test_refuses_no_layer() -> None:
    with pytest.raises(ConfigError, match="needs one layer or more"):
        MappingNetwork(6, 0)
