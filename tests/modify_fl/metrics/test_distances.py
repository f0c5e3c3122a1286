"""KID and FID (M-44 to M-46): closed forms, and the values of the packages that others use."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modify_fl.errors import ShapeError
from modify_fl.metrics.distances import FEW, fid, floor, frechet_distance, kid, squared_mmd

FRECHET, MMD = 2.25208714, -0.0340039598


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact(count: int, mean: float, stds: list[float], seed: int = 0) -> torch.Tensor:
    """Rows whose mean and covariance are exactly ``mean`` and the squares of ``stds`` on a diagonal."""
    raw = normal(count, len(stds), seed=seed)
    columns = torch.linalg.qr(raw - raw.mean(0)).Q  # orthonormal, each with mean 0
    return columns * (count - 1) ** 0.5 * torch.tensor(stds, dtype=torch.float64) + mean


def test_frechet_distance_of_two_gaussians() -> None:
    """Diagonal covariances: the sum over features of (difference of means)^2 + (difference of stds)^2."""
    x, y = exact(40, 1.0, [1, 2, 3]), exact(30, 3.0, [2, 2, 1], seed=1)
    assert frechet_distance(x, y) == pytest.approx(3 * 2**2 + 1 + 0 + 4)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(2, 12), other=st.integers(2, 12), width=st.integers(1, 8))
def test_frechet_distance_for_any_sizes(count: int, other: int, width: int) -> None:
    """Sets smaller and larger than the number of features: symmetric, and as written with both roots."""
    x, y = normal(count, width, seed=1), 2 * normal(other, width, seed=2) + 1
    got = frechet_distance(x, y)
    assert got == pytest.approx(frechet_distance(y, x), abs=1e-5)
    a, b = (np.atleast_2d(np.cov(z.numpy(), rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(a)
    half = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ b @ half), 0, None)).sum()
    means = float((x.mean(0) - y.mean(0)).square().sum())
    assert got == pytest.approx(means + np.trace(a) + np.trace(b) - 2 * root, abs=1e-5)


def test_squared_mmd_by_hand() -> None:
    """One feature, x = (0, 2), y = (1, 1): k(0, 2) = 1, k(1, 1) = 8, k(0, 1) = 1, k(2, 1) = 27; 1 + 8 - 28."""
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    assert squared_mmd(x, y) == pytest.approx(1 + 8 - 2 * 14)


def test_kid_of_one_distribution_is_about_nothing() -> None:
    found = kid(normal(200, 8, seed=1), normal(150, 8, seed=2), photos=100, seed=0)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    far = kid(normal(200, 8, seed=1) + 1, normal(150, 8, seed=2), photos=100, seed=0)
    assert far.low is not None
    assert far.low > found.high
    assert far == kid(normal(200, 8, seed=1) + 1, normal(150, 8, seed=2), photos=100, seed=0)


def test_interval_of_kid_holds_the_truth() -> None:
    """Of 12 samples from one distribution, the interval misses its own distance, 0, a few times at most.

    The reference is large, since it is not resampled.
    """
    reference = normal(2000, 4, seed=99)
    held = 0
    for seed in range(12):
        found = kid(normal(100, 4, seed=seed), reference, photos=100, seed=seed)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held >= 9


def test_interval_of_fid_surrounds_its_value() -> None:
    """Photos drawn twice make FID larger; the interval is moved back onto the value."""
    found = fid(normal(30, 16, seed=1) + 1, normal(40, 16, seed=2), photos=10, seed=0)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_few_pictures_are_said() -> None:
    """M-46: FID below 2048 pictures carries a warning; KID does not."""
    features = normal(8, 3)
    assert str(FEW) in fid(features, features + 1, photos=8, seed=0).note
    assert kid(features, features + 1, photos=8, seed=0).note == ""
    many = normal(FEW, 2)
    assert fid(many, many + 1, photos=1, seed=0).note == ""


def test_too_few_pictures_give_no_value() -> None:
    one, several = normal(1, 3), normal(5, 3)
    assert kid(one, several, photos=1, seed=0).value is None
    assert fid(several, one, photos=5, seed=0).value is None
    assert [part.value for part in floor(normal(3, 2), seed=0)] == [None, None]


def test_one_photo_has_no_interval() -> None:
    found = [measure(normal(6, 3), normal(9, 3, seed=1), photos=1, seed=0) for measure in (kid, fid)]
    assert all(part.value is not None and part.low is None for part in found)


def test_features_belong_to_photos() -> None:
    with pytest.raises(ShapeError, match="photo by photo"):
        kid(normal(5, 3), normal(5, 3), photos=2, seed=0)
    with pytest.raises(ShapeError, match="one width"):
        fid(normal(4, 3), normal(4, 2), photos=2, seed=0)


def test_floor_is_between_halves() -> None:
    """M-45: ten draws; one distribution is near itself, and the FID of halves is that of small sets."""
    distance, frechet = floor(normal(200, 4), seed=0)
    assert distance.value is not None
    assert abs(distance.value) < 20
    assert frechet.value is not None
    assert 0 < frechet.value < 1
    assert "halves of 100" in distance.note


def waves(count: int, width: int, *, phase: float) -> torch.Tensor:
    """Features that depend on no random number."""
    rows, columns = torch.arange(count).double()[:, None], torch.arange(width).double()
    return torch.sin(rows * (columns + 1) * 0.7 + phase) + phase * torch.cos(rows * columns)


def test_stored_values_of_torch_fidelity() -> None:
    """What torch-fidelity 0.4.0 gives for these features; ``test_torch_fidelity_agrees`` asks it again."""
    x, y = waves(90, 32, phase=0.2), waves(90, 32, phase=0.6)
    assert frechet_distance(x, y) == pytest.approx(FRECHET, rel=1e-6)
    assert squared_mmd(x, y) == pytest.approx(MMD, rel=1e-6)


def test_torch_fidelity_agrees() -> None:
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = waves(90, 32, phase=0.2), waves(90, 32, phase=0.6)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)
    assert theirs["frechet_inception_distance"] == pytest.approx(FRECHET, rel=1e-6)
    assert float(np.squeeze(kernel_mmd(x.numpy(), y.numpy(), verbose=False))) == pytest.approx(MMD, rel=1e-6)
