"""What a client is told of a bundle before it is used for the first time (P-84)."""

from modify_fl.console import Console
from protocol.trust import TrustStore
from protocol.verified import Verification

__all__ = ["introduce", "used_before"]


def used_before(trust: TrustStore) -> frozenset[str]:
    """Return the payload digests of the bundles that were used on this machine; ask before one is loaded."""
    return frozenset(seen.payload_sha256 for provider in trust.providers() for seen in trust.last_seen(provider))


def introduce(console: Console, bundle: Verification, used: frozenset[str]) -> None:
    """Say what protects the style images and what does not, once for each bundle.

    Args:
        console: Shows it, beside the results.
        bundle: Verified; nothing of it was used yet.
        used: What ``used_before`` said.
    """
    if bundle.payload_digest not in used:
        console.note(f"first use of {bundle.manifest.bundle.name}: {bundle.manifest.privacy.statement}")
