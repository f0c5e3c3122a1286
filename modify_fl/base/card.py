"""What a base is: its sizes, its origin, its digest (M-23, ADR 6). Nothing here imports torch.

The record is JSON without a date, so that the same run gives the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from modify_fl.config import CriticConfig, NetworkConfig
from modify_fl.errors import ConfigError

__all__ = ["HOME", "BaseCard", "Source", "find_base", "markdown", "read_card", "to_json"]

HOME = Path(__file__).parent
"""Folder of the bases that ship with the package."""

_FORMAT = "modify-fl-base/2"
_FREE = {"remap_lr_mul", "xi"}
"""What a base fits whatever its value: M is rescaled, or drawn anew, when it is loaded."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One set of pictures that a base was trained on."""

    name: str
    """What it shows and where it is from."""
    licence: str
    """Its licence, with whom to name."""
    held_out: int = 0
    """Pictures of it that were never trained on."""


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """The record of a base."""

    name: str
    """Such as ``base-64``."""
    network: NetworkConfig
    """Sizes of the networks."""
    critic: CriticConfig
    """How Dis was trained."""
    images_seen: int
    """Images of the run that made it."""
    images_planned: int
    """Images at which that run was to end."""
    steps: int
    """Optimiser steps of that run."""
    seed: int
    """Its seed."""
    init: str
    """Where that run started itself: ``scratch`` or the label of another base."""
    perceptual: str
    """Net of the perceptual term."""
    identity: str
    """Net of the identity term, ``none`` where the term was off."""
    weights: Mapping[str, float]
    """Weight of each loss by name, as in ``EncapsulationConfig``."""
    remapped: bool
    """Whether phase B trained M; else M is as the seed drew it."""
    sources: tuple[Source, ...]
    """What it was trained on."""
    licence: str
    """Licence of the weights."""
    sha256: str = ""
    """SHA-256 of ``NAME.safetensors``, hex."""
    folder: Path = HOME
    """Where the files are; not part of the record."""

    @property
    def label(self) -> str:
        """Name and digest in one line, as manifests and run records say it."""
        return f"{self.name} sha256:{self.sha256[:12]}"

    @property
    def weights_file(self) -> Path:
        """``NAME.safetensors``."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def finished(self) -> float:
        """Share of the planned run that was done, 0 to 1."""
        return min(1.0, self.images_seen / max(1, self.images_planned))

    def differences(self, network: NetworkConfig) -> tuple[str, ...]:
        """Say in which sizes this base and ``network`` differ; nothing where it fits.

        Compared is what decides the tensors: the learning-rate multiplier of M
        does not (its weights are rescaled), nor how large the groups of the
        minibatch standard deviation are, nor xi: M is drawn anew for another one.
        """
        ours, theirs = _tensor_sizes(self.network), _tensor_sizes(network)
        return tuple(
            f"{name} is {ours[name]} there, {theirs[name]} here" for name in ours if ours[name] != theirs[name]
        )


def _tensor_sizes(network: NetworkConfig) -> dict[str, object]:
    sizes = {name: value for name, value in asdict(network).items() if name not in _FREE}
    return sizes | {"minibatch_std": "on" if network.minibatch_std else "off"}


def find_base(network: NetworkConfig, folder: Path | None = None) -> BaseCard | None:
    """Return the base whose tensors are those of ``network``, or nothing.

    Args:
        network: Sizes wanted.
        folder: Where to look instead of ``HOME``.

    Raises:
        ConfigError: A record there cannot be read.
    """
    cards = (read_card(path) for path in sorted((folder or HOME).glob("*.json")))
    return next((card for card in cards if not card.differences(network)), None)


def read_card(path: Path) -> BaseCard:
    """Read ``NAME.json``.

    Raises:
        ConfigError: It is not there, or no record of a base.
    """
    fix = "name the .safetensors file of an exported base; its .json stands beside it"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"cannot read the base model's record {path.name}", why=why, fix=fix) from error
    try:
        return _parsed(content, path)
    except (AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise ConfigError(f"{path.name} is not the record of a base model", why=str(error), fix=fix) from error


def _parsed(content: dict[str, Any], path: Path) -> BaseCard:
    if content.pop("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT}")
    expected = {item.name for item in fields(BaseCard)} - {"folder"}
    if content.keys() != expected:
        raise ValueError(f"its fields differ in {', '.join(sorted(content.keys() ^ expected))}")
    if content["name"] != path.stem:
        raise ValueError(f"it belongs to {content['name']}")
    network, critic = NetworkConfig(**content.pop("network")), CriticConfig(**content.pop("critic"))
    sources = tuple(Source(**source) for source in content.pop("sources"))
    numbers = [content[name] for name in ("images_seen", "images_planned", "steps", "seed")]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("its counts are not whole numbers")
    return BaseCard(network=network, critic=critic, sources=sources, **content, folder=path.parent)


def to_json(card: BaseCard) -> str:
    """Return the record as ``read_card`` reads it."""
    content = {name: value for name, value in asdict(card).items() if name != "folder"}
    return json.dumps({"format": _FORMAT, **content}, indent=1, ensure_ascii=False) + "\n"


def markdown(card: BaseCard) -> str:
    """Return the model card."""
    side, seen = card.network.resolution, f"{card.images_seen / 1000:.1f} kimg in {card.steps} steps"
    state = "the run was finished" if card.finished == 1 else f"**unfinished**: {card.finished:.0%} of the planned run"
    remapping = "trained in phase B" if card.remapped else "as drawn from the seed; phase B had not begun"
    rows = "\n".join(f"| {s.name} | {s.licence} | {s.held_out} |" for s in card.sources)
    weights = ", ".join(f"{name} {value:g}" for name, value in sorted(card.weights.items()))
    return f"""# {card.name}

Made from `{card.name}.json`; change that, not this.

A face model at {side} px that stage 1 starts from (M-23): encoder, generator, average code, remapping network,
critic, and the moments of the codes of photos, from which it draws people who do not exist. It is a start for training
on a style. It is no product by itself, and no means to tell who somebody is.

- Training: {seen}, seed {card.seed}, started from {card.init}; {state}.
- Remapping network: {remapping}. A style sets its last layer anew (ADR 5).
- Perceptual term: {card.perceptual}. Identity term: {card.identity}. Weights: {weights}.
- Stored: kernels and matrices as float16, the rest as float32. SHA-256 `{card.sha256}`.
- Licence of the weights: {card.licence}.

| trained on | licence | pictures held out |
|---|---|---|
{rows}

Held-out pictures are chosen by person or painting and were never trained on. Real people are among the sources: the
critic and the codes may remember some of them. How much was not measured.
"""
