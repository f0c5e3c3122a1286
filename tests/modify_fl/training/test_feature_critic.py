"""The critic of features: bounded, trainable, the same however the batch is cut (ADR 7)."""

import pytest
import torch
from torch import Tensor

from modify_fl.config import Runtime
from modify_fl.perceptual import Lpips
from modify_fl.training.feature_critic import FeatureCritic, FeatureHeads
from modify_fl.training.portions import Portions
from modify_fl.training.runtime import resolve

CHANNELS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    """AlexNet with drawn weights: enough to tell smooth from rough."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    return Lpips(alexnet(weights=None).state_dict(), device=torch.device("cpu"))


def critic(lpips: Lpips, portions: Portions) -> FeatureCritic:
    compute = resolve(Runtime(device="cpu", threads=1, precision="fp32"))
    return FeatureCritic(lpips, learning_rate=1e-3, seed=3, compute=compute, portions=portions)


def pictures(seed: int, *, rough: bool) -> Tensor:
    small = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    smooth = torch.nn.functional.interpolate(small, size=32, mode="bicubic", align_corners=False)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(seed + 1))
    return smooth + 0.5 * noise if rough else smooth


def test_heads_bound_what_a_feature_can_do() -> None:
    """Spectral norm: after some iterations every kernel, as a matrix, has norm 1 at most."""
    heads = FeatureHeads((8, 16))
    for _ in range(50):
        heads.advance()
    for layer in heads.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2) < 1.05
    assert heads([torch.randn(3, 8, 5, 5), torch.randn(3, 16, 2, 2)]).shape == (3,)


def test_it_learns_to_tell_smooth_from_rough_and_its_gradient_says_how(lpips: Lpips) -> None:
    judge = critic(lpips, Portions(8))
    losses = []
    for step in range(25):
        real, fake = pictures(2 * step, rough=True), pictures(1000 + 2 * step, rough=False)
        losses.append(float(judge.train_step(lambda part, real=real: real[part], fake, step)["dis_features"]))
    assert losses[-1] < 0.8 * losses[0]
    whole = slice(0, 8)
    fake = pictures(5000, rough=False).requires_grad_()
    before = judge.generator_loss(fake, 99, whole)
    (gradient,) = torch.autograd.grad(before.sum(), fake)
    after = judge.generator_loss(fake - 20 * gradient, 99, whole)
    assert before.shape == (8,)
    assert after.mean() < before.mean()
    assert judge.generator_loss(pictures(7000, rough=True), 99, whole).mean() < before.mean()


def test_cutting_the_batch_changes_nothing(lpips: Lpips) -> None:
    """Gradients of a step agree to rounding, and the norms bit for bit, with portions of eight and of three."""
    judges = []
    for micro in (8, 3):
        portions = Portions(8)
        portions.micro = micro
        judge = critic(lpips, portions)
        judge.train_step(lambda part: pictures(0, rough=True)[part], pictures(9, rough=False), 0)
        judges.append(judge)
    whole, cut = (dict(judge.heads.named_parameters()) for judge in judges)
    for name, value in whole.items():
        assert value.grad is not None
        apart, size = (torch.linalg.vector_norm(g) for g in (value.grad - cut[name].grad, value.grad))
        assert apart <= 1e-3 * size + 1e-7, name
    states = [judge.heads.state_dict() for judge in judges]
    norms = [name for name in states[0] if name.endswith(("_u", "_v"))]
    assert norms
    assert all(torch.equal(states[0][name], states[1][name]) for name in norms)


def test_the_network_behind_it_never_moves_and_is_no_part_of_it(lpips: Lpips) -> None:
    judge = critic(lpips, Portions(8))
    before = [value.clone() for value in lpips.net.parameters()]
    judge.train_step(lambda part: pictures(0, rough=True)[part], pictures(9, rough=False), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, lpips.net.parameters(), strict=True))
    assert sum(p.numel() for p in judge.heads.parameters()) < 300_000
