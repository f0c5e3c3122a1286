"""Clipped per-unit gradients: bound, isolation, backends, views, edge cases (P-14 to P-17, P-60, P-61)."""

import dpkit
import pytest
import torch
from torch import Tensor

from modify_fl.config import Subset
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.privacy.engine import MicroEngine, OpacusEngine, clip
from modify_fl.privacy.settings import Engine

BOUND = 1e-2
BACKENDS: tuple[Engine, ...] = ("micro", "opacus")


@pytest.mark.parametrize(
    ("gradient", "norm"),
    [
        (torch.tensor([3.0, 4.0]), 1.0),  # |g| = 5, clipped to C
        (torch.tensor([0.3, 0.4]), 0.5),  # below C, unchanged
        (torch.zeros(2), 0.0),
        (torch.tensor([float("nan"), 1.0]), 0.0),
        (torch.tensor([float("inf"), 1.0]), 0.0),
        (torch.full((1000,), 3e38), 1.0),  # its float32 norm would overflow
        (torch.full((2,), 1e-45), 2e-45),  # the smallest there is: no division by zero
    ],
)
def test_clipping_has_a_row_for_every_case(gradient: Tensor, norm: float) -> None:
    clipped = clip(gradient, 1.0)
    assert clipped.dtype == torch.float64
    assert float(clipped.norm()) == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize("kind", BACKENDS)
def test_no_picture_exceeds_the_bound(kind: Engine) -> None:
    wild = [1e6 * dpkit.pictures(1)[0], torch.full((1, *dpkit.SHAPE), float("nan")), torch.ones(1, *dpkit.SHAPE)]
    norms = [
        float(g.norm()) for g in dpkit.engine(kind, max_grad_norm=BOUND).clipped(iter([*wild, *dpkit.pictures(3)]), 0)
    ]
    assert max(norms) <= BOUND * (1 + 1e-6)
    assert norms[1] == 0.0  # not a number becomes zero, and the step goes on
    assert norms[3:] == pytest.approx([BOUND] * 3)  # the others are as they would be alone


def test_a_picture_that_is_not_finite_does_not_touch_the_others() -> None:
    engine = dpkit.engine()
    broken = torch.full((1, *dpkit.SHAPE), float("nan"))
    alone = list(engine.clipped(iter(dpkit.pictures(3)), 0))
    joined = list(engine.clipped(iter([*dpkit.pictures(3), broken]), 0))
    for a, b in zip(alone, joined, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * BOUND)


@pytest.mark.parametrize("kind", BACKENDS)
def test_removing_a_picture_moves_the_sum_by_at_most_the_bound(kind: Engine) -> None:
    engine, units = dpkit.engine(kind, max_grad_norm=BOUND), dpkit.pictures(5)
    whole = engine.clipped_sum(iter(units), 0)
    for left_out in range(len(units)):
        rest = engine.clipped_sum(iter(units[:left_out] + units[left_out + 1 :]), 0)
        assert float((whole - rest).norm()) <= BOUND * (1 + 1e-5)


@pytest.mark.parametrize("subset", ["heads", "lora", "all"])
def test_backends_agree_on_the_clipped_sum(subset: Subset) -> None:
    units = [*dpkit.pictures(3), torch.cat(dpkit.pictures(2, seed=4))]
    micro, opacus = (dpkit.engine(kind, subset=subset).clipped_sum(iter(units), 0) for kind in BACKENDS)
    assert float((micro - opacus).norm() / micro.norm()) <= 1e-3
    assert float(micro.norm()) > 0


def test_the_sum_is_the_gradient_of_the_loss_where_nothing_is_clipped() -> None:
    engine, units = dpkit.engine(max_grad_norm=1e6), dpkit.pictures(3)
    photos = torch.cat(units)
    engine.loss(photos, engine.codes(photos), 0).sum().backward()
    plain = torch.cat([p.grad.flatten() for p in engine.parameters if p.grad is not None])
    assert float((engine.clipped_sum(iter(units), 0) - plain).norm() / plain.norm()) <= 1e-5


