"""Networks of equation 1 (M-4, M-5, M-43)."""

import warnings
from pathlib import Path

import pytest
import torch

from modify_fl.errors import MissingWeightsError, ShapeError
from modify_fl.perceptual import FaceNet, PerceptualNets, face_crop, torch_home


def _faces(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(side)) * 2 - 1


def test_face_crop_of_an_aligned_face() -> None:
    """M-5: rows 13.7 % to 87.1 %, columns 12.5 % to 85.9 %; at 1000 pixels these are exact."""
    ramp = torch.arange(1000.0)
    rows = face_crop(ramp[None, None, :, None].expand(1, 3, 1000, 1000))
    columns = face_crop(ramp[None, None, None, :].expand(1, 3, 1000, 1000))
    assert (rows.min().item(), rows.max().item()) == (137, 870)
    assert (columns.min().item(), columns.max().item()) == (125, 858)


def test_missing_weights_are_said_and_named() -> None:
    """M-43: one warning for each replacement, and the names that go into the manifest."""
    nets = PerceptualNets.find(Path("/nowhere"))
    assert nets.lpips is None
    assert nets.face is None
    assert (nets.perceptual.name, nets.identity.name) == ("dis-features", "laplacian")
    assert len(nets.warnings) == 2
    assert "M-41" in nets.warnings[0]
    assert "M-42" in nets.warnings[1]


def test_required_weights_are_an_error() -> None:
    """M-43: ``--require-perceptual`` ends with exit code 12 and the file's name."""
    with pytest.raises(MissingWeightsError, match="alexnet") as caught:
        PerceptualNets.find(Path("/nowhere"), require=True)
    assert caught.value.exit_code == 12


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("hub/checkpoints/alexnet-owt-7be5be79.pth", "is not the AlexNet of LPIPS"),
        ("checkpoints/20180402-114759-vggface2.pt", "is not the face network"),
    ],
)
@pytest.mark.parametrize("content", ["other names", "other shapes", "no tensors", "no file of weights"])
def test_a_file_that_holds_something_else_is_one_sentence(name: str, what: str, content: str, tmp_path: Path) -> None:
    """U-44: a right name says nothing about the network inside; the sentence names the file, exit code 12."""
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    shaped = {"features.0.weight": torch.zeros(1), "conv2d_1a.conv.weight": torch.zeros(1)}
    if content == "no file of weights":
        path.write_bytes(b"<html>not found</html>")
    else:
        held = {"other names": {"weight": torch.zeros(2)}, "other shapes": shaped, "no tensors": {"a": 1}}
        torch.save(held[content], path)
    with pytest.raises(MissingWeightsError) as caught:
        PerceptualNets.find(tmp_path)
    assert caught.value.exit_code == 12
    assert caught.value.what == f"{path} {what}"
    assert "\n" not in caught.value.why
    assert "weights fetch" in caught.value.fix


def test_torch_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is that of the networks' own libraries."""
    monkeypatch.setenv("TORCH_HOME", "/somewhere")
    assert torch_home() == Path("/somewhere")
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert torch_home() == Path("/cache/torch")


@pytest.fixture(scope="module")
def nets(shared_weights: Path) -> PerceptualNets:
    """Both networks with real weights."""
    return PerceptualNets.find(shared_weights, require=True)


def test_lpips_equals_its_own_package(
    nets: PerceptualNets, shared_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M-4: the same number as the unmodified package, one per sample."""
    import lpips

    monkeypatch.setenv("TORCH_HOME", str(shared_weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips passes torchvision an old argument
        reference = lpips.LPIPS(net="alex", verbose=False)
    a, b = _faces(2, 64), _faces(2, 64).flip(0)
    assert nets.lpips is not None
    assert torch.allclose(nets.lpips(a, b), reference(a, b).flatten(), rtol=1e-4)
    assert nets.lpips(a, a).abs().max().item() == 0.0


def test_lpips_slope_is_finite_on_flat_pictures(nets: PerceptualNets) -> None:
    """Where all features are 0 the normalisation must not give NaN."""
    assert nets.lpips is not None
    flat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    nets.lpips(_faces(1, 64), flat).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    with pytest.raises(ShapeError):
        nets.lpips(_faces(1, 64), _faces(2, 64))


def test_large_pictures_are_reduced_to_256(nets: PerceptualNets) -> None:
    """M-4, M-49: above 256 pixels both pictures go through the antialiased filter first."""
    assert nets.lpips is not None
    a, b = _faces(1, 512), _faces(1, 512).flip(-1)
    small = [
        torch.nn.functional.interpolate(x, size=256, mode="bicubic", antialias=True, align_corners=False)
        for x in (a, b)
    ]
    assert torch.allclose(nets.lpips(a, b), nets.lpips(*small))


def test_face_network_knows_people(nets: PerceptualNets, shared_data: Path) -> None:
    """M-5: two photos of one person are nearer than photos of two people, for nine people in ten."""
    from modify_fl.data import load_images

    photos = load_images(shared_data / "content" / "london" / "128", resolution=128)
    assert nets.face is not None
    person = {name: Path(name).stem.split("_")[-2] for name in photos.names}  # ..._001_03.jpg
    chosen = sorted(set(person.values()))[:20]
    names = [name for name in photos.names if person[name] in chosen]
    assert len(names) == 40  # a neutral and a smiling photo of each
    codes = nets.face(photos.batch([photos.names.index(name) for name in names]))
    assert torch.allclose(codes.norm(dim=1), torch.ones(len(codes)), atol=1e-5)
    likeness = codes @ codes.T - 2 * torch.eye(len(codes))
    nearest = likeness.argmax(1).tolist()
    right = sum(person[names[i]] == person[names[j]] for i, j in enumerate(nearest))
    assert right >= 0.9 * len(names)


def test_folded_face_network_is_the_original(nets: PerceptualNets, shared_weights: Path) -> None:
    """Folding normalisation into convolutions changes no embedding by more than 1e-4."""
    from facenet_pytorch import InceptionResnetV1

    from modify_fl.networks.checkpoints import read_state_dict

    state = read_state_dict(shared_weights / "checkpoints" / "20180402-114759-vggface2.pt")
    plain = InceptionResnetV1()
    plain.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
    plain.eval()
    faces = _faces(2, 160)
    assert isinstance(nets.face, FaceNet)
    assert torch.allclose(nets.face.net(faces), plain(faces), atol=1e-4)


def test_networks_never_train(nets: PerceptualNets) -> None:
    """P-24: ``train()`` is a no-op and no parameter asks for a gradient."""
    for net in (nets.lpips, nets.face):
        assert net is not None
        net.train()
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
