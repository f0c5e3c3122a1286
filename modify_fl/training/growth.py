"""A base of twice the side from one that is there (M-23, ADR 17).

D gets one level more, whose RGB layer starts at 0: its pictures are those of
the smaller D, enlarged. Dis gets one block before the others. The layers of E
stand at other sides of the picture, so E is taught instead: it learns to give
the codes that the smaller E gives for the same picture, reduced. Everything else
is carried over. Training goes on from there, as from any base.

Letters: N pictures, n rows of the smaller code, W width of a row, R side of the
larger picture.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional

from modify_fl.augment import flip, jitter
from modify_fl.base.start import Start
from modify_fl.config import NetworkConfig
from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.errors import ConfigError
from modify_fl.networks.discriminator import Discriminator, build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.streams import generator
from modify_fl.training.runtime import Compute

__all__ = ["grow", "teach"]

_NEW_ROWS = 2
_LEARNING_RATE = 2e-3
_JITTER = 0.04
_LAST_SHARE = 0.05
_DERIVED = {"resolution", "xi"}
_BLOCK = re.compile(r"^blocks\.(\d+)\.")


def grow(start: Start, old: NetworkConfig, new: NetworkConfig, seed: int) -> tuple[StyleModel, Discriminator]:
    """Return networks of twice the side; E has yet to be taught, see ``teach``.

    Args:
        start: A complete start for networks of the sizes ``old``.
        old: Its sizes.
        new: The same, but for a doubled ``resolution`` and any ``xi``.
        seed: Of what is new.

    Raises:
        ConfigError: The sizes differ in anything else.
    """
    ours, theirs = asdict(old), asdict(new)
    differing = [name for name in ours if name not in _DERIVED and ours[name] != theirs[name]]
    if differing or new.resolution != 2 * old.resolution:
        raise ConfigError(
            f"a base of {old.resolution} px cannot grow into these networks",
            why=f"{', '.join(differing) or 'resolution'} must be {'as before' if differing else 'twice as large'}",
        )
    model, critic = StyleModel.build(new, seed), build_discriminator(new, seed)
    model.generator.load_state_dict(model.generator.state_dict() | dict(start.states["generator"]))
    nn.init.zeros_(model.generator.to_rgbs[-1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        model.offset.w_avg.copy_(_longer(start.states["offset"]["w_avg"][None])[0])
        model.remapping.offset.copy_(model.offset.w_avg[model.split :])
    _take_over(model.encoder, start.states["encoder"])
    _take_over(critic, start.states["discriminator"])
    return model, critic


def _longer(rows: Tensor) -> Tensor:
    """Give codes [N, n, W] the rows of one level more: the last one again, [N, n + 2, W]."""
    return torch.cat([rows, *[rows[:, -1:]] * _NEW_ROWS], 1)


def _take_over(network: nn.Module, smaller: Mapping[str, Tensor]) -> None:
    """Load layers of the smaller network behind a new block; what has another shape there stays as it is."""
    mine = network.state_dict()
    for name, value in smaller.items():
        moved = _BLOCK.sub(lambda found: f"blocks.{int(found[1]) + 1}.", name)
        if moved in mine and mine[moved].shape == value.shape:
            mine[moved] = value
    network.load_state_dict(mine)


def teach(
    student: nn.Module, teacher: nn.Module, pictures: ImageSet, *, steps: int, batch: int, seed: int, compute: Compute,
    report: Callable[[int, float], None] = lambda _step, _error: None,
) -> float:  # fmt: skip
    """Let E of twice the side give the codes that the smaller E gives for the same pictures, reduced.

    Pictures are mirrored, shifted and zoomed anew each time. Adam, with a rate that falls to 5 %.

    Args:
        student: E of the larger side, trained in place.
        teacher: E of the smaller side, gains not folded; it is only read.
        pictures: At the larger side.
        steps: How many.
        batch: Pictures of a step.
        seed: Of order and shifts.
        compute: Where and how the larger E computes.
        report: Takes step and error of each step.

    Returns:
        Mean squared error of the last steps, in variances of the teacher's codes: 1 is as bad as their mean.
    """
    student.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(student.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, _LEARNING_RATE * _LAST_SHARE)
    draws, errors = generator(seed, "growth"), []
    variance = _codes(teacher, pictures.batch(range(min(len(pictures), 256)))).var(0).mean()
    for step in range(steps):
        real = pictures.batch(shuffled_indices(len(pictures), seed, step * batch, batch))
        real = jitter(flip(real, draws), _JITTER, draws)
        real = real.contiguous(memory_format=torch.channels_last)
        with compute.autocast():
            codes = student(real)
        error = functional.mse_loss(codes.float(), _codes(teacher, real)) / variance
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        errors.append(error.item())
        report(step, errors[-1])
    last = errors[-max(1, steps // 20) :]
    return sum(last) / len(last)


@torch.no_grad()
def _codes(teacher: nn.Module, pictures: Tensor) -> Tensor:
    """Return the smaller E's codes without their offset, with the rows of one level more, [N, n + 2, W]."""
    side = pictures.shape[-1] // 2
    small = functional.interpolate(pictures, size=side, mode="bicubic", antialias=True, align_corners=False)
    return _longer(teacher(small))
