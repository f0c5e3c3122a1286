"""U-50, U-51: a style in use from Python."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modify_fl.config import Runtime
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import ConfigError, DataError
from modify_fl.perceptual import PerceptualNets
from modify_fl.style import Style
from modify_fl.styles import Controls, Mixed, Seeded, seeded
from modify_fl.synthetic import draw_faces
from protocol.provider import read_provider_key
from protocol.trust import TrustStore

R = 32


@pytest.fixture(scope="module")
def style(studio: Path) -> Style:
    trust = TrustStore.of(read_provider_key(studio / "keys" / "studio.mdfykey"))
    return Style.load(studio / "style.mdfy", trust=trust)


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    photo = np.full((190, 330, 3), 190, np.uint8)
    for left, person in zip((20, 180), draw_faces("photo", 2, 130, 1), strict=True):
        photo[30:160, left : left + 130] = person
    return photo


def _faces(count: int) -> torch.Tensor:
    return load_images("synthetic", resolution=R, limit=count).batch(range(count))


def test_a_photo_in_two_lines(style: Style, group: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(group).save(tmp_path / "me.png")
    result = style.stylize(tmp_path / "me.png", seed=1, strength=0.8)
    assert len(result.faces) == 2
    assert result.painted.shape == (1, 2, R, R, 3)
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        out = np.asarray(image)
    assert out.shape == group.shape
    assert (out[:, 160:170] == group[:, 160:170]).all()
    assert (out != group).any()


def test_each_style_gives_its_own_picture(style: Style, group: np.ndarray) -> None:
    result = style.stylize(group, seed=(1, 2), faces="largest")
    assert len(result.pictures) == 2
    assert (result.pictures[0] != result.pictures[1]).any()
    alone = style.stylize(group, styles=[Seeded(2)], faces="largest")
    assert (alone.pictures[0] == result.pictures[1]).all()
    assert style.stylize(group, styles=[Mixed(1, 2)]).styles == (Mixed(1, 2),)


def test_an_aligned_face_as_a_tensor_is_taken_whole(style: Style) -> None:
    face = _faces(1)
    result = style.stylize(face, seed=3)
    assert result.faces == ()
    expected = style.paint(face, seeded([3]))
    assert np.abs(result.pictures[0] / 127.5 - 1 - expected[0, 0].permute(1, 2, 0).numpy()).max() < 0.01


def test_refining_lowers_the_loss_of_every_face(style: Style, group: np.ndarray) -> None:
    result = style.stylize(group, seed=1, refine=4)
    assert len(result.losses) == 2
    assert all(last < first for first, last in result.losses)
    plain = style.stylize(group, seed=1)
    assert plain.losses == ()
    assert (plain.pictures[0] != result.pictures[0]).any()
    with pytest.raises(ConfigError):
        style.refined(_faces(1), steps=0)


def test_refining_begins_with_the_adapter_that_is_there(style: Style) -> None:
    face, nets = _faces(1), PerceptualNets()
    once = style.refined(face, steps=6, nets=nets, threads=1)
    twice = once.style.refined(face, steps=6, nets=nets, threads=1)
    assert twice.first_loss == pytest.approx(once.last_loss, rel=1e-4)


def test_a_face_gets_the_same_bits_in_any_company(style: Style) -> None:
    """M-40: batches have one size whoever is in them."""
    faces = _faces(style.portion + 3)
    both = style.paint(faces, seeded([1, 2]))
    assert both.shape == (2, len(faces), 3, R, R)
    for index in (0, 5, style.portion, len(faces) - 1):
        assert torch.equal(style.paint(faces[index : index + 1], seeded([1, 2]))[:, 0], both[:, index])
    assert style.paint(faces[:0], seeded([1])).shape == (1, 0, 3, R, R)


def test_kept_colours_are_those_of_the_face(style: Style) -> None:
    faces = _faces(2)
    painted = style.paint(faces, seeded([1]), Controls(preserve_color=True))[0]
    far = style.paint(faces, seeded([1]))[0]
    gaps = [(pictures.mean((2, 3)) - faces.mean((2, 3))).abs().max() for pictures in (painted, far)]
    assert gaps[0] < 0.08 < gaps[1]


def test_adapting_changes_the_encoder_alone(style: Style, tmp_path: Path) -> None:
    photos = load_images("synthetic", resolution=R, limit=8)
    runtime = Runtime(device="cpu", threads=1, precision="fp32")
    adapted = style.adapt(photos, budget="3steps", runtime=runtime)
    face = photos.batch([0])
    assert not torch.equal(adapted.reconstruct(face), style.reconstruct(face))
    assert torch.equal(adapted.style_rows(1), style.style_rows(1))
    Image.new("RGB", (60, 60), "grey").save(tmp_path / "wall.png")
    with pytest.raises(DataError, match="none of the pictures"):
        style.adapt(tmp_path, budget="1steps", runtime=runtime)
    assert isinstance(photos, ImageSet)


def test_another_template_is_refused_where_faces_are_to_be_aligned(style: Style, group: np.ndarray) -> None:
    """U-62."""
    facts = style.loaded.bundle
    model = replace(facts.manifest.model, alignment_sha256="0" * 64)
    other = Style(replace(style.loaded, bundle=replace(facts, manifest=replace(facts.manifest, model=model))))
    with pytest.raises(ConfigError) as caught:
        other.stylize(group)
    assert "--no-align" in caught.value.fix
    assert other.stylize(group, align=False).faces == ()
