"""Pictures that need no photo, by which a client sees that networks paint as the provider's did (B-25 step 13)."""

import torch
from torch import Tensor

from modify_fl.networks.model import StyleModel
from protocol.errors import TensorError
from protocol.manifest import SelfTest

__all__ = ["check_selftest", "selftest"]

_TOLERANCE = 0.01


def selftest(model: StyleModel) -> tuple[SelfTest, ...]:
    """Return mean and standard deviation of each self-test picture, for the manifest."""
    return tuple(
        SelfTest(input=name, mean=float(out.mean()), std=float(out.std()), tolerance=_TOLERANCE)
        for name, out in _outputs(model).items()
    )


def check_selftest(model: StyleModel, tests: tuple[SelfTest, ...]) -> None:
    """Compare what a model paints with what its manifest says.

    Raises:
        TensorError: E_SELFTEST, a test is unknown or its picture differs.
    """
    outputs = _outputs(model)
    for test in tests:
        if test.input not in outputs:
            raise TensorError(f"unknown self-test {test.input}", code="E_SELFTEST", step=13)
        out = outputs[test.input]
        error = max(abs(float(out.mean()) - test.mean), abs(float(out.std()) - test.std))
        if not error <= test.tolerance:  # a NaN must fail
            raise TensorError(
                f"the output for {test.input} differs from the provider's", code="E_SELFTEST", step=13,
                expected=f"within {test.tolerance}", got=f"{error:.4f}",
            )  # fmt: skip


@torch.no_grad()
def _outputs(model: StyleModel) -> dict[str, Tensor]:
    """Paint the average code, and a drawn ramp through E and D."""
    resolution = model.resolution
    line = torch.linspace(-1, 1, resolution)
    ramp = torch.stack([line[None, :].expand(resolution, -1), line[:, None].expand(-1, resolution),
                        -line[None, :].expand(resolution, -1)])[None]  # [1, 3, R, R]  # fmt: skip
    average = model.decode(model.offset.w_avg[None])
    return {"average-code": average, "ramp": model.decode(model.encode(ramp))}
