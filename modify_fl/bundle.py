"""Networks into bundles and back (B-16 to B-18, B-25 steps 13 and 14, M-39).

The only way from a ``VerifiedBundle`` to networks, and the only writer of style
bundles and adapters. Architectures are named, never shipped: the layers are
built by this package from a bounded configuration (P-6).
"""

import copy
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from modify_fl.artifacts import Adapted, Encapsulated, LoadedStyle, TrainingSummary
from modify_fl.config import CriticConfig, NetworkConfig
from modify_fl.errors import ConfigError
from modify_fl.faces.align import template_digest
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.encoder import fold_gains
from modify_fl.networks.model import StyleModel
from modify_fl.weights import abs_max, read_weights, to_bytes
from protocol.errors import PolicyError, TensorError, problem
from protocol.manifest import (
    BaseInfo,
    BundleInfo,
    Federation,
    Figure,
    Licence,
    Losses,
    LossNet,
    Manifest,
    ModelInfo,
    Provenance,
    SelfTest,
    StyleInfo,
    Training,
    Usage,
)
from protocol.privacy import DpStatement, Kind, MemorisationAudit, PrivacyCard, TrainingData, privacy_statement
from protocol.provider import ProviderKey
from protocol.publish import write_bundle
from protocol.signing import PrivateKey
from protocol.verify import VerifiedBundle, check_base

__all__ = [
    "ARCHITECTURE",
    "LOCAL_ONLY",
    "Release",
    "Shared",
    "image_band",
    "load_adapter",
    "load_style",
    "write_adapter",
    "write_style_bundle",
]

ARCHITECTURE = "modify-stylegan2-fpn/1"
"""The one architecture this package builds."""

_Config = TypeVar("_Config", NetworkConfig, CriticConfig)

LOCAL_ONLY = DpStatement(applied=False, guarantee="none", reason="no privacy mechanism ran; the weights stay here")
"""What an adapter says that must not leave this machine (P-3)."""

