"""The policy of a site denies by default (F-10, F-12)."""

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from modify_fl.errors import FederationPolicyError
from modify_fl.federated.policy import Policy, PrivacyRule, SecAggRule, read_policy, write_policy

_DP = PrivacyRule(mode="dp", eps_max=8.0, delta=1e-5, unit="image")
_NONE = PrivacyRule(mode="none", reason="public faces")
_SIGNER = "SHA256:" + "A" * 43


def _policy(**changes: Any) -> Policy:
    made = Policy.proposal(
        address="fl.example:8000", ca_sha256="a" * 64, signer=_SIGNER, bundle="b" * 64, fab_sha256="c" * 64,
        plan_sha256="d" * 64, max_rounds=20, participants=3, max_update_norm=5.0, privacy=_DP, today=date(2026, 1, 1),
    )  # fmt: skip
    return replace(made, **changes)


def _fields(path: Path) -> dict[str, Any]:
    write_policy(path, _policy(), overwrite=True)
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_a_written_policy_is_read_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    write_policy(path, _policy())
    assert read_policy(path) == _policy()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().count("\n") > 10  # a line for each field: people read it


def test_a_missing_file_allows_nothing(tmp_path: Path) -> None:
    with pytest.raises(FederationPolicyError, match="nothing is allowed") as caught:
        read_policy(tmp_path / "policy.json")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("name", sorted(field.name for field in fields(Policy)))
def test_every_field_is_required(name: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    value = _fields(path)
    del value[name]
    path.write_text(json.dumps(value))
    with pytest.raises(FederationPolicyError) as caught:
        read_policy(path)
    assert name in caught.value.why


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluate", True), ("version", 2), ("actions", ["query"]), ("metrics", ["accuracy"]), ("max_rounds", 0),
        ("max_rounds", "20"), ("max_update_norm", 0), ("min_participants", 1), ("bundles", ["x"]),
        ("signers", ["SHA256:short"]), ("expires", "2027-02-30"), ("expires", "soon"), ("metrics", ["loss"]),
        ("privacy", {"mode": "dp", "eps_max": 8}), ("privacy", {"mode": "none", "eps_max": 8, "reason": "r"}),
        ("privacy", {"mode": "none"}),
        ("privacy", {"mode": "off"}), ("coordinator", {"address": "https://fl.example", "ca_sha256": "a" * 64}),
        ("secagg", {"required": False, "min_participants": 2, "min_threshold": 0.67}),
    ],
)  # fmt: skip
def test_anything_unknown_refuses(name: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(_fields(path) | {name: value}))
    with pytest.raises(FederationPolicyError):
        read_policy(path)


def test_what_is_named_is_allowed_and_nothing_else() -> None:
    policy = _policy()
    policy.check_coordinator("fl.example:8000", "a" * 64)
    policy.check_app("c" * 64)
    policy.check_bundle("b" * 64, _SIGNER)
    policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_DP)
    policy.check_round("train", earlier=19, today=19)
    refused = [
        lambda: policy.check_coordinator("fl.example:8001", "a" * 64),
        lambda: policy.check_coordinator("fl.example:8000", "b" * 64),
        lambda: policy.check_app("b" * 64),
        lambda: policy.check_bundle("c" * 64, _SIGNER),
        lambda: policy.check_bundle("b" * 64, "SHA256:" + "B" * 43),
        lambda: policy.check_plan("e" * 64, quorum=3, max_update_norm=5.0, privacy=_DP),
        lambda: policy.check_plan("d" * 64, quorum=2, max_update_norm=5.0, privacy=_DP),
        lambda: policy.check_plan("d" * 64, quorum=3, max_update_norm=5.1, privacy=_DP),
        lambda: policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_NONE),
        lambda: policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=replace(_DP, eps_max=8.1)),
        lambda: policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=replace(_DP, delta=1e-4)),
        lambda: policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=replace(_DP, unit="person")),
        lambda: policy.check_round("evaluate", earlier=0, today=0),
        lambda: policy.check_round("train", earlier=20, today=0),
        lambda: policy.check_round("train", earlier=19, today=20),
    ]
    for ask in refused:
        with pytest.raises(FederationPolicyError):
            ask()


def test_a_policy_may_ask_for_masks() -> None:
    policy = _policy(secagg=SecAggRule(required=True, min_participants=3, min_threshold=0.67))
    policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_DP, secagg=True)
    with pytest.raises(FederationPolicyError) as refused:
        policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_DP)
    assert "secagg.required" in str(refused.value.why)


def test_a_policy_without_privacy_allows_a_plan_with_it() -> None:
    policy = _policy(privacy=_NONE)
    policy.check_plan("d" * 64, quorum=3, max_update_norm=1.0, privacy=_DP)
    policy.check_plan("d" * 64, quorum=3, max_update_norm=1.0, privacy=_NONE)


def test_a_policy_that_asks_for_masked_updates_refuses_a_plan_without() -> None:
    policy = _policy(secagg=SecAggRule(required=True, min_participants=3, min_threshold=0.67))
    policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_DP, secagg=True)
    with pytest.raises(FederationPolicyError):
        policy.check_plan("d" * 64, quorum=3, max_update_norm=5.0, privacy=_DP)


def test_it_ends_with_its_last_day() -> None:
    policy = _policy(expires="2026-06-30")
    policy.check_valid(datetime(2026, 6, 30, 23, 59, tzinfo=UTC))
    with pytest.raises(FederationPolicyError, match="does not allow"):
        policy.check_valid(datetime(2026, 7, 1, tzinfo=UTC))
