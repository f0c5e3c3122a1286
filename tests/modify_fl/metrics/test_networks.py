"""Figures that need pretrained networks; without them there is no figure (M-43, M-44)."""

import builtins
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from modify_fl.data import ImageSet
from modify_fl.errors import MissingWeightsError, ShapeError
from modify_fl.metrics.collector import Collector, as_images
from modify_fl.metrics.distances import frechet_distance, kid
from modify_fl.metrics.inception import INCEPTION, Inception
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import compare, compare_nearest, compare_reconstructions, pairwise_lpips
from modify_fl.perceptual import PerceptualNets
from modify_fl.synthetic import draw_faces


def faces(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.stack(list(draw_faces("photo", count, side, seed)))


@pytest.fixture(scope="module")
def instruments(shared_weights: Path) -> Instruments:
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    return Instruments.find(shared_weights, require=True)


def picture_set(count: int, seed: int = 0) -> ImageSet:
    pixels = torch.from_numpy(faces(count, seed=seed)).permute(0, 3, 1, 2).contiguous()
    return ImageSet.of(pixels, [f"{index}.png" for index in range(count)])


def test_missing_weights_leave_no_figure(tmp_path: Path) -> None:
    """M-43: not available, and never 0."""
    nothing = Instruments.find(tmp_path)
    assert set(nothing.missing) == {"inception", "lpips", "face"}
    assert nothing.records == {}
    styled, plain = Collector(instruments=nothing, seeds=(0, 1)), Collector(instruments=nothing)
    styled.add(faces(4).reshape(2, 2, 32, 32, 3))
    plain.add(faces(2)[:, None])
    found = {**styled.distances(None, seed=0), **styled.diversity(seed=0), **styled.identity(plain, seed=0)}
    assert len(found) == 5
    for figure in found.values():
        assert (figure.value, figure.low, figure.high, figure.n) == (None, None, None, 4)
        assert figure.note.startswith("not available: ")
    assert styled.least_alike(plain, 3) == []
    assert styled.likeness(plain) is None


def test_missing_weights_can_be_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        Instruments.find(tmp_path, require=True)
    assert caught.value.exit_code == 12


def test_missing_inception_names_the_file(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    with pytest.raises(MissingWeightsError, match=INCEPTION.name) as caught:
        Inception.load(tmp_path)
    assert "TORCH_HOME" in caught.value.fix


def test_another_network_under_the_name_of_inception_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, of the extra evaluate")
    path = tmp_path / INCEPTION
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(MissingWeightsError, match="is not the 2015 Inception") as caught:
        Inception.load(tmp_path)
    assert (caught.value.exit_code, "weights fetch" in caught.value.fix) == (12, True)


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "torch_fidelity":
            raise ImportError("No module named 'torch_fidelity'")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingWeightsError, match="torch-fidelity") as caught:
        Inception.load(tmp_path)
    assert (caught.value.exit_code, caught.value.fix) == (12, "run pip install 'modify-fl[evaluate]'")


def test_inception_equals_its_own_package(instruments: Instruments, shared_weights: Path) -> None:
    from torch_fidelity import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(shared_weights / INCEPTION))
    pixels = faces(3)
    assert instruments.inception is not None
    ours = instruments.inception.features(pixels)
    assert ours.shape == (3, 2048)
    assert torch.allclose(ours, net(torch.from_numpy(pixels).permute(0, 3, 1, 2))[0], atol=1e-4)
    with pytest.raises(ShapeError):
        instruments.inception.features(pixels.astype(np.float32))


def test_fast_inception_moves_no_figure(instruments: Instruments, shared_weights: Path) -> None:
    """M-46: folded and laid out anew it is the same extractor; KID x 1000 may move by 0.05 at most."""
    from torch_fidelity import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(shared_weights / INCEPTION))
    sets = [np.stack(list(draw_faces(look, 12, 32, 5))) for look in ("photo", "painting")]
    assert instruments.inception is not None
    ours = [instruments.inception.features(pixels) for pixels in sets]
    theirs = [net(torch.from_numpy(pixels).permute(0, 3, 1, 2))[0] for pixels in sets]
    fast, plain = (kid(*features, photos=12, seed=0) for features in (ours, theirs))
    assert fast.value is not None
    assert plain.value is not None
    assert abs(plain.value) > 1
    assert fast.value == pytest.approx(plain.value, abs=0.05)
    assert (fast.low, fast.high) == pytest.approx((plain.low, plain.high), abs=0.05)
    assert frechet_distance(*ours) == pytest.approx(frechet_distance(*theirs), abs=0.05)


