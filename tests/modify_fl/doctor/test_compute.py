"""Devices, threads and networks that are found (M-43, M-51, U-25)."""

import os
from pathlib import Path

import pytest
import torch

from modify_fl.config import Runtime
from modify_fl.doctor import compute
from modify_fl.doctor.report import Check
from modify_fl.training.runtime import Compute

_ALEXNET = "hub/checkpoints/alexnet-owt-7be5be79.pth"


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_: Runtime) -> Compute:
        return Compute(device=torch.device("cpu"), bf16=False, threads=1)

    monkeypatch.setattr(compute, "resolve", resolve)  # the probe takes a second
    monkeypatch.setattr(compute, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def _checks(name: str) -> dict[str, Check]:
    found = {check.name: check for check in compute.LOOKS[name]()}
    assert all((check.state == "ok") == (not check.fix) for check in found.values())
    return found


def test_a_quiet_machine_is_well() -> None:
    checks = _checks("device")
    assert {check.state for check in checks.values()} == {"ok"}
    assert checks["device"].found.startswith("cpu is used")
    assert "does not pay" in checks["bfloat16"].found


@pytest.mark.parametrize(
    ("value", "state"), [("1", "ok"), ("2", "ok"), ("3", "warn"), ("many", "warn"), ("-1", "warn")]
)
def test_more_threads_than_cores_are_told(value: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    check = _checks("device")["threads"]
    assert check.state == state
    assert ("OMP_NUM_THREADS" in check.fix) is (state == "warn")


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.1, 0.1))
    assert _checks("device")["load"].state == "warn"


def test_networks_that_are_not_there_are_named_with_what_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    training, figures = _checks("networks of training"), _checks("networks of figures")
    assert {check.state for check in (training | figures).values()} == {"warn"}
    assert sorted(training) == ["LPIPS", "face network"]
    assert sorted(figures) == ["Inception for FID", "face net for figures"]
    assert "M-41" in training["LPIPS"].found
    assert training["LPIPS"].place == tmp_path


@pytest.mark.parametrize("content", ["garbage", "another network"])
def test_a_wrong_file_under_a_right_name_fails(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / _ALEXNET
    path.parent.mkdir(parents=True)
    if content == "garbage":
        path.write_bytes(b"garbage")
    else:
        torch.save({"weight": torch.ones(2)}, path)
    (check,) = _checks("networks of training").values()
    assert check.state == "fail"
    assert "is not the network that its name says" in check.found


def test_networks_that_are_found_are_named_with_their_digest(
    shared_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(shared_weights))
    checks = _checks("networks of training") | _checks("networks of figures")
    assert {check.state for check in checks.values()} == {"ok"}
    assert all(len(check.found.rpartition("sha256 ")[2]) == 64 for check in checks.values())
    assert "casia" in checks["face net for figures"].found  # not the one that styles are trained with (M-44)
