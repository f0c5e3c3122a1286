"""A provider, a client and an attacker in memory: fixed keys, fixed dates, small bundles."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.container import SIGNATURE, canonical_order, read_directory, write_container
from protocol.errors import ProtocolError
from protocol.manifest import (
    BaseInfo,
    BundleInfo,
    DpStatement,
    Figure,
    Kind,
    Licence,
    Losses,
    LossNet,
    Manifest,
    MemorisationAudit,
    ModelInfo,
    PrivacyCard,
    Provenance,
    StyleInfo,
    Training,
    TrainingData,
    Usage,
    privacy_statement,
)
from protocol.provider import ROLES, ProviderKey, Role, issue_provider_key
from protocol.publish import write_bundle
from protocol.signing import PrivateKey
from protocol.statement import Resource, Statement, sign_statement
from protocol.trust import TrustStore
from protocol.verify import VerifiedBundle, open_bundle, verify_bundle

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
EXPIRES = datetime(2028, 1, 1, tzinfo=UTC)

# Throw-away keys; any number below the order of the curve is a private key.
STUDIO_KEY = ec.derive_private_key(0x5D10, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(0xBAD, ec.SECP256R1())
CLIENT_KEY = ec.derive_private_key(0xC11E, ec.SECP256R1())

ENCODER = "weights/encoder.safetensors"
GENERATOR = "weights/generator.safetensors"
TABLE = {"head.weight": [2, 3], "trunk.weight": [4]}


def provider_key(
    key: PrivateKey = STUDIO_KEY,
    *,
    name: str = "Studio",
    roles: tuple[Role, ...] = ROLES,
    not_before: datetime = CREATED,
    expires: datetime = EXPIRES,
) -> ProviderKey:
    return issue_provider_key(
        key, name=name, contact="mail@studio.example", roles=roles, not_before=not_before, expires=expires
    )


STUDIO = provider_key()
OTHER = provider_key(OTHER_KEY, name="Other")
CLIENT = provider_key(CLIENT_KEY, name="this computer", roles=("adapter",))


def safetensors(header: object, data: bytes) -> bytes:
    """Return a safetensors file with this header, whatever it says."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def weights(table: Mapping[str, list[int]] = TABLE, value: float = 0.5, dtype: str = "F32") -> bytes:
    """Return a valid safetensors file, all values equal."""
    form = {"F32": "<f", "F16": "<e"}[dtype]
    header, data = {}, b""
    for name, shape in table.items():
        count = 1
        for side in shape:
            count *= side
        begin = len(data)
        data += struct.pack(form, value) * count
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    return safetensors(header, data)


MEMBERS = {ENCODER: weights(), GENERATOR: weights({"const": [1, 8]})}
ABS_MAX = {ENCODER: 0.5, GENERATOR: 0.5}


def style_manifest(provider: ProviderKey = STUDIO) -> Manifest:
    net = LossNet(name="discriminator features")
    audit = MemorisationAudit(status="not measured", critic_shipped=True)
    return Manifest(
        kind="style-bundle",
        bundle=BundleInfo(
            id="3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            name="paintings",
            version="1.0.0",
            sequence=1,
            created=CREATED,
            not_before=CREATED,
            expires=CREATED + timedelta(days=365),
        ),
        provider=provider.info(),
        model=ModelInfo(
            architecture="modify-stylegan2-fpn/1",
            parameters={"resolution": 32, "encoder": "compact", "lr_mul": 0.1, "tied": False},
            input="face, 32 px",
            output="face, 32 px",
            precision="float32",
            trainable=("head.weight",),
        ),
        style=StyleInfo(name="paintings", description="broad brush strokes", tags=("oil", "portrait")),
        licence=Licence(model="CC-BY-4.0", dataset="CC0"),
        usage=Usage(allowed=("art",), prohibited=("impersonation",)),
        privacy=PrivacyCard(
            training_data=TrainingData(
                number_of_images="100 to 999",
                contains_faces=True,
                basis="public domain",
                classification="public",
                retention="kept by the provider",
            ),
            dp=DpStatement(applied=False),
            statement=privacy_statement("style-bundle", DpStatement(applied=False)),
            memorisation_audit=audit,
        ),
        provenance=Provenance(
            tool="modify-fl",
            tool_version="0.1.0",
            source_commit="unknown",
            torch="2.6.0",
            python="3.11.9",
            training=Training(
                preset="quick-64",
                images_seen=1000,
                steps=125,
                seed=0,
                xi=4,
                losses=Losses(perceptual=net, identity=net),
                init="scratch",
            ),
        ),
        evaluation=(
            Figure(metric="lpips_holdout", value=0.25, samples=20, resolution=32, note="held-out tenth"),
            Figure(metric="identity"),
        ),
    )


