"""What a run would take, measured with real steps on throwaway trainers (M-30, U-10, U-34).

Nothing here writes a file.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["RunEstimate", "peak_memory"]

_KILO = 1024


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """Length and memory of a run, from a few steps that were taken and thrown away."""

    images: int
    """Images seen at the end."""
    steps: int
    """Optimiser steps."""
    seconds: float
    """Training time."""
    host_bytes: int | None
    """Most memory that this process held while it took the steps; nothing where the system does not say."""
    device_bytes: int | None
    """Most memory of the CUDA device that tensors held; nothing on another device."""
    micro: int | None
    """Images of a portion, where memory was too short for the whole batch (U-10)."""
    compute: str
    """Where it was measured, such as ``cpu, 2 threads, bf16``."""

    def __str__(self) -> str:
        """Return length and memory as one sentence for people."""
        minutes = f"{self.seconds / 60:.1f} minutes" if self.seconds < 36_000 else f"{self.seconds / 3600:.1f} hours"
        memory = [
            f"{size / 1e9:.2f} GB {where}"
            for size, where in ((self.host_bytes, "of memory"), (self.device_bytes, "on the device"))
            if size is not None
        ]
        portions = f", in portions of {self.micro}" if self.micro else ""
        return (
            f"{self.steps} steps, {self.images / 1000:.1f} kimg, about {minutes} on {self.compute}{portions}; "
            f"peak {' and '.join(memory) or 'memory unknown'}"
        )


def peak_memory(device: torch.device) -> tuple[int | None, int | None]:
    """Return the most memory held so far, in bytes: by this process, and by tensors on a CUDA device."""
    return _peak_of_process(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _peak_of_process() -> int | None:
    try:  # not getrusage: after fork and exec it still counts the parent's peak
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KILO
    except OSError:
        pass
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:  # pragma: no cover - Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * _KILO
