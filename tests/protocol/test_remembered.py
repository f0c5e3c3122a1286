"""Revocations and releases that a store remembers of a provider (B-40 to B-42).

Asked of the store as its callers do, in a folder and in memory.
"""

from datetime import timedelta

import pytest
from bundlekit import EXPIRES, NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY, provider_key
from trustkit import (
    DIGEST,
    FORGED,
    OTHER_DIGEST,
    SECOND,
    SECOND_KEY,
    STOLEN,
    THIEF_KEY,
    THIRD,
    THIRD_KEY,
    TURN,
    accept,
    digest,
    given_up,
    listing,
    pin,
    refusal,
    release,
    snapshot,
)

from protocol.canonical import MAX_INTEGER
from protocol.errors import PolicyError, RollbackError, UntrustedKeyError, VerificationError
from protocol.provider import ProviderKey, rotate_provider_key
from protocol.revocation import Revocation
from protocol.trust import TrustStore

# --- revocations (B-40, B-41) -----------------------------------------------------------------


def test_list_withdraws_keys_bundles_and_old_releases(store: TrustStore) -> None:
    accept(store, SECOND)
    contents = {
        "keys": {STUDIO.fingerprint: "stolen"},
        "bundles": {DIGEST: "wrong pictures"},
        "min_sequence": {release().id: 3},
    }
    accept(store, listing(1, SECOND_KEY, SECOND, **contents))
    assert pin(store, STUDIO).revoked == "stolen"
    assert pin(store, SECOND).revoked is None
    with pytest.raises(PolicyError, match="wrong pictures") as caught:
        store.check_release(pin(store, SECOND), release(5), DIGEST)
    assert caught.value.code == "E_BUNDLE_REVOKED"
    with pytest.raises(RollbackError) as rollback:
        store.check_release(pin(store, SECOND), release(2), OTHER_DIGEST)
    assert (rollback.value.code, rollback.value.expected) == ("E_ROLLBACK", "3")
    store.check_release(pin(store, SECOND), release(3), OTHER_DIGEST)


def test_list_of_one_provider_binds_no_other(store: TrustStore) -> None:
    store.add(OTHER)
    accept(
        store, listing(1, keys={OTHER.fingerprint: "envy"}, bundles={DIGEST: "envy"}, min_sequence={release().id: 9})
    )
    assert pin(store, OTHER).revoked is None
    store.check_release(pin(store, OTHER), release(), DIGEST)


def test_newer_list_replaces_the_older(store: TrustStore) -> None:
    accept(store, listing(1), listing(4, bundles={DIGEST: "wrong"}))
    (stored,) = store.revocations(store.provider("nord"))
    assert stored.number == 4
    assert not store.update(listing(4, bundles={DIGEST: "wrong"}).signed, now=NOW).changed


@pytest.mark.parametrize(
    "item",
    [
        listing(3, bundles={DIGEST: "wrong"}),
        listing(4, bundles={DIGEST: "wrong", OTHER_DIGEST: "wrong"}),
        listing(5),
        listing(5, bundles={OTHER_DIGEST: "wrong"}),
    ],
    ids=["lower number", "same number", "empty", "leaves one out"],
)
def test_nothing_is_taken_back(store: TrustStore, item: Revocation) -> None:
    accept(store, listing(4, bundles={DIGEST: "wrong"}))
    before = snapshot(store)
    assert refusal(store, item) == "E_REVOCATION_ROLLBACK"
    assert snapshot(store) == before


def test_only_the_newest_key_signs_lists(store: TrustStore) -> None:
    first = listing(1, bundles={DIGEST: "wrong"})
    accept(store, first, SECOND)
    assert not store.update(first.signed, now=NOW).changed  # known from before
    assert refusal(store, listing(2, bundles={DIGEST: "wrong"})) == "E_KEY_RETIRED"
    assert refusal(store, listing(2, SECOND_KEY, SECOND)) == "E_REVOCATION_ROLLBACK"  # the old list still counts
    accept(store, listing(2, SECOND_KEY, SECOND, bundles={DIGEST: "wrong"}))


def test_revoked_key_signs_no_list(store: TrustStore) -> None:
    accept(store, given_up(STUDIO_KEY, STUDIO))
    assert refusal(store, listing(1)) == "E_KEY_REVOKED"


def test_list_by_somebody_else_is_refused(store: TrustStore) -> None:
    accept(store, SECOND)
    with pytest.raises(VerificationError) as caught:
        store.update(listing(1, THIRD_KEY, THIRD).signed, now=NOW)  # its key is not known yet
    assert caught.value.code == "E_SIG_BAD"
    assert refusal(store, listing(1, OTHER_KEY, OTHER)) == "E_UNTRUSTED"


