"""Settings and presets (M-13, M-24, M-30 to M-33)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modify_fl.config import (
    PRESETS,
    Budget,
    CriticConfig,
    EncapsulationConfig,
    NetworkConfig,
    Runtime,
    StylizationConfig,
    preset,
)
from modify_fl.errors import ConfigError


def test_paper_preset_values() -> None:
    """Row 4 of the table and M-31: what the paper states must not change."""
    paper = PRESETS["paper-1024"]
    first, second = paper.encapsulation, paper.stylization
    assert (first.betas, first.learning_rate, first.remap_learning_rate, first.cosine) == (
        (0.9, 0.999),
        1e-4,
        1e-4,
        False,
    )
    assert (first.lambda_r, first.lambda_lp, first.lambda_id, first.lambda_adv_r) == (0.8, 0.8, 1.0, 0.1)
    assert (first.lambda_swap, first.lambda_adv_z, first.lambda_l1, first.lambda_mom) == (1.0, 0.1, 0.0, 0.0)
    assert (first.adversarial_betas, first.identity_start, first.identity_every) == ((0.9, 0.999), 0.0, 1)
    assert (first.batch, first.budget, first.ema_half_life) == (4, "680kimg", 0)
    assert first.parts == (0, 0, 150 / 170, 20 / 170)
    assert first.critic == CriticConfig(adversary="wgan-lp", penalty=10.0, penalty_every=1, augment=False)
    assert (second.lambda_r, second.lambda_lp, second.lambda_id, second.lambda_adv_x) == (0.5, 0.8, 1.0, 0.01)
    assert (second.steps, second.batch, second.test_time_steps) == (20_000, 4, 50)
    assert (second.learning_rate, second.betas) == (1e-4, (0.9, 0.999))
    assert (paper.network.resolution, paper.network.n_styles, paper.network.w_dim) == (1024, 18, 512)
    assert (paper.network.remap_lr_mul, paper.network.minibatch_std, paper.network.encoder) == (0.01, 4, "ir-se50")


@pytest.mark.parametrize(
    ("side", "rows", "xi", "split"),
    [(32, 8, 4, 4), (64, 10, 5, 5), (128, 12, 6, 6), (256, 14, 7, 7), (512, 16, 8, 8), (1024, 18, 9, 9)],
)
def test_split_for_every_resolution(side: int, rows: int, xi: int, split: int) -> None:
    """Row 11 of the table: the default cut of M-24."""
    config = NetworkConfig(resolution=side)
    assert (config.n_styles, config.style_rows, config.split) == (rows, xi, split)


@pytest.mark.parametrize("xi", [0, 10, -1])
def test_cut_must_leave_content_and_style(xi: int) -> None:
    """M-24: xi lies between 1 and n - 1."""
    with pytest.raises(ConfigError, match="xi must lie between 1 and 9"):
        NetworkConfig(xi=xi)


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10m", "seconds", 600),
        ("2h", "seconds", 7200),
        ("90s", "seconds", 90),
        ("20kimg", "images", 20_000),
        ("500steps", "steps", 500),
    ],
)
def test_budget(text: str, kind: str, amount: float) -> None:
    """M-30: a time, a number of images or a number of steps."""
    budget = Budget.parse(text)
    assert (budget.kind, budget.amount) == (kind, amount)
    assert Budget.parse(str(budget)) == budget


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_one_error(text: str) -> None:
    """A budget that cannot be read is a ConfigError, never anything else."""
    with contextlib.suppress(ConfigError):
        assert Budget.parse(text).amount > 0


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: NetworkConfig(resolution=100), "resolution must be one of"),
        (lambda: NetworkConfig(w_dim=0), "w_dim"),
        (lambda: NetworkConfig(remap_layers=65), "remap_layers"),
        (lambda: NetworkConfig(remap_lr_mul=0.0), "remap_lr_mul"),
        (lambda: EncapsulationConfig(batch=0), "batch"),
        (lambda: EncapsulationConfig(lambda_r=-1.0), "lambda_r"),
        (lambda: EncapsulationConfig(parts=(0.5, 0.5, 0.5, 0.5)), "parts must add up"),
        (lambda: CriticConfig(adversary="wgan"), "adversary must be one of"),  # type: ignore[arg-type]
        (lambda: StylizationConfig(subset="heart"), "subset must be one of"),  # type: ignore[arg-type]
        (lambda: StylizationConfig(learning_rate=0.0), "learning_rate"),
        (lambda: Runtime(device="abacus"), "device must be one of"),
        (lambda: Runtime(threads=0), "threads"),
        (lambda: preset("quick"), "no preset is called quick"),
    ],
)
def test_settings_that_make_no_sense(make: object, what: str) -> None:
    """Every check is one sentence with exit code 2."""
    with pytest.raises(ConfigError, match=what) as caught:
        make()  # type: ignore[operator]
    assert caught.value.exit_code == 2


def test_presets_of_the_table() -> None:
    """M-31: sizes, cuts, batches and penalties of every preset."""
    rows = {
        name: (
            p.network.n_styles,
            p.network.style_rows,
            p.network.w_dim,
            p.encapsulation.batch,
            p.encapsulation.critic.penalty,
        )
        for name, p in PRESETS.items()
    }
    assert rows == {
        "quick-64": (10, 5, 128, 8, 0.1), "quick-128": (12, 6, 128, 8, 0.2), "good-128": (12, 6, 128, 16, 0.2),
        "gpu-256": (14, 7, 256, 32, 0.4), "paper-1024": (18, 9, 512, 4, 10.0),
    }  # fmt: skip
