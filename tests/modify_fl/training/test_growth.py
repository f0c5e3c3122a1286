"""A base of twice the side from one that is there (ADR 17)."""

from dataclasses import replace

import pytest
import torch
from basekit import TINY_NETWORK, tiny_base

from modify_fl.base.start import Start, load_base
from modify_fl.config import Runtime
from modify_fl.data import load_images
from modify_fl.errors import ConfigError
from modify_fl.networks.model import StyleModel
from modify_fl.ops import upsample2d
from modify_fl.training.growth import grow, teach
from modify_fl.training.runtime import resolve

_LARGER = replace(TINY_NETWORK, resolution=64, xi=None)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    return load_base(tiny_base(tmp_path_factory.mktemp("base")), TINY_NETWORK)


def _smaller(start: Start) -> StyleModel:
    model = StyleModel.build(TINY_NETWORK, 0)
    for part in ("encoder", "generator", "offset", "remapping"):
        getattr(model, part).load_state_dict(dict(start.states[part]))
    return model.eval()


@torch.no_grad()
def test_pictures_are_those_of_the_smaller_base_enlarged(start: Start) -> None:
    model, _ = grow(start, TINY_NETWORK, _LARGER, 5)
    delta = torch.randn(3, TINY_NETWORK.n_styles, TINY_NETWORK.w_dim)
    longer = torch.cat([delta, delta[:, -1:], delta[:, -1:]], 1)
    before = upsample2d(_smaller(start).decode(_smaller(start).offset(delta)))
    torch.testing.assert_close(model.decode(model.offset(longer)), before, atol=1e-5, rtol=1e-5)


def test_critic_judges_by_the_layers_of_the_smaller_one(start: Start) -> None:
    _, critic = grow(start, TINY_NETWORK, _LARGER, 5)
    old, new = start.states["discriminator"], critic.state_dict()
    for name in ("conv1", "conv2", "shortcut"):
        torch.testing.assert_close(new[f"blocks.1.{name}.weight"], old[f"blocks.0.{name}.weight"])
    torch.testing.assert_close(new["score.weight"], old["score.weight"])


def test_growing_depends_on_the_seed_alone(start: Start) -> None:
    first, again, other = (grow(start, TINY_NETWORK, _LARGER, seed)[0].state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["generator.convs.8.weight"], other["generator.convs.8.weight"])


def test_encoder_learns_the_codes_of_the_smaller_one(start: Start) -> None:
    """The error falls well below that of a constant, and the teacher is left alone."""
    model, _ = grow(start, TINY_NETWORK, _LARGER, 5)
    teacher = _smaller(start).encoder
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    errors: list[float] = []
    last = teach(
        model.encoder, teacher, load_images("synthetic", resolution=64, limit=48), steps=150, batch=8, seed=3,
        compute=resolve(Runtime(device="cpu", threads=1, precision="fp32")),
        report=lambda _, error: errors.append(error),
    )  # fmt: skip
    assert len(errors) == 150
    assert last < 0.5 * errors[0]
    assert last < 1
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"resolution": 128}, "resolution must be twice as large"), ({"w_dim": 32}, "w_dim must be as before")],
)
def test_only_the_side_may_differ(start: Start, change: dict[str, int], reason: str) -> None:
    with pytest.raises(ConfigError, match="cannot grow") as caught:
        grow(start, TINY_NETWORK, replace(_LARGER, xi=None, **change), 5)
    assert caught.value.why == reason
