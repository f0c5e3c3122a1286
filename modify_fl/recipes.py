"""Recipes of both stages and the length of a run: frozen dataclasses, checked when built (M-29 to M-38).

Part of ``modify_fl.config``, from where everybody imports them.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Literal, Self, get_args

from modify_fl.errors import ConfigError

__all__ = [
    "Adversary",
    "Budget",
    "CriticConfig",
    "EncapsulationConfig",
    "PseudoReal",
    "StylizationConfig",
    "Subset",
    "require",
    "require_choice",
]

Adversary = Literal["logistic-r1", "wgan-lp"]
PseudoReal = Literal["e", "m", "mix"]
Subset = Literal["heads", "lora", "all"]


def require(condition: bool, what: str, fix: str = "") -> None:  # noqa: FBT001 - reads as a sentence
    """Raise ``ConfigError`` with ``what`` and ``fix`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(what, fix=fix)


def require_choice(name: str, got: str, choices: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` unless ``got`` is one of ``choices``."""
    require(got in choices, f"{name} must be one of {', '.join(choices)}, got {got}")


_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|kimg|img|steps?)")
_UNIT: dict[str, tuple[Literal["seconds", "images", "steps"], float]] = {
    "s": ("seconds", 1), "m": ("seconds", 60), "h": ("seconds", 3600),
    "img": ("images", 1), "kimg": ("images", 1000), "step": ("steps", 1), "steps": ("steps", 1),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Length of a run: a time, a number of images or a number of steps (M-30)."""

    kind: Literal["seconds", "images", "steps"]
    """What is counted."""
    amount: float
    """How much of it, above 0."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``10m``, ``2h``, ``90s``, ``20kimg`` or ``500steps``.

        Raises:
            ConfigError: The text is none of these, or the amount is zero.
        """
        match = _BUDGET.fullmatch(text.strip().lower())
        if match is None or float(match[1]) == 0:
            raise ConfigError(f"cannot read the budget {text!r}", fix="write it like 10m, 2h, 20kimg or 500steps")
        kind, factor = _UNIT[match[2]]
        return cls(kind=kind, amount=float(match[1]) * factor)

    def __str__(self) -> str:
        """Return the budget as the user would type it."""
        if self.kind == "images":
            return f"{self.amount / 1000:g}kimg"
        return f"{self.amount:g}s" if self.kind == "seconds" else f"{self.amount:g}steps"


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """How Dis is trained; travels with the bundle, because stage 2 keeps it (M-7, M-33)."""

    adversary: Adversary = "logistic-r1"
    """Form of the adversarial loss (M-7)."""
    penalty: float = 0.1
    """Gamma of R1, or the weight of the Lipschitz term."""
    penalty_every: int = 16
    """Steps between two penalties; R1 is scaled up by this number."""
    augment: bool = True
    """DiffAugment on every image Dis sees (M-29)."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_choice("adversary", self.adversary, get_args(Adversary))
        require(self.penalty >= 0, f"penalty must not be negative, got {self.penalty}")
        require(self.penalty_every >= 1, f"penalty_every must be at least 1, got {self.penalty_every}")


@dataclass(frozen=True, kw_only=True)
class EncapsulationConfig:
    """Recipe of stage 1 (M-27 to M-31). Shares of the budget are fractions of 1."""

    batch: int = 8
    """Pictures per optimiser step."""
    critic: CriticConfig = field(default_factory=CriticConfig)
    """How Dis is trained."""
    lambda_r: float = 0.8
    """Weight of equation 1, reconstruction."""
    lambda_l1: float = 0.5
    """Weight of the absolute difference, an extra of M-11."""
    lambda_lp: float = 0.8
    """Weight of equation 1, perceptual."""
    lambda_id: float = 0.2
    """Weight of equation 1, identity."""
    lambda_adv_r: float = 0.1
    """Weight of equation 2, reached at the end of the ramp."""
    lambda_swap: float = 1.0
    """Weight of equation 4 in phase B."""
    lambda_adv_z: float = 0.1
    """Weight of equation 5 in phase B."""
    lambda_mom: float = 0.1
    """Weight of the moment term in phase B, an extra of M-11."""
    style_spread: float = 1.25
    """Spread of M(z) that phase B begins with and is held to, in spreads of the style codes (ADR 11)."""
    lambda_adv_f: float = 0.5
    """Weight of the critic that judges features of LPIPS's network, in both phases (ADR 7)."""
    mix: float = 0.5
    """Share of a batch in phase A that lends its style to another face before critics and identity see it (ADR 7)."""
    people: int = 512
    """Faces that a base draws for that; without a base the pictures of the batch paint each other (ADR 7)."""
    mix_spread: int = 0
    """The cut of those pictures lies at most so many rows from xi, drawn anew at each step (ADR 7)."""
    identity_every: int = 2
    """Steps between two identity terms; the term is scaled up by this number."""
    identity_start: float = 0.5
    """Share of the budget after which the identity term takes part (ADR 4)."""
    parts: tuple[float, float, float, float] = (0.15, 0.15, 0.55, 0.15)
    """Shares of the budget: reconstruct only, ramp of the adversary, rest of phase A, phase B."""
    discriminator_start: float = 0.10
    """Share of the budget after which Dis trains."""
    learning_rate: float = 2e-3
    """Adam rate of E, D and Dis."""
    remap_learning_rate: float = 1e-3
    """Adam rate of M."""
    feature_learning_rate: float = 1e-3
    """Adam rate of the feature critic."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates for E, D and the offset (ADR 4)."""
    adversarial_betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decay rates for Dis and M, which only ever see each other's moves."""
    cosine: bool = True
    """Cosine decay to 5 %, restarted in phase B; else constant."""
    jitter: float = 0.0
    """Farthest that a training picture is shifted and zoomed anew at each step, as a share of its side (P-82)."""
    stop_gap: float = 0.0
    """Phase A ends where held-out images are so many times worse reconstructed than trained ones; 0: never (P-82)."""
    freeze_d: int = 0
    """Residual blocks of Dis next to the picture that stay as the start has them (FreezeD, ADR 6)."""
    ema_half_life: int = 2000
    """Half-life of the averaged weights in images; 0 for none."""
    budget: str = "20kimg"
    """Length of the run where the user names none (M-30)."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.batch >= 1, f"batch must be at least 1, got {self.batch}")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                require(value >= 0, f"{item.name} must not be negative, got {value}")
        require(abs(sum(self.parts) - 1) < 1e-9, f"parts must add up to 1, got {sum(self.parts)}")
        require(min(self.parts) >= 0, f"parts must not be negative, got {self.parts}")
        require(self.identity_every >= 1, f"identity_every must be at least 1, got {self.identity_every}")
        require(self.jitter <= 0.25, f"jitter must be at most 0.25, got {self.jitter}")
        require(not 0 < self.stop_gap < 1, f"stop_gap must be 0 or at least 1, got {self.stop_gap}")
        require(self.mix <= 1, f"mix must lie between 0 and 1, got {self.mix}")
        require(self.mix_spread >= 0, f"mix_spread must not be negative, got {self.mix_spread}")
        require(self.freeze_d >= 0, f"freeze_d must not be negative, got {self.freeze_d}")
        Budget.parse(self.budget)


@dataclass(frozen=True, kw_only=True)
class StylizationConfig:
    """Recipe of stage 2 (M-33 to M-38)."""

    batch: int = 8
    """Photos per step of the offline mode; online and test-time use 1."""
    steps: int = 1500
    """Steps of the offline mode."""
    online_steps: int = 1500
    """Steps of the online mode, one photo each."""
    test_time_steps: int = 50
    """Steps for one photo in test-time mode."""
    subset: Subset = "all"
    """Trainable part of the encoder in the offline mode (M-38)."""
    lambda_r: float = 0.1
    """Weight of the reconstruction term of equation 7."""
    lambda_lp: float = 0.4
    """Weight of the perceptual term of equation 7."""
    lambda_id: float = 1.0
    """Weight of the identity term of equation 7."""
    lambda_adv_x: float = 0.01
    """Weight of the adversarial term of equation 7."""
    painted: float = 0.5
    """Share of the photos whose likeness is judged in a drawn style, as they will be shown (ADR 9)."""
    learning_rate: float = 1e-5
    """Adam rate of E' and of Dis, constant."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates."""
    pseudo_real: PseudoReal = "e"
    """Where the real samples of the adversary come from (M-36)."""
    luma: bool = False
    """Compare channel means only in the reconstruction term (M-33)."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("batch", "steps", "online_steps", "test_time_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require_choice("subset", self.subset, get_args(Subset))
        require_choice("pseudo_real", self.pseudo_real, get_args(PseudoReal))
        for name in ("lambda_r", "lambda_lp", "lambda_id", "lambda_adv_x", "painted"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        require(self.painted <= 1, f"painted must lie between 0 and 1, got {self.painted}")
        require(self.learning_rate > 0, f"learning_rate must be above 0, got {self.learning_rate}")