def test_overdue_list_is_taken_and_said_to_be(store: TrustStore) -> None:
    late = NOW + timedelta(days=31)
    assert store.update(listing(1).signed, now=late).what == "revocation list 1 accepted, though a newer one is due"
    (warning,) = store.warnings(late)
    assert "nord" in warning
    assert "2026-07-01T00:00:00Z" in warning
    assert warning.endswith("(W_REVOCATION_STALE)")
    assert store.warnings(NOW + timedelta(days=30)) == ()


def test_list_without_a_date_is_never_overdue(store: TrustStore) -> None:
    accept(store, listing(1, next_update=None))
    assert store.warnings(EXPIRES) == ()


def test_key_revokes_itself_for_good(store: TrustStore) -> None:
    done = store.update(given_up(STUDIO_KEY, STUDIO).signed, now=NOW)
    assert done.what == "revocation of key 1 by itself accepted"
    assert not store.update(given_up(STUDIO_KEY, STUDIO).signed, now=NOW).changed
    assert pin(store, STUDIO).revoked == "laptop stolen"
    assert refusal(store, SECOND) == "E_KEY_REVOKED"  # whom it endorses counts no more
    store.remove("nord")
    with pytest.raises(PolicyError, match="revoked") as caught:
        store.add(STUDIO)
    assert caught.value.code == "E_KEY_REVOKED"
    store.add(SECOND)  # the user may, by its own fingerprint
    assert pin(store, SECOND).revoked is None


def test_retired_key_may_still_revoke_itself(store: TrustStore) -> None:
    accept(store, SECOND, given_up(STUDIO_KEY, STUDIO))
    assert pin(store, STUDIO).revoked == "laptop stolen"
    assert pin(store, SECOND).revoked is None
    accept(store, THIRD)


def test_key_that_is_revoked_before_it_is_known_is_refused(store: TrustStore) -> None:
    accept(store, listing(1, keys={SECOND.fingerprint: "lost"}))
    assert refusal(store, SECOND) == "E_KEY_REVOKED"


def test_self_revocation_counts_when_an_earlier_key_is_pinned_anew(store: TrustStore) -> None:
    accept(store, SECOND, given_up(SECOND_KEY, SECOND))
    store.remove("nord")
    store.add(STUDIO)
    assert refusal(store, SECOND) == "E_KEY_REVOKED"


def test_removing_and_pinning_takes_no_revocation_back(store: TrustStore) -> None:
    accept(store, listing(2, bundles={DIGEST: "wrong"}, min_sequence={release().id: 2}))
    store.remove("nord")
    for key in (STUDIO, SECOND):  # the same key, and one that follows it
        store.add(key, label="again")
        with pytest.raises(PolicyError):
            store.check_release(pin(store, key), release(5), DIGEST)
        with pytest.raises(RollbackError):
            store.check_release(pin(store, key), release(1), OTHER_DIGEST)
        store.remove("again")


def test_pinning_the_key_before_takes_no_revocation_back(store: TrustStore) -> None:
    accept(store, SECOND, listing(1, SECOND_KEY, SECOND, bundles={DIGEST: "wrong"}, min_sequence={release().id: 5}))
    store.remove("nord")
    store.add(STUDIO)
    with pytest.raises(PolicyError, match="wrong"):
        store.check_release(pin(store, STUDIO), release(9), DIGEST)
    with pytest.raises(RollbackError):
        store.check_release(pin(store, STUDIO), release(4), OTHER_DIGEST)


def test_stolen_key_is_not_pinned_again(store: TrustStore) -> None:
    accept(store, SECOND, THIRD, listing(1, THIRD_KEY, THIRD, keys={STUDIO.fingerprint: "stolen"}))
    store.remove("nord")
    renewed = provider_key(STUDIO_KEY, roles=("style",), expires=EXPIRES + timedelta(days=365))
    for key in (STUDIO, renewed):  # the thief can make as many records of it as he likes
        with pytest.raises(PolicyError) as caught:
            store.add(key)
        assert (caught.value.code, caught.value.why) == ("E_KEY_REVOKED", "the provider says: stolen")
    assert store.list() == ()
    store.add(THIRD)


def test_key_that_revoked_itself_is_refused_under_another_identity(store: TrustStore) -> None:
    accept(store, SECOND, given_up(SECOND_KEY, SECOND))
    other = rotate_provider_key(OTHER_KEY, OTHER, SECOND_KEY, not_before=TURN, expires=EXPIRES)
    store.add(OTHER, label="other")
    assert refusal(store, other) == "E_KEY_REVOKED"
    store.remove("other")
    store.remove("nord")
    with pytest.raises(PolicyError) as caught:
        store.add(other)
    assert caught.value.code == "E_KEY_REVOKED"


def test_list_of_the_other_branch_does_not_bind(store: TrustStore) -> None:
    # The thief's key was believed first, and revoked all it could; then the user pins the right one.
    accept(store, SECOND, listing(9, SECOND_KEY, SECOND, keys={STOLEN.fingerprint: "lie"}))
    refusal(store, STOLEN)
    store.remove("nord")
    store.add(STOLEN)
    assert pin(store, STOLEN).revoked is None
    assert store.revocations(store.provider("Studio")) == ()


