"""What the verification steps of B-25 ask, one function a question; ``rules`` puts them in order.

Rules kept here: archive headers equal what was signed (B-12); the manifest, the
statement and the weights say the same (B-17); bytes that are parsed are the bytes
that were hashed; memory does not grow with the size of the file unless contents
are asked for. Whether the signer is accepted is asked in ``policy``.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from typing import BinaryIO

from protocol.canonical import MAX_JSON
from protocol.container import MAGIC, MAX_SIZE, SIGNATURE, WEIGHTS, Member, read_directory, read_exactly
from protocol.encryption import Identity, decrypt_stream, is_age
from protocol.errors import ProtocolError, problem
from protocol.manifest import MANIFEST, Manifest, WeightFile
from protocol.statement import Resource, SignatureRecord, Statement
from protocol.tensors import HEADER_LENGTH, MAX_HEADER, read_tensor_header

__all__ = [
    "check_size",
    "check_start",
    "check_weights",
    "claimed_provider",
    "decrypt",
    "hash_member",
    "match_members",
    "parse_manifest",
    "read_hashed",
    "read_manifest",
    "read_members",
    "read_signature",
    "trainable_file",
]

_START = 32
_BUFFER = HEADER_LENGTH + MAX_HEADER
"""Bytes read at once: a tensor table is whole in the first piece of its file."""


def check_size(stream: BinaryIO, size_limit: int) -> int:
    """Step 1."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size > size_limit:
        raise problem("E_CONTAINER", detail=f"{size} bytes, more than the limit of {size_limit}")
    return size


def check_start(stream: BinaryIO) -> bool:
    """Step 2; tells whether the file is encrypted."""
    start = stream.read(_START)
    stream.seek(0)
    if not is_age(start) and not start.startswith(MAGIC):
        raise problem("E_FORMAT")
    return is_age(start)


def decrypt(stream: BinaryIO, plain: BinaryIO, identity: Identity | None) -> int:
    """Step 3; returns the number of bytes that are in ``plain`` now."""
    if identity is None:
        raise problem(
            "E_NOT_RECIPIENT",
            why="the file is encrypted, and there is no identity to open it with",
            fix="make one with content-client trust identity and send its age1... line to the provider",
        )
    decrypt_stream(stream, plain, identity)
    size = plain.tell()
    plain.seek(0)
    if check_start(plain):
        raise problem("E_FORMAT", why="what is encrypted is encrypted again")
    return size


def read_members(stream: BinaryIO) -> dict[str, Member]:
    """Step 4."""
    return {member.name: member for member in read_directory(stream, size_limit=MAX_SIZE)}


def _read_record(stream: BinaryIO, member: Member) -> bytes:
    """Read a member that must be short (B-22)."""
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


def claimed_provider(stream: BinaryIO, members: Mapping[str, Member]) -> str | None:
    """Return which provider an unverified bundle names, for an error message only.

    A false claim gains nothing: the user compares it by another channel, and
    step 6 asks for the key itself.
    """
    try:
        return parse_manifest(stream, members).provider.id
    except ProtocolError:
        return None


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
    _compare_digest(hashlib.sha256(data).hexdigest(), signed[MANIFEST])
    manifest = Manifest.from_bytes(data)
    if manifest.kind != statement.kind:
        raise problem("E_MANIFEST", member=MANIFEST, detail="the signed kind")
    if [entry.path for entry in manifest.files] != [item.name for item in statement.resources]:
        raise problem("E_MANIFEST", member=MANIFEST, detail="the signed members")
    return manifest


def _compare_digest(digest: str, resource: Resource) -> None:
    """Refuse contents that are not the signed ones."""
    if digest != resource.digest:
        raise problem("E_DIGEST", member=resource.name, expected=resource.digest, got=digest)


def _tensor_table(start: bytes | memoryview, name: str) -> bytes:
    """Cut the tensor table from the first bytes of a member; empty for what is no weight file."""
    if not name.endswith(WEIGHTS):
        return b""
    length = int.from_bytes(start[:HEADER_LENGTH], "little")
    return bytes(start[: HEADER_LENGTH + length])


def hash_member(stream: BinaryIO, member: Member, resource: Resource) -> bytes:
    """Step 11 for one member, without a copy; returns its tensor table as it was hashed."""
    stream.seek(member.offset)
    buffer = memoryview(bytearray(min(member.size, _BUFFER)))
    digest, table, left = hashlib.sha256(), b"", member.size
    while left:
        count = stream.readinto(buffer[:left])  # type: ignore[attr-defined]
        if not count:
            raise problem("E_TRUNCATED", member=member.name)
        digest.update(buffer[:count])
        if left == member.size:
            table = _tensor_table(buffer[:count], member.name)
        left -= count
    _compare_digest(digest.hexdigest(), resource)
    return table


def read_hashed(stream: BinaryIO, member: Member, resource: Resource) -> tuple[bytes, bytes]:
    """Step 11 for one member, read once: its contents, which are the bytes that were hashed, and its tensor table."""
    data = read_exactly(stream, member.offset, member.size)
    _compare_digest(hashlib.sha256(data).hexdigest(), resource)
    return data, _tensor_table(data[:_BUFFER], member.name)


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
