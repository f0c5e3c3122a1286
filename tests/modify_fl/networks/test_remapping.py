"""Remapping network (M-17, M-21)."""

import pytest
import torch
from torch.nn import functional

from modify_fl.config import NetworkConfig, preset
from modify_fl.errors import ShapeError
from modify_fl.networks.remapping import Remapping


def _remapping() -> Remapping:
    torch.manual_seed(0)
    return Remapping(NetworkConfig(resolution=32, w_dim=64, z_dim=16, remap_width=64))


def test_remapping_output_symmetric() -> None:
    # M-21, row 14 of section 8: with a linear last layer the outputs lie as
    # often below the offset as above it. A leaky ReLU behind it, as in the
    # released code, moves the mean of a symmetric output of deviation s to
    # about s * (1 - 0.2) * sqrt 2 / sqrt(2 pi) = 0.45 s, and is shown here for contrast.
    remapping = _remapping()
    with torch.no_grad():
        rows = remapping(torch.randn(2048, 16, generator=torch.Generator().manual_seed(1)))
    assert abs(rows.mean() / rows.std()) < 0.1
    assert (rows > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    skewed = functional.leaky_relu(rows, 0.2) * 2**0.5
    assert skewed.mean() / rows.std() > 0.3


def test_offset_is_added_and_starts_at_zero() -> None:
    # M-17
    remapping, z = _remapping(), torch.randn(3, 16)
    assert not remapping.offset.any()
    plain = remapping(z)
    assert plain.shape == (3, 4, 64)
    with torch.no_grad():
        remapping.offset.normal_()
    torch.testing.assert_close(remapping(z), plain + remapping.offset)


def test_noise_is_normalised() -> None:
    # PixelNorm: only the direction of z counts.
    remapping, z = _remapping(), torch.randn(3, 16)
    torch.testing.assert_close(remapping(5 * z), remapping(z), rtol=1e-4, atol=1e-5)


def test_match_takes_over_mean_and_covariance() -> None:
    # ADR 5: style rows that vary in three directions only; over z, M has their mean and their covariance.
    remapping = _remapping()
    draw = torch.Generator().manual_seed(4)
    basis = torch.randn(3, 4 * 64, generator=draw)
    rows = (torch.randn(200, 3, generator=draw) @ basis + 5).reshape(200, 4, 64)
    z = torch.randn(4096, 16, generator=draw)
    remapping.match(z, rows)
    with torch.no_grad():
        out = remapping(z).flatten(1)
    torch.testing.assert_close(out.mean(0), rows.flatten(1).mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.T.cov(), rows.flatten(1).T.cov(), rtol=1e-2, atol=1e-2)


def test_match_of_a_single_picture_is_that_picture() -> None:
    # One style row set has no spread: every z gives its code.
    remapping = _remapping()
    rows = torch.randn(1, 4, 64)
    remapping.match(torch.randn(256, 16), rows)
    with torch.no_grad():
        torch.testing.assert_close(remapping(torch.randn(2, 16)), rows.expand(2, -1, -1))


@pytest.mark.parametrize(
    ("name", "millions", "digit"),
    [
        ("quick-64", 0.15, 0.01),
        ("quick-128", 0.17, 0.01),
        ("good-128", 0.17, 0.01),
        ("gpu-256", 0.99, 0.01),
        ("paper-1024", 4.5, 0.1),
    ],
)
def test_size_of_the_presets(name: str, millions: float, digit: float) -> None:
    # M-31 prints two digits: equal to them when rounded.
    with torch.device("meta"):
        count = sum(p.numel() for p in Remapping(preset(name).network).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=digit / 2)


def test_autocast_returns_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert _remapping()(torch.randn(3, 16)).dtype == torch.float32


def test_refuses_noise_of_another_width() -> None:
    with pytest.raises(ShapeError, match=r"expected noise \[N, 16\], got \(3, 8\)"):
        _remapping()(torch.randn(3, 8))
