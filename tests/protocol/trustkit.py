"""A provider whose key changes, and who else holds one: keys, revocations and releases for tests of the trust store."""

from dataclasses import replace
from datetime import datetime, timedelta

from bundlekit import CREATED, EXPIRES, NOW, STUDIO, STUDIO_KEY, style_manifest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.dsse import Envelope, PrivateKey
from protocol.errors import ProtocolError
from protocol.manifest import BundleInfo
from protocol.provider import ProviderKey, rotate_provider_key
from protocol.revocation import Revocation, issue_revocation, self_revocation
from protocol.trust import PinnedKey, TrustStore

SECOND_KEY = ec.derive_private_key(0x5D12, ec.SECP256R1())
THIRD_KEY = ec.derive_private_key(0x5D13, ec.SECP256R1())
THIEF_KEY = ec.derive_private_key(0x7813F, ec.SECP256R1())
NOBODY_KEY = ec.derive_private_key(0x4041, ec.SECP256R1())

TURN = datetime(2026, 5, 1, tzinfo=NOW.tzinfo)
"""When the second key takes over."""
TURN_AGAIN = datetime(2026, 5, 20, tzinfo=NOW.tzinfo)

SECOND = rotate_provider_key(STUDIO_KEY, STUDIO, SECOND_KEY, not_before=TURN, expires=EXPIRES)
THIRD = rotate_provider_key(SECOND_KEY, SECOND, THIRD_KEY, not_before=TURN_AGAIN, expires=EXPIRES)
STOLEN = rotate_provider_key(STUDIO_KEY, STUDIO, THIEF_KEY, not_before=TURN, expires=EXPIRES)
"""A second key of serial 2, made by who holds a copy of the first key."""
STOLEN_THIRD = rotate_provider_key(SECOND_KEY, SECOND, THIEF_KEY, not_before=TURN_AGAIN, expires=EXPIRES)


def forged(key: ProviderKey, own: PrivateKey, *, by: PrivateKey = NOBODY_KEY) -> ProviderKey:
    """Return ``key`` endorsed by somebody who does not hold the key before it."""
    envelope = Envelope.signed(key.envelope.payload_type, key.envelope.payload, by, own)
    return ProviderKey.from_json(envelope.to_json(), source="forged")


FORGED = forged(STOLEN, THIEF_KEY)
FORGED_THIRD = forged(STOLEN_THIRD, THIEF_KEY)

BUNDLE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64


def digest(number: int) -> str:
    """Return the payload digest of some release."""
    return f"{number:064x}"


def release(sequence: int = 1, *, created: datetime = CREATED, bundle: str = BUNDLE) -> BundleInfo:
    """Return what a manifest says of a release."""
    return replace(style_manifest().bundle, id=bundle, sequence=sequence, created=created)


def listing(
    number: int, key: PrivateKey = STUDIO_KEY, provider: ProviderKey = STUDIO, **contents: object
) -> Revocation:
    """Return a revocation list; ``contents`` as for ``issue_revocation``."""
    arguments: dict[str, object] = {"issued": NOW, "next_update": NOW + timedelta(days=30)}
    return issue_revocation(key, provider, number=number, **(arguments | contents))  # type: ignore[arg-type]


def given_up(key: PrivateKey, provider: ProviderKey) -> Revocation:
    """Return the self-revocation of a key."""
    return self_revocation(key, provider, reason="laptop stolen", issued=NOW)


def refusal(store: TrustStore, item: ProviderKey | Revocation) -> str:
    """Update the store; return the code of the error, or an empty text where there is none."""
    try:
        store.update(item if isinstance(item, ProviderKey) else item.signed, now=NOW)
    except ProtocolError as error:
        return error.code
    return ""


def accept(store: TrustStore, *items: ProviderKey | Revocation) -> None:
    """Update the store with what it must accept."""
    for item in items:
        assert store.update(item if isinstance(item, ProviderKey) else item.signed, now=NOW).changed


def snapshot(store: TrustStore) -> object:
    """Return all that a store holds of the studio, for comparison."""
    return (
        store.providers(),
        store.list(),
        [(store.revocations(item), store.last_seen(item)) for item in store.providers()],
    )


def pin(store: TrustStore, key: ProviderKey) -> PinnedKey:
    """Return what a store knows of a key that it accepts."""
    found = store.find(key.hint)
    assert found is not None
    return found
