"""Whom to believe, and whether a genuine bundle may be used: the questions of steps 6 and 10 (B-25).

Rules kept here: state, role and expiry of a key come from the trust store, never
from the bundle; a claim that nobody can prove is refused. What is stored about
keys and earlier releases (B-38 to B-42) is the trust store's to compare.
"""

import base64
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from protocol.encryption import Identity
from protocol.errors import ProtocolError, problem
from protocol.manifest import Kind, Manifest, Usage
from protocol.provider import Role
from protocol.schema import format_time
from protocol.statement import SignatureRecord, Statement
from protocol.trust import PinnedKey, TrustStore

__all__ = [
    "ROLE_OF_KIND",
    "check_acknowledged",
    "check_audience",
    "check_key",
    "check_provider",
    "check_validity",
    "find_signer",
    "fingerprint_of",
]

ROLE_OF_KIND: dict[Kind, Role] = {"encoder-adapter": "adapter", "style-bundle": "style"}
"""Role that a key needs to sign a kind of bundle (B-37)."""


def fingerprint_of(provider_id: str) -> str:
    """A provider's id and the fingerprint of its first key are one digest (B-35, B-36)."""
    digest = base64.b64encode(bytes.fromhex(provider_id)).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def find_signer(record: SignatureRecord, trust: TrustStore, claim: Callable[[], str | None]) -> PinnedKey:
    """Step 6, first half: the key comes from the trust store, never from the bundle.

    Args:
        record: Names the key by its hint.
        trust: The keys that are accepted.
        claim: Returns the provider that the bundle names, unverified; asked
            only for the message.
    """
    signer = trust.find(record.hint)
    if signer is None:
        raise _untrusted(trust.list(), claim())
    return signer


def _untrusted(pins: Sequence[PinnedKey], provider_id: str | None) -> ProtocolError:
    if provider_id is None:
        return problem(
            "E_UNTRUSTED",
            why=f"it does not say whom it comes from; the trust store holds {len(pins)} provider keys",
            fix="ask who gave you the file",
        )
    claimed = fingerprint_of(provider_id)
    known = [pin.label for pin in pins if pin.provider_id == provider_id]
    if known:
        return problem(
            "E_UNTRUSTED",
            why=f"it says it comes from {known[0]}, but not by a key of theirs that you have accepted",
            fix="ask the provider for its newest key file, then run content-client trust update FILE.mdfykey",
            got=claimed,
        )
    return problem(
        "E_UNTRUSTED",
        why=f"it says it comes from the provider whose first key is {claimed}, "
        f"by that key or a later one; the trust store holds {len(pins)} provider keys",
        fix="ask the provider for its key file, and for the fingerprint by another channel; if it is this one, run "
        f"content-client trust add FILE.mdfykey --fingerprint {claimed}",
        got=claimed,
    )


def check_key(signer: PinnedKey, now: datetime) -> None:
    """Step 6, second half: dispute (B-38), revocation whatever the date (B-41), expiry."""
    if signer.disputed:
        raise problem(
            "E_KEY_FORK",
            why=f"two different keys of {signer.label} have one serial number",
            fix="ask the provider by another channel; then run "
            f"content-client trust remove {shlex.quote(signer.label)} and pin the right key again",
        )
    if signer.revoked is not None:
        raise problem("E_KEY_REVOKED", why=f"the provider says: {signer.revoked}", got=signer.fingerprint)
    _check_window(now, signer.key.not_before, signer.key.expires, "E_KEY_EXPIRED")


def _check_window(now: datetime, start: datetime, end: datetime, expired: str) -> None:
    detail = f"from {format_time(start)} to {format_time(end)}"
    shown = format_time(now.replace(microsecond=0))
    if now < start:
        raise problem("E_NOT_YET_VALID", detail=detail, expected=detail, got=shown)
    if now > end:
        raise problem(expired, detail=detail, expected=detail, got=shown)


def check_provider(manifest: Manifest, statement: Statement, signer: PinnedKey) -> None:
    """Step 10: the bundle names the signer's provider, and the key may sign its kind (B-37)."""
    if manifest.provider.id != signer.provider_id:
        raise problem("E_PROVIDER_MISMATCH", got=manifest.provider.id, expected=signer.provider_id)
    role = ROLE_OF_KIND[statement.kind]
    if role not in signer.roles:
        raise problem("E_KEY_ROLE", expected=role, got=", ".join(signer.roles))


def check_validity(manifest: Manifest, now: datetime) -> None:
    """Step 10: the bundle has begun and has not expired."""
    _check_window(now, manifest.bundle.not_before, manifest.bundle.expires, "E_EXPIRED")


def check_audience(usage: Usage, identity: Identity | None) -> str:
    """Step 10: a signed audience closes forwarding (B-27); returns to whom the bundle is addressed."""
    if usage.audience is None:
        return "anyone"
    if identity is None:
        raise problem(
            "E_AUDIENCE",
            why="it is addressed to certain recipients, and there is no identity to compare with them",
            fix="make one with content-client trust identity and send its age1... line to the provider",
        )
    if identity.recipient not in usage.audience:
        raise problem(
            "E_AUDIENCE",
            why="it is addressed to other recipients",
            fix="send your age1... line to the provider",
            got=identity.recipient,
        )
    return f"you, one of {len(usage.audience)}"


def check_acknowledged(usage: Usage, digest: str, trust: TrustStore, path: Path) -> str:
    """Step 10: terms that ask for it were agreed to, for this very bundle."""
    if not usage.requires_acknowledgement:
        return "need no agreement"
    if not trust.is_acknowledged(digest):
        raise problem(
            "E_USAGE",
            why="the provider asks you to agree to its terms first",
            fix=f"content-client verify {shlex.quote(str(path))} --accept-terms",
        )
    return "agreed to"
