"""The only way from a verified bundle to networks (B-18, B-25 steps 13 and 14, P-6)."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle.layout import ARCHITECTURE, CRITIC, NETWORKS, first_difference, tables
from modify_fl.bundle.selftest import check_selftest
from modify_fl.config import CriticConfig, NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.encoder import fold_gains
from modify_fl.networks.model import StyleModel
from modify_fl.weights import read_weights
from protocol.errors import PolicyError, TensorError, problem
from protocol.manifest import Manifest
from protocol.verify import VerifiedBundle, check_base

__all__ = ["load_adapter", "load_style"]

_Config = TypeVar("_Config", NetworkConfig, CriticConfig)


def load_style(bundle: VerifiedBundle, *, record: bool = True) -> LoadedStyle:
    """Turn a verified style bundle into networks (B-25 steps 13 and 14).

    Its sequence is recorded as seen once everything was found right.

    Args:
        bundle: Went through steps 1 to 12.
        record: False for a trial that must leave no trace; step 14 is left out.

    Returns:
        Frozen networks in evaluation mode on the CPU.

    Raises:
        PolicyError: It is an adapter, not a style; or a later release was used
            meanwhile.
        TensorError: A tensor is missing, has another shape or holds values
            that are not allowed, or the self-test failed.
        MalformedBundleError: The configuration is not one this package builds.
    """
    manifest = bundle.manifest
    if manifest.kind != "style-bundle":
        raise PolicyError(
            "this file is an encoder adapter, not a style bundle", code="E_BASE", fix="pass it as --adapter"
        )
    network, critic = _configuration(manifest)
    parts = _read_parts(bundle, network)
    model = StyleModel.build(network, 0)
    fold_gains(model.encoder)
    for name in NETWORKS:
        _fill(getattr(model, name), parts[name], name)
    discriminator = None
    if CRITIC in parts:
        discriminator = Discriminator(network)
        _fill(discriminator, parts[CRITIC], CRITIC)
        discriminator.eval().requires_grad_(requires_grad=False)
    model.eval().requires_grad_(requires_grad=False)
    check_selftest(model, manifest.selftest)
    if record:
        bundle.record_use()
    return LoadedStyle(model=model, discriminator=discriminator, network=network, critic=critic, bundle=bundle.facts())


def load_adapter(bundle: VerifiedBundle, style: LoadedStyle) -> nn.Module:
    """Return E' of a verified adapter on top of its base bundle (B-18, B-25 steps 13 and 14).

    Args:
        bundle: The adapter; went through steps 1 to 12.
        style: The bundle it claims to belong to.

    Returns:
        E', frozen, evaluation mode, on the CPU.

    Raises:
        PolicyError: E_BASE, it is no adapter, belongs to another bundle, or
            touches a tensor that is not trainable there.
        TensorError: A value is not allowed.
    """
    check_base(bundle, style.bundle)
    encoder = copy.deepcopy(style.model.encoder)
    state = encoder.state_dict()
    for file in bundle.manifest.model.weights:
        state |= {name.removeprefix("encoder."): value for name, value in read_weights(bundle, file).items()}
    encoder.load_state_dict(state)
    bundle.record_use()
    return encoder.eval().requires_grad_(requires_grad=False)


def _configuration(manifest: Manifest) -> tuple[NetworkConfig, CriticConfig]:
    if manifest.model.architecture != ARCHITECTURE:
        raise problem("E_VERSION", member="manifest.json", expected=ARCHITECTURE, got=manifest.model.architecture)
    given = dict(manifest.model.parameters)
    critic = {k.removeprefix("critic_"): given.pop(k) for k in list(given) if k.startswith("critic_")}
    try:
        return _settings(NetworkConfig, given), _settings(CriticConfig, critic)
    except ConfigError as error:
        raise problem("E_MANIFEST", member="manifest.json", detail=f"the networks: {error}") from error


def _settings(kind: type[_Config], values: Mapping[str, object]) -> _Config:
    """Build a configuration from exactly its fields, each of the type of its default."""
    expected = {name: type(value) for name, value in asdict(kind()).items()}
    if {name: type(value) for name, value in values.items()} != expected:
        raise ConfigError(f"{kind.__name__} has the fields {', '.join(sorted(expected))}, each of its own type")
    return kind(**values)  # type: ignore[arg-type]


def _read_parts(bundle: VerifiedBundle, network: NetworkConfig) -> dict[str, dict[str, Tensor]]:
    """Read all weight files after comparing their signed table with the layers (step 12)."""
    rows = {Path(file.file).stem: file for file in bundle.manifest.model.weights}
    required = set(NETWORKS)
    if not required <= set(rows) <= required | {CRITIC}:
        raise TensorError(
            "the bundle does not hold the networks of a style", code="E_TENSOR_SHAPE", step=12,
            expected=", ".join(sorted(required)), got=", ".join(sorted(rows)),
        )  # fmt: skip
    for name, expected in tables(network, with_critic=CRITIC in rows).items():
        got = {tensor.removeprefix(f"{name}."): info.shape for tensor, info in rows[name].tensors.items()}
        wrong = first_difference(got, expected)
        if wrong is not None:
            raise TensorError(
                f"{name} has other tensors than its configuration asks for", code="E_TENSOR_SHAPE", step=12,
                member=rows[name].file, expected=f"{wrong} {expected.get(wrong)}", got=str(got.get(wrong)),
            )  # fmt: skip
    return {
        name: {tensor.removeprefix(f"{name}."): value for tensor, value in read_weights(bundle, file).items()}
        for name, file in rows.items()
    }


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise TensorError(
            f"{name} does not fit its configuration", code="E_TENSOR_SHAPE", step=12, why=str(error)
        ) from error
