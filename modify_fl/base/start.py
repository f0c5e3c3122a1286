"""Weights that stage 1 begins with: a base, or a published checkpoint (M-17, M-22, M-23, ADR 6).

Whatever a file holds is compared with the layers before any network sees it:
digest, names, shapes, types, and that every value is finite.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from modify_fl.base.card import BaseCard
from modify_fl.base.faces import RANK, FaceCodes
from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.checkpoints import read_checkpoint
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.networks.synthesis import Generator

__all__ = ["MODEL_PARTS", "Start", "load_base", "load_checkpoint", "tensor_table"]

MODEL_PARTS = ("encoder", "generator", "offset", "remapping")
"""Parts of ``StyleModel``; Dis is the fifth part of a base."""

_CRITIC = "discriminator"
_FACES = "faces"
_STORED = (torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Weights to begin with."""

    name: str
    """Such as ``base-64``; never a path."""
    digest: str
    """SHA-256 of the file, hex."""
    states: Mapping[str, Mapping[str, Tensor]]
    """State of each part that the file holds, on the CPU; all else is drawn from the seed."""
    faces: FaceCodes | None = None
    """Moments of the codes of photos; only bases have them."""

    @property
    def label(self) -> str:
        """Name and digest in one line, for the manifest and the run's record."""
        return f"{self.name} sha256:{self.digest[:12]}"

    @property
    def complete(self) -> bool:
        """Whether E, D, the offset and Dis are all there, so that the recipe for a base is in force."""
        return {*MODEL_PARTS, _CRITIC} - {"remapping"} <= self.states.keys()

    def people(self, decoder: Generator, count: int, seed: int) -> Tensor | None:
        """Return faces that are nobody's, uint8 [count, 3, R, R], or nothing where no codes are known (ADR 7).

        Args:
            decoder: D as this start has set it, on the CPU.
            count: How many; none for 0.
            seed: Of the draws.
        """
        return self.faces.paint(decoder, count, seed) if self.faces and count else None

    @torch.no_grad()
    def apply(self, model: StyleModel, discriminator: Discriminator) -> None:
        """Overwrite freshly drawn networks, in place.

        Where the file holds no M, its offset starts at the style rows of the
        average code (M-17).
        """
        for part, state in self.states.items():
            target = discriminator if part == _CRITIC else getattr(model, part)
            target.load_state_dict(dict(state))
        if "remapping" not in self.states:
            model.remapping.offset.copy_(model.offset.w_avg[model.split :])


def tensor_table(network: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a base, ``part.name``; nothing is allocated."""
    codes = (network.n_styles, network.w_dim)
    faces = {f"{_FACES}.mean": codes, f"{_FACES}.factor": (RANK, *codes)}
    with torch.device("meta"):
        model, critic = StyleModel(network), Discriminator(network)
    parts = {part: getattr(model, part) for part in MODEL_PARTS} | {_CRITIC: critic}
    shapes = {f"{part}.{n}": tuple(v.shape) for part, module in parts.items() for n, v in module.state_dict().items()}
    return shapes | faces


def load_base(card: BaseCard, network: NetworkConfig) -> Start:
    """Load a base for networks of the sizes ``network``.

    M is rescaled where its learning-rate multiplier differs: its outputs stay
    the same, its steps get the wanted size. It is left out where xi differs.

    Args:
        card: Its record; the weights stand beside it.
        network: Sizes wanted.

    Raises:
        ConfigError: The sizes differ, the weights are not there, were changed, or do not fit the record.
    """
    if differing := card.differences(network):
        raise ConfigError(
            f"{card.name} does not fit these networks", why="; ".join(differing),
            fix="choose the preset it was made for, or --init none",
        )  # fmt: skip
    tensors = _checked(_read(card), card.network, card.name)
    scale = card.network.remap_lr_mul / network.remap_lr_mul
    states: dict[str, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        part, _, name = full.partition(".")
        if part == "remapping" and card.network.style_rows != network.style_rows:
            continue
        learned = part == "remapping" and name != "offset"
        states.setdefault(part, {})[name] = value * scale if learned and scale != 1 else value
    faces = FaceCodes(**states.pop(_FACES))
    return Start(name=card.name, digest=card.sha256, states=states, faces=faces)


def _read(card: BaseCard) -> dict[str, Tensor]:
    path, fix = card.weights_file, "install the package anew, export the base again, or use --init none"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the weights {path.name} are not there", why=error.strerror or "", fix=fix) from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ConfigError(
            f"the weights {path.name} were changed", why="their SHA-256 is not that of the record", fix=fix
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise ConfigError(f"the weights {path.name} are no safetensors file", why=str(error), fix=fix) from error


def _checked(tensors: Mapping[str, Tensor], network: NetworkConfig, what: str) -> dict[str, Tensor]:
    """Compare names, shapes, types and values with the layers; return them as float32."""
    expected = tensor_table(network)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if wrong:
        raise ConfigError(
            f"{what} does not hold the tensors of its networks", why=_mismatch(wrong[0], expected, shapes),
            fix="export the base again",
        )  # fmt: skip
    for name, value in tensors.items():
        if value.dtype not in _STORED or not value.isfinite().all():
            raise ConfigError(f"{name} of {what} is not made of finite float16 or float32 values")
    return {name: value.float() for name, value in tensors.items()}


def _mismatch(name: str, expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]) -> str:
    there, here = (str(table.get(name, "missing")) for table in (got, expected))
    return f"{name} is {there} there, {here} here"


def load_checkpoint(path: Path, network: NetworkConfig) -> Start:
    """Load a published StyleGAN2 or pSp checkpoint where its shapes are those of ``network`` (M-22).

    It holds D and the average code, and with pSp E; M and Dis are drawn from the seed.

    Raises:
        ConfigError: The file is refused (M-22), or its shapes differ; the first that does is named.
    """
    found = read_checkpoint(path)
    states: dict[str, Mapping[str, Tensor]] = {"generator": found.generator, "offset": {"w_avg": found.w_avg}}
    states |= {"encoder": found.encoder} if found.encoder is not None else {}
    got = {f"{part}.{n}": tuple(v.shape) for part, state in states.items() for n, v in state.items()}
    expected = {n: s for n, s in tensor_table(network).items() if n.partition(".")[0] in states}
    wrong = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
    if wrong:
        raise ConfigError(
            f"the checkpoint {path.name} does not fit these networks", why=_mismatch(wrong[0], expected, got),
            fix="choose the preset of its size, or set the sizes with --set (see --show-config)",
        )  # fmt: skip
    return Start(name=f"{found.provenance.layout} checkpoint", digest=found.provenance.sha256, states=states)
