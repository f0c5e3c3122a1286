"""What a bundle says about itself: its manifest, from what a stage made and what its maker states (P-3, P-83)."""

import platform
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as version_of

import torch

from modify_fl.artifacts import Adapted, Encapsulated, LoadedStyle, TrainingSummary
from modify_fl.bundle.layout import ARCHITECTURE
from modify_fl.bundle.selftest import selftest
from modify_fl.faces.align import template_digest
from modify_fl.networks.model import StyleModel
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
    StyleInfo,
    Training,
    Usage,
)
from protocol.privacy import DpStatement, Kind, MemorisationAudit, PrivacyCard, TrainingData, privacy_statement
from protocol.provider import ProviderKey

__all__ = ["LOCAL_ONLY", "Release", "Shared", "adapter_manifest", "image_band", "style_manifest"]

LOCAL_ONLY = DpStatement(applied=False, guarantee="none", reason="no privacy mechanism ran; the weights stay here")
"""What an adapter says that must not leave this machine (P-3)."""

_NO_DP = DpStatement(applied=False)
_LIFE = timedelta(days=730)
_PHOTOS = ("private photos of this client", "private photos of several sites")
_BANDS = (10, 100, 300, 1000, 3000, 10_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class Release:
    """What the provider says about a style bundle."""

    name: str
    """Name of the style, as shown to clients."""
    description: str
    """One sentence about how it looks."""
    images: int
    """Number of style images that were trained on; published as a band only (P-83)."""
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


def style_manifest(
    model: StyleModel, result: Encapsulated, *, release: Release, provider: ProviderKey, audit: MemorisationAudit
) -> Manifest:
    """Describe a style bundle.

    Args:
        model: The networks as they are packed, gains folded (M-19).
        result: What stage 1 made: settings, length, losses.
        release: What the provider says about it.
        provider: The public half of the key that will sign.
        audit: What was measured of leakage.
    """
    network = result.preset.network
    settings = asdict(result.preset.encapsulation.critic)  # kept without Dis too: a reader rebuilds them all
    parameters = {**asdict(network), **{f"critic_{name}": value for name, value in settings.items()}}
    return Manifest(
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
        selftest=selftest(model),
        style=StyleInfo(name=release.name, description=release.description),
        licence=Licence(model=release.model_licence, dataset=release.dataset_licence),
        usage=release.usage,
        privacy=_privacy("style-bundle", image_band(release.images), release.style_data, audit),
        provenance=_provenance(result.summary, result.preset.name, network.style_rows),
        evaluation=release.evaluation,
        federation=Federation(fab_sha256=release.apps) if release.apps else None,
    )  # fmt: skip


def adapter_manifest(
    adapted: Adapted, *, style: LoadedStyle, provider: ProviderKey, shared: Shared | None, federation: Federation | None
) -> Manifest:
    """Describe an encoder adapter; arguments as of ``write_adapter``."""
    base = style.manifest
    return Manifest(
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
        privacy=_privacy(
            "encoder-adapter", "not stated", "confidential", None, shared.dp if shared else LOCAL_ONLY,
            federated=federation is not None,
        ),
        provenance=_provenance(
            adapted.summary, base.provenance.training.preset, style.network.style_rows,
            mode=adapted.mode, subset=adapted.subset,
        ),
        federation=federation,
    )  # fmt: skip


def image_band(images: int) -> str:
    """Say a number of pictures as a band (P-83)."""
    low = max((edge for edge in _BANDS if edge <= images), default=0)
    high = next((edge - 1 for edge in _BANDS if edge > images), None)
    return f"{low} to {high}" if high is not None else f"{low} or more"


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
    kind: Kind, images: str, style_data: str, audit: MemorisationAudit | None, dp: DpStatement = _NO_DP, *,
    federated: bool = False,
) -> PrivacyCard:  # fmt: skip
    return PrivacyCard(
        training_data=TrainingData(
            number_of_images=images, contains_faces=True, basis="not stated",
            classification=style_data, retention="stays with its owner",  # type: ignore[arg-type]
        ),
        dp=dp, statement=privacy_statement(kind, dp, audit, federated=federated), memorisation_audit=audit,
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
