"""A batch computed in portions, and what to do where memory is short (U-10).

A step takes the mean over a global batch. It is computed portion by portion:
every portion's loss counts by its share of the batch and gradients add up, so
the result is that of the whole batch up to rounding. A portion begins as large
as the batch; each time memory runs out it is halved, and what was being
computed begins again. The optimiser has not moved by then.

Exact for everything that keeps samples apart (M-2). Two parts of the paper's
preset compare samples and then see a portion instead of the batch: batch
normalisation of IR-SE50 and the minibatch standard deviation of Dis.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from modify_fl.errors import MemoryShortError
from modify_fl.training.ranks import Ranks

__all__ = ["Portions", "memory_is_short"]

_Result = TypeVar("_Result")

_SIGNS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "alloc_failed")


def memory_is_short(error: BaseException) -> bool:
    """Return whether an exception of Python or torch says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


class Portions:
    """How the batch of a step is cut: first by processes, then by what memory allows."""

    def __init__(self, batch: int, ranks: Ranks | None = None) -> None:
        """Begin with one portion, the whole share of this process.

        Args:
            batch: Images of the global batch.
            ranks: The processes that share it; this one alone when omitted.

        Raises:
            ConfigError: The batch does not divide by the number of processes.
        """
        self.batch, self.ranks = batch, ranks or Ranks()
        self.share = self.ranks.share(batch)
        """What this process computes, indices of the global batch."""
        self.micro = self.share.stop - self.share.start
        """Largest number of images in a portion."""
        self._told: list[str] = []

    @property
    def cut(self) -> int | None:
        """Size of a portion where memory forced one, for the checkpoint; else nothing."""
        return self.micro if self.micro < self.share.stop - self.share.start else None

    def restore(self, cut: object) -> None:
        """Take over what ``cut`` said when the checkpoint was saved."""
        if cut is not None:
            self.micro = max(1, min(self.micro, int(str(cut))))

    def parts(self) -> list[slice]:
        """Return the portions of this process in order, as slices of the global batch."""
        start, stop = self.share.start, self.share.stop
        return [slice(at, min(at + self.micro, stop)) for at in range(start, stop, self.micro)]

    def weight(self, part: slice) -> float:
        """Return the share of a portion in the global batch."""
        return float(part.stop - part.start) / self.batch

    def inside(self, part: slice) -> slice:
        """Return where a portion lies in a tensor that holds this process's share only."""
        return slice(part.start - self.share.start, part.stop - self.share.start)

    def each(self, work: Callable[[slice], _Result], *, begin: Callable[[], object]) -> list[_Result]:
        """Call ``work`` for every portion; where memory runs out, halve them and begin again.

        Args:
            work: Computes one portion and adds to the gradients.
            begin: Called before the first portion, at each attempt; clears the gradients.

        Raises:
            MemoryShortError: Not even one image fits.
        """

        def attempt() -> list[_Result]:
            begin()
            return [work(part) for part in self.parts()]

        return self.retry(attempt)

    def retry(self, attempt: Callable[[], _Result]) -> _Result:
        """Call ``attempt`` until memory suffices; it has to respect ``micro``, and to change nothing until its end.

        Raises:
            MemoryShortError: Not even one image fits.
        """
        while True:
            try:
                return attempt()
            except (MemoryError, RuntimeError) as error:
                if not memory_is_short(error):
                    raise
                self._halve(error)
            # Here the exception is gone, and with it the frames that held the tensors.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _halve(self, error: BaseException) -> None:
        reason = str(error).strip().split("\n")[0][:200]
        if self.micro == 1:
            raise MemoryShortError("not enough memory for a single image", why=reason) from error
        self.micro = (self.micro + 1) // 2
        self._told.append(
            f"memory ran out: a step of {self.batch} images is now computed in portions of {self.micro}, "
            "with the same result"
        )

    def notices(self) -> tuple[str, ...]:
        """Return what happened since the last call, one sentence each."""
        told, self._told = tuple(self._told), []
        return told

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Put portions together again, [b, ...] each, to this process's share."""
        return parts[0] if len(parts) == 1 else torch.cat(list(parts))

    def mean(self, figures: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the mean over the global batch of what every portion of this process has as its own mean."""
        weights = [self.weight(part) for part in self.parts()]
        total = {
            name: torch.stack([w * f[name].detach().float() for w, f in zip(weights, figures, strict=True)]).sum()
            for name in figures[0]
        }
        self.ranks.add(list(total.values()))
        return total
