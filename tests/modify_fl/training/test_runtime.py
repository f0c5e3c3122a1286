"""Device, threads, precision (M-50, M-51)."""

import pytest
import torch

from modify_fl.config import Runtime
from modify_fl.errors import ConfigError
from modify_fl.training import runtime


def test_cpu_is_always_there() -> None:
    """The reference device, with the number of threads asked for."""
    compute = runtime.resolve(Runtime(device="cpu", threads=1, precision="fp32"))
    assert (compute.device.type, compute.threads, compute.bf16) == ("cpu", 1, False)
    assert torch.get_num_threads() == 1
    assert str(compute) == "cpu, 1 threads, fp32"


def test_missing_device_is_one_sentence() -> None:
    """A device that is not there names the one that is."""
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(ConfigError, match=f"device {missing} is not available"):
        runtime.resolve(Runtime(device=missing))


def test_cores_are_those_of_this_process() -> None:
    """M-51: never more than the machine has, never none."""
    assert 1 <= runtime.usable_cores() <= (runtime.os.cpu_count() or 1)


@pytest.mark.parametrize(("fast", "error", "pays"), [(0.5, 0.001, True), (0.9, 0.001, False), (0.5, 0.5, False)])
def test_bf16_must_pay_and_be_right(monkeypatch: pytest.MonkeyPatch, fast: float, error: float, pays: bool) -> None:
    """M-50: at least 1.2 times faster and within 2 %."""
    monkeypatch.setattr(
        runtime, "_time_layer",
        lambda x, weight, bf16: (fast, torch.tensor([1 + error])) if bf16 else (1.0, torch.tensor([1.0])),
    )  # fmt: skip
    assert runtime.resolve(Runtime(device="cpu", threads=1)).bf16 is pays


def test_earlier_choice_stands_on_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """M-50: the probe is not repeated."""
    monkeypatch.setattr(runtime, "_bf16_pays", lambda device: pytest.fail("probed again"))
    assert runtime.resolve(Runtime(device="cpu", threads=1), bf16=True).bf16


def test_autocast_covers_convolutions() -> None:
    """M-50: bfloat16 inside the context, float32 outside."""
    compute = runtime.resolve(Runtime(device="cpu", threads=1, precision="bf16"))
    layer = torch.nn.Conv2d(1, 1, 1)
    with compute.autocast():
        assert layer(torch.ones(1, 1, 1, 1)).dtype == torch.bfloat16
    assert layer(torch.ones(1, 1, 1, 1)).dtype == torch.float32
