"""The only writer of style bundles and adapters (B-16 to B-18, M-39)."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from modify_fl.artifacts import Adapted, Encapsulated, LoadedStyle
from modify_fl.bundle.layout import CRITIC, NETWORKS, first_difference, tables
from modify_fl.bundle.manifests import Release, Shared, adapter_manifest, style_manifest
from modify_fl.config import NetworkConfig
from modify_fl.networks.encoder import fold_gains
from modify_fl.weights import abs_max, to_bytes
from protocol.errors import TensorError
from protocol.manifest import Federation
from protocol.privacy import MemorisationAudit
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey

__all__ = ["write_adapter", "write_style_bundle"]

_Tensors = Mapping[str, Mapping[str, Tensor]]


def write_style_bundle(
    path: Path,
    result: Encapsulated,
    *,
    release: Release,
    key: PrivateKey,
    provider: ProviderKey,
    recipients: Sequence[str] = (),
    overwrite: bool,
    critic: bool = True,
    audit: MemorisationAudit | None = None,
    reports: Mapping[str, bytes] | None = None,
) -> str:
    """Pack, sign and verify a style bundle.

    Args:
        path: The ``.mdfy`` file.
        result: What stage 1 made; its encoder's gains are folded first (M-19).
        release: What the provider says about it.
        key: The provider's private key.
        provider: The public half with its names.
        recipients: ``age1...`` lines to encrypt the file to; nobody: it is not encrypted.
        overwrite: Whether an existing file is replaced.
        critic: Whether Dis goes along; it is a witness against the style images (P-82).
        audit: What was measured of leakage; that nothing was, when omitted (P-83).
        reports: Further members by name: figures, never pictures (P-85).

    Returns:
        The payload digest, hex: the identity of the bundle.

    Raises:
        TensorError: A weight is not finite.
        ProtocolError: The lint found a private detail, or the file cannot be written.
    """
    model = copy.deepcopy(result.model)
    fold_gains(model.encoder)
    parts = {name: getattr(model, name).state_dict() for name in NETWORKS}
    if critic:
        parts[CRITIC] = result.discriminator.state_dict()
    _check_tables(parts, result.preset.network)
    members, bounds = _pack(parts)
    found = audit or MemorisationAudit(status="not measured", critic_shipped=critic)
    manifest = style_manifest(model, result, release=release, provider=provider, audit=found)
    return write_bundle(
        path, manifest=manifest, members={**members, **(reports or {})}, abs_max=bounds, key=key, provider=provider,
        recipients=recipients, overwrite=overwrite,
    )  # fmt: skip


def write_adapter(
    path: Path,
    adapted: Adapted,
    *,
    style: LoadedStyle,
    key: PrivateKey,
    provider: ProviderKey,
    overwrite: bool,
    shared: Shared | None = None,
    federation: Federation | None = None,
) -> str:
    """Pack, sign and verify an encoder adapter (M-39).

    Args:
        path: The ``.mdfa`` file.
        adapted: What stage 2 made. Photos, their names and their number stay out.
        style: The bundle it belongs to.
        key: The client's own adapter key.
        provider: The public half.
        overwrite: Whether an existing file is replaced.
        shared: What makes it ``shareable``; only ``privacy.release`` passes it
            (P-36). Without it the adapter is ``local-only``.
        federation: The run at several sites that made it (F-24).

    Returns:
        The payload digest, hex.

    Raises:
        TensorError: A weight is not finite.
        ProtocolError: The file cannot be written.
    """
    members, bounds = _pack({"encoder": adapted.tensors})
    manifest = adapter_manifest(adapted, style=style, provider=provider, shared=shared, federation=federation)
    return write_bundle(
        path, manifest=manifest, members=members, abs_max=bounds, key=key, provider=provider, overwrite=overwrite
    )


def _check_tables(parts: _Tensors, network: NetworkConfig) -> None:
    """Refuse to pack any tensor that is not a layer: codes of images could hide in one (P-81).

    Raises:
        TensorError: E_TENSOR_SHAPE, names the tensor.
    """
    for name, expected in tables(network, with_critic=CRITIC in parts).items():
        got = {tensor: tuple(value.shape) for tensor, value in parts[name].items()}
        wrong = first_difference(got, expected)
        if wrong is not None:
            raise TensorError(
                f"{name} holds a tensor that is no layer of its networks", code="E_TENSOR_SHAPE",
                why="a table of codes with one row for each style image could hide there", member=wrong,
                expected=str(expected.get(wrong)), got=str(got.get(wrong)),
            )  # fmt: skip


def _pack(parts: _Tensors) -> tuple[dict[str, bytes], dict[str, float]]:
    """Serialise one weight file a network and find the largest magnitude of each.

    Tensors carry the name of their network, so that a name is unique in the bundle.
    """
    files = {
        f"weights/{part}.safetensors": {f"{part}.{name}": value for name, value in tensors.items()}
        for part, tensors in parts.items()
    }
    return {n: to_bytes(t) for n, t in files.items()}, {n: abs_max(t) for n, t in files.items()}
