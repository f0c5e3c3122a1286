"""Several processes that train as one (M-55 to M-57, ADR 8).

Every process holds all networks and computes its slice of the global batch;
gradients are summed before each optimiser step. What is summed is equal in all
processes bit for bit, so weights, averages and decisions stay equal without
being sent. With one process nothing here does anything, and ``torch.distributed``
is not touched. Nothing is pickled: texts travel as bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, distributed

from modify_fl.errors import ConfigError, ModifyError
from modify_fl.launch import Launch

__all__ = ["Ranks"]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of a run, seen from one of them. Every method must be called by all, in one order."""

    launch: Launch = field(default_factory=Launch)
    """Place of this process."""

    @classmethod
    @contextmanager
    def joined(cls, launch: Launch | None = None) -> Iterator[Self]:
        """Meet the other processes and part from them at the end.

        Tensors of the CPU travel through gloo, those of a CUDA device through nccl.

        Args:
            launch: Place of this process; that of the environment when omitted.
        """
        launch = Launch.from_environment() if launch is None else launch
        if launch.size == 1:
            yield cls(launch=launch)
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, rank=launch.rank, world_size=launch.size)
        try:
            yield cls(launch=launch)
        finally:
            distributed.destroy_process_group()

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.launch.size

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.launch.leads

    def share(self, batch: int) -> slice:
        """Return this process's slice of the global batch (M-56).

        Raises:
            ConfigError: ``batch`` does not divide by the number of processes.
        """
        if batch % self.size:
            raise ConfigError(
                f"a batch of {batch} cannot be shared by {self.size} processes", why="every one takes an equal part",
                fix="start another number of processes, or set another batch",
            )  # fmt: skip
        part = batch // self.size
        return slice(self.launch.rank * part, (self.launch.rank + 1) * part)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, as one message for each type."""
        if self.size == 1:
            return
        for kind in dict.fromkeys((t.dtype, t.device) for t in tensors):
            group = [t for t in tensors if (t.dtype, t.device) == kind]
            flat = torch.cat([t.detach().reshape(-1) for t in group])
            distributed.all_reduce(flat)
            for tensor, part in zip(group, torch.split(flat, [t.numel() for t in group]), strict=True):
                tensor.detach().copy_(part.view(tensor.shape))

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the values of the first one."""
        if self.size == 1:
            return
        for tensor in tensors:
            plain = tensor.detach().contiguous()
            distributed.broadcast(plain, 0)
            tensor.detach().copy_(plain)

    def gather(self, rows: Tensor) -> Tensor:
        """Join the rows of all processes, equal numbers of each, in their order."""
        if self.size == 1:
            return rows
        found = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def any(self, *, said: bool) -> bool:
        """Return whether one process or more said yes."""
        count = torch.tensor(float(said))
        self.add([count])
        return bool(count)

    def tell(self, text: str) -> str:
        """Return the text that the first process gave."""
        if self.size == 1:
            return text
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)  # [L]
        length = torch.tensor(len(data))
        distributed.broadcast(length, 0)
        data = data if self.leads else torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(data, 0)
        return bytes(data.tolist()).decode()

    def number(self, value: float) -> float:
        """Return the number that the first process gave."""
        return float(self.tell(repr(float(value))))

    def require_agreement(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Check that all processes hold the same values (M-56).

        Args:
            groups: Named tensors by group; whole numbers are left out, they only count.

        Raises:
            ModifyError: They differ; the last checkpoint stands.
        """
        if self.size == 1:
            return
        floats = [(g, t) for g, group in groups.items() for t in group.values() if t.is_floating_point()]
        marks = torch.stack([t.detach().double().square().sum().cpu() for _, t in floats])
        every = self.gather(marks[None])  # [size, number of tensors]
        wrong = (every != every[0]).any(0).tolist()
        if any(wrong):
            names = sorted({name for (name, _), differs in zip(floats, wrong, strict=True) if differs})
            raise ModifyError(
                "the processes no longer hold the same weights", why=f"they differ in {', '.join(names)}",
                fix="run the same command again, it goes on from the last checkpoint; report this if it comes again",
            )  # fmt: skip
