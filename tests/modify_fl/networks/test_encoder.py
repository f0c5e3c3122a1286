"""Compact encoder (M-13, M-18, M-19, M-50)."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from modify_fl.config import NetworkConfig, preset
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.networks.encoder import CompactEncoder, build_encoder, fold_gains
from modify_fl.networks.paper_encoder import PaperEncoder


def _config(resolution: int = 32, **sizes: int) -> NetworkConfig:
    small = {"w_dim": 8, "z_dim": 8, "enc_base": 512, "enc_max": 16, "pyramid": 8, "trunk": 16}
    return NetworkConfig(resolution=resolution, **(small | sizes))


def _encoder(resolution: int = 32) -> CompactEncoder:
    torch.manual_seed(2)
    return CompactEncoder(_config(resolution))


def _pictures(count: int = 3, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_every_resolution_builds(resolution: int) -> None:
    # M-13, M-18: n = 2 log2 R - 2 rows; the pyramid never goes below 4 px.
    config = NetworkConfig(resolution=resolution)
    rows = 2 * (resolution.bit_length() - 1) - 2
    with torch.device("meta"):
        encoder = CompactEncoder(config)
        code = encoder(torch.empty(2, 3, resolution, resolution))
    assert code.shape == (2, rows, config.w_dim)
    assert len(encoder.heads) == rows
    assert len(encoder.blocks) == (3 if resolution == 32 else 4)  # 32 -> 4 px; else stride 16


@pytest.mark.parametrize(
    ("name", "millions", "heads"),
    [("quick-64", 2.73, 329), ("quick-128", 2.48, 395), ("good-128", 2.79, 395), ("gpu-256", 4.79, 1380)],
)
def test_size_of_the_presets(name: str, millions: float, heads: float) -> None:
    # M-31, heads in thousands
    with torch.device("meta"):
        encoder = CompactEncoder(preset(name).network)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(millions * 1e6, rel=0.02)
    assert sum(p.numel() for p in encoder.heads.parameters()) == pytest.approx(heads * 1e3, rel=0.02)


@pytest.mark.parametrize(("name", "kind"), [("quick-64", CompactEncoder), ("paper-1024", PaperEncoder)])
def test_build_encoder_follows_the_configuration(name: str, kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        assert type(build_encoder(preset(name).network)) is kind


def test_rows_read_their_level() -> None:
    # M-18: rows 0-2 read stride 16, rows 3-6 stride 8, the rest stride 4.
    encoder = _encoder(64)
    with torch.no_grad():
        for level in range(3):
            others = [trunk for i, trunk in enumerate(encoder.trunks) if i != level]
            before = [(t.weight.clone(), t.bias.clone()) for t in others]
            for trunk in others:
                trunk.weight.zero_()
                trunk.bias.zero_()
            rows = encoder(_pictures(1, 64))[0].abs().amax(1) > 0  # a head's bias starts at 0
            assert rows.tolist() == [level == (row >= 3) + (row >= 7) for row in range(10)]
            for trunk, (weight, bias) in zip(others, before, strict=True):
                trunk.weight.copy_(weight)
                trunk.bias.copy_(bias)


def test_fine_rows_see_the_coarse_levels_through_the_pyramid() -> None:
    encoder, pictures = _encoder(64), _pictures(1, 64)
    before = encoder(pictures)
    with torch.no_grad():
        encoder.laterals[0].weight.mul_(2)  # stride 16
    assert ((encoder(pictures) - before).abs().amax((0, 2)) > 1e-4).all()
    before = encoder(pictures)
    with torch.no_grad():
        encoder.laterals[2].weight.mul_(2)  # stride 4
    assert ((encoder(pictures) - before).abs().amax((0, 2)) > 1e-4).tolist() == [False] * 7 + [True] * 3


def test_block_as_written_down() -> None:
    # M-18: 3x3, GroupNorm 8, leaky ReLU, 3x3 of stride 2, GroupNorm; shortcut
    # average pool and 1x1; sum over root 2. Kernels scaled by 1 / sqrt(fan_in).
    block, x = _encoder().blocks[0], torch.randn(2, 16, 8, 8)

    def conv(x: Tensor, layer: nn.Conv2d, **options: int) -> Tensor:
        return functional.conv2d(x, layer.weight / layer.weight[0].numel() ** 0.5, **options)

    y = functional.leaky_relu(functional.group_norm(conv(x, block.conv1, padding=1), 8), 0.2)
    y = functional.group_norm(conv(y, block.conv2, stride=2, padding=1), 8)
    skip = conv(functional.avg_pool2d(x, 2), block.shortcut)
    torch.testing.assert_close(block(x), (y + skip) / 2**0.5)


def test_parameters_live_in_plain_layers_only() -> None:
    # M-19
    for module in _encoder().modules():
        if list(module.parameters(recurse=False)):
            assert type(module) in {nn.Conv2d, nn.Linear, nn.GroupNorm}


def test_no_module_is_called_twice_and_none_is_passed_by() -> None:
    # M-19: a weight used functionally would leave its module uncalled.
    encoder = _encoder()
    calls: Counter[str] = Counter()
    for name, module in encoder.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    encoder(_pictures())
    assert set(calls.values()) == {1}
    assert len(calls) == sum(bool(list(m.parameters(recurse=False))) for m in encoder.modules())


def test_no_operation_is_in_place() -> None:
    # M-19
    mutable: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            if func._schema.is_mutable:
                mutable.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    encoder, pictures = _encoder(), _pictures()
    with Watch():
        encoder(pictures)
        pictures.add_(0)  # the watch is awake
    assert mutable == ["aten::add_"]


def test_samples_do_not_meet() -> None:
    # M-2, M-19: no batch statistics.
    encoder, pictures = _encoder(), _pictures()
    torch.testing.assert_close(encoder(pictures)[:1], encoder(pictures[:1]), rtol=1e-4, atol=1e-5)


def _micro_gradients(encoder: CompactEncoder, pictures: Tensor, direction: Tensor) -> dict[str, Tensor]:
    # One sample at a time: nothing to get wrong.
    found: dict[str, list[Tensor]] = {name: [] for name, _ in encoder.named_parameters()}
    for picture in pictures:
        encoder.zero_grad()
        (encoder(picture[None]) * direction).sum().backward()
        for name, parameter in encoder.named_parameters():
            found[name].append(parameter.grad.clone())
    return {name: torch.stack(values) for name, values in found.items()}


# Photos carry no gradient; torch notes that Opacus' hook on the first layer sees none.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("folded", [False, True])
def test_per_sample_gradients_of_opacus_are_those_of_one_sample_at_a_time(folded: bool) -> None:
    # M-19 to 1e-4; the whole point of the encoder's rules. The layout is the
    # contiguous one, see the module's head.
    from opacus.grad_sample import GradSampleModule
    from opacus.validators import ModuleValidator

    encoder, pictures, direction = _encoder(), _pictures(4), torch.randn(8, 8)
    if folded:
        fold_gains(encoder)
    assert ModuleValidator.validate(encoder) == []
    micro = _micro_gradients(encoder, pictures, direction)
    encoder.zero_grad()
    wrapped = GradSampleModule(encoder, loss_reduction="sum")
    (wrapped(pictures) * direction).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad_sample - micro[name]).abs().max() <= 1e-4 * micro[name].abs().max(), name


def test_activations_follow_the_layout_of_the_caller() -> None:
    # Contiguous for Opacus, channels_last for speed; same codes.
    encoder, pictures = _encoder(), _pictures()
    layouts: list[bool] = []
    for block in encoder.blocks:
        block.conv1.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].is_contiguous()))
    code = encoder(pictures)
    assert layouts == [True] * 3
    layouts.clear()
    encoder.to(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(pictures.contiguous(memory_format=torch.channels_last)), code)
    assert layouts == [False] * 3


def test_folding_moves_the_gains_into_plain_weights() -> None:
    # M-19: outputs equal to 1e-6 of their size, gains 1, kernels of variance 1 / fan_in.
    encoder, pictures = _encoder(64), _pictures(3, 64)
    with torch.no_grad():
        for parameter in encoder.parameters():  # biases too: they start at 0
            parameter.add_(torch.randn_like(parameter) * 0.1)
    before = encoder(pictures)
    fold_gains(encoder)
    after = encoder(pictures)
    assert (after - before).abs().max() <= 1e-6 * before.abs().max()
    gains = [module.gains for module in encoder.modules() if hasattr(module, "gains")]
    assert len(gains) == 1 + len(encoder.blocks)
    assert all(torch.equal(g, torch.ones_like(g)) for g in gains)
    assert encoder.trunks[0].weight.std().item() == pytest.approx((8 * 16) ** -0.5, rel=0.05)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    fold_gains(encoder)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_a_saved_state_says_whether_it_was_folded() -> None:
    encoder, pictures = _encoder(), _pictures()
    fold_gains(encoder)
    fresh = CompactEncoder(_config())
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh(pictures), encoder(pictures))


def test_codes_start_near_unit_variance() -> None:
    with torch.no_grad():
        code = CompactEncoder(NetworkConfig())(_pictures(8, 64))
    assert 0.5 < code.std().item() < 2


def test_autocast_keeps_codes_and_statistics_float32() -> None:
    # M-50. A mean of 1000 over a deviation of 1 leaves bfloat16 no digit of
    # the deviation; GroupNorm must see float32.
    encoder, pictures = _encoder(64), _pictures(3, 64)
    types: list[torch.dtype] = []
    for module in encoder.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: types.append(inputs[0].dtype))
    exact = encoder(pictures)
    types.clear()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = encoder(pictures)
    assert types == [torch.float32] * 2 * len(encoder.blocks)
    assert narrow.dtype == torch.float32
    assert (narrow - exact).square().mean().sqrt() <= 0.03 * exact.square().mean().sqrt()


def test_refuses_widths_that_groups_cannot_share() -> None:
    with pytest.raises(ConfigError, match="20 channels at 32 pixels, which 8 groups cannot share"):
        CompactEncoder(_config(enc_base=2048, enc_max=20))


def test_refuses_pictures_of_another_size() -> None:
    with pytest.raises(ShapeError, match=r"expected pictures \[N, 3, 32, 32\]"):
        _encoder()(_pictures(side=64))
