"""Settings: frozen dataclasses, checked when built, and the presets of M-31.

Nothing here imports torch, so the command lines can show and check settings in
an instant. A function of the library takes the values it uses; these classes
only carry them from the command line to the entry points and into the record
that is saved beside every result (U-38).
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from modify_fl.errors import ConfigError
from modify_fl.recipes import (
    Adversary,
    Budget,
    CriticConfig,
    EncapsulationConfig,
    PseudoReal,
    StylizationConfig,
    Subset,
    require,
    require_choice,
)

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

EncoderKind = Literal["compact", "ir-se50"]
Precision = Literal["auto", "fp32", "bf16"]

_RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
_CHANNELS_MIN = 8
# A bundle names these numbers; bounds keep a hostile one from asking for terabytes.
_WIDTH_MAX = 65_536
_LAYERS_MAX = 64


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
        require(
            self.resolution in _RESOLUTIONS,
            f"resolution must be one of {', '.join(map(str, _RESOLUTIONS))}, got {self.resolution}",
        )
        require_choice("encoder", self.encoder, get_args(EncoderKind))
        for name in ("w_dim", "z_dim", "channel_base", "channel_max", "enc_base", "enc_max",
                     "pyramid", "trunk", "remap_layers", "remap_width"):  # fmt: skip
            value = getattr(self, name)
            require(1 <= value <= _WIDTH_MAX, f"{name} must lie between 1 and {_WIDTH_MAX}, got {value}")
        require(
            self.remap_layers <= _LAYERS_MAX, f"remap_layers must be at most {_LAYERS_MAX}, got {self.remap_layers}"
        )
        require(self.remap_lr_mul > 0, f"remap_lr_mul must be above 0, got {self.remap_lr_mul}")
        require(self.minibatch_std >= 0, f"minibatch_std must not be negative, got {self.minibatch_std}")
        if self.xi is None:
            object.__setattr__(self, "xi", self.n_styles // 2)
        require(
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


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named, complete set of settings (M-31)."""

    name: str
    """As typed after ``--preset``."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Sizes of the networks."""
    encapsulation: EncapsulationConfig = field(default_factory=EncapsulationConfig)
    """Recipe of stage 1."""
    from_base: EncapsulationConfig | None = None
    """Recipe of stage 1 where it starts from a base model; nothing: the same recipe (ADR 6)."""
    stylization: StylizationConfig = field(default_factory=StylizationConfig)
    """Recipe of stage 2."""

    def __post_init__(self) -> None:
        """Check what the sizes decide."""
        blocks = self.network.log2 - 2
        got = self.encapsulation.freeze_d
        require(got <= blocks, f"freeze_d must be at most {blocks} at {self.network.resolution} pixels, got {got}")

    def for_start(self, *, given: bool) -> Self:
        """Return this preset with the one recipe that is in force, with a base model or without."""
        recipe = (self.from_base if given else None) or self.encapsulation
        return replace(self, encapsulation=recipe, from_base=None)


def _with_base_recipe(preset: Preset) -> Preset:
    """Add the recipe for a start from a base model (M-29, ADR 6, ADR 7): shorter, gentler, all terms at once.

    Faces are known already, so nothing is only reconstructed, and critics and
    the identity term take part from the first step.
    """
    scratch = preset.encapsulation
    length = Budget.parse(scratch.budget)
    recipe = replace(
        scratch, parts=(0.0, 0.0, 0.8, 0.2), discriminator_start=0.0, identity_start=0.0, identity_every=4,
        lambda_id=0.5, learning_rate=scratch.learning_rate / 4, ema_half_life=scratch.ema_half_life // 2,
        budget=str(replace(length, amount=length.amount / 2)),
    )  # fmt: skip
    return replace(preset, from_base=recipe)


_PAPER_PARTS = (0.0, 0.0, 150 / 170, 20 / 170)

PRESETS: dict[str, Preset] = {
    entry.name: entry
    for entry in (
        _with_base_recipe(Preset(name="quick-64")),
        _with_base_recipe(Preset(
            name="quick-128",
            network=NetworkConfig(resolution=128),
            encapsulation=EncapsulationConfig(critic=CriticConfig(penalty=0.2)),
        )),
        _with_base_recipe(Preset(
            name="good-128",
            network=NetworkConfig(resolution=128, channel_base=4096, enc_base=4096),
            encapsulation=EncapsulationConfig(batch=16, critic=CriticConfig(penalty=0.2), ema_half_life=3000),
            stylization=StylizationConfig(steps=2000, online_steps=2000),
        )),
        _with_base_recipe(Preset(
            name="gpu-256",
            network=NetworkConfig(
                resolution=256, w_dim=256, z_dim=256, channel_base=16384, channel_max=512,
                enc_base=8192, enc_max=160, pyramid=128, trunk=384, remap_layers=8, remap_width=256,
            ),
            encapsulation=EncapsulationConfig(
                batch=32, critic=CriticConfig(penalty=0.4), identity_every=1, ema_half_life=10_000, budget="150kimg",
            ),
            stylization=StylizationConfig(steps=5000, online_steps=5000),
        )),
        Preset(
            name="paper-1024",
            network=NetworkConfig(
                resolution=1024, w_dim=512, z_dim=512, channel_base=32768, channel_max=512,
                encoder="ir-se50", remap_layers=8, remap_width=512, remap_lr_mul=0.01, minibatch_std=4,
            ),
            encapsulation=EncapsulationConfig(
                batch=4, lambda_l1=0.0, lambda_mom=0.0, style_spread=1.0, lambda_adv_f=0.0, mix=0.0,
                critic=CriticConfig(adversary="wgan-lp", penalty=10.0, penalty_every=1, augment=False),
                lambda_id=1.0, identity_every=1, identity_start=0.0,
                parts=_PAPER_PARTS, discriminator_start=0.0, adversarial_betas=(0.9, 0.999),
                learning_rate=1e-4, remap_learning_rate=1e-4, betas=(0.9, 0.999), cosine=False,
                ema_half_life=0, budget="680kimg",
            ),
            stylization=StylizationConfig(
                batch=4, steps=20_000, online_steps=20_000, lambda_r=0.5, lambda_lp=0.8, learning_rate=1e-4,
                painted=0.0,
            ),
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
        require_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        require_choice("precision", self.precision, get_args(Precision))
        require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")
