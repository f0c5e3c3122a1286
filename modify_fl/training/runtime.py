"""Device, threads and precision of a run (M-50, M-51).

A choice is made once, reported, written to the run's record and taken from
there on resume, because another kernel would give other bits (M-52).
"""

import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from modify_fl.config import Runtime
from modify_fl.errors import ConfigError
from modify_fl.launch import Launch

__all__ = ["Compute", "resolve", "usable_cores"]

_Module = TypeVar("_Module", bound=nn.Module)

_PROBE_ROUNDS = 5
_PROBE_SECONDS = 0.1
_SPEEDUP_MIN = 1.2
_ERROR_MAX = 0.02


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how tensors are computed."""

    device: torch.device
    """Device of all networks and batches."""
    bf16: bool
    """Whether convolutions and linear layers run in bfloat16."""
    threads: int
    """Compute threads on the CPU."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which networks are called."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def place(self, module: _Module) -> _Module:
        """Move a network to the device, laid out for fast convolutions."""
        return module.to(self.device).to(memory_format=torch.channels_last)

    def __str__(self) -> str:
        """Return one phrase for people, such as ``cpu, 2 threads, bf16``."""
        return f"{self.device}, {self.threads} threads, {'bf16' if self.bf16 else 'fp32'}"


def usable_cores() -> int:
    """Return the cores this process may really use: affinity, cut by the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def resolve(runtime: Runtime, *, bf16: bool | None = None) -> Compute:
    """Choose device, threads and precision, and set torch's thread number.

    Args:
        runtime: What the user asked for.
        bf16: The earlier choice when a run resumes; none for a fresh choice.

    Of several processes on one machine, each takes the CUDA device of its
    number and its part of the cores (M-51, M-55).

    Raises:
        ConfigError: The device asked for is not there.
    """
    launch = Launch.from_environment()
    device = _device(runtime.device, launch)
    threads = runtime.threads or max(1, usable_cores() // launch.local_size)
    torch.set_num_threads(threads)
    if bf16 is None:
        bf16 = _bf16_pays(device) if runtime.precision == "auto" else runtime.precision == "bf16"
    return Compute(device=device, bf16=bf16, threads=threads)


def _device(name: str, launch: Launch) -> torch.device:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in found.items() if there)
    if not found[name]:
        raise ConfigError(f"device {name} is not available here", fix="use --device cpu")
    if name != "cuda" or launch.size == 1:
        return torch.device(name)
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise ConfigError(
            f"there are {launch.local_size} processes on this machine but {count} CUDA devices",
            fix=f"use torchrun --nproc-per-node {count}",
        )
    torch.cuda.set_device(launch.local_rank)
    return torch.device("cuda", launch.local_rank)


def _bf16_pays(device: torch.device) -> bool:
    """Time forward and backward of a middle layer both ways (M-50)."""
    x = torch.linspace(-1, 1, 16 * 64 * 32 * 32, device=device).sin().view(16, 64, 32, 32)
    weight = torch.linspace(-1, 1, 64 * 64 * 9, device=device).cos().view(64, 64, 3, 3) / 24
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    slow = fast = float("inf")
    for _ in range(_PROBE_ROUNDS):  # in turns, so that a busy moment does not hit one side alone
        seconds, exact = _time_layer(x, weight, bf16=False)
        slow = min(slow, seconds)
        seconds, rough = _time_layer(x, weight, bf16=True)
        fast = min(fast, seconds)
    error = ((rough - exact).norm() / exact.norm()).item()
    return slow >= _SPEEDUP_MIN * fast and error <= _ERROR_MAX  # a NaN error compares false


def _time_layer(x: torch.Tensor, weight: torch.Tensor, *, bf16: bool) -> tuple[float, torch.Tensor]:
    """Return the best time of one forward and backward, in seconds, and the gradient."""
    best, gradient, end = float("inf"), x, time.monotonic() + _PROBE_SECONDS
    while time.monotonic() < end:
        x, start = x.detach().requires_grad_(), time.monotonic()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
            out = functional.conv2d(x, weight, padding=1)
        (gradient,) = torch.autograd.grad(out.float().square().mean(), x)
        gradient = gradient.float().cpu()  # waits for the device
        best = min(best, time.monotonic() - start)
    return best, gradient
