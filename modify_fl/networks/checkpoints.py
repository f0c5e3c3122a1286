"""Reading foreign checkpoints: rosinality's and pSp's StyleGAN2 layouts (M-22).

The only file that calls ``torch.load``. It reads weights only; the single
global it allows beyond tensors is ``argparse.Namespace``, which holds the
training options of both projects. A file that needs more is refused unread,
among them pickled network objects. Loading is strict: a missing, extra or
mis-shaped name is an error. Nothing is downloaded.

Layouts: rosinality keeps a generator under ``g_ema``; pSp keeps ``decoder.*``
and ``encoder.*`` under ``state_dict``. Kernels have a leading axis of length 1
there and are not flipped; the FIR filters are stored and must be ours.

Letters: n rows, W width of a row, R resolution.
"""

import argparse
import hashlib
import json
import pickle  # noqa: TID251 - for the name of an error only
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modify_fl.config import NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.mapping import MappingNetwork
from modify_fl.networks.model import StyleModel
from modify_fl.networks.paper_encoder import PaperEncoder
from modify_fl.networks.synthesis import Generator
from modify_fl.ops import fir_filter

__all__ = ["AverageSource", "Conversion", "Layout", "Provenance", "read_checkpoint", "read_state_dict"]

Layout = Literal["rosinality", "psp"]
AverageSource = Literal["latent_avg", "mapping"]

_CHANNEL_BASE = 16384
_CHANNEL_MAX = 512
_DEFAULT_MULTIPLIER = 2
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where converted weights came from; goes into the manifest of what is trained from them (M-23)."""

    layout: Layout
    """Layout of the file."""
    sha256: str
    """Digest of the file, hex."""
    w_avg: AverageSource
    """Whether the average code was stored or computed from the mapping network."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A foreign checkpoint in our names and shapes; float32 on the CPU."""

    config: NetworkConfig
    """Sizes read from the shapes; those of M, which no checkpoint has, are the paper's."""
    generator: Mapping[str, Tensor]
    """State dict of ``Generator``."""
    mapping: Mapping[str, Tensor]
    """State dict of ``MappingNetwork``."""
    encoder: Mapping[str, Tensor] | None
    """State dict of ``PaperEncoder`` before folding, where the file holds one."""
    w_avg: Tensor
    """Average code [n, W]."""
    provenance: Provenance
    """Where it came from."""

    @torch.no_grad()
    def apply(self, model: StyleModel) -> None:
        """Start ``model`` from these weights (M-17, M-23).

        Sets the generator, the offset, M's offset, and the encoder where the
        file holds one; the rest of M stays as drawn.

        Args:
            model: Of the same resolution, widths and, with an encoder, of kind
                ``ir-se50``, not yet folded; changed in place.

        Raises:
            ConfigError: The sizes differ.
        """
        _fill(model.generator, self.generator, "generator")
        if self.encoder is not None:
            _fill(model.encoder, self.encoder, "encoder")
        model.offset.w_avg.copy_(self.w_avg)
        model.remapping.offset.copy_(self.w_avg[model.split :])

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``provenance.json`` into ``folder``, which must exist.

        Tensors are named ``generator.*``, ``mapping.*``, ``encoder.*`` and ``w_avg``.
        """
        parts = {"generator": self.generator, "mapping": self.mapping, "encoder": self.encoder or {}}
        tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        save_file({"w_avg": self.w_avg, **tensors}, folder / "weights.safetensors", metadata={"format": "pt"})
        record = {
            "layout": self.provenance.layout, "sha256": self.provenance.sha256, "w_avg": self.provenance.w_avg,
            "resolution": self.config.resolution, "w_dim": self.config.w_dim, "channel_base": self.config.channel_base,
        }  # fmt: skip
        (folder / "provenance.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file that holds tensors by name and nothing else.

    Args:
        path: A file written by ``torch.save``.

    Returns:
        Tensors on the CPU, in the file's order.

    Raises:
        ConfigError: The file is something else, or would have to run code.
    """
    return _tensors(_load(path), path.name)