# --- releases (B-42) --------------------------------------------------------------------------


def test_last_seen_release_is_a_floor(store: TrustStore) -> None:
    signer = pin(store, STUDIO)
    store.advance(signer, release(2), DIGEST)
    store.advance(signer, release(2), DIGEST)  # the same one, as often as you like
    with pytest.raises(RollbackError) as older:
        store.advance(signer, release(1), OTHER_DIGEST)
    assert (older.value.code, older.value.expected, older.value.got) == ("E_ROLLBACK", "2", "1")
    with pytest.raises(RollbackError) as other:
        store.check_release(signer, release(2), OTHER_DIGEST)
    assert other.value.code == "E_EQUIVOCATION"
    store.advance(signer, release(3), OTHER_DIGEST)
    (seen,) = store.last_seen(store.provider("nord"))
    assert (seen.bundle_id, seen.sequence, seen.payload_sha256) == (release().id, 3, OTHER_DIGEST)


def test_floor_is_of_one_bundle_and_one_provider(store: TrustStore) -> None:
    store.add(OTHER)
    store.advance(pin(store, STUDIO), release(5), DIGEST)
    other_bundle = release(1, bundle="00000000-0000-0000-0000-000000000000")
    store.advance(pin(store, STUDIO), other_bundle, OTHER_DIGEST)
    store.advance(pin(store, OTHER), release(1), OTHER_DIGEST)
    assert len(store.last_seen(store.provider("nord"))) == 2


def test_floor_holds_over_rotation_and_removal(store: TrustStore) -> None:
    store.advance(pin(store, STUDIO), release(5), DIGEST)
    accept(store, SECOND)
    with pytest.raises(RollbackError):
        store.check_release(pin(store, SECOND), release(4), OTHER_DIGEST)
    store.remove("nord")
    store.add(SECOND)
    with pytest.raises(RollbackError):
        store.check_release(pin(store, SECOND), release(4), OTHER_DIGEST)


def test_floor_holds_when_the_key_before_is_pinned(store: TrustStore) -> None:
    accept(store, SECOND)
    store.advance(pin(store, SECOND), release(5), DIGEST)
    store.remove("nord")
    store.add(STUDIO)
    with pytest.raises(RollbackError):
        store.check_release(pin(store, STUDIO), release(4), OTHER_DIGEST)


@pytest.mark.parametrize("key", [STUDIO, SECOND])
def test_who_only_says_that_he_continues_a_provider_leaves_it_nothing(store: TrustStore, key: ProviderKey) -> None:
    # Everybody may put the id of a provider into the file of a key with serial 2, and a bundle id is public too.
    accept(store, *([SECOND] if key is SECOND else []))
    store.advance(pin(store, key), release(2), DIGEST)
    store.remove("nord")
    store.add(FORGED, label="somebody")
    assert store.last_seen(store.provider("somebody")) == ()
    store.advance(pin(store, FORGED), release(MAX_INTEGER), OTHER_DIGEST)
    accept(store, listing(9, THIEF_KEY, STOLEN, min_sequence={release().id: MAX_INTEGER}))
    with pytest.raises(UntrustedKeyError, match="not endorsed") as caught:
        store.add(key)
    assert "content-client trust remove somebody" in caught.value.fix
    store.remove("somebody")
    store.add(key)
    assert store.revocations(store.provider("Studio")) == ()
    store.check_release(pin(store, key), release(3), digest(3))
    with pytest.raises(RollbackError):  # nor has he made it forget anything
        store.check_release(pin(store, key), release(1), digest(1))


def test_release_of_the_other_branch_does_not_bind(store: TrustStore) -> None:
    accept(store, STOLEN)
    store.advance(pin(store, STOLEN), release(MAX_INTEGER), DIGEST)
    assert refusal(store, SECOND) == "E_KEY_FORK"
    store.remove("nord")
    store.add(SECOND)
    store.check_release(pin(store, SECOND), release(2), OTHER_DIGEST)


def test_looking_does_not_advance(store: TrustStore) -> None:
    store.check_release(pin(store, STUDIO), release(5), DIGEST)
    assert store.last_seen(store.provider("nord")) == ()


def test_what_changed_since_verification_counts(store: TrustStore) -> None:
    signer = pin(store, STUDIO)
    accept(store, SECOND)
    with pytest.raises(PolicyError, match="replaced"):
        store.advance(signer, release(created=NOW), DIGEST)
    accept(store, listing(1, SECOND_KEY, SECOND, keys={STUDIO.fingerprint: "stolen"}))
    with pytest.raises(PolicyError, match="revoked"):
        store.advance(signer, release(), DIGEST)
    store.remove("nord")
    with pytest.raises(UntrustedKeyError) as caught:
        store.advance(signer, release(), DIGEST)
    assert caught.value.code == "E_UNTRUSTED"
    store.add(SECOND)
    assert store.last_seen(store.provider("Studio")) == ()
