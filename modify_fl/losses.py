"""The equations of the paper, one function each.

Every loss returns one value per sample [B] and never compares samples of a
batch with each other (M-2); the trainer takes the mean. The single exception is
``moments`` (M-11), used in stage 1 only. Images are float32 [B, 3, R, R], RGB,
in [-1, 1], and are not clamped here.

Letters: B batch, C channels, R resolution, W width of a style vector, xi style
rows, d width of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl.config import Adversary
from modify_fl.errors import ShapeError

__all__ = [
    "absolute",
    "adversarial_discriminator",
    "adversarial_generator",
    "feature_distance",
    "identity",
    "laplacian",
    "lipschitz_penalty",
    "moments",
    "r1_penalty",
    "reconstruction",
    "reconstruction_luma",
    "swap",
]


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"expected two tensors of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def reconstruction(target: Tensor, output: Tensor, *, norm: Literal["mse", "l2"] = "mse") -> Tensor:
    """Equation 1, L_r: how far the reconstruction is from its picture (M-3).

    Args:
        target: y, float32 [B, 3, R, R] in [-1, 1].
        output: y_r, same shape.
        norm: ``"mse"`` is the mean square over C, H, W; ``"l2"`` the Euclidean
            norm that the paper prints, for comparison only.

    Returns:
        float32 [B], at least 0.

    Raises:
        ShapeError: The two shapes differ.
    """
    _check_pair(target, output)
    square = (target - output).float().square().flatten(1)  # [B, 3RR]
    return square.mean(1) if norm == "mse" else square.sum(1).sqrt()


def reconstruction_luma(target: Tensor, output: Tensor) -> Tensor:
    """L_r on the mean of the three channels, which leaves the style its colours (M-33).

    Arguments, result and errors as in ``reconstruction`` with ``norm="mse"``.
    """
    _check_pair(target, output)
    return reconstruction(target.mean(1, keepdim=True), output.mean(1, keepdim=True))


def absolute(target: Tensor, output: Tensor) -> Tensor:
    """Mean absolute difference, the first extra of equation 6 (M-11).

    Arguments, result and errors as in ``reconstruction``.
    """
    _check_pair(target, output)
    return (target - output).float().abs().flatten(1).mean(1)


def identity(target: Tensor, output: Tensor) -> Tensor:
    """Equation 1, L_id: one minus the cosine similarity of two faces (M-5).

    Args:
        target: R(y), float32 [B, d] of unit length; its gradient is cut.
        output: R(y_r), same shape, of unit length.

    Returns:
        float32 [B] in [0, 2]; 0 for equal embeddings.

    Raises:
        ShapeError: The two shapes differ.
    """
    _check_pair(target, output)
    return 1 - (target.detach().float() * output.float()).sum(1)


def adversarial_generator(fake: Tensor, kind: Adversary) -> Tensor:
    """Equations 2 and 5 as E, D and M see them (M-6, M-7).

    Args:
        fake: Dis of generated images, float32 [B, 1].
        kind: ``"wgan-lp"`` gives -Dis(fake), ``"logistic-r1"`` softplus(-Dis(fake)).

    Returns:
        float32 [B].
    """
    score = fake.float().flatten(1).mean(1)
    return -score if kind == "wgan-lp" else functional.softplus(-score)


def adversarial_discriminator(real: Tensor, fake: Tensor, kind: Adversary) -> Tensor:
    """Equations 2 and 5 as Dis sees them, without the penalty of M-7.

    Args:
        real: Dis of real images, float32 [B, 1].
        fake: Dis of generated images, float32 [B, 1].
        kind: ``"wgan-lp"`` gives Dis(fake) - Dis(real), ``"logistic-r1"``
            softplus(-Dis(real)) + softplus(Dis(fake)).

    Returns:
        float32 [B]; its mean is minimised by Dis with weight 1 (M-6).
    """
    good, bad = real.float().flatten(1).mean(1), fake.float().flatten(1).mean(1)
    if kind == "wgan-lp":
        return bad - good
    return functional.softplus(-good) + functional.softplus(bad)


def _gradient(score: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.detach().float().requires_grad_()
    (slope,) = torch.autograd.grad(score(at).float().sum(), at, create_graph=True)
    return slope.flatten(1)  # [B, 3RR]


def lipschitz_penalty(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Lipschitz term of ``wgan-lp`` (M-7), before its weight of 10.

    Args:
        score: Dis, augmentation included; the gradient is taken at its input.
        real: Real images [B, 3, R, R].
        fake: Generated images [B, 3, R, R], paired by index with ``real``.
        mix: One number per sample in [0, 1], [B].

    Returns:
        float32 [B], max(0, |gradient| - 1) squared: only slopes above 1 cost.

    Raises:
        ShapeError: The two shapes differ.
    """
    _check_pair(real, fake)
    between = real + mix[:, None, None, None] * (fake - real)
    slope: Tensor = _gradient(score, between).norm(dim=1)  # [B]
    return (slope - 1).clamp_min(0).square()


