"""The only door from bytes to a ``VerifiedBundle`` (B-25, steps 1 to 12).

Rules kept here: the caller names whom to trust and what time it is, nothing has a
default; the file is opened once and everything is read from that descriptor, so
a file replaced meanwhile cannot matter; the signature is checked before what it
covers is parsed; whatever is handed out was hashed on the way; the first rule
that is broken ends it. Steps 13 and 14 follow when a model is loaded.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from protocol.container import SIGNATURE, Member
from protocol.encryption import Identity
from protocol.errors import PolicyError
from protocol.manifest import Manifest, Usage
from protocol.policy import fingerprint_of
from protocol.rules import DEFAULT_SIZE_LIMIT, RULES, Case
from protocol.statement import Resource
from protocol.steps import parse_manifest, read_signature
from protocol.storage import storage_errors
from protocol.trust import PinnedKey, TrustStore
from protocol.verified import Step, Verification, VerifiedBundle, check_base

__all__ = [
    "DEFAULT_SIZE_LIMIT",
    "Inspection",
    "Step",
    "Terms",
    "Verification",
    "VerifiedBundle",
    "check_base",
    "inspect_bundle",
    "open_bundle",
    "read_terms",
    "verify_bundle",
]


def verify_bundle(
    path: Path,
    *,
    trust: TrustStore,
    now: datetime,
    identity: Identity | None = None,
    size_limit: int = DEFAULT_SIZE_LIMIT,
) -> Verification:
    """Verify a bundle without copying it: steps 1 to 12 of B-25, in order.

    Memory does not grow with the size of the bundle.

    Args:
        path: A ``.mdfy`` or ``.mdfa`` file; the signed kind decides, not the suffix.
        trust: The keys that are accepted; its last-seen sequences are read, not advanced.
        now: The time to check validity against, with time zone.
        identity: The user's own age identity: opens an encrypted bundle, and
            proves to be among a signed audience.
        size_limit: Most bytes to accept.

    Raises:
        ProtocolError: a rule was broken; ``code`` says which, ``step`` where.
        ValueError: ``now`` has no time zone.
    """
    case = Case(path=path, trust=trust, now=now, identity=identity, size_limit=size_limit)
    return Verification(**_verified(case))


def open_bundle(
    path: Path,
    *,
    trust: TrustStore,
    now: datetime,
    identity: Identity | None = None,
    size_limit: int = DEFAULT_SIZE_LIMIT,
) -> VerifiedBundle:
    """Verify a bundle and keep its contents: as ``verify_bundle``, but each member is kept as it is hashed.

    Takes as much memory as the bundle is long, until the result is closed.

    Args:
        path: As for ``verify_bundle``, and so are the others.
        trust: The keys that are accepted; ``record_use`` advances its sequences.
        now: The time to check validity against, with time zone.
        identity: The user's own age identity.
        size_limit: Most bytes to accept.

    Raises:
        ProtocolError: a rule was broken; ``code`` says which, ``step`` where.
        ValueError: ``now`` has no time zone.
    """
    case = Case(path=path, trust=trust, now=now, identity=identity, size_limit=size_limit, keep=True)
    facts = _verified(case)
    return VerifiedBundle(**facts, _copies=case.copies, _trust=trust)


class _Facts(TypedDict):
    manifest: Manifest
    payload_digest: str
    signer: PinnedKey
    members: dict[str, Resource]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]


def _verified(case: Case) -> _Facts:
    """Apply every rule; the first that is broken ends it."""
    with case.stack:
        passed = tuple(Step(number=rule.number, name=rule.name, result=rule.run(case)) for rule in RULES)
    return _Facts(
        manifest=case.manifest,
        payload_digest=case.record.payload_digest,
        signer=case.signer,
        members=dict(case.resources),
        steps=passed,
        warnings=case.trust.warnings(case.now),
    )


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the provider of a bundle allows, as signed, before or after the user agreed to it."""

    usage: Usage
    payload_digest: str
    """The bundle that these terms belong to; an agreement is recorded for it alone."""


def read_terms(
    path: Path,
    *,
    trust: TrustStore,
    now: datetime,
    identity: Identity | None = None,
    size_limit: int = DEFAULT_SIZE_LIMIT,
) -> Terms:
    """Verify a bundle as ``verify_bundle`` does, but for the rule that its terms were agreed to.

    Terms and digest come from one reading of the file, so what is shown is what
    the agreement is recorded for, whatever takes the file's name meanwhile.

    Args:
        path: As for ``verify_bundle``, and so are the others.
        trust: The keys that are accepted.
        now: The time to check validity against, with time zone.
        identity: The user's own age identity.
        size_limit: Most bytes to accept.

    Raises:
        ProtocolError: another rule was broken; ``code`` says which, ``step`` where.
        ValueError: ``now`` has no time zone.
    """
    case = Case(path=path, trust=trust, now=now, identity=identity, size_limit=size_limit)
    with case.stack:
        for rule in RULES:
            try:
                rule.run(case)
            except PolicyError as error:
                if error.code != "E_USAGE":
                    raise
    return Terms(usage=case.manifest.usage, payload_digest=case.record.payload_digest)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a file says about itself. Nothing of it is verified (B-44)."""

    manifest: Manifest
    members: tuple[Member, ...]
    payload_digest: str | None
    """Identity that the bundle would have; ``None`` where the signature is missing."""
    claimed_fingerprint: str
    """Fingerprint of the provider's first key, as the file says."""
    encrypted: bool
    """Whether the file is encrypted, so that it could only be read with an identity."""


def inspect_bundle(path: Path, *, identity: Identity | None = None, size_limit: int = DEFAULT_SIZE_LIMIT) -> Inspection:
    """Read what a file says about itself, without trusting anyone.

    Args:
        path: A ``.mdfy`` or ``.mdfa`` file, signed or not.
        identity: Opens an encrypted file.
        size_limit: Most bytes to accept.

    Raises:
        ProtocolError: not in canonical form, encrypted to somebody else, or the
            manifest or the signature record is malformed.
    """
    # Time and trust are not asked for by the rules up to step 4.
    case = Case(path=path, trust=TrustStore.of(), now=datetime.now(UTC), identity=identity, size_limit=size_limit)
    with case.stack:
        for rule in RULES:
            if rule.number <= 4:
                rule.run(case)
        with storage_errors(path):
            manifest = parse_manifest(case.plain, case.members)
            signed = SIGNATURE in case.members
            digest = read_signature(case.plain, case.members).payload_digest if signed else None
    return Inspection(
        manifest=manifest,
        members=tuple(case.members.values()),
        payload_digest=digest,
        claimed_fingerprint=fingerprint_of(manifest.provider.id),
        encrypted=case.encrypted,
    )
