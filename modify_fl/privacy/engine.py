"""Clipped gradients of single units, in two backends (P-14 to P-17).

The graph is split at the codes w = E'(x): one ordinary backward pass through the
loss networks gives a_i = dl_i/dw_i for all pictures at once, then <w_i, a_i>
gives the gradient of each unit with respect to the trained parameters of E'.

Guarantees: the clipped gradient of a unit is a function of this unit, the
weights, the step and public constants, bit by bit on one machine: every pass has one
shape, filled up with grey pictures, since kernels for other shapes round in other
ways; its Euclidean norm is at most C in float64; views of a unit (augmentations, pictures of one person) are averaged
before clipping, so that a unit counts once (P-10, P-17).

| case | result |
|---|---|
| gradient of zero | zero |
| an entry that is not a number, or infinite | the whole gradient becomes zero; the step goes on (P-16) |
| no units | a sum of zeros |
| norm below C | unchanged |

Letters: b units, v views of a unit, B pictures of a chunk, d trained parameters,
n rows, W width of a row, R resolution.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn

from modify_fl.errors import ConfigError, ShapeError
from modify_fl.privacy.loss_nets import LossNets
from modify_fl.privacy.settings import Engine

__all__ = ["GradientEngine", "MicroEngine", "OpacusEngine", "build_engine", "clip"]

_CHUNK = 16


def clip(gradient: Tensor, max_grad_norm: float) -> Tensor:
    """Return g * min(1, C / |g|), float64 (P-16).

    Args:
        gradient: g of one unit, [d].
        max_grad_norm: C.

    Returns:
        float64 [d] on the CPU, of norm at most C(1 + 1e-12); zero where an entry of g is not finite.
    """
    wide = gradient.detach().cpu().to(torch.float64, copy=True)  # not every device has float64
    norm = float(wide.norm())
    if not math.isfinite(norm):  # float32 entries cannot overflow a float64 norm, so one of them is not finite
        return torch.zeros_like(wide)
    return wide.mul_(min(1.0, max_grad_norm / norm)) if norm > 0 else wide


class GradientEngine(ABC):
    """Computes clipped per-unit gradients of the parameters of E' that ask for a gradient."""

    def __init__(
        self, encoder: nn.Module, loss: LossNets, *, max_grad_norm: float, offset: Tensor | None = None,
        chunk: int = _CHUNK,
    ) -> None:  # fmt: skip
        """Keep the networks; nothing is computed.

        Args:
            encoder: E'; [B, 3, R, R] to codes [B, n, W] without their offset.
            loss: All that judges codes.
            max_grad_norm: C.
            offset: ``w_avg``, frozen, [n, W]; added to what E' returns (M-17).
            chunk: Pictures per pass through the loss networks.

        Raises:
            ConfigError: Nothing in E' is trained, or a loss network is not frozen (P-24).
        """
        self.encoder, self.loss, self.max_grad_norm, self.offset = encoder, loss, max_grad_norm, offset
        self.chunk = max(1, chunk)
        self.parameters = [p for p in encoder.parameters() if p.requires_grad]
        if not self.parameters:
            raise ConfigError("nothing in the encoder is trained", fix="choose a subset: heads, lora or all")
        loss.require_frozen()

    @property
    def size(self) -> int:
        """Number of trained parameters d."""
        return sum(p.numel() for p in self.parameters)

    def clipped_sum(self, units: Iterable[Tensor], step: int) -> Tensor:
        """Return the sum of clipped gradients, float64 [d] on the CPU: its sensitivity to one unit is C.

        Args:
            units: Views of each unit, float32 [v, 3, R, R]; may be a generator, so that few are in memory.
            step: Training step; passed to the loss.
        """
        total = torch.zeros(self.size, dtype=torch.float64)
        for gradient in self.clipped(units, step):
            total += gradient
        return total

    def clipped(self, units: Iterable[Tensor], step: int) -> Iterator[Tensor]:
        """Yield the clipped gradient of each unit in order, float64 [d]; arguments as in ``clipped_sum``.

        Raises:
            ConfigError: A loss network is not frozen any more (P-24).
            ShapeError: A unit is not [v, 3, R, R] with at least one view, or the
                loss does not give one value per picture (P-22).
        """
        self.loss.require_frozen()
        device = self.parameters[0].device
        for group in _chunks((views.to(device) for views in units), self.chunk):
            for gradient in self._gradients(group, step):
                yield clip(gradient, self.max_grad_norm)

    def _filled(self, group: Sequence[Tensor]) -> Tensor:
        """Return what belongs to the pictures of a chunk, and zeros (grey pictures) after it, [max(chunk, B), ...].

        With less pictures a kernel may add in another order: one photo more in a
        step would change the rounding of another's gradient (P-60).
        """
        rows = torch.cat(list(group))
        missing = max(0, self.chunk - len(rows))
        return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]).contiguous()

    def codes(self, photos: Tensor) -> Tensor:
        """Return E'(x), float32 [B, n, W]."""
        codes: Tensor = self.encoder(photos)
        return (codes if self.offset is None else codes + self.offset).float()

    def _slopes(self, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        """Return a_i = dl_i/dw_i of every picture, float32 [B, n, W] (P-14).

        Args:
            photos: x, [B, 3, R, R].
            codes: E'(x) with its offset, [B, n, W]; cut off from E' here.
            step: Training step.
        """
        codes = codes.detach().float().requires_grad_()
        losses = self.loss(photos, codes, step)
        if losses.shape != (len(photos),):
            raise ShapeError(
                "a loss under privacy has one value per picture (P-22)", expected=str((len(photos),)),
                got=str(tuple(losses.shape)),
            )  # fmt: skip
        (slopes,) = torch.autograd.grad(losses.sum(), codes)
        return slopes

    @abstractmethod
    def _gradients(self, group: Sequence[Tensor], step: int) -> Iterator[Tensor]:
        """Yield the mean gradient over the views of each unit of a chunk, [d]."""


class MicroEngine(GradientEngine):
    """One unit at a time through E', all of a chunk through the loss: the oracle, and the default on a CPU (P-15)."""

    def _gradients(self, group: Sequence[Tensor], step: int) -> Iterator[Tensor]:
        codes = [self.codes(views) for views in group]  # a graph for each unit: [v, n, W]
        slopes = self._slopes(self._filled(group), self._filled([own.detach() for own in codes]), step)
        for start, own in zip(_starts(group), codes, strict=True):
            score = (own * slopes[start : start + len(own)]).sum() / len(own)
            found = torch.autograd.grad(score, self.parameters, allow_unused=True)
            yield _flatten(found, self.parameters)


class OpacusEngine(GradientEngine):
    """All pictures of a chunk at once by the hooks of Opacus' ``GradSampleModule`` (P-15)."""

    def __init__(
        self, encoder: nn.Module, loss: LossNets, *, max_grad_norm: float, offset: Tensor | None = None,
        chunk: int = _CHUNK,
    ) -> None:  # fmt: skip
        """See ``GradientEngine``.

        Raises:
            ConfigError: Opacus cannot compute per-sample gradients of this encoder, or a
                weight is not stored row by row, where it would be silently wrong (P-23).
        """
        super().__init__(encoder, loss, max_grad_norm=max_grad_norm, offset=offset, chunk=chunk)
        for name, parameter in encoder.named_parameters():
            if not parameter.is_contiguous():
                raise ConfigError(
                    f"the weight {name} is not stored row by row",
                    why="per-sample gradients of Opacus are silently wrong in another layout (P-23)",
                    fix="convert the encoder to torch.contiguous_format",
                )
        with self._hooks():
            pass  # says at once, not at the first photo, that Opacus does not know a layer

    @contextmanager
    def _hooks(self) -> Iterator[nn.Module]:
        """Put the hooks on E' for one chunk; per-sample gradients do not outlive it.

        Raises:
            ConfigError: Opacus does not know a layer of E'.
        """
        from opacus.grad_sample import GradSampleModule  # noqa: PLC0415 - heavy, and needed by this backend alone

        was_training = self.encoder.training
        self.encoder.train()  # the hooks look at nothing else; no layer of E' has a second mode (P-23)
        try:
            hooked = GradSampleModule(self.encoder, batch_first=True, loss_reduction="sum", strict=True)
        except NotImplementedError as error:
            raise ConfigError("Opacus cannot compute gradients of this encoder", why=str(error)) from error
        try:
            yield hooked
        finally:
            hooked.remove_hooks()
            self.encoder.train(was_training)
            for parameter in self.parameters:
                parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]

    def _gradients(self, group: Sequence[Tensor], step: int) -> Iterator[Tensor]:
        photos = self._filled(group)
        with self._hooks() as hooked:
            codes = hooked(photos)  # one pass through E' serves the loss and the gradients
            slopes = self._slopes(photos, codes if self.offset is None else codes + self.offset, step)
            with warnings.catch_warnings():
                # Expected where a layer reads the picture, or what frozen layers made of it.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                codes.backward(slopes.to(codes.dtype))
            for start, views in zip(_starts(group), group, strict=True):
                rows = slice(start, start + len(views))
                yield _flatten([_mean_of(p, rows) for p in self.parameters], self.parameters)