def read_checkpoint(path: Path) -> Conversion:
    """Read a StyleGAN2 checkpoint of rosinality's or pSp's layout (M-22).

    Args:
        path: A file written by ``torch.save``.

    Returns:
        Its weights in our names. Outputs of ``Generator`` with them agree with
        those of the original to a relative error of 1e-5.

    Raises:
        ConfigError: The file would have to run code, has another layout, or
            has a missing, extra or mis-shaped name or a value that is not finite.
    """
    content = _load(path)
    layout, decoder, encoder = _split_layout(content, path.name)
    config = _read_config(decoder, encoder)
    generator = _convert_generator(decoder, config)
    mapping = _convert_mapping(decoder, config)
    stored = content.get("latent_avg")
    provenance = Provenance(layout=layout, sha256=_digest(path), w_avg="mapping" if stored is None else "latent_avg")
    return Conversion(
        config=config, generator=generator, mapping=mapping.state_dict(),
        encoder=None if encoder is None else _convert_encoder(encoder, config),
        w_avg=mapping.average().expand(config.n_styles, -1).clone() if stored is None else _average(stored, config),
        provenance=provenance,
    )  # fmt: skip


# The file ---------------------------------------------------------------------


def _load(path: Path) -> dict[str, object]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - see the module's head
    except _UNREADABLE as error:
        raise ConfigError(
            f"refused to read the checkpoint {path.name}",
            why=str(error).strip().split("\n", maxsplit=1)[0] or "it is damaged or would have to run code",
            fix="use a file that holds tensors only, in rosinality's or pSp's layout",
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} holds a {type(content).__name__}, expected tensors by name")
    return content


