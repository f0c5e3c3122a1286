"""The plan: strict, canonical, and nothing in it that makes no sense."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modify_fl.errors import ConfigError
from modify_fl.federated.plan import FederationPlan, PrivatePlan, read_plan, update_norm, write_plan
from protocol.errors import MalformedBundleError, StorageError

PLAN = FederationPlan(
    bundle="a" * 64, adapter_schema="b" * 64, fab_sha256="c" * 64, subset="heads", rounds=4, local_steps=5,
    max_update_norm=1.5, sites=3,
)  # fmt: skip
PRIVATE = PrivatePlan(n_public=100, batch=20, noise_multiplier=2.0)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, private=PRIVATE)])
def test_a_plan_comes_back_as_it_was_written(plan: FederationPlan, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path)
    assert read_plan(path) == read_plan(tmp_path) == plan
    assert read_plan(path).digest == plan.digest
    with pytest.raises(StorageError, match="it exists"):
        write_plan(plan, tmp_path)


def test_another_number_is_another_digest() -> None:
    assert PLAN.digest != replace(PLAN, rounds=5).digest


def test_the_schedule_of_a_site_covers_all_rounds() -> None:
    settings = replace(PLAN, private=PRIVATE).settings()
    assert settings is not None
    assert (settings.steps, settings.sampling_rate) == (20, 0.2)
    assert PLAN.settings() is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rounds": 0}, "rounds must lie between"),
        ({"subset": "half"}, "subset must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"max_update_norm": float("inf")}, "max_update_norm must be a number above 0"),
        ({"fedprox_mu": -1.0}, "fedprox_mu must not be negative"),
        ({"quorum": 4}, "a quorum of 4 cannot be reached by 3 sites"),
        ({"private": replace(PRIVATE, batch=200)}, "sampling rate"),
        ({"private": replace(PRIVATE, delta=0.5)}, "delta must be below"),
    ],
)
def test_a_number_without_sense_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(PLAN, **change)


@pytest.mark.parametrize(
    "change", [{"code": "import os"}, {"version": 2}, {"bundle": "A" * 64}, {"rounds": 1.5}, {"sites": None}]
)
def test_a_file_with_another_field_or_type_is_refused(change: dict[str, Any]) -> None:
    value = json.loads(PLAN.to_bytes()) | change
    with pytest.raises(MalformedBundleError, match=r"plan\.json"):
        FederationPlan.from_bytes(json.dumps({k: v for k, v in value.items() if v is not None}).encode())


def test_the_norm_is_what_adam_can_move() -> None:
    assert update_norm(learning_rate=1e-3, local_steps=10, parameters=10_000) == 1.0  # 1e-3 * 10 * 100
