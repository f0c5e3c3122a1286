"""The style model: offset, fusing, blending, building (M-8, M-17, M-24 to M-26)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.model import StyleModel, blend_weights, truncate


def _config(**sizes: int) -> NetworkConfig:
    small = {
        "resolution": 32, "w_dim": 8, "z_dim": 8, "channel_base": 512, "channel_max": 16, "enc_base": 512,
        "enc_max": 16, "pyramid": 8, "trunk": 16, "remap_width": 16,
    }  # fmt: skip
    return NetworkConfig(**(small | sizes))


@pytest.fixture(scope="module")
def model() -> StyleModel:
    return StyleModel.build(_config(), 1).requires_grad_(requires_grad=False)


def _codes(count: int = 2) -> Tensor:
    return torch.randn(count, 8, 8, generator=torch.Generator().manual_seed(5))


def _rows(count: int = 2) -> Tensor:
    return torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(
    ("resolution", "rows", "xi", "starts"),
    [(32, 8, 4, 16), (64, 10, 5, 32), (128, 12, 6, 32), (256, 14, 7, 64), (512, 16, 8, 64), (1024, 18, 9, 128)],
)
def test_split_for_every_resolution(resolution: int, rows: int, xi: int, starts: int) -> None:
    # M-24, row 11 of section 8: xi = n / 2, and the pixels at which the style starts.
    config = NetworkConfig(resolution=resolution)
    with torch.device("meta"):
        model = StyleModel(config)
        fused = model.fuse(
            model.encode(torch.empty(2, 3, resolution, resolution)), model.remap(torch.empty(2, config.z_dim))
        )
    assert (model.n_styles, model.n_styles - model.split) == (rows, xi)
    assert fused.shape == (2, rows, config.w_dim)
    assert model.generator.convs[model.split].noise.shape[-1] == starts


def test_style_rows_leave_the_coarse_half_of_the_picture_alone(model: StyleModel) -> None:
    # M-24 at 32 px: the style starts at the second 16-px convolution, so all
    # before it is the same for every style.
    seen: list[Tensor] = []
    handle = model.generator.convs[model.split - 1].register_forward_hook(lambda *call: seen.append(call[2]))
    first, second = model.decode(_codes()), model.decode(model.fuse(_codes(), _rows()))
    handle.remove()
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(first, second)


def test_build_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = StyleModel.build(_config(), 7).state_dict()
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)  # building draws nothing from the process
    torch.manual_seed(2)
    second, other = StyleModel.build(_config(), 7).state_dict(), StyleModel.build(_config(), 8).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("generator.const", "generator.convs.0.noise", "encoder.stem.weight", "remapping.last.weight"):
        assert not torch.equal(first[name], other[name])


def test_offset_is_added_to_the_encoder(model: StyleModel) -> None:
    # M-17
    model = StyleModel.build(_config(), 1)
    pictures = torch.randn(2, 3, 32, 32)
    assert not model.offset.w_avg.any()
    delta = model.encode(pictures)
    with torch.no_grad():
        model.offset.w_avg.normal_()
    torch.testing.assert_close(model.encode(pictures), delta + model.offset.w_avg)


def test_another_encoder_takes_the_place_of_the_own_one(model: StyleModel) -> None:
    pictures = torch.randn(2, 3, 32, 32)
    adapted = StyleModel.build(_config(), 2).encoder
    with torch.no_grad():
        assert torch.equal(model.encode(pictures, adapted), model.offset(adapted(pictures)))
        assert not torch.equal(model.encode(pictures, adapted), model.encode(pictures))


@settings(deadline=None, max_examples=20)  # building a model takes its time on a busy machine
@given(st.integers(1, 7), st.integers(1, 3))
def test_split_then_fuse_is_the_identity(xi: int, count: int) -> None:
    with torch.device("meta"):
        model = StyleModel(_config(xi=xi))
    codes = _codes(count)
    assert torch.equal(model.fuse(codes, codes[:, model.split :]), codes)
    assert torch.equal(model.blend(codes, codes[:, model.split :], strength=1), codes)


def test_blend_by_default_is_fuse(model: StyleModel) -> None:
    assert torch.equal(model.blend(_codes(), _rows()), model.fuse(_codes(), _rows()))


@pytest.mark.parametrize("xi", range(5))
def test_blend_takes_rows_of_the_same_index(model: StyleModel, xi: int) -> None:
    # M-25: the last xi' rows come from the style, none at xi' = 0.
    codes, rows = _codes(), _rows()
    expected = torch.cat([codes[:, : 8 - xi], rows[:, 4 - xi :]], 1)
    assert torch.equal(model.blend(codes, rows, xi=xi), expected)


def test_soft_cut(model: StyleModel) -> None:
    # M-26: width 2 gives 0.25, 0.75, 1 from row k' on.
    shares = torch.tensor([0, 0, 0, 0, 0, 0.25, 0.75, 1.0])
    torch.testing.assert_close(blend_weights(8, 3, width=2), shares)
    torch.testing.assert_close(blend_weights(8, 3, width=2, strength=0.5), shares / 2)
    mixed = (1 - shares[:, None]) * _codes() + shares[:, None] * torch.cat([torch.zeros(2, 4, 8), _rows()], 1)
    torch.testing.assert_close(model.blend(_codes(), _rows(), xi=3, width=2), mixed)


@settings(deadline=None)
@given(st.integers(0, 18), st.integers(0, 20), st.floats(0, 1))
def test_shares_rise_from_the_cut_to_the_strength(xi: int, width: int, strength: float) -> None:
    shares = blend_weights(18, xi, strength=strength, width=width)
    assert shares.shape == (18,)
    assert not shares[: 18 - xi].any()
    assert (shares.diff() >= 0).all()
    assert shares.max() <= strength + 1e-6
    if xi > width:
        assert shares[-1].item() == pytest.approx(strength)


def test_blend_refuses_what_was_not_trained(model: StyleModel) -> None:
    # M-25: xi' <= xi at run time.
    for xi in (-1, 5):
        with pytest.raises(ConfigError, match=f"xi must lie between 0 and 4, .*, got {xi}"):
            model.blend(_codes(), _rows(), xi=xi)
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="strength must lie between 0 and 1"):
            model.blend(_codes(), _rows(), strength=strength)
    with pytest.raises(ConfigError, match="width of the blend must not be negative"):
        model.blend(_codes(), _rows(), width=-1)


@pytest.mark.parametrize(("codes", "rows"), [((2, 7, 8), (2, 4, 8)), ((2, 8, 8), (2, 3, 8)), ((2, 8, 8), (1, 4, 8))])
def test_fuse_refuses_other_shapes(model: StyleModel, codes: tuple[int, ...], rows: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected codes \[N, 8, W\] and style rows \[N, 4, W\]"):
        model.fuse(torch.zeros(codes), torch.zeros(rows))


def test_truncation() -> None:
    # M-26: psi 1 changes nothing, 0 gives the mean, 0.5 the middle.
    rows, mean = _rows(), torch.ones(4, 8)
    assert torch.equal(truncate(rows, mean, 1), rows)
    torch.testing.assert_close(truncate(rows, mean, 0), mean.expand(2, -1, -1))
    torch.testing.assert_close(truncate(rows, mean, 0.5), (rows + mean) / 2)
    with pytest.raises(ConfigError, match=r"truncation_psi must lie between 0 and 1, got 1\.5"):
        truncate(rows, mean, 1.5)


def test_decode_passes_the_noise_on(model: StyleModel) -> None:
    model = StyleModel.build(_config(), 1)
    with torch.no_grad():
        for conv in model.generator.convs:
            conv.noise_strength.fill_(0.5)
    assert not torch.equal(model.decode(_codes()), model.decode(_codes(), "none"))
