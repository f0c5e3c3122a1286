"""``manifest.json``: what a bundle says about itself (B-16 to B-19).

Frozen dataclasses; their type hints are the schema that ``schema.py`` enforces.
Rules kept here: fields that belong to one kind of bundle only are required
there and refused in the other; the privacy card tells the truth (``privacy.py``,
whose classes are part of the manifest and can be imported from here).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from protocol.canonical import dump_json, parse_json
from protocol.errors import problem
from protocol.privacy import (
    KINDS,
    MANIFEST,
    DpMechanism,
    DpStatement,
    Kind,
    LeakageFigure,
    MemorisationAudit,
    PrivacyCard,
    TrainingData,
    privacy_statement,
)
from protocol.schema import (
    Bound,
    Count,
    Hex64,
    Line,
    Positive,
    Scalar,
    Text,
    decode,
    encode,
)

__all__ = [
    "FORMAT_VERSION",
    "KINDS",
    "MANIFEST",
    "BaseInfo",
    "BundleInfo",
    "DpMechanism",
    "DpStatement",
    "Dtype",
    "Federation",
    "Figure",
    "FileEntry",
    "Kind",
    "LeakageFigure",
    "Licence",
    "LossNet",
    "Losses",
    "Manifest",
    "MemorisationAudit",
    "ModelInfo",
    "PrivacyCard",
    "Provenance",
    "ProviderInfo",
    "SelfTest",
    "StyleInfo",
    "TensorInfo",
    "Training",
    "TrainingData",
    "Usage",
    "WeightFile",
    "privacy_statement",
]

FORMAT_VERSION = "1.0"
"""Version that this package writes; it reads every 1.x without unknown critical features."""

Dtype = Literal["BF16", "F16", "F32"]

_Uuid = Annotated[str, Bound(pattern=r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]
_Path = Annotated[str, Bound(longest=100)]
_TensorName = Annotated[str, Bound(pattern=r"[A-Za-z0-9_.]{1,200}")]
_Url = Annotated[str, Bound(pattern=r"https?://[!-~]+", longest=500)]


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """Which bundle this is, and when it may be used."""

    id: _Uuid
    """Stays the same over all versions of one style."""
    name: Line
    version: Line
    sequence: Positive
    """Rises with every release of this id (B-42)."""
    created: datetime
    not_before: datetime
    expires: datetime
    supersedes: Hex64 | None = None
    """Payload digest of the release that this one replaces."""


@dataclass(frozen=True, kw_only=True)
class ProviderInfo:
    """Who made the bundle, in its own words; for display only, the trust store's name wins."""

    id: Hex64
    """SHA-256 of the DER form of the provider's first key (B-36); checked against the pin."""
    name: Line
    contact: Annotated[str, Bound(longest=200)] = ""
    url: _Url | None = None


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Type and shape of one stored tensor."""

    dtype: Dtype
    shape: tuple[Positive, ...]


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One safetensors member; all but ``abs_max`` is filled in by the writer."""

    file: _Path
    sha256: Hex64
    size: Positive
    """Bytes."""
    tensors: Mapping[str, TensorInfo]
    abs_max: Annotated[float, Bound(low=0)]
    """No value of the file is larger in magnitude (B-25 step 13)."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The network that the weights belong to."""

    architecture: Line
    """Names code of this project; a bundle holds no code."""
    parameters: Mapping[str, Scalar]
    """Flat network configuration, enough to build the layers."""
    input: Line
    output: Line
    precision: Line
    n_parameters: Count = 0
    """Values stored in all weight files together; filled in by the writer."""
    weights: tuple[WeightFile, ...] = ()
    """Filled in by the writer."""
    trainable: tuple[_TensorName, ...] = ()
    """Tensors that an adapter may replace (B-18)."""
    base_model: Line | None = None
    alignment_sha256: Hex64 | None = None
    """Digest of the template that the faces were aligned with (U-62); absent in early bundles and in adapters."""


@dataclass(frozen=True, kw_only=True)
class BaseInfo:
    """The bundle that an adapter was made for (B-18)."""

    bundle_id: _Uuid
    payload_sha256: Hex64
    sequence: Positive


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Expected statistics of the output for one built-in input."""

    input: Line
    """Name of the input, which the package can make by itself."""
    mean: float
    std: Annotated[float, Bound(low=0)]
    tolerance: Annotated[float, Bound(low=0)]


@dataclass(frozen=True, kw_only=True)
class StyleInfo:
    """What the style looks like, in words."""

    name: Line
    description: Text
    tags: tuple[Line, ...] = ()
    limits: Text = ""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Terms of the weights and of what they were trained on."""

    model: Line
    dataset: Line
    attribution: Text = ""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the provider allows."""

    allowed: tuple[Line, ...] = ()
    prohibited: tuple[Line, ...] = ()
    requires_acknowledgement: bool = False
    audience: tuple[Line, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Which Flower app may adapt this style at sites (F-7); in an adapter also how a federation made it."""

    fab_sha256: tuple[Hex64, ...]
    """Digests of the archives of the app."""
    run_id: Line | None = None
    rounds: Positive | None = None
    secure_aggregation: bool | None = None
    participants_band: Line | None = None

    @property
    def made_something(self) -> bool:
        """Whether this tells of a run, not of an app alone."""
        return (self.run_id, self.rounds, self.secure_aggregation, self.participants_band) != (None,) * 4


