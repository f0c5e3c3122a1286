"""Spaces for distances (P-74) and near-duplicates (P-72)."""

from pathlib import Path

import pytest
import torch

from modify_fl.data import ImageSet, load_images
from modify_fl.metrics.duplicates import works
from modify_fl.metrics.spaces import Spaces, distances, high_pass
from modify_fl.perceptual import PerceptualNets


def test_lpips_is_a_square_distance_of_its_space(shared_weights: Path) -> None:
    nets = PerceptualNets.find(shared_weights)
    assert nets.lpips is not None
    pictures = load_images("synthetic", resolution=64, limit=3).batch([0, 1, 2])
    spaces = Spaces(lpips=nets.lpips, face=None)
    assert spaces.names == ("pixels", "LPIPS")
    vectors = spaces.embed(pictures)["LPIPS"]
    squared = distances(vectors, vectors).square()
    assert float(squared[0, 1]) == pytest.approx(float(nets.lpips(pictures[:1], pictures[1:2])), rel=1e-3)


def test_pixels_are_compared_by_their_root_mean_square() -> None:
    spaces = Spaces(lpips=None, face=None)
    assert spaces.names == ("pixels", "details")
    vectors = spaces.embed(torch.stack([torch.zeros(3, 64, 64), torch.full((3, 64, 64), 0.5)]))
    assert float(distances(vectors["pixels"], vectors["pixels"])[0, 1]) == pytest.approx(0.5, rel=1e-3)
    assert vectors["details"].abs().max() < 1e-3  # a picture of one colour has none


def test_details_ignore_brightness_and_contrast() -> None:
    pictures = load_images("synthetic", resolution=32, limit=2).batch([0, 1])
    same = (high_pass(pictures) * high_pass(0.5 * pictures + 0.2)).sum(1)
    assert torch.allclose(same, torch.ones(2), atol=1e-4)


def test_copies_of_a_work_are_found_and_other_faces_are_not() -> None:
    images = load_images("synthetic", resolution=64, look="painting", limit=12)
    pixels = images.images
    darker = (pixels[:2].float() * 0.8).to(torch.uint8)
    copies = torch.cat([pixels, pixels[3:4].flip(-1), darker, pixels[4:5].roll(2, 3)])
    found = works(ImageSet.of(copies, [f"{i}.png" for i in range(16)]))
    assert found[:12] == list(range(12))
    assert found[12:] == [3, 0, 1, 4]


def test_faces_of_one_object_belong_together_by_their_names() -> None:
    """MetFaces writes object and face into the name."""
    images = load_images("synthetic", resolution=32, look="painting", limit=4)
    named = ImageSet.of(images.images, ["images/12-00.png", "images/13-00.png", "images/12-01.png", "images/x-01.png"])
    assert works(named) == [0, 1, 0, 3]
    assert works(images.subset([])) == []
