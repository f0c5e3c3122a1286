"""M-25, M-26: which style a picture gets."""

import numpy as np
import pytest
import torch

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.model import StyleModel
from modify_fl.styles import Between, Controls, Mixed, Reference, Seeded, between, draw_rows, seeded


@pytest.fixture(scope="module")
def model() -> StyleModel:
    config = NetworkConfig(
        resolution=32, w_dim=16, z_dim=16, channel_base=256, channel_max=16, enc_base=256, enc_max=16, pyramid=16,
        trunk=16, remap_width=16,
    )  # fmt: skip
    built = StyleModel.build(config, 3)
    torch.nn.init.normal_(built.remapping.offset, generator=torch.Generator().manual_seed(0))
    return built.eval().requires_grad_(requires_grad=False)


def test_a_seed_names_a_style(model: StyleModel) -> None:
    rows = draw_rows(model, 7)
    assert rows.shape == (1, 4, 16)
    assert torch.equal(Seeded(7).rows(model), rows)
    assert not torch.equal(draw_rows(model, 8), rows)
    assert [style.mark for style in seeded([3, 12])] == ["s3", "s12"]


def test_truncation_goes_to_what_all_styles_share(model: StyleModel) -> None:
    none = [Seeded(seed).rows(model, 0.0) for seed in (1, 2)]
    assert torch.allclose(none[0], none[1])
    half = Seeded(1).rows(model, 0.5)
    assert torch.allclose(half, (draw_rows(model, 1) + none[0]) / 2, atol=1e-6)


def test_the_way_between_two_styles_has_both_ends(model: StyleModel) -> None:
    way = between(3, 7, 5)
    assert [style.mark for style in way] == ["s3to7-000", "s3to7-025", "s3to7-050", "s3to7-075", "s3to7-100"]
    first, last = draw_rows(model, 3), draw_rows(model, 7)
    assert torch.allclose(way[0].rows(model), first)
    assert torch.allclose(way[-1].rows(model), last)
    assert torch.allclose(way[2].rows(model), (first + last) / 2, atol=1e-6)
    with pytest.raises(ConfigError):
        between(3, 7, 1)


def test_a_mixture_has_the_coarse_rows_of_one_and_the_fine_rows_of_the_other(model: StyleModel) -> None:
    coarse, fine = draw_rows(model, 3), draw_rows(model, 7)
    mixed = Mixed(3, 7).rows(model)
    assert torch.equal(mixed[:, :2], coarse[:, :2])
    assert torch.equal(mixed[:, 2:], fine[:, 2:])
    assert torch.equal(Mixed(3, 7, 0).rows(model), fine)
    assert torch.equal(Mixed(3, 7, 4).rows(model), coarse)
    with pytest.raises(ConfigError) as caught:
        Mixed(3, 7, 5).rows(model)
    assert caught.value.expected == "0 to 4"


def test_a_reference_lends_its_own_style_rows(model: StyleModel) -> None:
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    picture = torch.from_numpy(face).permute(2, 0, 1)[None].float().div(127.5).sub(1)
    reference = Reference("me", face)
    assert torch.equal(reference.rows(model), model.encode(picture)[:, 4:])
    assert reference.mark == "r-me"
    assert reference.identity != Reference("me", 255 - face).identity  # one mark, two pictures
    large = np.asarray(np.kron(face, np.ones((2, 2, 1), np.uint8)))
    assert Reference("me", large).rows(model).shape == (1, 4, 16)


@pytest.mark.parametrize("wrong", [{"strength": 1.1}, {"truncation": -0.1}, {"width": -1}])
def test_controls_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Controls(**wrong)  # type: ignore[arg-type]


def test_no_more_rows_than_the_style_was_trained_for() -> None:
    Controls(xi=4).check(4)
    with pytest.raises(ConfigError) as caught:
        Controls(xi=5).check(4)
    assert caught.value.expected == "0 to 4"


def test_marks_differ() -> None:
    marks = [
        style.mark
        for style in (
            Seeded(3),
            Between(3, 7, 0.5),
            Mixed(3, 7),
            Mixed(3, 7, 1),
            Reference("a", np.zeros((1, 1, 3), np.uint8)),
        )
    ]
    assert len(set(marks)) == 5
