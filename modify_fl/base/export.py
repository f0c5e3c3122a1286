"""Writing a base (M-23, ADR 6): weights, record and model card, each replaced as a whole."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from modify_fl.base.card import BaseCard, markdown, to_json
from modify_fl.base.start import MODEL_PARTS, tensor_table
from modify_fl.errors import ConfigError

__all__ = ["LARGEST", "stored", "write_base"]

LARGEST = 15_000_000
"""Bytes that the weights of a base may have: it travels with every installation."""


def write_base(card: BaseCard, states: Mapping[str, Mapping[str, Tensor]]) -> BaseCard:
    """Write ``NAME.safetensors``, ``NAME.json`` and ``NAME.md`` into ``card.folder``.

    Kernels and matrices become float16; vectors, scalars and gains stay
    float32, since they are few and a rounded gain would shift a whole layer.

    Args:
        card: The record; its digest is filled in here.
        states: State of E (gains not folded), D, the offset, M and Dis, by part,
            and under ``faces`` the fields of ``FaceCodes``.

    Returns:
        The record with its digest.

    Raises:
        ConfigError: A tensor is missing, superfluous or mis-shaped, has a value
            float16 cannot hold, or the file would be too large.
    """
    tensors = {f"{part}.{name}": stored(value) for part in sorted(states) for name, value in states[part].items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    expected = tensor_table(card.network)
    wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if wrong:
        needed = ", ".join((*MODEL_PARTS, "discriminator", "faces"))
        raise ConfigError(f"{wrong[0]} is not as the configuration asks for", why=f"a base holds {needed}")
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise ConfigError(
            f"{broken[0]} holds values that are not finite in float16", fix="export an earlier checkpoint"
        )
    content = save(dict(sorted(tensors.items())), metadata={"format": "pt"})
    if len(content) > LARGEST:
        raise ConfigError(
            "the base would be too large to ship", expected=f"at most {LARGEST / 1e6:g} MB",
            got=f"{len(content) / 1e6:.1f} MB", fix="use a preset with smaller networks",
        )  # fmt: skip
    card = replace(card, sha256=hashlib.sha256(content).hexdigest())
    card.folder.mkdir(parents=True, exist_ok=True)
    _replace(card.weights_file, content)
    _replace(card.folder / f"{card.name}.md", markdown(card).encode())
    _replace(card.folder / f"{card.name}.json", to_json(card).encode())  # last: it makes the others count
    return card


def stored(value: Tensor) -> Tensor:
    """Return a tensor as files that travel with the package hold it: float16 where it has rows, else float32."""
    value = value.detach().cpu().contiguous()
    return value.to(torch.float16) if value.ndim > 1 else value.float()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
