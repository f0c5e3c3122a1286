"""Gaussian noise from the operating system's generator (P-18).

Guarantees: every number is unpredictable, whatever a run's seed is; a sum of
four independent normals over 2 hides the grid of a single double; the noisy sum
is rounded to multiples of 2^-20 C, so that its last bits do not tell the sum
from the noise. Torch's generators are forbidden here: the one of the CPU uses 32
bits of its seed.

| case | result |
|---|---|
| noise multiplier or bound is 0, negative or not finite | ``ConfigError`` |
| the sum has an entry that is not finite | ``ConfigError``; clipping never lets one through |
| an empty sum (0 entries) | an empty sum |
"""

import math
import os

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from modify_fl.errors import ConfigError

__all__ = ["GRID", "add_noise", "standard_normal"]

GRID = 2.0**-20
"""Step of the grid of a released sum, in units of the clipping norm."""

_PARTS = 4
_WORD = 8
_KEY, _BLOCK = 32, 16
_CHUNK = 1 << 14  # numbers at a time: half a MB of random bytes, which stays in a cache


def standard_normal(count: int) -> Tensor:
    """Return independent standard normal numbers, float64 [count], from the operating system's generator."""
    numbers = torch.empty(count, dtype=torch.float64)
    for at in range(0, count, _CHUNK):
        size = min(_CHUNK, count - at)
        numbers[at : at + size] = _normals(_PARTS * size).view(_PARTS, size).sum(0).div_(math.sqrt(_PARTS))
    return numbers


def _normals(count: int) -> Tensor:
    """Return normals by the inverse of their distribution: one bit of sign, 52 bits of a uniform below one half."""
    words = torch.frombuffer(_random_bytes(_WORD * count), dtype=torch.int64)
    uniform = words.bitwise_and((1 << 52) - 1).double().add_(0.5).mul_(2.0**-53)  # in (0, 1/2), exact
    normals: Tensor = torch.special.ndtri(uniform, out=uniform)
    return normals.copysign_(words)


def _random_bytes(size: int) -> bytearray:
    """Return bytes of AES-256-CTR under a key that is used once; several times as fast as asking for each byte."""
    stream = Cipher(algorithms.AES(os.urandom(_KEY)), modes.CTR(bytes(_BLOCK))).encryptor()
    return bytearray(stream.update(bytes(size)))


def add_noise(total: Tensor, *, noise_multiplier: float, max_grad_norm: float) -> Tensor:
    """Return u_t = S + N(0, sigma^2 C^2 I), rounded to the grid: the only thing a step releases.

    Args:
        total: S, the sum of clipped gradients, float64 [d].
        noise_multiplier: sigma.
        max_grad_norm: C.

    Returns:
        float64 [d], multiples of ``GRID * C``.

    Raises:
        ConfigError: sigma or C is not a positive number, or the sum is not finite float64.
    """
    for name, value in (("noise multiplier", noise_multiplier), ("clipping norm", max_grad_norm)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"the {name} must be a number above 0, got {value}")
    if total.dtype != torch.float64 or not bool(total.isfinite().all()):
        raise ConfigError("the sum to be released must be finite float64", fix="clip every gradient first")
    step = GRID * max_grad_norm
    noisy = standard_normal(total.numel()).mul_(noise_multiplier * max_grad_norm).add_(total)
    return noisy.div_(step).round_().mul_(step)
