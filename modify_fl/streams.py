"""Randomness as a function of (seed, stream, step).

No generator state is ever stored: a run that resumes asks for the same stream
and step and draws the same numbers (M-52). Noise for differential privacy must
never come from here (P-18).
"""

import hashlib

import torch

__all__ = ["generator"]


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Return a CPU generator that depends on nothing but its arguments.

    Args:
        seed: The run's seed, any integer.
        stream: What the numbers are for, such as ``"shuffle"``.
        step: Position in the stream, such as the training step or the epoch.

    Returns:
        A fresh CPU generator. Its seed is the first eight bytes of the SHA-256
        of the three arguments, so neighbouring steps share nothing.
    """
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    # The Mersenne twister of torch mixes 64-bit seeds through 32 bits of state;
    # hashing first makes collisions between streams a matter of chance alone.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