_NO_DP = DpStatement(applied=False)
_LIFE = timedelta(days=730)
_PHOTOS = ("private photos of this client", "private photos of several sites")
_SELFTEST_TOLERANCE = 0.01
_BANDS = (10, 100, 300, 1000, 3000, 10_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class Release:
    """What the provider says about a style bundle."""

    name: str
    """Name of the style, as shown to clients."""
    description: str
    """One sentence about how it looks."""
    images: int
    """Number of style images; published as a band only (P-83)."""
    dataset_licence: str
    """Licence of the style images."""
    model_licence: str = "all rights reserved"
    """Licence of the weights."""
    style_data: str = "confidential"
    """``public``, ``licensed`` or ``confidential`` (P-71)."""
    version: str = "1.0.0"
    """Version of the style."""
    sequence: int = 1
    """Rises with every release of one bundle id (B-42)."""
    bundle_id: str | None = None
    """UUID of the style; a new one unless given."""
    supersedes: str | None = None
    """Payload digest of the release that this one replaces."""
    created: datetime | None = None
    """When it was made, UTC, whole seconds; now unless given (reproducible builds)."""
    usage: Usage = field(default_factory=Usage)
    """What the provider allows, and whom the bundle is addressed to (B-27)."""
    evaluation: tuple[Figure, ...] = ()
    """Measured figures (M-48)."""
    apps: tuple[str, ...] = ()
    """Digests of the Flower apps that may adapt the style at sites (F-7)."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What an adapter says that may leave this machine."""

    bundle_id: str
    """Its id, as the ledger recorded it before it was written."""
    dp: DpStatement
    """What protects the photos, or why nothing does."""


# Writing ----------------------------------------------------------------------


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
    parts = {name: getattr(model, name) for name in ("encoder", "generator", "offset", "remapping")}
    if critic:
        parts["discriminator"] = result.discriminator
    network = result.preset.network
    _check_tables({name: part.state_dict() for name, part in parts.items()}, network)
    members, bounds = _pack({name: part.state_dict() for name, part in parts.items()})
    settings = asdict(result.preset.encapsulation.critic)  # kept without Dis too: a reader rebuilds them all
    parameters = {**asdict(network), **{f"critic_{name}": value for name, value in settings.items()}}
    found = audit or MemorisationAudit(status="not measured", critic_shipped=critic)
    manifest = Manifest(
        kind="style-bundle",
        bundle=_release_info(release),
        provider=provider.info(),
        model=ModelInfo(
            architecture=ARCHITECTURE, parameters=parameters, precision="float32",
            input=f"aligned face, {network.resolution} px, RGB in [-1, 1]",
            output=f"stylized face, {network.resolution} px, RGB in [-1, 1]",
            trainable=tuple(sorted(f"encoder.{name}" for name, _ in model.encoder.named_parameters())),
            alignment_sha256=template_digest(),
        ),
        selftest=_selftest(model, network),
        style=StyleInfo(name=release.name, description=release.description),
        licence=Licence(model=release.model_licence, dataset=release.dataset_licence),
        usage=release.usage,
        privacy=_privacy("style-bundle", image_band(release.images), release.style_data, found),
        provenance=_provenance(result.summary, result.preset.name, network.style_rows),
        evaluation=release.evaluation,
        federation=Federation(fab_sha256=release.apps) if release.apps else None,
    )  # fmt: skip
    return write_bundle(
        path, manifest=manifest, members={**members, **(reports or {})}, abs_max=bounds, key=key, provider=provider,
        recipients=recipients, overwrite=overwrite,
    )  # fmt: skip


def _check_tables(parts: Mapping[str, Mapping[str, Tensor]], network: NetworkConfig) -> None:
    """Refuse to pack any tensor that is not a layer: codes of images could hide in one (P-81).

    Raises:
        TensorError: E_TENSOR_SHAPE, names the tensor.
    """
    for name, expected in _shapes(network, with_critic="discriminator" in parts).items():
        got = {tensor: tuple(value.shape) for tensor, value in parts[name].items()}
        if got != expected:
            wrong = sorted(t for t in got.keys() | expected.keys() if got.get(t) != expected.get(t))
            raise TensorError(
                f"{name} holds a tensor that is no layer of its networks", code="E_TENSOR_SHAPE",
                why="a table of codes with one row for each style image could hide there", member=wrong[0],
                expected=str(expected.get(wrong[0])), got=str(got.get(wrong[0])),
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
    base = style.manifest
    manifest = Manifest(
        kind="encoder-adapter",
        bundle=_bundle_info(f"adapter for {base.bundle.name}", _today(), shared.bundle_id if shared else None),
        provider=provider.info(),
        base=BaseInfo(bundle_id=base.bundle.id, payload_sha256=style.digest, sequence=base.bundle.sequence),
        release="shareable" if shared else "local-only",
        model=ModelInfo(
            architecture=ARCHITECTURE, parameters=base.model.parameters, precision="float32",
            input=base.model.input, output=base.model.output, base_model=base.bundle.name,
            trainable=tuple(f"encoder.{name}" for name in sorted(adapted.tensors)),
        ),
        licence=Licence(model=base.licence.model, dataset=_PHOTOS[federation is not None]),
        usage=Usage(),
        privacy=_privacy("encoder-adapter", "not stated", "confidential", None, shared.dp if shared else LOCAL_ONLY),
        provenance=_provenance(
            adapted.summary, base.provenance.training.preset, style.network.style_rows,
            mode=adapted.mode, subset=adapted.subset,
        ),
        federation=federation,
    )  # fmt: skip
    return write_bundle(
        path, manifest=manifest, members=members, abs_max=bounds, key=key, provider=provider, overwrite=overwrite
    )


def _pack(parts: Mapping[str, Mapping[str, Tensor]]) -> tuple[dict[str, bytes], dict[str, float]]:
    """Serialise one weight file a network and find the largest magnitude of each.

    Tensors carry the name of their network, so that a name is unique in the bundle.
    """
    files = {
        f"weights/{part}.safetensors": {f"{part}.{name}": value for name, value in tensors.items()}
        for part, tensors in parts.items()
    }
    return {n: to_bytes(t) for n, t in files.items()}, {n: abs_max(t) for n, t in files.items()}


def _today() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _bundle_info(name: str, created: datetime, bundle_id: str | None = None) -> BundleInfo:
    """Describe the first release of something new."""
    return BundleInfo(
        id=bundle_id or str(uuid.uuid4()), name=name, version="1.0.0", sequence=1, created=created, not_before=created,
        expires=created + _LIFE,
    )  # fmt: skip


def _release_info(release: Release) -> BundleInfo:
    info = _bundle_info(release.name, release.created or _today())
    return replace(
        info, id=release.bundle_id or info.id, version=release.version, sequence=release.sequence,
        supersedes=release.supersedes,
    )  # fmt: skip


def _privacy(
    kind: Kind, images: str, style_data: str, audit: MemorisationAudit | None, dp: DpStatement = _NO_DP
) -> PrivacyCard:
    return PrivacyCard(
        training_data=TrainingData(
            number_of_images=images, contains_faces=True, basis="not stated",
            classification=style_data, retention="stays with its owner",  # type: ignore[arg-type]
        ),
        dp=dp, statement=privacy_statement(kind, dp, audit), memorisation_audit=audit,
    )  # fmt: skip


def _provenance(summary: TrainingSummary, preset: str, xi: int, **stage2: str) -> Provenance:
    nets = Losses(
        perceptual=LossNet(name=summary.perceptual.name, sha256=summary.perceptual.sha256),
        identity=LossNet(name=summary.identity.name, sha256=summary.identity.sha256),
    )
    tool = version_of("modify-fl")
    training = Training(
        preset=preset, images_seen=summary.images_seen, steps=summary.steps, seed=summary.seed, xi=xi,
        losses=nets, init=summary.init if not stage2 else "style bundle", **stage2,  # type: ignore[arg-type]
    )  # fmt: skip
    return Provenance(
        tool="modify-fl", tool_version=tool, source_commit="not recorded", torch=torch.__version__,
        python=platform.python_version(), training=training,
    )  # fmt: skip


def image_band(images: int) -> str:
    """Say a number of pictures as a band (P-83)."""
    low = max((edge for edge in _BANDS if edge <= images), default=0)
    high = next((edge - 1 for edge in _BANDS if edge > images), None)
    return f"{low} to {high}" if high is not None else f"{low} or more"


# Reading ----------------------------------------------------------------------


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
    for name in ("encoder", "generator", "offset", "remapping"):
        _fill(getattr(model, name), parts[name], name)
    discriminator = None
    if "discriminator" in parts:
        discriminator = Discriminator(network)
        _fill(discriminator, parts["discriminator"], "discriminator")
        discriminator.eval().requires_grad_(requires_grad=False)
    model.eval().requires_grad_(requires_grad=False)
    _check_selftest(model, network, manifest)
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
    required = {"encoder", "generator", "offset", "remapping"}
    if not required <= set(rows) <= required | {"discriminator"}:
        raise TensorError(
            "the bundle does not hold the networks of a style", code="E_TENSOR_SHAPE", step=12,
            expected=", ".join(sorted(required)), got=", ".join(sorted(rows)),
        )  # fmt: skip
    for name, expected in _shapes(network, with_critic="discriminator" in rows).items():
        got = {tensor.removeprefix(f"{name}."): info.shape for tensor, info in rows[name].tensors.items()}
        if got != expected:
            wrong = sorted(t for t in got.keys() | expected.keys() if got.get(t) != expected.get(t))
            raise TensorError(
                f"{name} has other tensors than its configuration asks for", code="E_TENSOR_SHAPE", step=12,
                member=rows[name].file, expected=f"{wrong[0]} {expected.get(wrong[0])}", got=str(got.get(wrong[0])),
            )  # fmt: skip
    return {
        name: {tensor.removeprefix(f"{name}."): value for tensor, value in read_weights(bundle, file).items()}
        for name, file in rows.items()
    }


def _shapes(network: NetworkConfig, *, with_critic: bool) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the tensor table of a configuration; nothing is allocated."""
    with torch.device("meta"):
        model = StyleModel(network)
        fold_gains(model.encoder)  # the paper's encoder has fewer tensors once folded (M-20)
        parts: dict[str, nn.Module] = {n: getattr(model, n) for n in ("encoder", "generator", "offset", "remapping")}
        if with_critic:
            parts["discriminator"] = Discriminator(network)
    return {name: {k: tuple(v.shape) for k, v in part.state_dict().items()} for name, part in parts.items()}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise TensorError(
            f"{name} does not fit its configuration", code="E_TENSOR_SHAPE", step=12, why=str(error)
        ) from error


# Self-test --------------------------------------------------------------------


@torch.no_grad()
def _selftest_outputs(model: StyleModel, network: NetworkConfig) -> dict[str, Tensor]:
    """Return pictures that need no photo: the average code, and a drawn ramp through E and D."""
    line = torch.linspace(-1, 1, network.resolution)
    ramp = torch.stack([line[None, :].expand(network.resolution, -1), line[:, None].expand(-1, network.resolution),
                        -line[None, :].expand(network.resolution, -1)])[None]  # [1, 3, R, R]  # fmt: skip
    average = model.decode(model.offset.w_avg[None])
    return {"average-code": average, "ramp": model.decode(model.encode(ramp))}


def _selftest(model: StyleModel, network: NetworkConfig) -> tuple[SelfTest, ...]:
    return tuple(
        SelfTest(input=name, mean=float(out.mean()), std=float(out.std()), tolerance=_SELFTEST_TOLERANCE)
        for name, out in _selftest_outputs(model, network).items()
    )


def _check_selftest(model: StyleModel, network: NetworkConfig, manifest: Manifest) -> None:
    outputs = _selftest_outputs(model, network)
    for test in manifest.selftest:
        if test.input not in outputs:
            raise TensorError(f"unknown self-test {test.input}", code="E_SELFTEST", step=13)
        out = outputs[test.input]
        error = max(abs(float(out.mean()) - test.mean), abs(float(out.std()) - test.std))
        if not error <= test.tolerance:  # a NaN must fail
            raise TensorError(
                f"the output for {test.input} differs from the provider's", code="E_SELFTEST", step=13,
                expected=f"within {test.tolerance}", got=f"{error:.4f}",
            )  # fmt: skip