def r1_penalty(score: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """R1 of ``logistic-r1`` (M-7): half the squared gradient at real images, before gamma.

    Args:
        score: Dis, augmentation included; the gradient is taken at its input.
        real: Real images [B, 3, R, R].

    Returns:
        float32 [B], at least 0.
    """
    return _gradient(score, real).square().sum(1) / 2


def swap(style_rows: Tensor, recovered: Tensor) -> Tensor:
    """Equation 4, L_swap: M's code against the code of the restyled image (M-9).

    Args:
        style_rows: w_z = M(z), float32 [B, xi, W].
        recovered: w'_z = E(y_z)[:, k:], same shape; both carry the same offset.

    Returns:
        float32 [B], mean square over xi rows and W.

    Raises:
        ShapeError: The two shapes differ.
    """
    _check_pair(style_rows, recovered)
    return (style_rows - recovered).float().square().flatten(1).mean(1)


def moments(style_rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Distance of M's batch statistics to those of the style set, an extra of M-11.

    Compares samples of a batch with each other: stage 1 only, never under
    differential privacy (M-2).

    Args:
        style_rows: w_z, float32 [B, xi, W], B at least 2.
        mean: mu_h over the whole style set, float32 [xi, W].
        std: sigma_h over the whole style set, float32 [xi, W].

    Returns:
        float32 [], at least 0.
    """
    rows = style_rows.float()
    return (rows.mean(0) - mean).square().mean() + (rows.std(0) - std).square().mean()


def feature_distance(target: Sequence[Tensor], output: Sequence[Tensor]) -> Tensor:
    """Stand-in for L_lp where LPIPS is missing (M-41).

    Args:
        target: Features of y at a few levels, each float32 [B, C, h, w].
        output: Features of y_r, same shapes.

    Returns:
        float32 [B]: mean absolute difference of features that were scaled to
        unit length over channels, averaged over levels.
    """
    levels = []
    for a, b in zip(target, output, strict=True):
        near = functional.normalize(a.float(), dim=1, eps=1e-6)
        far = functional.normalize(b.float(), dim=1, eps=1e-6)
        levels.append((near - far).abs().sum(1).flatten(1).mean(1))  # [B]
    return torch.stack(levels).mean(0)


def laplacian(target: Tensor, output: Tensor, *, bands: int = 3) -> Tensor:
    """Stand-in for L_id where no face network is found (M-42).

    Args:
        target: Face crop of y, float32 [B, 3, h, w].
        output: Face crop of y_r, same shape.
        bands: Levels of the pyramid.

    Returns:
        float32 [B]: absolute difference over the bands of a Laplacian pyramid,
        mean over pixels, averaged over bands.

    Raises:
        ShapeError: The two shapes differ.
    """
    _check_pair(target, output)
    rest = (target - output).float()  # the pyramid is linear, so one of the difference does
    levels = []
    for _ in range(bands):
        coarse = functional.avg_pool2d(rest, 2, ceil_mode=True)
        smooth = functional.interpolate(coarse, size=rest.shape[-2:], mode="bilinear", align_corners=False)
        levels.append((rest - smooth).abs().flatten(1).mean(1))  # [B]
        rest = coarse
    return torch.stack(levels).mean(0)
