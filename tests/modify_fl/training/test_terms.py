"""Image terms and what stands in for missing networks (M-41 to M-43)."""

from pathlib import Path

import torch

from modify_fl import losses
from modify_fl.networks.discriminator import Discriminator, build_discriminator
from modify_fl.perceptual import PerceptualNets, face_crop
from modify_fl.training.runtime import resolve
from modify_fl.training.terms import ImageTerms
from tests.modify_fl.training.conftest import NETWORK, RUNTIME


def _terms(nets: PerceptualNets, features: Discriminator | None = None, **weights: float) -> ImageTerms:
    base = {"lambda_r": 0.8, "lambda_l1": 0.0, "lambda_lp": 0.8, "lambda_id": 1.0}
    return ImageTerms(nets=nets, features=features, compute=resolve(RUNTIME), **(base | weights))


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return a, a.flip(-1)


def test_features_of_dis_stand_in(no_nets: PerceptualNets) -> None:
    """M-41: weight lambda_lp times the distance of the middle blocks' features."""
    critic = build_discriminator(NETWORK, 0)
    a, b = _pair()
    got = _terms(no_nets, critic)(a, b)["lp"]
    wanted = losses.feature_distance(critic.features(a)[0], critic.features(b)[0])
    assert torch.allclose(got, 0.8 * wanted)
    assert _terms(no_nets, critic).perceptual_record.name == "dis-features"


def test_nothing_stands_in_without_a_critic(no_nets: PerceptualNets) -> None:
    """A bundle without critic and no LPIPS: the term is absent and named so, never a silent guess."""
    terms = _terms(no_nets)
    assert terms(*_pair())["lp"].tolist() == [0.0, 0.0]
    assert terms.perceptual_record.name == "none"


def test_laplacian_stands_in_for_identity(no_nets: PerceptualNets) -> None:
    """M-42: three bands of the face crop, weight 0.5."""
    a, b = _pair()
    got = _terms(no_nets).likeness(a, b)["id"]
    assert torch.allclose(got, 0.5 * losses.laplacian(face_crop(a), face_crop(b)))


def test_identity_is_left_out_or_scaled(no_nets: PerceptualNets) -> None:
    """M-31: every second step, doubled."""
    a, b = _pair()
    terms = _terms(no_nets)
    assert "id" not in terms(a, b)
    assert terms.likeness(a, b, identity_scale=0) == {}
    assert torch.allclose(terms.likeness(a, b, identity_scale=2)["id"], 2 * terms.likeness(a, b)["id"])


def test_weights_of_zero_cost_nothing(no_nets: PerceptualNets) -> None:
    """Terms that are switched off are not computed."""
    terms = _terms(no_nets, lambda_lp=0.0, lambda_id=0.0)
    assert set(terms(*_pair())) == {"r"}
    assert terms.likeness(*_pair()) == {}


def test_target_carries_no_gradient(no_nets: PerceptualNets) -> None:
    """M-5, M-41: features of the target are constants."""
    critic = build_discriminator(NETWORK, 0)
    a, b = _pair()
    b.requires_grad_()
    terms = _terms(no_nets, critic)
    sum(v.sum() for v in (terms(a, b) | terms.likeness(a, b)).values()).backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0


def test_real_networks_take_part(shared_weights: Path) -> None:
    """With weights at hand L_lp is LPIPS and L_id the face network's cosine."""
    nets = PerceptualNets.find(shared_weights)
    a, b = _pair()
    terms = _terms(nets)(a, b) | _terms(nets).likeness(a, b)
    assert nets.lpips is not None
    assert nets.face is not None
    assert torch.allclose(terms["lp"], 0.8 * nets.lpips(a, b))
    assert torch.allclose(terms["id"], losses.identity(nets.face(a), nets.face(b)))