def adapter_manifest(base: VerifiedBundle, provider: ProviderKey = CLIENT) -> Manifest:
    style = style_manifest(provider)
    return replace(
        style,
        kind="encoder-adapter",
        style=None,
        base=BaseInfo(
            bundle_id=base.manifest.bundle.id,
            payload_sha256=base.payload_digest,
            sequence=base.manifest.bundle.sequence,
        ),
        release="local-only",
        privacy=replace(
            style.privacy,
            statement=privacy_statement("encoder-adapter", style.privacy.dp),
            memorisation_audit=None,
        ),
    )


def write_style(path: Path, **changes: object) -> str:
    """Write a style bundle of the studio; ``changes`` replace arguments of ``write_bundle``."""
    arguments: dict[str, object] = {
        "manifest": style_manifest(),
        "members": MEMBERS,
        "abs_max": ABS_MAX,
        "key": STUDIO_KEY,
        "provider": STUDIO,
    }
    return write_bundle(path, **(arguments | changes))  # type: ignore[arg-type]


def open_trusted(path: Path, *keys: ProviderKey, now: datetime = NOW) -> VerifiedBundle:
    return open_bundle(path, trust=TrustStore.of(*(keys or (STUDIO,))), now=now)


def refusal(path: Path, *, trust: TrustStore | None = None, now: datetime = NOW) -> ProtocolError:
    """Return the one error of both doors, which must agree."""
    errors = []
    for door in (verify_bundle, open_bundle):
        with pytest.raises(ProtocolError) as caught:
            door(path, trust=trust or TrustStore.of(STUDIO), now=now)
        errors.append(caught.value)
    assert (errors[0].code, errors[0].step, errors[0].member) == (errors[1].code, errors[1].step, errors[1].member)
    return errors[0]


def unpack(data: bytes) -> dict[str, bytes]:
    found = read_directory(io.BytesIO(data), size_limit=len(data))
    return {member.name: data[member.offset : member.offset + member.size] for member in found}


def pack(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    write_container(stream, sorted(members.items(), key=lambda item: canonical_order(item[0])))
    return stream.getvalue()


def resources(members: Mapping[str, bytes]) -> tuple[Resource, ...]:
    return tuple(
        Resource(name=name, digest=sha256(data).hexdigest(), size=len(data), crc32=zlib.crc32(data))
        for name, data in sorted(members.items())
    )


def resign(members: Mapping[str, bytes], *, key: PrivateKey = STUDIO_KEY, kind: Kind = "style-bundle") -> bytes:
    """Sign members as the owner of ``key`` could, without any check of the writer."""
    covered = {name: data for name, data in members.items() if name != SIGNATURE}
    record = sign_statement(key, Statement(kind=kind, resources=resources(covered)))
    return pack({**covered, SIGNATURE: record.to_bytes()})


def forge(path: Path, edit: Callable[[dict[str, bytes]], None], *, sign: bool = True) -> Path:
    """Edit the members of the bundle at ``path``; with ``sign`` as the owner of its key."""
    members = unpack(path.read_bytes())
    edit(members)
    path.write_bytes(resign(members) if sign else pack(members))
    return path


def edit_json(name: str, change: Callable[[dict[str, object]], None]) -> Callable[[dict[str, bytes]], None]:
    """Return an edit of one JSON member, for ``forge``."""

    def edit(members: dict[str, bytes]) -> None:
        value = json.loads(members[name])
        change(value)
        members[name] = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    return edit
