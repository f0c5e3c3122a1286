"""The equations, against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.errors import ShapeError


def _pair() -> tuple[Tensor, Tensor]:
    """Two batches of two 4 x 4 pictures that differ by 0.5 in the first sample and by 0 in the second."""
    target = torch.zeros(2, 3, 4, 4)
    output = target.clone()
    output[0] = 0.5
    return target, output


def test_losses_match_stored_values() -> None:
    """M-3: mean square and, on demand, the Euclidean norm, one value per sample."""
    target, output = _pair()
    assert losses.reconstruction(target, output).tolist() == [0.25, 0.0]  # 0.5 squared
    assert losses.absolute(target, output).tolist() == [0.5, 0.0]
    # 48 values that differ by 0.5: sqrt(48 / 4) = sqrt(12)
    assert losses.reconstruction(target, output, norm="l2")[0].item() == pytest.approx(math.sqrt(12))


def test_luma_ignores_a_change_of_hue() -> None:
    """M-33: channels that move against each other cost nothing."""
    target = torch.zeros(1, 3, 4, 4)
    output = torch.tensor([0.3, -0.3, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert losses.reconstruction_luma(target, output).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.reconstruction(target, output).item() == pytest.approx(0.06)  # 2 * 0.09 / 3


def test_identity_zero_for_equal_images() -> None:
    """M-5: cosine similarity, so equal faces cost 0, opposite ones 2, and the target has no gradient."""
    face = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    target = face.clone().requires_grad_()
    output = face.clone().requires_grad_()
    loss = losses.identity(target, output)
    assert loss.abs().max().item() < 1e-6
    loss.sum().backward()
    assert target.grad is None
    assert output.grad is not None
    assert losses.identity(face, -face).tolist() == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("kind", ["wgan-lp", "logistic-r1"])
def test_adversary_sign_and_penalty(kind: losses.Adversary) -> None:
    """M-6, M-7: signs of both sides; penalties of a linear critic with a known gradient.

    Dis(x) = 2 * sum(x) / sqrt(48) has the gradient norm 2 everywhere on 4 x 4 pictures.
    """

    def critic(images: Tensor) -> Tensor:
        return 2 * images.flatten(1).sum(1, keepdim=True) / math.sqrt(48)

    low, high = torch.full((2, 1), -1.0), torch.full((2, 1), 1.0)
    assert (losses.adversarial_generator(high, kind) < losses.adversarial_generator(low, kind)).all()
    good = losses.adversarial_discriminator(high, low, kind)
    bad = losses.adversarial_discriminator(low, high, kind)
    assert (good < bad).all()
    if kind == "wgan-lp":
        assert good.tolist() == [-2.0, -2.0]
    else:
        assert good.tolist() == pytest.approx([2 * math.log1p(math.exp(-1))] * 2)
    real, fake = _pair()
    assert losses.lipschitz_penalty(critic, real, fake, torch.tensor([0.3, 0.7])).tolist() == pytest.approx([1, 1])
    assert losses.r1_penalty(critic, real).tolist() == pytest.approx([2.0, 2.0])  # 2 squared, halved


def test_lipschitz_penalty_is_one_sided() -> None:
    """M-7: slopes below 1 cost nothing."""
    real, fake = _pair()
    flat = losses.lipschitz_penalty(lambda x: x.flatten(1).mean(1, keepdim=True), real, fake, torch.ones(2))
    assert flat.tolist() == [0.0, 0.0]


def test_penalty_gradient_reaches_the_weights() -> None:
    """M-7: the penalty is differentiable with respect to Dis."""
    weight = torch.tensor(3.0, requires_grad=True)
    losses.r1_penalty(lambda x: weight * x.flatten(1).sum(1, keepdim=True), torch.zeros(1, 3, 4, 4)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(3 * 48)  # d/dw of 48 w^2 / 2


def test_swap_zero_when_codes_agree() -> None:
    """M-9: the mean over xi rows and W; nothing where M and E agree."""
    rows = torch.ones(2, 5, 8)
    assert losses.swap(rows, rows).tolist() == [0.0, 0.0]
    assert losses.swap(rows, rows + 2).tolist() == [4.0, 4.0]


def test_moments_of_the_style_set() -> None:
    """M-11: zero when batch mean and spread are those of the style set."""
    rows = torch.tensor([[-1.0], [1.0]])[:, :, None]  # mean 0, standard deviation sqrt(2)
    root = torch.full((1, 1), math.sqrt(2.0))
    assert losses.moments(rows, torch.zeros(1, 1), root).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.moments(rows, torch.full((1, 1), 3.0), root).item() == pytest.approx(9.0)


def test_feature_distance_ignores_scale() -> None:
    """M-41: features are compared at unit length, averaged over levels."""
    near = torch.zeros(1, 2, 3, 3)
    near[:, 0] = 1.0
    far = torch.zeros(1, 2, 3, 3)
    far[:, 1] = 5.0
    assert losses.feature_distance([near], [3 * near]).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.feature_distance([near, near], [far, near]).item() == pytest.approx(1.0)  # (|1| + |-1| + 0) / 2


def test_laplacian_ignores_a_constant() -> None:
    """M-42: only bands are compared, so a change of overall brightness costs nothing."""
    face = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert losses.laplacian(face, face + 0.3).abs().max().item() < 1e-6
    assert losses.laplacian(face, face.flip(-1)).min().item() > 0.01


@pytest.mark.parametrize("name", ["reconstruction", "absolute", "identity", "swap", "laplacian"])
def test_different_shapes_are_refused(name: str) -> None:
    """A mistake in shapes must not broadcast into a number."""
    with pytest.raises(ShapeError, match="one shape"):
        getattr(losses, name)(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_losses_do_not_mix_samples() -> None:
    """M-2: changing one sample changes that sample's value only."""
    target = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    output = target + 0.1
    changed = output.clone()
    changed[1] += 1.0
    for loss in (losses.reconstruction, losses.absolute, losses.laplacian):
        before, after = loss(target, output), loss(target, changed)
        assert torch.equal(before[[0, 2]], after[[0, 2]])
