"""Unsound choices are refused when the configuration is built, each with its reason (P-20 to P-30)."""

import re
from pathlib import Path

import pytest

from modify_fl.errors import ConfigError
from modify_fl.privacy.recipe import DP_SCHEDULES, PrivateConfig

UNSOUND = [
    ("critic", "trained", "P-20"),
    ("critic", "private", "P-21"),
    ("loss", "batch", "P-22"),
    ("normalisation", "batch", "P-23"),
    ("decoder_noise", "random", "P-25"),
    ("preparation", "deduplicated", "P-26"),
    ("preparation", "filtered", "P-26"),
    ("preparation", "balanced", "P-26"),
    ("augmentation", "rows", "P-17"),
    ("augmentation", "adaptive", "P-22"),
    ("augmentation", "mixed", "P-22"),
    ("sampling", "shuffled", "P-13"),
    ("sampling", "fixed", "P-13"),
    ("sampling", "truncated", "P-13"),
    ("clipping", "adaptive", "P-16"),
    ("length", "early-stop", "P-27"),
    ("length", "best", "P-27"),
    ("length", "plateau", "P-27"),
    ("metrics", "private", "P-28"),
    ("accountant", "gdp", "P-33"),
    ("accountant", "clt", "P-33"),
]


@pytest.mark.parametrize(("name", "value", "rule"), UNSOUND)
def test_an_unsound_choice_is_refused_with_its_reason(name: str, value: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"private.{name} cannot be {value}") as caught:
        PrivateConfig(**{name: value})  # type: ignore[arg-type]
    assert rule in caught.value.why
    assert caught.value.fix.startswith("use ")


def test_every_reason_is_its_own() -> None:
    reasons = set()
    for name, value, _ in UNSOUND:
        with pytest.raises(ConfigError) as caught:
            PrivateConfig(**{name: value})  # type: ignore[arg-type]
        reasons.add(caught.value.why)
    assert len(reasons) >= len(UNSOUND)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "lion"),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("ema", 1.0),
        ("betas", (0.9, 1.0)),
        ("sampling", "lottery"),
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError):
        PrivateConfig(**{field: value})  # type: ignore[arg-type]


def test_the_default_is_sound_and_so_is_prv() -> None:
    assert PrivateConfig().critic == "frozen"
    assert PrivateConfig(accountant="prv", critic="none").accountant == "prv"


def test_the_default_schedule_is_that_of_the_design() -> None:
    assert (DP_SCHEDULES["default"].batch, DP_SCHEDULES["default"].steps) == (256, 500)  # P-52
    assert DP_SCHEDULES["quick"].batch * DP_SCHEDULES["quick"].steps <= 12_800


def test_the_design_names_the_schedules_of_the_code() -> None:
    """P-54 and ADR 12 once spoke of a ``quick`` twice as long."""
    docs = Path(__file__).resolve().parents[3] / "docs"
    quick = DP_SCHEDULES["quick"]
    said = re.escape(f"{quick.batch} x {quick.steps}")
    for page, words in (
        ("design/privacy.md", rf"{said} \(schedule `quick`"),
        ("adr/0012-stage-2-with-privacy.md", f"`quick` is {said}"),
    ):
        assert re.search(words, (docs / page).read_text(encoding="utf-8")), page