@dataclass(frozen=True, kw_only=True)
class LossNet:
    """A network that a loss was computed with, or the declared replacement (M-41 to M-43)."""

    name: Line
    sha256: Hex64 | None = None
    """Digest of its weight file; absent for a replacement that has none."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The networks behind the perceptual and the identity loss (M-43)."""

    perceptual: LossNet
    identity: LossNet


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the weights were trained."""

    preset: Line
    images_seen: Count
    steps: Count
    seed: Count
    xi: Positive
    losses: Losses
    init: Line
    """Where training started: ``scratch``, or the name of a checkpoint (M-23)."""
    mode: Literal["offline", "online", "test-time"] | None = None
    """Training mode of stage 2."""
    subset: Literal["all", "heads", "lora"] | None = None
    """Trainable subset of stage 2 (M-38)."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Software and settings that made the weights."""

    tool: Line
    tool_version: Line
    source_commit: Line
    torch: Line
    python: Line
    training: Training
    dataset_commitment: Hex64 | None = None
    """HMAC of the data set with a secret salt; never a plain hash (B-20)."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number (M-48)."""

    metric: Line
    """Carries its sample count and resolution where it depends on them."""
    value: float | None = None
    """Absent when it was not available; never 0 instead (M-43)."""
    samples: Count | None = None
    resolution: Positive | None = None
    note: Text = ""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One signed member; filled in by the writer."""

    path: _Path
    role: Line
    media_type: Line


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of ``manifest.json``.

    A caller builds it without ``files`` and without the weight tables;
    ``publish.write_bundle`` fills them in from the members.
    """

    kind: Kind
    bundle: BundleInfo
    provider: ProviderInfo
    model: ModelInfo
    licence: Licence
    usage: Usage
    privacy: PrivacyCard
    provenance: Provenance
    style: StyleInfo | None = None
    """Style bundle only, required there."""
    base: BaseInfo | None = None
    """Encoder adapter only, required there."""
    release: Literal["local-only", "shareable"] | None = None
    """Encoder adapter only, required there."""
    federation: Federation | None = None
    """In a style bundle the digests of the app alone (F-7)."""
    selftest: tuple[SelfTest, ...] = ()
    evaluation: tuple[Figure, ...] = ()
    files: tuple[FileEntry, ...] = ()
    critical: tuple[Line, ...] = ()
    """Features that a reader must know; none is defined yet."""
    format: Literal["mdfy"] = "mdfy"
    format_version: Annotated[str, Bound(pattern=r"[0-9]{1,4}\.[0-9]{1,4}")] = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check what concerns several fields at once."""
        adapter = self.kind == "encoder-adapter"
        belongs = {
            "style": (self.style is not None) != adapter,
            "base": (self.base is not None) == adapter,
            "release": (self.release is not None) == adapter,
            "federation": adapter or self.federation is None or not self.federation.made_something,
        }
        for name in (name for name, right in belongs.items() if not right):
            raise problem("E_MANIFEST", member=MANIFEST, detail=f"rule B-16: field {name!r} in {self.kind}")
        if not self.bundle.not_before < self.bundle.expires:
            raise problem("E_MANIFEST", member=MANIFEST, detail="itself: ends before it begins")
        self.privacy.check_statement(self.kind, federated=adapter and self.federation is not None)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read ``manifest.json``.

        Raises:
            MalformedBundleError: E_JSON or E_MANIFEST, not strict JSON or not the schema.
            UnsupportedVersionError: E_VERSION, another major version, or a
                critical feature that this reader does not know.
        """
        value = parse_json(data, member=MANIFEST)
        if isinstance(value, dict):  # before the schema: a newer one may have other fields
            major = str(value.get("format_version", "")).partition(".")[0]
            if major.isdecimal() and major != FORMAT_VERSION.partition(".")[0]:
                raise problem("E_VERSION", member=MANIFEST, expected=FORMAT_VERSION, got=major)
            critical = value.get("critical")
            if isinstance(critical, list) and critical:
                raise problem("E_VERSION", member=MANIFEST, got=ascii(critical[0])[:40])
        return decode(cls, value, member=MANIFEST)

    def to_bytes(self) -> bytes:
        """Write ``manifest.json``; what is written has been read back.

        Raises:
            MalformedBundleError: E_JSON or E_MANIFEST, a field breaks the schema.
        """
        try:
            value = encode(self)
        except ValueError as error:  # a time without its zone
            raise problem("E_MANIFEST", member=MANIFEST, detail=f"the schema: {error}") from error
        data = dump_json(value)
        self.from_bytes(data)
        return data
