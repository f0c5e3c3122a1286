"""The course of stage 1 (M-27, M-29, M-30)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modify_fl.config import PRESETS
from modify_fl.training.schedule import Schedule

_QUICK = PRESETS["quick-64"].encapsulation
_PAPER = PRESETS["paper-1024"].encapsulation


def test_parts_of_the_quality_recipe() -> None:
    """M-29 at 16 000 images: Dis from 0.10, ramp 0.15 to 0.30, phase B from 0.85."""
    plan = Schedule.plan(_QUICK, 16_000)
    assert (plan.discriminator_start, plan.ramp_start, plan.ramp_end) == (1600, 2400, 4800)
    assert not plan.identity(7992)
    assert plan.identity(8000)
    assert (plan.remap_start, plan.total) == (13_600, 16_000)
    assert plan.adversary(2400) == 0
    assert plan.adversary(3600) == pytest.approx(0.5)
    assert plan.adversary(13_584) == 1
    assert [plan.phase(n) for n in (0, 2400, 13_600)] == ["reconstruct", "adversarial", "remap"]


def test_paper_schedule() -> None:
    """M-27, M-31: 150 000 steps with the full adversary from step 0, then 20 000 steps of phase B."""
    plan = Schedule.plan(_PAPER, 680_000)
    assert plan.remap_start == 150_000 * 4
    assert plan.total == 170_000 * 4
    assert plan.adversary(0) == 1
    assert plan.phase(0) == "adversarial"


def test_rate_falls_and_restarts() -> None:
    """M-29: cosine to 5 %, restarted in B."""
    plan = Schedule.plan(_QUICK, 16_000)
    assert plan.rate(0) == 1
    assert plan.rate(13_592) == pytest.approx(0.05, abs=1e-3)
    assert plan.rate(13_600) == 1
    assert plan.rate(16_000) == pytest.approx(0.05)


@given(images=st.integers(1, 10**6))
def test_every_budget_has_both_phases(images: int) -> None:
    """M-27: however short, the run ends with at least one step of phase B, in whole steps."""
    plan = Schedule.plan(_QUICK, images)
    assert 0 < plan.remap_start < plan.total
    assert plan.ramp_start <= plan.ramp_end <= plan.remap_start
    assert plan.total % plan.batch == plan.remap_start % plan.batch == 0


def test_jump_keeps_the_length_of_phase_b() -> None:
    """M-30: where the pace falls, phase B starts at once and is as long as planned."""
    plan = Schedule.plan(_QUICK, 16_000)
    jumped = plan.jump_to_remap(3200)
    assert jumped.phase(3200) == "remap"
    assert jumped.total - jumped.remap_start == plan.total - plan.remap_start