def test_identity_network_is_another_one(instruments: Instruments, shared_weights: Path) -> None:
    """M-44: not the one that was trained with."""
    assert instruments.records["face"].name == "facenet-casia-webface"
    other = Instruments.find(shared_weights, trained_identity="facenet-casia-webface")
    assert other.records["face"].name == "facenet-vggface2"


def test_collector_measures_photo_by_photo(instruments: Instruments) -> None:
    photos, reference = faces(4), faces(6, seed=9)
    pictures = np.stack([photos, photos[:, :, ::-1]], axis=1)  # each photo and its mirror image
    styled, plain, others = (Collector(instruments=instruments, seeds=seeds) for seeds in ((3, 4), (), ()))
    for start in (0, 2):
        styled.add(pictures[start : start + 2])
        plain.add(photos[start : start + 2, None])
    others.add(reference[:, None])
    found = {
        **styled.distances(others.features, seed=0), **styled.diversity(seed=0), **styled.identity(plain, seed=0)
    }  # fmt: skip
    assert all(figure.value is not None for figure in found.values())
    assert {figure.n for figure in found.values()} == {8}
    assert {figure.seeds for figure in found.values()} == {(3, 4)}
    assert (found["kid"].reference, found["kid"].resolution) == (6, 32)
    assert found["identity_cosine"].value == pytest.approx(1, abs=0.3)
    assert sorted(styled.least_alike(plain, 9)) == [0, 1, 2, 3]
    likeness = styled.likeness(plain)
    assert likeness is not None
    assert (sum(likeness.own), sum(likeness.others)) == (8, 24)
    assert plain.diversity(seed=0)["lpips_diversity"].note == "not available: it needs two styles or more"
    with pytest.raises(ShapeError):
        styled.add(pictures[:, :1])


def test_part_of_a_collector_is_what_those_photos_alone_would_give(instruments: Instruments) -> None:
    photos = faces(5)
    pictures = np.stack([photos, photos[:, :, ::-1]], axis=1)
    whole, alone = (Collector(instruments=instruments, seeds=(0, 1)) for _ in range(2))
    whole.add(pictures)
    alone.add(pictures[[1, 3]])
    part = whole.part([1, 3])
    assert part.features is not None
    assert part.embeddings is not None
    torch.testing.assert_close(part.features, alone.features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(part.embeddings, alone.embeddings, rtol=1e-4, atol=1e-4)
    assert part.diversity(seed=0)["lpips_diversity"].value == pytest.approx(
        alone.diversity(seed=0)["lpips_diversity"].value, rel=1e-4
    )
    assert part.diversity(seed=0)["lpips_diversity"].n == 4


def test_diversity_is_the_mean_over_pairs(shared_weights: Path) -> None:
    lpips = PerceptualNets.find(shared_weights).lpips
    assert lpips is not None
    images = as_images(faces(4))
    pairs = [float(lpips(images[i : i + 1], images[j : j + 1])) for i, j in itertools.combinations(range(4), 2)]
    assert pairwise_lpips(lpips, images) == pytest.approx(sum(pairs) / 6, rel=1e-4)
    with pytest.raises(ShapeError):
        pairwise_lpips(lpips, images[:1])


def test_reconstruction_by_hand() -> None:
    """A picture that is off by 0.5 everywhere: L1 0.5, PSNR 10 log10(4 / 0.25) = 12.04 dB."""
    target = torch.zeros(2, 3, 32, 32)
    found = compare(target, target + 0.5, None)
    assert found.lpips is None
    assert torch.allclose(found.l1, torch.full((2,), 0.5))
    assert found.psnr.tolist() == pytest.approx([12.0412, 12.0412], abs=1e-3)


def test_reconstructions_go_through_in_batches() -> None:
    images = picture_set(18)
    found = compare_reconstructions(images, lambda pictures: pictures, None)
    assert found.l1.shape == (18,)
    assert float(found.l1.max()) == 0


def test_nearest_training_picture_is_found() -> None:
    training, images = picture_set(12), picture_set(12).subset([7, 2])
    assert compare_nearest(images, training, None).l1.tolist() == [0, 0]
    apart = compare_nearest(images, training.subset([0, 1]), None)
    assert float(apart.l1.min()) > 0
