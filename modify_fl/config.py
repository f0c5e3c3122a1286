"""Settings: frozen dataclasses, checked when built, and the presets of M-31.

Nothing here imports torch, so the command lines can show and check settings in
an instant. A function of the library takes the values it uses; these classes
only carry them from the command line to the entry points and into the record
that is saved beside every result (U-38).
"""

import re
from dataclasses import dataclass, field, fields
from typing import Literal, Self, get_args

from modify_fl.errors import ConfigError

__all__ = [
    "PRESETS",
    "Adversary",
    "Budget",
    "CriticConfig",
    "EncapsulationConfig",
    "EncoderKind",
    "NetworkConfig",
    "Precision",
    "Preset",
    "PseudoReal",
    "Runtime",
    "StylizationConfig",
    "Subset",
    "preset",
]

Adversary = Literal["logistic-r1", "wgan-lp"]
EncoderKind = Literal["compact", "ir-se50"]
Precision = Literal["auto", "fp32", "bf16"]
PseudoReal = Literal["e", "m", "mix"]
Subset = Literal["heads", "all"]

_RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
_CHANNELS_MIN = 8
# A bundle names these numbers; bounds keep a hostile one from asking for terabytes.
_WIDTH_MAX = 65_536
_LAYERS_MAX = 64


def _require(condition: bool, what: str, fix: str = "") -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise ConfigError(what, fix=fix)


