"""What ``content-client trust`` prints of one provider: keys, revocations, and releases seen (B-39 to B-42)."""

from collections.abc import Mapping
from datetime import UTC, datetime

from modify_fl.console import Console
from protocol.history import Seen
from protocol.pins import PinnedKey, Provider
from protocol.revocation import Revocation
from protocol.trust import TrustStore

__all__ = ["kinds", "record_of_key", "show_provider"]


def kinds(pin: PinnedKey | Provider) -> str:
    """Return in words what a provider is accepted for."""
    names = {"style": "styles", "adapter": "own adapters"}
    return " and ".join(names[role] for role in pin.roles)


def record_of_key(pin: PinnedKey) -> dict[str, object]:
    """Return a key as it stands in ``--json``."""
    key, retired = pin.key, pin.retired_from
    return {
        "serial": key.serial, "fingerprint": pin.fingerprint, "not_before": key.not_before.isoformat(),
        "expires": key.expires.isoformat(), "state": _state(pin), "revoked": pin.revoked,
        "retired_from": retired.isoformat() if retired else None,
    }  # fmt: skip


def _state(pin: PinnedKey) -> str:
    """Return the one word that matters most."""
    if pin.disputed:
        return "disputed"
    if pin.revoked is not None:
        return "revoked"
    if pin.key.expires < datetime.now(UTC):
        return "expired"
    return "retired" if pin.retired_from else "current"


def show_provider(console: Console, store: TrustStore, provider: Provider) -> Mapping[str, object]:
    """Print all that is known of a provider, and return it for ``--json``."""
    pins = [pin for pin in store.list() if pin.provider_id == provider.provider_id]
    revocations, seen = store.revocations(provider), store.last_seen(provider)
    console.say(f"{provider.label}, accepted for {kinds(provider)}")
    console.say(f"provider id  {provider.provider_id}")
    if provider.disputed:
        console.say("DISPUTED: two genuine keys have one serial; nothing of this provider is accepted")
    for pin in pins:
        console.say(f"key {pin.key.serial}  {pin.fingerprint}")
        console.say(f"  {pin.key.not_before:%Y-%m-%d} to {pin.key.expires:%Y-%m-%d}, {_state_in_words(pin)}")
    for revocation in revocations:
        _show_revocation(console, revocation)
    for item in seen:
        console.say(f"seen  bundle {item.bundle_id}  sequence {item.sequence}  {item.payload_sha256}")
    return {
        "label": provider.label, "roles": list(provider.roles), "provider_id": provider.provider_id,
        "disputed": provider.disputed, "keys": [record_of_key(pin) for pin in pins],
        "revocations": [_record_of_revocation(item) for item in revocations],
        "seen": [_record_of_seen(item) for item in seen],
    }  # fmt: skip


def _state_in_words(pin: PinnedKey) -> str:
    state = _state(pin)
    if state == "revoked":
        return f"revoked: {pin.revoked}"
    return f"retired since {pin.retired_from:%Y-%m-%d}" if state == "retired" else state


def _show_revocation(console: Console, revocation: Revocation) -> None:
    name = f"revocation list {revocation.number}" if revocation.number else "revocation of a key by itself"
    due = f", the next one by {revocation.next_update:%Y-%m-%d}" if revocation.next_update else ""
    console.say(f"{name}, issued {revocation.issued:%Y-%m-%d}{due}")
    for fingerprint, reason in revocation.keys.items():
        console.say(f"  key {fingerprint}: {reason}")
    for digest, reason in revocation.bundles.items():
        console.say(f"  bundle {digest}: {reason}")
    for bundle, floor in revocation.min_sequence.items():
        console.say(f"  bundle {bundle}: from sequence {floor} on only")


def _record_of_revocation(revocation: Revocation) -> dict[str, object]:
    due = revocation.next_update
    return {
        "number": revocation.number, "issued": revocation.issued.isoformat(),
        "next_update": due.isoformat() if due else None, "keys": dict(revocation.keys),
        "bundles": dict(revocation.bundles), "min_sequence": dict(revocation.min_sequence),
    }  # fmt: skip


def _record_of_seen(seen: Seen) -> dict[str, object]:
    return {"bundle_id": seen.bundle_id, "sequence": seen.sequence, "payload_sha256": seen.payload_sha256}