def test_cutting_into_chunks_changes_nothing() -> None:
    units = dpkit.pictures(7)
    whole, cut = (dpkit.engine(chunk=size).clipped_sum(iter(units), 0) for size in (16, 2))
    torch.testing.assert_close(whole, cut, rtol=1e-4, atol=1e-6)


def test_no_unit_is_dropped_at_the_end_of_a_chunk() -> None:
    for count in range(1, 6):
        assert len(list(dpkit.engine(chunk=2).clipped(iter(dpkit.pictures(count)), 0))) == count


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_empty_batch_has_a_sum_of_zeros(kind: Engine) -> None:
    total = dpkit.engine(kind).clipped_sum(iter([]), 0)
    assert total.dtype == torch.float64
    assert not total.any()


@pytest.mark.parametrize("kind", BACKENDS)
def test_views_of_a_unit_count_once(kind: Engine) -> None:
    # P-17, P-10: four views of a unit move the sum by at most C; clipping each view would allow 4 C.
    engine, (unit,) = dpkit.engine(kind, max_grad_norm=BOUND), [torch.cat(dpkit.pictures(4))]
    assert float(engine.clipped_sum(iter([unit]), 0).norm()) <= BOUND * (1 + 1e-6)
    loose = dpkit.engine(kind, max_grad_norm=1e6)
    mean = torch.stack(list(loose.clipped(iter(unit.split(1)), 0))).mean(0)
    torch.testing.assert_close(loose.clipped_sum(iter([unit]), 0), mean, rtol=1e-4, atol=1e-6)


def test_a_trainable_loss_network_is_refused() -> None:
    loss = dpkit.PixelLoss()
    loss.critic.requires_grad_()
    with pytest.raises(ConfigError, match="loss network critic is trainable"):
        MicroEngine(dpkit.encoder(), loss, max_grad_norm=1.0)


def test_a_loss_network_that_begins_to_train_later_is_refused_at_the_next_step() -> None:
    engine = dpkit.engine()
    engine.loss.train()  # does nothing (P-24)
    list(engine.clipped(iter(dpkit.pictures(1)), 0))
    next(iter(engine.loss.children())).train()
    with pytest.raises(ConfigError, match="training mode"):
        list(engine.clipped(iter(dpkit.pictures(1)), 0))


def test_a_loss_over_the_batch_is_refused() -> None:
    class Mean(dpkit.PixelLoss):
        def forward(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:
            return super().forward(photos, codes, step).mean()

    with pytest.raises(ShapeError, match="one value per picture"):
        list(dpkit.engine(loss=Mean()).clipped(iter(dpkit.pictures(2)), 0))


def test_a_unit_without_views_is_refused() -> None:
    with pytest.raises(ShapeError, match="stack of views"):
        list(dpkit.engine().clipped(iter([torch.zeros(0, *dpkit.SHAPE)]), 0))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing in the encoder is trained"):
        MicroEngine(dpkit.encoder().requires_grad_(requires_grad=False), dpkit.PixelLoss(), max_grad_norm=1.0)


def test_opacus_is_not_used_with_weights_in_another_layout() -> None:
    # Its gradients would be silently wrong there.
    encoder = dpkit.encoder().to(memory_format=torch.channels_last)
    with pytest.raises(ConfigError, match="row by row"):
        OpacusEngine(encoder, dpkit.PixelLoss(), max_grad_norm=1.0)


def test_opacus_leaves_neither_hooks_nor_gradients_of_single_photos_behind() -> None:
    engine = dpkit.engine("opacus")
    engine.clipped_sum(iter(dpkit.pictures(2)), 0)
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in engine.parameters)
    assert not any(m._backward_hooks or m._forward_hooks for m in engine.encoder.modules())
