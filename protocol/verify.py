"""The only door from bytes to a ``VerifiedBundle`` (B-25, steps 1 to 12).

Rules kept here: the caller names whom to trust and what time it is, nothing has a
default; the file is opened once and everything is read from that descriptor, so
a file replaced meanwhile cannot matter; the signature is checked before what it
covers is parsed; whatever is handed out was hashed on the way; the first rule
that is broken ends it. Steps 13 and 14 need torch and belong to ``modify_fl``.

Not built yet: step 3 (decryption), and of step 10 what needs stored state; the
place is marked in ``steps.check_policy``.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from protocol.container import SIGNATURE, Member, read_exactly
from protocol.errors import ProtocolError, problem
from protocol.manifest import Kind, Manifest
from protocol.statement import Resource, Statement
from protocol.steps import (
    check_policy,
    check_size,
    check_start,
    check_weights,
    claimed_fingerprint,
    compare_digest,
    find_signer,
    fingerprint_of,
    hash_member,
    match_members,
    parse_manifest,
    read_manifest,
    read_members,
    read_signature,
    trainable_file,
)
from protocol.storage import open_regular, storage_errors
from protocol.trust import PinnedKey, TrustStore

__all__ = [
    "DEFAULT_SIZE_LIMIT",
    "STEPS",
    "Inspection",
    "Step",
    "VerifiedBundle",
    "check_base",
    "inspect_bundle",
    "open_bundle",
]

DEFAULT_SIZE_LIMIT = 2 << 30
"""Bytes of the largest bundle that is opened without asking for more (B-3)."""

STEPS: dict[int, str] = {
    1: "regular file within the size limit",
    2: "first bytes of a bundle",
    3: "decryption",
    4: "canonical container",
    5: "signature record",
    6: "signer pinned for this",
    7: "signature",
    8: "signed statement covers exactly the members",
    9: "manifest",
    10: "policy",
    11: "contents of every member",
    12: "tensor tables",
}
"""What each step of B-25 checks."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One passed step."""

    number: int
    name: str
    result: str
    """What was found, one phrase."""


class _Steps:
    """Runs steps in order, names the one that fails, remembers those that passed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.passed: list[Step] = []

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[list[str]]:
        """Run one step; the block appends what it found to the yielded list."""
        found: list[str] = []
        try:
            with storage_errors(self._path):
                yield found
        except ProtocolError as error:
            error.step = number
            raise
        result = "; ".join(found) or "ok"
        self.passed.append(Step(number=number, name=STEPS[number], result=result))


# --- the two doors --------------------------------------------------------------------------


def open_bundle(
    path: Path, *, trust: TrustStore, now: datetime, size_limit: int = DEFAULT_SIZE_LIMIT
) -> "VerifiedBundle":
    """Verify a bundle: steps 1 to 12 of B-25, in order.

    Memory does not grow with the size of the bundle. Close the result, or use
    it as a context manager: it keeps the file open.

    Args:
        path: A ``.mdfy`` or ``.mdfa`` file; the signed kind decides, not the suffix.
        trust: The keys that are accepted.
        now: The time to check validity against, with time zone.
        size_limit: Most bytes to accept.

    Returns:
        The bundle; its contents are what the pinned key signed.

    Raises:
        ProtocolError: a step failed; ``code`` says what, ``step`` which one.
        ValueError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        message = "now needs a time zone"
        raise ValueError(message)
    steps = _Steps(path)
    with contextlib.ExitStack() as stack:
        with steps.step(1) as found:
            stream = stack.enter_context(open_regular(path))
            found.append(f"{check_size(stream, size_limit)} bytes")
        bundle = _verify(stream, steps, trust, now)
        stack.pop_all()  # from here on the bundle owns the stream
        return bundle