def build_engine(
    kind: Engine, encoder: nn.Module, loss: LossNets, *, max_grad_norm: float, offset: Tensor | None = None,
    chunk: int = _CHUNK,
) -> GradientEngine:  # fmt: skip
    """Return the backend called ``kind``; arguments as in ``GradientEngine``."""
    chosen = MicroEngine if kind == "micro" else OpacusEngine
    return chosen(encoder, loss, max_grad_norm=max_grad_norm, offset=offset, chunk=chunk)


def _chunks(units: Iterable[Tensor], pictures: int) -> Iterator[list[Tensor]]:
    """Group units to chunks of about ``pictures`` pictures; a unit is never cut, and none is dropped (P-13)."""
    group: list[Tensor] = []
    for views in units:
        if views.ndim != 4 or not len(views):
            raise ShapeError("a unit is a stack of views", expected="[v, 3, R, R]", got=str(tuple(views.shape)))
        if group and sum(map(len, group)) + len(views) > pictures:
            yield group
            group = []
        group.append(views)
    if group:
        yield group


def _starts(group: Sequence[Tensor]) -> list[int]:
    """Return the row of a chunk where each unit begins."""
    return [0, *accumulate(map(len, group[:-1]))]


def _mean_of(parameter: nn.Parameter, rows: slice) -> Tensor | None:
    samples: Tensor | None = getattr(parameter, "grad_sample", None)  # [B, ...]
    if samples is None:
        return None
    return samples[rows.start] if rows.stop - rows.start == 1 else samples[rows].mean(0)


def _flatten(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Join gradients to one vector, [d]; a parameter that the loss does not reach has gradient 0."""
    parts = [p.new_zeros(p.numel()) if g is None else g.flatten() for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat(parts)
