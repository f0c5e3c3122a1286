"""Parts that several networks share (M-15, M-18, M-20)."""

import pytest
import torch
from torch.nn import functional

from modify_fl.errors import ShapeError
from modify_fl.networks.layers import EqualConv2d, EqualLinear, encoder_input, level_of_row, seeded


@pytest.mark.parametrize("lr_mul", [1.0, 0.01])
def test_equalised_layers_start_at_unit_variance_whatever_the_multiplier(lr_mul: float) -> None:
    torch.manual_seed(0)
    y = EqualLinear(256, 256, lr_mul=lr_mul)(torch.randn(512, 256))
    assert y.std().item() == pytest.approx(1, rel=0.05)


def test_bias_starts_where_it_is_told() -> None:
    # M-15: the bias of an affine layer starts at 1.
    y = EqualLinear(4, 3, bias_init=1.0, lr_mul=0.1)(torch.zeros(2, 4))
    torch.testing.assert_close(y, torch.ones(2, 3))


def test_equal_linear_as_written_down() -> None:
    torch.manual_seed(0)
    layer, x = EqualLinear(4, 3, bias_init=0.5, lr_mul=0.1, activate=True), torch.randn(2, 4)
    linear = x @ layer.weight.t() * (0.1 / 4**0.5) + 0.1 * layer.bias
    torch.testing.assert_close(layer(x), functional.leaky_relu(linear, 0.2) * 2**0.5)


def test_equal_conv_as_written_down() -> None:
    torch.manual_seed(0)
    layer, x = EqualConv2d(4, 3, 3, stride=2, padding=1, activate=True, gain=0.5), torch.randn(2, 4, 6, 6)
    torch.nn.init.normal_(layer.bias)
    linear = functional.conv2d(x, layer.weight / 36**0.5, layer.bias, 2, 1)  # fan_in 4 * 3 * 3
    torch.testing.assert_close(layer(x), 0.5 * functional.leaky_relu(linear, 0.2) * 2**0.5)


def test_folding_keeps_what_a_linear_layer_does() -> None:
    torch.manual_seed(0)
    layer, x = EqualLinear(4, 3, bias_init=0.5, lr_mul=0.1), torch.randn(2, 4)
    torch.testing.assert_close(layer.folded()(x), layer(x))


def test_rows_to_pyramid_levels() -> None:
    # M-18: rows 0-2 coarse, 3-6 middle, the rest fine.
    assert [level_of_row(row) for row in range(9)] == [0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_encoder_input_is_reduced_above_256_pixels_and_antialiased() -> None:
    assert encoder_input(torch.zeros(1, 3, 64, 64), 64).shape == (1, 3, 64, 64)
    # The finest checkerboard holds nothing that 256 pixels can show.
    board = (torch.arange(512)[:, None] + torch.arange(512)) % 2 * 2.0 - 1
    small = encoder_input(board.expand(1, 3, -1, -1), 512)
    assert small.shape == (1, 3, 256, 256)
    assert small[:, :, 8:-8, 8:-8].abs().max() < 0.02
    with pytest.raises(ShapeError, match=r"expected pictures \[N, 3, 64, 64\], got \(1, 3, 32, 32\)"):
        encoder_input(torch.zeros(1, 3, 32, 32), 64)


def test_seeded_draws_depend_on_seed_and_stream_and_leave_no_trace() -> None:
    def draw(seed: int, stream: str) -> float:
        with seeded(seed, stream):
            return torch.rand(1).item()

    torch.manual_seed(9)
    expected = torch.rand(1).item()
    torch.manual_seed(9)
    assert draw(1, "a") == draw(1, "a")
    assert len({draw(1, "a"), draw(2, "a"), draw(1, "b")}) == 3
    assert torch.rand(1).item() == expected
