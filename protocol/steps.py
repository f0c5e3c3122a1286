"""The verification steps of B-25, one function each; ``verify`` runs them in order.

Rules kept here: archive headers equal what was signed (B-12); the manifest, the
statement and the weights say the same (B-17); state and expiry of a key come from
the trust store, never from the bundle; bytes that are parsed are the bytes that
were hashed; memory does not grow with the size of the file.

Not built yet, with a marked place in ``check_policy``: disputed and retired keys,
revocation, rollback. A bundle that asks for an audience or for acknowledgement is
refused, since nobody can prove either yet.
"""

import base64
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import BinaryIO

from protocol.canonical import MAX_JSON
from protocol.container import MAGIC, MAX_SIZE, SIGNATURE, WEIGHTS, Member, read_directory, read_exactly
from protocol.encryption import is_age
from protocol.errors import ProtocolError, problem
from protocol.manifest import MANIFEST, Kind, Manifest, WeightFile
from protocol.provider import Role
from protocol.schema import format_time
from protocol.statement import Resource, SignatureRecord, Statement
from protocol.tensors import HEADER_LENGTH, MAX_HEADER, read_tensor_header
from protocol.trust import PinnedKey, TrustStore

__all__ = [
    "ROLE_OF_KIND",
    "check_policy",
    "check_size",
    "check_start",
    "check_weights",
    "claimed_fingerprint",
    "compare_digest",
    "find_signer",
    "fingerprint_of",
    "hash_member",
    "match_members",
    "parse_manifest",
    "read_manifest",
    "read_members",
    "read_signature",
    "trainable_file",
]

ROLE_OF_KIND: dict[Kind, Role] = {"encoder-adapter": "adapter", "style-bundle": "style"}
"""Role that a key needs to sign a kind of bundle (B-37)."""

_CHUNK = 1 << 20
_START = 32
_LONGEST_START = HEADER_LENGTH + MAX_HEADER


def check_size(stream: BinaryIO, size_limit: int) -> int:
    """Step 1."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size > size_limit:
        raise problem("E_CONTAINER", detail=f"{size} bytes, more than the limit of {size_limit}")
    return size


def check_start(stream: BinaryIO) -> None:
    """Step 2."""
    start = stream.read(_START)
    if is_age(start):
        raise problem(
            "E_VERSION",
            got="encrypted bundle",
            why="this version does not open encrypted bundles",
            fix="decrypt it with age first, then use the result",
        )
    if not start.startswith(MAGIC):
        raise problem("E_FORMAT")


def read_members(stream: BinaryIO) -> dict[str, Member]:
    """Step 4."""
    return {member.name: member for member in read_directory(stream, size_limit=MAX_SIZE)}


def _read_record(stream: BinaryIO, member: Member) -> bytes:
    """Read a member that must be short."""
    if member.size > MAX_JSON:
        raise problem("E_CONTAINER", member=member.name, detail=f"{member.name} above 1 MiB")
    return read_exactly(stream, member.offset, member.size)


def read_signature(stream: BinaryIO, members: Mapping[str, Member]) -> SignatureRecord:
    """Step 5."""
    if SIGNATURE not in members:
        raise problem("E_UNSIGNED", member=SIGNATURE)
    return SignatureRecord.from_bytes(_read_record(stream, members[SIGNATURE]))


def parse_manifest(stream: BinaryIO, members: Mapping[str, Member]) -> Manifest:
    """Read the manifest without any question whether it was signed."""
    if MANIFEST not in members:
        raise problem("E_MISSING_MEMBER", member=MANIFEST)
    return Manifest.from_bytes(_read_record(stream, members[MANIFEST]))


def fingerprint_of(manifest: Manifest) -> str:
    """A provider's id and the fingerprint of its first key are one digest (B-35, B-36)."""
    digest = base64.b64encode(bytes.fromhex(manifest.provider.id)).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def claimed_fingerprint(stream: BinaryIO, members: Mapping[str, Member]) -> str:
    """Return what an unverified bundle says of its signer, for an error message only.

    A false claim gains nothing: the user compares it by another channel, and
    step 6 asks for the key itself.
    """
    try:
        return fingerprint_of(parse_manifest(stream, members))
    except ProtocolError:
        return "a key that it does not name"


def find_signer(record: SignatureRecord, trust: TrustStore, now: datetime, claim: Callable[[], str]) -> PinnedKey:
    """Step 6; state and expiry come from the trust store, never from the bundle."""
    signer = trust.find(record.hint)
    if signer is None:
        claimed = claim()
        raise problem(
            "E_UNTRUSTED",
            why=f"it says it is signed by {claimed}; the trust store holds {len(trust.list())} provider keys",
            fix="compare this fingerprint with the provider by another channel, then run "
            f"content-client trust add FILE.mdfykey --fingerprint {claimed}",
            got=claimed,
        )
    _check_window(now, signer.key.not_before, signer.key.expires, "E_KEY_EXPIRED")
    return signer


def _check_window(now: datetime, start: datetime, end: datetime, expired: str) -> None:
    detail = f"from {format_time(start)} to {format_time(end)}"
    shown = format_time(now.replace(microsecond=0))
    if now < start:
        raise problem("E_NOT_YET_VALID", detail=detail, expected=detail, got=shown)
    if now > end:
        raise problem(expired, detail=detail, expected=detail, got=shown)


