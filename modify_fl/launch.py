"""Which process of a run this one is, as ``torchrun`` says in environment variables (M-55).

Read here and nowhere else. Nothing here imports torch, so a command can ask
before it does (U-31).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from modify_fl.errors import ConfigError

__all__ = ["Launch"]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Place of this process among those that train together; one alone unless told otherwise."""

    rank: int = 0
    """Number of this process over all machines, from 0."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine; names its device."""
    local_size: int = 1
    """Processes on this machine, which share its cores."""

    def __post_init__(self) -> None:
        """Check that the numbers fit together."""
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size <= self.size):
            raise ConfigError(
                "the variables of torchrun contradict each other",
                why=f"RANK {self.rank} of WORLD_SIZE {self.size}, LOCAL_RANK {self.local_rank} of {self.local_size}",
                fix="start the processes with torchrun, or unset RANK and WORLD_SIZE",
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one process where WORLD_SIZE is not set.

        Raises:
            ConfigError: A variable is not a number, or they contradict each other.
        """
        found = os.environ if environment is None else environment
        if "WORLD_SIZE" not in found:
            return cls()
        try:
            rank, size = int(found.get("RANK", "0")), int(found["WORLD_SIZE"])
            local_rank = int(found.get("LOCAL_RANK", str(rank)))
            return cls(
                rank=rank, size=size, local_rank=local_rank, local_size=int(found.get("LOCAL_WORLD_SIZE", str(size)))
            )
        except ValueError as error:
            raise ConfigError(
                "cannot read the variables of torchrun", why=str(error), fix="start the processes with torchrun"
            ) from error

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks (M-56)."""
        return self.rank == 0