def _require_choice(name: str, got: str, choices: tuple[str, ...]) -> None:
    _require(got in choices, f"{name} must be one of {', '.join(choices)}, got {got}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything from which the layers of E, D, M and Dis derive (M-13)."""

    resolution: int = 64
    """Side of the picture in pixels, 32 to 1024."""
    w_dim: int = 128
    """Width of one style vector."""
    z_dim: int = 128
    """Width of the noise of M."""
    channel_base: int = 2048
    """Generator and discriminator have ``channel_base / r`` channels at r x r pixels."""
    channel_max: int = 128
    """Upper bound of the channels of generator and discriminator."""
    encoder: EncoderKind = "compact"
    """Compact GroupNorm pyramid (M-18) or the paper's IR-SE50 (M-20)."""
    enc_base: int = 2048
    """As ``channel_base``, for the compact encoder."""
    enc_max: int = 128
    """As ``channel_max``, for the compact encoder."""
    pyramid: int = 128
    """Channels of the encoder's feature pyramid."""
    trunk: int = 256
    """Width of the vector that the heads of one pyramid level share."""
    remap_layers: int = 4
    """Fully connected layers of M."""
    remap_width: int = 128
    """Width of the hidden layers of M."""
    remap_lr_mul: float = 0.1
    """Learning-rate multiplier of the layers of M."""
    minibatch_std: int = 0
    """Group size of the discriminator's minibatch standard deviation; 0 leaves it out."""
    xi: int | None = None
    """Number of style rows; half of all rows unless set (M-24)."""

    def __post_init__(self) -> None:
        """Check every field and fill in ``xi``."""
        _require(
            self.resolution in _RESOLUTIONS,
            f"resolution must be one of {', '.join(map(str, _RESOLUTIONS))}, got {self.resolution}",
        )
        _require_choice("encoder", self.encoder, get_args(EncoderKind))
        for name in ("w_dim", "z_dim", "channel_base", "channel_max", "enc_base", "enc_max",
                     "pyramid", "trunk", "remap_layers", "remap_width"):  # fmt: skip
            value = getattr(self, name)
            _require(1 <= value <= _WIDTH_MAX, f"{name} must lie between 1 and {_WIDTH_MAX}, got {value}")
        _require(
            self.remap_layers <= _LAYERS_MAX, f"remap_layers must be at most {_LAYERS_MAX}, got {self.remap_layers}"
        )
        _require(self.remap_lr_mul > 0, f"remap_lr_mul must be above 0, got {self.remap_lr_mul}")
        _require(self.minibatch_std >= 0, f"minibatch_std must not be negative, got {self.minibatch_std}")
        if self.xi is None:
            object.__setattr__(self, "xi", self.n_styles // 2)
        _require(
            1 <= self.style_rows <= self.n_styles - 1,
            f"xi must lie between 1 and {self.n_styles - 1} at {self.resolution} pixels, got {self.xi}",
        )

    @property
    def log2(self) -> int:
        """L, the binary logarithm of the resolution."""
        return self.resolution.bit_length() - 1

    @property
    def n_styles(self) -> int:
        """Number of style vectors, n = 2 L - 2."""
        return 2 * self.log2 - 2

    @property
    def style_rows(self) -> int:
        """The resolved ``xi``: rows of ``w_plus`` that carry the style."""
        return self.n_styles // 2 if self.xi is None else self.xi

    @property
    def split(self) -> int:
        """First style row, k = n - xi."""
        return self.n_styles - self.style_rows

    def channels(self, resolution: int) -> int:
        """Channels of generator and discriminator at ``resolution`` pixels (M-13)."""
        return max(_CHANNELS_MIN, min(self.channel_base // resolution, self.channel_max))


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
        _require_choice("adversary", self.adversary, get_args(Adversary))
        _require(self.penalty >= 0, f"penalty must not be negative, got {self.penalty}")
        _require(self.penalty_every >= 1, f"penalty_every must be at least 1, got {self.penalty_every}")


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
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates for E, D and the offset (ADR 4)."""
    adversarial_betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decay rates for Dis and M, which only ever see each other's moves."""
    cosine: bool = True
    """Cosine decay to 5 %, restarted in phase B; else constant."""
    ema_half_life: int = 2000
    """Half-life of the averaged weights in images; 0 for none."""
    budget: str = "20kimg"
    """Length of the run where the user names none (M-30)."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require(self.batch >= 1, f"batch must be at least 1, got {self.batch}")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                _require(value >= 0, f"{item.name} must not be negative, got {value}")
        _require(abs(sum(self.parts) - 1) < 1e-9, f"parts must add up to 1, got {sum(self.parts)}")
        _require(min(self.parts) >= 0, f"parts must not be negative, got {self.parts}")
        _require(self.identity_every >= 1, f"identity_every must be at least 1, got {self.identity_every}")
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
    subset: Subset = "heads"
    """Trainable part of the encoder in the offline mode (M-38)."""
    lambda_r: float = 0.5
    """Weight of the reconstruction term of equation 7."""
    lambda_lp: float = 0.8
    """Weight of the perceptual term of equation 7."""
    lambda_id: float = 1.0
    """Weight of the identity term of equation 7."""
    lambda_adv_x: float = 0.01
    """Weight of the adversarial term of equation 7."""
    learning_rate: float = 1e-4
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
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require_choice("subset", self.subset, get_args(Subset))
        _require_choice("pseudo_real", self.pseudo_real, get_args(PseudoReal))
        for name in ("lambda_r", "lambda_lp", "lambda_id", "lambda_adv_x"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _require(self.learning_rate > 0, f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named, complete set of settings (M-31)."""

    name: str
    """As typed after ``--preset``."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Sizes of the networks."""
    encapsulation: EncapsulationConfig = field(default_factory=EncapsulationConfig)
    """Recipe of stage 1."""
    stylization: StylizationConfig = field(default_factory=StylizationConfig)
    """Recipe of stage 2."""


_PAPER_PARTS = (0.0, 0.0, 150 / 170, 20 / 170)

PRESETS: dict[str, Preset] = {
    entry.name: entry
    for entry in (
        Preset(name="quick-64"),
        Preset(
            name="good-128",
            network=NetworkConfig(resolution=128, channel_base=4096, enc_base=4096),
            encapsulation=EncapsulationConfig(batch=16, critic=CriticConfig(penalty=0.2), ema_half_life=3000),
            stylization=StylizationConfig(steps=2000, online_steps=2000),
        ),
        Preset(
            name="gpu-256",
            network=NetworkConfig(
                resolution=256, w_dim=256, z_dim=256, channel_base=16384, channel_max=512,
                enc_base=8192, enc_max=160, pyramid=128, trunk=384, remap_layers=8, remap_width=256,
            ),
            encapsulation=EncapsulationConfig(
                batch=32, critic=CriticConfig(penalty=0.4), identity_every=1, ema_half_life=10_000, budget="150kimg",
            ),
            stylization=StylizationConfig(steps=5000, online_steps=5000, subset="all"),
        ),
        Preset(
            name="paper-1024",
            network=NetworkConfig(
                resolution=1024, w_dim=512, z_dim=512, channel_base=32768, channel_max=512,
                encoder="ir-se50", remap_layers=8, remap_width=512, remap_lr_mul=0.01, minibatch_std=4,
            ),
            encapsulation=EncapsulationConfig(
                batch=4, lambda_l1=0.0, lambda_mom=0.0,
                critic=CriticConfig(adversary="wgan-lp", penalty=10.0, penalty_every=1, augment=False),
                lambda_id=1.0, identity_every=1, identity_start=0.0,
                parts=_PAPER_PARTS, discriminator_start=0.0, adversarial_betas=(0.9, 0.999),
                learning_rate=1e-4, remap_learning_rate=1e-4, betas=(0.9, 0.999), cosine=False,
                ema_half_life=0, budget="680kimg",
            ),
            stylization=StylizationConfig(batch=4, steps=20_000, online_steps=20_000, subset="all"),
        ),
    )
}  # fmt: skip


def preset(name: str) -> Preset:
    """Return the preset called ``name``.

    Raises:
        ConfigError: There is none of that name; the message lists those there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name}", fix=f"use one of {', '.join(PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how a run computes; changes speed, not the method."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    threads: int | None = None
    """Compute threads; the cores this process may really use unless set (M-51)."""
    precision: Precision = "auto"
    """``auto`` probes bfloat16 once (M-50)."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        _require_choice("precision", self.precision, get_args(Precision))
        _require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")
