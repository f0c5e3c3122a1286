"""Where stage 1 starts: a base model, a file, or nothing (M-23, ADR 6). Light until weights are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modify_fl.base.card import BaseCard, find_base, read_card
from modify_fl.config import NetworkConfig, Preset
from modify_fl.errors import ConfigError

if TYPE_CHECKING:
    from modify_fl.base.start import Start

__all__ = ["Origin", "choose_start"]

_EXPORTED = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A start that was chosen and not read yet; with neither field set, the seed draws all weights."""

    base: BaseCard | None = None
    """A base model."""
    checkpoint: Path | None = None
    """A published StyleGAN2 or pSp checkpoint."""
    note: str = ""
    """What the user should know about the choice."""

    @property
    def words(self) -> str:
        """The start in words, before anything is read."""
        if self.base is not None:
            return self.base.label
        return "scratch" if self.checkpoint is None else f"the checkpoint {self.checkpoint.name}"

    def load(self, network: NetworkConfig) -> "Start | None":
        """Read the weights, or nothing for a start from scratch.

        Raises:
            ConfigError: They are not there, were changed, or do not fit ``network``.
        """
        if self.base is None and self.checkpoint is None:
            return None
        from modify_fl.base.start import load_base, load_checkpoint  # noqa: PLC0415 - U-31

        if self.checkpoint is not None:
            return load_checkpoint(self.checkpoint, network)
        return load_base(self.base, network) if self.base else None


def choose_start(init: str | None, wanted: Preset) -> tuple[Origin, Preset]:
    """Choose the start and, with it, the recipe in force.

    Args:
        init: ``base``, ``none``, a file, or nothing: the base that fits, where there is one.
        wanted: The preset with all changes of the user.

    Returns:
        The start, and the preset with the one recipe that belongs to it.

    Raises:
        ConfigError: There is no such base or file.
    """
    origin = _origin(init, wanted.network, wanted.name)
    return origin, wanted.for_start(given=origin.base is not None)


def _origin(init: str | None, network: NetworkConfig, preset: str) -> Origin:
    if init == "none":
        return Origin()
    if init is not None and init != "base":
        return _named(Path(init))
    found = find_base(network)
    if found is not None:
        return Origin(base=found)
    if init is None:
        return Origin(note=f"no base model fits the networks of {preset}; training starts from scratch")
    raise ConfigError(
        f"no base model fits the networks of {preset}", why="none of these sizes came with this package",
        fix="use --init none, a preset without changed sizes, or name a file with --init",
    )  # fmt: skip


def _named(path: Path) -> Origin:
    if not path.is_file():
        raise ConfigError(f"there is no file {path} to start from", fix="use --init base, --init none or a file")
    if path.suffix == _EXPORTED:
        return Origin(base=read_card(path.with_suffix(".json")))
    return Origin(checkpoint=path)
