"""Checkpoints: folders of safetensors and JSON, made current by one pointer file (M-52).

``<run>/checkpoints/<step>/`` is written under another name, synced and renamed;
then ``<run>/checkpoints/current`` is replaced atomically. A kill at any moment
leaves the last complete checkpoint in force. No generator state is stored.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modify_fl.errors import DataError

__all__ = ["Checkpoint", "load", "module_tensors", "optimizer_tensors", "restore_optimizer", "save"]

_POINTER = "current"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on."""

    step: int
    """Optimiser steps taken."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """One group of named tensors per file."""
    values: Mapping[str, object]
    """What is not a tensor; JSON."""


def save(run: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` and make it the current one; remove older ones."""
    home = run / "checkpoints"
    home.mkdir(parents=True, exist_ok=True)
    name = f"{checkpoint.step:08d}"
    partial = home / f".{name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for group, tensors in checkpoint.tensors.items():
        # safetensors wants plain row-major memory; the layout is restored on load.
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial / f"{group}.safetensors")
    (partial / "state.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.values}), encoding="utf-8")
    for path in [*partial.iterdir(), partial]:
        _sync(path)
    final = home / name
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    pointer = home / f".{_POINTER}"
    pointer.write_text(name, encoding="ascii")
    _sync(pointer)
    pointer.replace(home / _POINTER)
    _sync(home)
    for old in home.iterdir():
        if old.is_dir() and old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def load(run: Path) -> Checkpoint | None:
    """Return the current checkpoint of the run, or nothing where none was saved.

    Raises:
        DataError: The checkpoint that the pointer names cannot be read.
    """
    pointer = run / "checkpoints" / _POINTER
    if not pointer.is_file():
        return None
    folder = pointer.parent / pointer.read_text(encoding="ascii")
    try:
        values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the checkpoint {folder.name}", why=str(error), fix="start with --fresh"
        ) from error
    return Checkpoint(step=values.pop("step"), tensors=tensors, values=values)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as flat names ``<parameter index>.<field>``."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, fields in state.items() for name, value in fields.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Each moment gets the memory layout of its parameter: fused kernels walk both
    in storage order, so another layout would pair wrong elements.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        same = value.shape == like.shape
        state.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(value) if same else value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Mapping[str, Tensor]]:
    """Return the state of several networks, one group each."""
    return {name: module.state_dict() for name, module in modules.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
