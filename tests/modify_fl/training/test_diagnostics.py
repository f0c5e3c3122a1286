"""Signs of collapse, sample pictures, held-out figures (M-43, M-44, M-54)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modify_fl.config import Preset
from modify_fl.data import ImageSet
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.diagnostics import SampleBoard, style_spread
from modify_fl.training.evaluation import reconstruction_report
from modify_fl.training.runtime import resolve
from modify_fl.training.terms import ImageTerms
from tests.modify_fl.training.conftest import NETWORK, RUNTIME


@pytest.fixture
def terms(no_nets: PerceptualNets) -> ImageTerms:
    """The fallback terms on a small critic."""
    return ImageTerms(
        nets=no_nets, features=build_discriminator(NETWORK, 0), compute=resolve(RUNTIME), lambda_r=1.0, lambda_l1=0.0,
        lambda_lp=1.0, lambda_id=0.0,
    )  # fmt: skip


def test_spread_of_equal_styles_is_zero(terms: ImageTerms) -> None:
    """M-54: pairwise distance over styles, mean over pictures."""
    pictures = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert style_spread(pictures, terms) == 0
    assert style_spread(pictures.expand(3, -1, -1, -1, -1), terms) == pytest.approx(0, abs=1e-6)
    assert style_spread(torch.cat([pictures, -pictures]), terms) > 0.01


def test_collapsed_m_is_reported(tmp_path: Path, paintings: ImageSet, terms: ImageTerms) -> None:
    """M-54: when all z give one style the board warns; with a wide M it does not."""
    board = SampleBoard(paintings, NETWORK, 0)
    model = StyleModel.build(NETWORK, 0).requires_grad_(requires_grad=False)
    model.remapping.last.weight.zero_()
    warnings = board.write(model, terms, tmp_path, 16, remapped=True)
    assert any("styles drawn by M hardly differ" in w for w in warnings)
    wide = StyleModel.build(NETWORK, 0).requires_grad_(requires_grad=False)
    wide.remapping.last.weight.mul_(3)
    assert not any("hardly differ" in w for w in board.write(wide, terms, tmp_path, 32, remapped=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000016.png", "00000032.png"]


def test_equal_style_codes_are_reported(tmp_path: Path, paintings: ImageSet, terms: ImageTerms) -> None:
    """M-54: the variance of w_h fell below 1 % of its best."""
    board = SampleBoard(paintings, NETWORK, 0)
    model = StyleModel.build(NETWORK, 0).requires_grad_(requires_grad=False)
    assert board.write(model, terms, tmp_path, 16, remapped=False) == ()
    for head in model.encoder.heads:  # type: ignore[union-attr]
        head.weight.zero_()
    assert any("have become equal" in w for w in board.write(model, terms, tmp_path, 32, remapped=False))


@pytest.mark.parametrize(("seen", "due"), [(16, False), (2000, True), (2008, True), (2016, False), (5000, True)])
def test_board_is_due_every_two_kimg_and_at_the_end(seen: int, due: bool) -> None:
    """M-54, with batches of 16 and a run of 5000 images."""
    assert SampleBoard.due(seen, 16, 5000) is due


def test_report_without_networks_says_so(
    tiny: Callable[..., Preset], paintings: ImageSet, no_nets: PerceptualNets
) -> None:
    """M-43: a figure whose network is missing is none, never 0."""
    model = StyleModel.build(NETWORK, 0)
    report = reconstruction_report(model, paintings, no_nets)
    assert report["lpips"] is None
    assert report["identity"] is None
    assert report["count"] == 12
    pictures = paintings.batch(list(range(12)))
    with torch.no_grad():
        error = (model.decode(model.encode(pictures)).clamp(-1, 1) - pictures).abs().mean().item()
    assert report["l1"] == pytest.approx(error, rel=1e-4)


def test_report_with_networks(shared_weights: Path, paintings: ImageSet) -> None:
    """M-44: LPIPS and the identity cosine of held-out pictures."""
    report = reconstruction_report(StyleModel.build(NETWORK, 0), paintings, PerceptualNets.find(shared_weights))
    assert report["lpips"] is not None
    assert 0 < report["lpips"] < 2
    assert report["identity"] is not None
    assert -1 <= report["identity"] <= 1
