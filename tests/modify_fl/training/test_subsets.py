"""Trainable subsets: what is trained and what an adapter holds (M-38, M-39)."""

import copy

import pytest
import torch
from torch import nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Subset
from modify_fl.errors import ConfigError
from modify_fl.training.subsets import adapter_tensors, open_subset, trainable_names


@pytest.mark.parametrize("subset", ["heads", "lora", "all"])
def test_an_adapter_holds_tensors_of_the_bundle_and_changes_nothing_at_step_zero(
    style: LoadedStyle, subset: Subset
) -> None:
    encoder = copy.deepcopy(style.model.encoder)
    names = open_subset(encoder, subset, style.digest)
    tensors, state = adapter_tensors(encoder, names), style.model.encoder.state_dict()
    assert tuple(tensors) == names == trainable_names(style.model.encoder, subset)
    assert all(torch.equal(value, state[name]) for name, value in tensors.items())
    assert {f"encoder.{name}" for name in names} <= set(style.manifest.model.trainable)


def test_low_rank_updates_are_the_smallest_subset(style: LoadedStyle) -> None:
    sizes = {}
    for subset in ("heads", "lora", "all"):
        encoder = copy.deepcopy(style.model.encoder)
        open_subset(encoder, subset, style.digest)  # type: ignore[arg-type]
        sizes[subset] = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sizes["lora"] < sizes["heads"] < sizes["all"]


def test_an_encoder_without_the_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="no part called lora"):
        trainable_names(nn.Conv2d(3, 4, 1), "lora")
