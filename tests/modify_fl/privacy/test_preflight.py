"""Checks before any budget is spent: each defect stops with exit code 11 (P-23, P-31, P-60)."""

import dpkit
import pytest
import torch
from torch import Tensor, nn

from modify_fl.errors import ConfigError, PrivacyBudgetError
from modify_fl.privacy.engine import MicroEngine
from modify_fl.privacy.preflight import ISOLATION_MAX, check_modules, isolation, preflight


def units() -> tuple[list[Tensor], Tensor]:
    return dpkit.pictures(6), 4 * dpkit.pictures(1, seed=9)[0]


@pytest.mark.parametrize("kind", ["micro", "opacus"])
def test_photos_do_not_meet_in_the_right_build(kind: str) -> None:
    found = preflight(dpkit.engine(kind), shape=dpkit.SHAPE)  # type: ignore[arg-type]
    assert found.isolation <= ISOLATION_MAX
    assert found.seconds_per_unit > 0
    assert (found.backend_gap is None) == (kind == "micro")


@pytest.mark.parametrize("loss", dpkit.COUPLED, ids=lambda kind: kind.__name__)
def test_isolation_finds_every_coupling(loss: type[dpkit.PixelLoss]) -> None:
    alone, extra = units()
    engine = dpkit.engine(loss=loss())
    assert isolation(engine, alone, extra) > 10 * ISOLATION_MAX
    with pytest.raises(PrivacyBudgetError, match="change each other's gradients") as caught:
        preflight(engine, shape=dpkit.SHAPE)
    assert caught.value.exit_code == 11


@pytest.mark.parametrize("loss", [dpkit.BatchNorm, dpkit.Relativistic], ids=lambda kind: kind.__name__)
def test_sensitivity_alone_would_miss_couplings(loss: type[dpkit.PixelLoss]) -> None:
    alone, extra = units()
    engine = dpkit.engine(loss=loss())
    moved = engine.clipped_sum(iter([*alone, extra]), 0) - engine.clipped_sum(iter(alone), 0)
    assert float(moved.norm()) <= 1.01 * engine.max_grad_norm


def test_isolation_looks_at_one_chunk_whatever_the_engine_uses() -> None:
    alone, extra = units()
    engine = dpkit.engine(loss=dpkit.Relativistic(), chunk=1)
    assert isolation(engine, alone, extra) > 10 * ISOLATION_MAX
    assert engine.chunk == 1


def test_a_trainable_loss_network_stops_the_preflight() -> None:
    engine = dpkit.engine()
    next(engine.loss.parameters()).requires_grad_()
    with pytest.raises(ConfigError, match="trainable"):
        preflight(engine, shape=dpkit.SHAPE)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
        self.two.weight = self.one.weight


class _Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "batch normalisation"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "dropout"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)), "in-place"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), "spectral or weight normalisation"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "spectral or weight normalisation"),
        (_Tied(), "tied weights"),
        (_Custom(), "must be those of"),
        (nn.Bilinear(2, 2, 2), "must be those of"),
    ],
)
def test_a_module_that_per_unit_gradients_are_wrong_for_is_refused(module: nn.Module, reason: str) -> None:
    with pytest.raises(PrivacyBudgetError) as caught:
        check_modules(module)
    assert reason in caught.value.why
    assert caught.value.exit_code == 11


def test_the_encoder_of_a_bundle_passes() -> None:
    for subset in ("heads", "lora", "all"):
        check_modules(dpkit.encoder(subset))  # type: ignore[arg-type]


def test_a_weight_that_is_used_outside_its_layer_is_found() -> None:
    # Hooks see the layer's own call only; the backends then disagree.
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dpkit.encoder("heads")

        def forward(self, x: Tensor) -> Tensor:
            head = self.inner.heads[0]
            codes: Tensor = self.inner(x)
            return codes + nn.functional.linear(x.flatten(1)[:, : head.in_features], head.weight)[:, None]

    from modify_fl.privacy.engine import OpacusEngine

    engine = OpacusEngine(Twice(), dpkit.PixelLoss(), max_grad_norm=1.0)
    with pytest.raises(PrivacyBudgetError, match="backends disagree"):
        preflight(engine, shape=dpkit.SHAPE)
    assert isinstance(
        MicroEngine(Twice(), dpkit.PixelLoss(), max_grad_norm=1.0).clipped_sum(iter(units()[0]), 0), Tensor
    )
