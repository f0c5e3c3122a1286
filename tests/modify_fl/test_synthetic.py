"""Drawn faces: determinism, two looks, FFHQ alignment, and that a detector finds them."""

import time
import warnings

import numpy as np
import pytest

from modify_fl import synthetic
from modify_fl.errors import ConfigError
from modify_fl.synthetic import Look, draw_faces

LOOKS: tuple[Look, ...] = ("photo", "painting")


def test_public_names() -> None:
    assert synthetic.__all__ == ["Look", "draw_faces"]


@pytest.mark.parametrize("look", LOOKS)
def test_same_seed_same_bytes(look: Look) -> None:
    faces = draw_faces(look, 4, 32, 5)
    assert faces.shape == (4, 32, 32, 3)
    assert faces.dtype == np.uint8
    assert np.array_equal(faces, draw_faces(look, 4, 32, 5))
    assert not np.array_equal(faces, draw_faces(look, 4, 32, 6))


@pytest.mark.parametrize("look", LOOKS)
def test_longer_set_begins_with_the_shorter_one(look: Look) -> None:
    assert np.array_equal(draw_faces(look, 5, 32, 0)[:2], draw_faces(look, 2, 32, 0))


def test_seed_may_be_any_integer() -> None:
    assert not np.array_equal(draw_faces("photo", 1, 16, -1), draw_faces("photo", 1, 16, 2**80))


def test_no_two_faces_are_alike() -> None:
    faces = draw_faces("photo", 40, 16, 1).reshape(40, -1).astype(float)
    distance = np.abs(faces[:, None] - faces[None]).mean(-1)
    assert distance[~np.eye(40, dtype=bool)].min() > 5  # grey levels


@pytest.mark.parametrize("look", LOOKS)
def test_resolution_changes_sharpness_only(look: Look) -> None:
    # A face at 64 pixels, averaged over blocks of 2, is the face at 32 but for noise and strokes.
    small = draw_faces(look, 6, 32, 2).astype(float)
    large = draw_faces(look, 6, 64, 2).astype(float).reshape(6, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(small - large).mean() < 6


@pytest.mark.parametrize(("count", "resolution", "look"), [(-1, 32, "photo"), (1, 7, "photo"), (1, 32, "sketch")])
def test_impossible_wishes_are_refused(count: int, resolution: int, look: Look) -> None:
    with pytest.raises(ConfigError, match="cannot draw"):
        draw_faces(look, count, resolution, 0)
    assert draw_faces("photo", 0, 8, 0).shape == (0, 8, 8, 3)


def test_looks_are_two_styles_of_one_content() -> None:
    photos, paintings = (draw_faces(look, 40, 64, 3).astype(float) for look in LOOKS)
    # Style: paintings are darker, and warmer: red above blue by more.
    assert paintings.mean() < photos.mean() - 30
    warmth = [(faces[..., 0] - faces[..., 2]).mean() / faces.mean() for faces in (photos, paintings)]
    assert warmth[1] > 1.5 * warmth[0]
    # Style: the backdrop of a photo is smooth, canvas and brush leave a grain (top corners, neighbours).
    grain = [
        np.abs(np.diff(faces[:, :8, :8], axis=2)).mean() / faces[:, :8, :8].mean() for faces in (photos, paintings)
    ]
    assert grain[1] > 3 * grain[0]
    # Content: inside the face, a photo agrees with the painting of the same person more than with most others;
    # 95 % of the others on average, where chance would give 50 %.
    inside = [faces[:, 16:61, 12:52] for faces in (photos, paintings)]
    flat = [(faces - faces.mean((1, 2), keepdims=True)).reshape(40, -1) for faces in inside]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in flat]
    agreement = unit[0] @ unit[1].T
    own = np.diag(agreement)
    assert (agreement < own[:, None]).sum(1).mean() / 39 > 0.9


@pytest.mark.parametrize(("look", "resolution"), [("photo", 128), ("photo", 256), ("painting", 160)])
def test_detector_finds_faces_where_ffhq_has_them(look: Look, resolution: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns about its own use of torch
        from facenet_pytorch import MTCNN

        detector = MTCNN(device="cpu", keep_all=True)
        found = [detector.detect(face, landmarks=True) for face in draw_faces(look, 20, resolution, 11)]
    best = [points[int(np.argmax(scores))] for boxes, scores, points in found if boxes is not None]
    assert len(best) >= 18  # nine in ten
    landmarks = np.array([points.astype(float) for points in best]).mean(0) / resolution  # [5, 2], x and y
    # Of an FFHQ crop of side 4 e, with e the distance of the eyes: eyes at rows 0.47, mouth at 0.73.
    expected = [[0.38, 0.47], [0.62, 0.47], [0.5, 0.6], [0.41, 0.73], [0.6, 0.73]]
    assert np.abs(landmarks - expected).max() < 0.03


def test_drawing_is_fast() -> None:
    # Measured 43 a second on one core at 64 pixels; a quarter of that would be a defect, not a slow machine.
    draw_faces("painting", 2, 64, 0)
    start = time.process_time()  # other work on the machine does not count
    draw_faces("painting", 30, 64, 0)
    assert 30 / (time.process_time() - start) > 10