def match_members(statement: Statement, members: Mapping[str, Member]) -> dict[str, Resource]:
    """Step 8: same names, sizes and CRCs in the statement and in the archive (B-12)."""
    resources = {resource.name: resource for resource in statement.resources}
    for name in sorted(members.keys() - resources.keys() - {SIGNATURE}):
        raise problem("E_UNSIGNED_MEMBER", member=name)
    for name, resource in resources.items():
        if name == SIGNATURE:
            raise problem("E_STATEMENT", detail="B-11", why="the signature cannot cover itself")
        if name not in members:
            raise problem("E_MISSING_MEMBER", member=name)
        member = members[name]
        if (member.size, member.crc32) != (resource.size, resource.crc32):
            raise problem("E_DIGEST", member=name, why="size or CRC is not the signed one")
    if MANIFEST not in resources:
        raise problem("E_MISSING_MEMBER", member=MANIFEST)
    return resources


def read_manifest(stream: BinaryIO, members: Mapping[str, Member], statement: Statement) -> Manifest:
    """Step 9; the very bytes that are parsed were hashed."""
    data = _read_record(stream, members[MANIFEST])
    signed = {resource.name: resource for resource in statement.resources}
    compare_digest(hashlib.sha256(data).hexdigest(), signed[MANIFEST])
    manifest = Manifest.from_bytes(data)
    if manifest.kind != statement.kind:
        raise problem("E_MANIFEST", member=MANIFEST, detail="the signed kind")
    if [entry.path for entry in manifest.files] != [item.name for item in statement.resources]:
        raise problem("E_MANIFEST", member=MANIFEST, detail="the signed members")
    return manifest


def check_policy(manifest: Manifest, statement: Statement, signer: PinnedKey, now: datetime) -> None:
    """Step 10, as far as it is built; the questions to the stored state come last."""
    if manifest.provider.id != signer.provider_id:
        raise problem("E_PROVIDER_MISMATCH", got=manifest.provider.id, expected=signer.provider_id)
    role = ROLE_OF_KIND[statement.kind]
    if role not in signer.roles:
        raise problem("E_KEY_ROLE", expected=role, got=", ".join(signer.roles))
    bundle = manifest.bundle
    _check_window(now, bundle.not_before, bundle.expires, "E_EXPIRED")
    # Nobody can prove to be addressed, or to have agreed, before those parts exist.
    if manifest.usage.audience is not None:
        raise problem("E_AUDIENCE")
    if manifest.usage.requires_acknowledgement:
        raise problem("E_USAGE")
    # Place of B-38 to B-42: disputed or retired key, revocation, sequence.


def compare_digest(digest: str, resource: Resource) -> None:
    """Refuse contents that are not the signed ones."""
    if digest != resource.digest:
        raise problem("E_DIGEST", member=resource.name, expected=resource.digest, got=digest)


def hash_member(stream: BinaryIO, member: Member, resource: Resource) -> bytes:
    """Step 11 for one member; returns its safetensors header as it was hashed."""
    stream.seek(member.offset)
    digest = hashlib.sha256()
    start = b""
    left = member.size
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise problem("E_TRUNCATED", member=member.name)
        digest.update(chunk)
        if member.name.endswith(WEIGHTS):
            start += chunk[: _LONGEST_START - len(start)]
        left -= len(chunk)
    compare_digest(digest.hexdigest(), resource)
    return start[: HEADER_LENGTH + int.from_bytes(start[:HEADER_LENGTH], "little")]


def check_weights(manifest: Manifest, resources: Mapping[str, Resource], starts: Mapping[str, bytes]) -> int:
    """Step 12; returns the number of tensors."""
    weights = manifest.model.weights
    if [file.file for file in weights] != [name for name in resources if name.endswith(WEIGHTS)]:
        raise problem("E_MANIFEST", member=MANIFEST, detail="the signed weight files")
    for file in weights:
        resource = resources[file.file]
        if (file.sha256, file.size) != (resource.digest, resource.size):
            raise problem("E_MANIFEST", member=MANIFEST, detail=f"digest of {file.file}")
        table = read_tensor_header(starts[file.file], size=resource.size, member=file.file)
        if table != file.tensors:
            raise problem("E_TENSOR_SHAPE", member=file.file, detail="not as in the manifest")
    return _check_totals(manifest)


def _check_totals(manifest: Manifest) -> int:
    """Hold the tables of all weight files together against the rest of the manifest."""
    tensors = [info for file in manifest.model.weights for info in file.tensors.values()]
    if manifest.model.n_parameters != sum(math.prod(info.shape) for info in tensors):
        raise problem("E_TENSOR_SHAPE", member=MANIFEST, detail="n_parameters")
    trainable_file(manifest)
    return len(tensors)


def trainable_file(manifest: Manifest) -> WeightFile | None:
    """Return the one weight file that holds all trainable tensors (B-18).

    Names are unique within a file only, so a list of names would not say what an
    adapter may replace, were they not all in one file and in no other.

    Returns:
        The file, or ``None`` where nothing is trainable.

    Raises:
        TensorError: E_TENSOR_SHAPE, none or several files hold them all.
    """
    names = set(manifest.model.trainable)
    holders = [file for file in manifest.model.weights if names <= file.tensors.keys()]
    if not names:
        return None
    if len(holders) != 1:
        raise problem("E_TENSOR_SHAPE", member=MANIFEST, detail="trainable tensors are not those of exactly one file")
    return holders[0]
