"""The public settings of DP-SGD are refused when the guarantee would make no sense (P-7, P-12, P-35)."""

import dataclasses

import pytest

from modify_fl.errors import ConfigError
from modify_fl.privacy.settings import DpSettings

GOOD = DpSettings(n_public=1000, noise_multiplier=1.0)


def test_the_sampling_rate_follows_from_public_numbers() -> None:
    assert DpSettings(n_public=1000, batch=250, noise_multiplier=1.0).sampling_rate == 0.25


def test_a_given_sampling_rate_stays() -> None:
    assert DpSettings(n_public=1000, sampling_rate=0.1, noise_multiplier=1.0).sampling_rate == 0.1


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("delta", 1e-3, "below 1 / n_public"),
        ("delta", 0.0, "above 0"),
        ("delta", float("nan"), "above 0"),
        ("epsilon", -1.0, "epsilon must be"),
        ("epsilon", float("inf"), "epsilon must be"),
        ("noise_multiplier", 0.0, "noise_multiplier must be"),
        ("noise_multiplier", float("nan"), "noise_multiplier must be"),
        ("max_grad_norm", 0.0, "max_grad_norm must be"),
        ("max_grad_norm", float("inf"), "max_grad_norm must be"),
        ("batch", 0, "batch must be"),
        ("batch", 2.5, "batch must be"),
        ("steps", 0, "steps must be"),
        ("n_public", 0, "n_public must be"),
        ("sampling_rate", 1.5, "sampling rate"),
        ("sampling_rate", -0.1, "sampling rate"),
        ("augmentations", 65, "at most 64"),
        ("per_person", 0, "per_person must be"),
        ("unit", "client", "unit must be one of image, person"),
        ("engine", "ghost", "engine must be one of micro, opacus"),
    ],
)
def test_a_setting_out_of_range_is_refused(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dataclasses.replace(GOOD, **{field: value})  # type: ignore[arg-type]


def test_a_batch_above_the_public_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="sampling rate") as caught:
        DpSettings(n_public=100, batch=256, noise_multiplier=1.0)
    assert "at most --n-public" in caught.value.fix