def _tensors(content: object, what: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ConfigError(f"{what} holds something else than tensors by name")
    return {str(name): value for name, value in content.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _split_layout(
    content: Mapping[str, object], what: str
) -> tuple[Layout, dict[str, Tensor], dict[str, Tensor] | None]:
    """Return the layout, the generator's tensors and, from pSp, the encoder's."""
    if "g_ema" in content:
        return "rosinality", _tensors(content["g_ema"], f"g_ema of {what}"), None
    if "state_dict" not in content:
        why = "it has neither g_ema nor state_dict"
        raise ConfigError(f"{what} is not of rosinality's or pSp's layout", why=why)
    parts: dict[str, dict[str, Tensor]] = {"decoder": {}, "encoder": {}}
    for name, value in _tensors(content["state_dict"], f"state_dict of {what}").items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ConfigError(f"unknown name {name} in the checkpoint", why="pSp keeps decoder.* and encoder.* only")
        parts[part][rest] = value
    return "psp", parts["decoder"], parts["encoder"] or None


# Sizes ------------------------------------------------------------------------


def _read_config(decoder: Mapping[str, Tensor], encoder: Mapping[str, Tensor] | None) -> NetworkConfig:
    """Derive the sizes from names and shapes; whether all of them fit is checked later."""
    count = sum(re.fullmatch(r"convs\.\d+\.conv\.weight", name) is not None for name in decoder)
    last, rows = f"convs.{count - 1}.conv.weight", "conv1.conv.modulation.weight"
    if count == 0 or count % 2 or decoder.get(last, torch.empty(0)).ndim != 5 or rows not in decoder:  # [1, O, I, 3, 3]
        raise ConfigError("the checkpoint holds no StyleGAN2 generator", why=f"it has {count} doubling convolutions")
    resolution = 4 * 2 ** (count // 2)
    channels = decoder[last].shape[1]
    # At 512 channels the multiplier cannot be seen and does not matter.
    multiplier = _DEFAULT_MULTIPLIER if channels >= _CHANNEL_MAX else max(1, channels * resolution // _CHANNEL_BASE)
    w_dim = decoder[rows].shape[-1]
    return NetworkConfig(
        resolution=resolution, w_dim=w_dim, z_dim=w_dim, channel_base=_CHANNEL_BASE * multiplier,
        channel_max=_CHANNEL_MAX, encoder="compact" if encoder is None else "ir-se50",
        remap_layers=8, remap_width=w_dim, remap_lr_mul=0.01,
    )  # fmt: skip


# Names ------------------------------------------------------------------------


def _foreign_names(config: NetworkConfig) -> Iterator[tuple[str, str, int]]:
    """Yield our name, the foreign one, and how many leading axes of length 1 the foreign tensor has more."""
    yield "const", "input.input", 0
    for conv in range(config.n_styles - 1):
        ours, theirs = f"convs.{conv}", f"convs.{conv - 1}" if conv else "conv1"
        yield f"{ours}.weight", f"{theirs}.conv.weight", 1
        yield f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight", 0
        yield f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias", 0
        yield f"{ours}.noise_strength", f"{theirs}.noise.weight", 0
        yield f"{ours}.bias", f"{theirs}.activate.bias", 0
        yield f"{ours}.noise", f"noises.noise_{conv}", 0
    for level in range(config.log2 - 1):
        ours, theirs = f"to_rgbs.{level}", f"to_rgbs.{level - 1}" if level else "to_rgb1"
        yield f"{ours}.weight", f"{theirs}.conv.weight", 1
        yield f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight", 0
        yield f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias", 0


def _convert_generator(decoder: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Generator(config).state_dict().items()}
    rest = {name: value for name, value in decoder.items() if not name.startswith("style.")}
    result = {}
    for ours, theirs, axes in _foreign_names(config):
        result[ours] = _take(rest, theirs, (1,) * axes + tuple(shapes[ours])).reshape(shapes[ours])
    for level in range(config.log2 - 1):
        name = f"to_rgbs.{level - 1}.bias" if level else "to_rgb1.bias"
        result[f"to_rgbs.{level}.bias"] = _take(rest, name, (1, 3, 1, 1)).flatten()  # [3]
    _drop_filters(rest, config)
    if rest:
        raise ConfigError(f"unknown name {min(rest)} in the checkpoint's generator")
    return result


def _drop_filters(rest: dict[str, Tensor], config: NetworkConfig) -> None:
    """Compare the stored FIR filters with ours and drop them."""
    doubling = range(config.log2 - 2)
    expected = fir_filter(4.0)
    names = [name for i in doubling for name in (f"convs.{2 * i}.conv.blur.kernel", f"to_rgbs.{i}.upsample.kernel")]
    for name in names:
        if not torch.allclose(_take(rest, name, tuple(expected.shape)), expected, rtol=0, atol=1e-6):
            raise ConfigError(f"{name} of the checkpoint is another filter than [1, 3, 3, 1]")


def _convert_mapping(decoder: Mapping[str, Tensor], config: NetworkConfig) -> MappingNetwork:
    rest = {name: value for name, value in decoder.items() if name.startswith("style.")}
    count = sum(name.endswith(".weight") for name in rest)
    if count == 0:
        raise ConfigError("the checkpoint's generator has no mapping network")
    mapping = MappingNetwork(config.w_dim, count)
    # Entry 0 of the foreign sequence is PixelNorm, which holds nothing.
    state = {
        name: _take(rest, name.replace(f"layers.{i}.", f"style.{i + 1}."), tuple(value.shape))
        for i in range(count)
        for name, value in mapping.state_dict().items()
        if name.startswith(f"layers.{i}.")
    }
    if rest:
        raise ConfigError(f"unknown name {min(rest)} in the checkpoint's mapping network")
    mapping.load_state_dict(state)
    return mapping.requires_grad_(requires_grad=False)


def _convert_encoder(encoder: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        expected = PaperEncoder(config).state_dict()
    rest = dict(encoder)
    # The counters of BatchNorm are integers; they tell nothing and stay as they are.
    result = {name: _take(rest, name, tuple(value.shape), dtype=value.dtype) for name, value in expected.items()}
    if rest:
        raise ConfigError(f"unknown name {min(rest)} in the checkpoint's encoder")
    return result


def _take(rest: dict[str, Tensor], name: str, shape: tuple[int, ...], *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Remove ``name`` from ``rest`` and return it after checking shape and values."""
    value = rest.pop(name, None)
    if value is None:
        raise ConfigError(f"the checkpoint has no {name}")
    if tuple(value.shape) != shape:
        raise ConfigError(f"{name} of the checkpoint is {tuple(value.shape)}, expected {shape}")
    value = value.detach().to(dtype)
    if not value.isfinite().all():
        raise ConfigError(f"{name} of the checkpoint holds values that are not finite")
    return value.contiguous()


def _average(stored: object, config: NetworkConfig) -> Tensor:
    shapes = ((config.w_dim,), (1, config.w_dim), (config.n_styles, config.w_dim))
    if not isinstance(stored, Tensor) or tuple(stored.shape) not in shapes:
        raise ConfigError(f"latent_avg of the checkpoint is no tensor of shape {shapes[0]} or {shapes[2]}")
    value = _take({"latent_avg": stored}, "latent_avg", tuple(stored.shape))
    return value.expand(config.n_styles, -1).clone()  # [n, W]


def _fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        why = str(error).split("\n")[1].strip()
        raise ConfigError(f"the checkpoint's {what} does not fit this configuration", why=why) from error
