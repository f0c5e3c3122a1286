"""Faces that are nobody's: moments of codes, draws and pictures (ADR 7)."""

from pathlib import Path

import pytest
import torch
from basekit import TINY_NETWORK, tiny_base

from modify_fl.base.card import find_base
from modify_fl.base.faces import RANK, FaceCodes
from modify_fl.base.start import load_base
from modify_fl.config import PRESETS
from modify_fl.data import load_images
from modify_fl.errors import ShapeError
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from tools.train_release import SOURCES, held_out, person


def _codes(count: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    scale = torch.linspace(0.1, 2, 8 * 16).view(8, 16)
    return 0.5 + scale * torch.randn(count, 8, 16, generator=draws)  # [count, n, W]


def test_draws_have_the_moments_of_the_codes() -> None:
    """Mean and standard deviation, the latter times 0.9, of all rows."""
    codes = _codes(4000)
    drawn = FaceCodes.measure(codes).draw(4000, seed=2)
    assert drawn.shape == codes.shape
    assert torch.allclose(drawn.mean(0), codes.mean(0), atol=0.12)
    assert torch.allclose(drawn.std(0), 0.9 * codes.std(0), rtol=0.12)


def test_a_seed_gives_the_same_people() -> None:
    faces = FaceCodes.measure(_codes(50))
    assert torch.equal(faces.draw(5, seed=3), faces.draw(5, seed=3))
    assert not torch.equal(faces.draw(5, seed=3), faces.draw(5, seed=4))


def test_few_codes_span_few_directions_and_one_spans_none() -> None:
    faces = FaceCodes.measure(_codes(4))
    lengths = faces.factor.flatten(1).norm(dim=1)
    assert len(lengths) == RANK
    assert (lengths[:3] > 0.1).all()
    assert (lengths[3:] < 1e-4).all()
    with pytest.raises(ShapeError, match="moments need codes"):
        FaceCodes.measure(_codes(1))


def test_no_drawn_code_is_one_of_those_measured() -> None:
    """The nearest measured code is no nearer to a draw than measured codes are to each other."""
    codes = _codes(300)
    faces = FaceCodes.measure(codes).draw(100, seed=0)
    between = torch.cdist(codes.flatten(1), codes.flatten(1)).fill_diagonal_(torch.inf).min(1).values
    nearest = torch.cdist(faces.flatten(1), codes.flatten(1)).min(1).values
    assert nearest.min() > 0.5 * between.min()


def test_a_base_paints_people_with_its_own_generator(tmp_path: Path) -> None:
    start = load_base(tiny_base(tmp_path), TINY_NETWORK)
    model, critic = StyleModel.build(TINY_NETWORK, 0), build_discriminator(TINY_NETWORK, 0)
    start.apply(model, critic)
    people = start.people(model.generator, 5, seed=1)
    assert people is not None
    assert people.shape == (5, 3, 32, 32)
    assert people.dtype == torch.uint8
    assert torch.equal(people, start.people(model.generator, 5, seed=1))
    assert start.people(model.generator, 0, seed=1) is None


def test_people_of_the_shipped_base_are_nobody_it_was_trained_on(shared_data: Path, shared_weights: Path) -> None:
    """A face network finds them no nearer to a training photo than photos of different people are to each other.

    Unit: one drawn face against one photo of the base's congress set, cosine of
    casia-webface embeddings, which no training used. It shows no memory of a
    face; it is no bound on what the base remembers.
    """
    card = find_base(PRESETS["quick-64"].network)
    assert card is not None
    model, critic = StyleModel.build(card.network, 0).eval(), build_discriminator(card.network, 0)
    start = load_base(card, card.network)
    start.apply(model, critic)
    people = start.people(model.generator, 40, seed=1)
    assert people is not None
    photos = load_images(shared_data / "content/congress/128", resolution=64)
    trained = [i for i, name in enumerate(photos.names) if not held_out(name, SOURCES["content/congress"])][:240]
    names = [person(photos.names[i]) for i in trained]
    face = PerceptualNets.find(shared_weights, identity="casia-webface").face
    assert face is not None
    with torch.no_grad():
        known = torch.cat([face(photos.batch(trained[at : at + 16])) for at in range(0, len(trained), 16)])
        drawn = torch.cat([face(chunk.float().div(127.5).sub(1)) for chunk in people.split(16)])
    same = torch.tensor([[a == b for b in names] for a in names])
    others = (known @ known.T).masked_fill(same, -1.0).max(1).values
    nearest = (drawn @ known.T).max(1).values
    assert nearest.median() <= others.median() + 0.02
    assert nearest.max() <= others.max()