def _verify(stream: BinaryIO, steps: _Steps, trust: TrustStore, now: datetime) -> "VerifiedBundle":
    """Run steps 2 to 12."""
    with steps.step(2):
        check_start(stream)
    with steps.step(3) as found:
        found.append("not encrypted")
    with steps.step(4) as found:
        members = read_members(stream)
        found.append(f"{len(members)} members")
    with steps.step(5):
        record = read_signature(stream, members)
    with steps.step(6) as found:
        signer = find_signer(record, trust, now, lambda: claimed_fingerprint(stream, members))
        found.append(f"{signer.label}, {signer.fingerprint}")
    with steps.step(7):
        payload = record.envelope.verify(signer.public_key)
    with steps.step(8) as found:
        statement = Statement.from_bytes(payload)
        resources = match_members(statement, members)
        found.append(statement.kind)
    with steps.step(9):
        manifest = read_manifest(stream, members, statement)
    with steps.step(10):
        check_policy(manifest, statement, signer, now)
    with steps.step(11) as found:
        starts = {name: hash_member(stream, members[name], resource) for name, resource in resources.items()}
        found.append(f"{sum(resource.size for resource in statement.resources)} bytes hashed")
    with steps.step(12) as found:
        found.append(f"{check_weights(manifest, resources, starts)} tensors")
    return VerifiedBundle(
        manifest=manifest,
        payload_digest=record.payload_digest,
        signer=signer,
        members=resources,
        steps=tuple(steps.passed),
        _stream=stream,
        _where=members,
    )


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a file says about itself. Nothing of it is verified (B-44)."""

    manifest: Manifest
    members: tuple[Member, ...]
    payload_digest: str | None
    """Identity that the bundle would have; ``None`` where the signature is missing."""
    claimed_fingerprint: str
    """Fingerprint of the provider's first key, as the file says."""


def inspect_bundle(path: Path, *, size_limit: int = DEFAULT_SIZE_LIMIT) -> Inspection:
    """Read what a file says about itself, without trusting anyone.

    Args:
        path: A ``.mdfy`` or ``.mdfa`` file, signed or not.
        size_limit: Most bytes to accept.

    Raises:
        ProtocolError: not in canonical form, or the manifest or the signature
            record is malformed.
    """
    with open_regular(path) as stream, storage_errors(path):
        check_size(stream, size_limit)
        check_start(stream)
        members = read_members(stream)
        manifest = parse_manifest(stream, members)
        signed = SIGNATURE in members
        digest = read_signature(stream, members).payload_digest if signed else None
    return Inspection(
        manifest=manifest,
        members=tuple(members.values()),
        payload_digest=digest,
        claimed_fingerprint=fingerprint_of(manifest),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifiedBundle:
    """A bundle that passed steps 1 to 12; made by ``open_bundle`` only.

    A context manager that closes the file.
    """

    manifest: Manifest
    payload_digest: str
    """Hex SHA-256 of what was signed: the identity of the bundle (B-13)."""
    signer: PinnedKey
    members: Mapping[str, Resource]
    """Signed members by name, ``model.sig`` not among them."""
    steps: tuple[Step, ...]
    """What was checked, in order."""
    _stream: BinaryIO = field(repr=False)
    _where: Mapping[str, Member] = field(repr=False)

    @property
    def kind(self) -> Kind:
        """Kind of the bundle, as signed."""
        return self.manifest.kind

    def read(self, name: str) -> bytes:
        """Read one member and check it again: what is returned is what was signed.

        Raises:
            DigestMismatchError: E_DIGEST, the file was changed after it was verified.
            VerificationError: E_MISSING_MEMBER, there is no such member.
            StorageError: E_IO, the file cannot be read.
            ValueError: the bundle is closed.
        """
        if name not in self.members:
            raise problem("E_MISSING_MEMBER", member=name)
        where = self._where[name]
        with storage_errors(Path(name)):
            data = read_exactly(self._stream, where.offset, where.size)
        compare_digest(hashlib.sha256(data).hexdigest(), self.members[name])
        return data

    def close(self) -> None:
        """Close the file; ``read`` is over then."""
        self._stream.close()

    def __enter__(self) -> Self:
        """Return the bundle itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def check_base(adapter: VerifiedBundle, base: VerifiedBundle) -> None:
    """Refuse an adapter that was not made for ``base``, or touches more than it may (B-18).

    Args:
        adapter: A verified encoder adapter.
        base: A verified style bundle.

    Raises:
        PolicyError: E_BASE, another bundle, or a tensor that is not trainable
            there with the same type and shape.
    """
    wanted = adapter.manifest.base
    if wanted is None or base.kind != "style-bundle":
        raise problem("E_BASE", detail=f"{adapter.kind} on {base.kind}")
    if (wanted.payload_sha256, wanted.bundle_id, wanted.sequence) != (
        base.payload_digest,
        base.manifest.bundle.id,
        base.manifest.bundle.sequence,
    ):
        raise problem(
            "E_BASE",
            detail="the adapter was made for another bundle",
            expected=wanted.payload_sha256,
            got=base.payload_digest,
        )
    file = trainable_file(base.manifest)
    allowed = {name: file.tensors[name] for name in base.manifest.model.trainable} if file else {}
    for changed in adapter.manifest.model.weights:
        if file is None or changed.file != file.file:
            raise problem("E_BASE", detail=f"{changed.file} is frozen there")
        for name, info in changed.tensors.items():
            if allowed.get(name) != info:
                raise problem("E_BASE", detail=f"tensor {name} is not trainable there in this form")
