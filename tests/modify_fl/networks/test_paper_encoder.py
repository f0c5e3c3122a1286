"""The paper's IR-SE50 encoder (M-20)."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.config import NetworkConfig, preset
from modify_fl.networks.encoder import fold_gains
from modify_fl.networks.layers import EqualLinear
from modify_fl.networks.paper_encoder import PaperEncoder, fold_batchnorm


def _names(rows: int, sides: tuple[int, ...]) -> Iterator[str]:
    # The names of pSp's GradualStyleEncoder(50, "ir_se"), written down from its layout.
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    yield "input_layer.0.weight"
    yield from (f"input_layer.1.{n}" for n in norm)
    yield "input_layer.2.weight"
    firsts = {3, 7, 21}  # blocks that change the number of channels: stages of 3, 4, 14, 3
    for block in range(24):
        if block in firsts:
            yield f"body.{block}.shortcut_layer.0.weight"
            yield from (f"body.{block}.shortcut_layer.1.{n}" for n in norm)
        yield from (f"body.{block}.res_layer.0.{n}" for n in norm)
        yield from (f"body.{block}.res_layer.{i}.weight" for i in (1, 2, 3))
        yield from (f"body.{block}.res_layer.4.{n}" for n in norm)
        yield from (f"body.{block}.res_layer.5.fc{i}.weight" for i in (1, 2))
    for row in range(rows):
        side = sides[(row >= 3) + (row >= 7)]
        for conv in range(side.bit_length() - 1):
            yield from (f"styles.{row}.convs.{2 * conv}.{n}" for n in ("weight", "bias"))
        yield from (f"styles.{row}.linear.{n}" for n in ("weight", "bias"))
    yield from (f"latlayer{i}.{n}" for i in (1, 2) for n in ("weight", "bias"))


def test_size_and_names_are_those_of_psp() -> None:
    # M-20, M-31: about 267 million parameters at n = 18.
    with torch.device("meta"):
        encoder = PaperEncoder(preset("paper-1024").network)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(267e6, rel=0.01)
    assert set(encoder.state_dict()) == set(_names(18, (16, 32, 64)))


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_every_resolution_builds(resolution: int) -> None:
    # M-13
    config = NetworkConfig(resolution=resolution, encoder="ir-se50", w_dim=24)
    with torch.device("meta"):
        code = PaperEncoder(config)(torch.empty(2, 3, resolution, resolution))
    assert code.shape == (2, 2 * (resolution.bit_length() - 1) - 2, 24)


def _affine(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return functional.batch_norm(
        x, *(state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")), training=False
    )


def _reference(state: dict[str, Tensor], x: Tensor, rows: int) -> Tensor:
    # pSp's forward pass, straight from the names.
    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)

    x = functional.prelu(_affine(conv(x, "input_layer.0"), state, "input_layer.1"), state["input_layer.2.weight"])
    taps = []
    for block in range(24):
        name, stride = f"body.{block}", 2 if block in {0, 3, 7, 21} else 1
        if f"{name}.shortcut_layer.0.weight" in state:
            skip = _affine(conv(x, f"{name}.shortcut_layer.0", stride, 0), state, f"{name}.shortcut_layer.1")
        else:
            skip = x[:, :, ::stride, ::stride]
        y = conv(_affine(x, state, f"{name}.res_layer.0"), f"{name}.res_layer.1")
        y = conv(functional.prelu(y, state[f"{name}.res_layer.2.weight"]), f"{name}.res_layer.3", stride)
        y = _affine(y, state, f"{name}.res_layer.4")
        squeezed = functional.adaptive_avg_pool2d(y, 1)
        squeezed = conv(conv(squeezed, f"{name}.res_layer.5.fc1", 1, 0).relu(), f"{name}.res_layer.5.fc2", 1, 0)
        x = y * squeezed.sigmoid() + skip
        taps += [x] if block in {6, 20, 23} else []
    fine, middle, coarse = taps
    double = {"scale_factor": 2, "mode": "bilinear", "align_corners": True}
    middle = functional.interpolate(coarse, **double) + conv(middle, "latlayer1", 1, 0)
    fine = functional.interpolate(middle, **double) + conv(fine, "latlayer2", 1, 0)
    out = []
    for row in range(rows):
        y = (coarse, middle, fine)[(row >= 3) + (row >= 7)]
        for layer in range(y.shape[-1].bit_length() - 1):
            y = functional.leaky_relu(conv(y, f"styles.{row}.convs.{2 * layer}", 2), 0.01)
        weight = state[f"styles.{row}.linear.weight"]
        out.append(y.flatten(1) @ weight.t() / weight.shape[1] ** 0.5 + state[f"styles.{row}.linear.bias"])
    return torch.stack(out, 1)


@pytest.fixture(scope="module")
def encoder() -> PaperEncoder:
    # Statistics as after training: anything but 0 and 1.
    torch.manual_seed(1)
    encoder = PaperEncoder(NetworkConfig(resolution=32, encoder="ir-se50", w_dim=16)).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return encoder.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def test_forward_is_that_of_psp(encoder: PaperEncoder, pictures: Tensor) -> None:
    expected = _reference(encoder.state_dict(), pictures, 8)
    assert (encoder(pictures) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_folding_fixes_the_statistics(encoder: PaperEncoder, pictures: Tensor) -> None:
    # M-19, M-20: same outputs to 1e-6; nothing is left that a training mode could
    # change, and no integer counter that a bundle could not carry. Float64
    # keeps the rounding of fifty layers out of the comparison.
    encoder, pictures = encoder.double(), pictures.double()
    before = encoder(pictures)
    assert not encoder.folded
    fold_gains(encoder)
    assert encoder.folded
    after = encoder(pictures)
    assert (after - before).abs().max() <= 1e-6 * before.abs().max()
    assert torch.equal(encoder.train()(pictures), after)
    assert all(value.is_floating_point() for value in encoder.state_dict().values())
    assert not any(isinstance(module, EqualLinear) for module in encoder.modules())
    fold_gains(encoder)
    assert torch.equal(encoder(pictures), after)
    # A fresh encoder, folded, takes the folded state.
    with torch.device("meta"):
        fresh = PaperEncoder(NetworkConfig(resolution=32, encoder="ir-se50", w_dim=16))
        fold_gains(fresh)
    assert fresh.load_state_dict(encoder.state_dict(), assign=True).missing_keys == []


def test_folding_needs_statistics() -> None:
    with pytest.raises(ValueError, match="without running statistics"):
        fold_batchnorm(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
