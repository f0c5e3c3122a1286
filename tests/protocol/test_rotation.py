"""Keys that arrive after a provider was accepted, and any order of keys, lists and releases (B-36, B-38 to B-42).

Asked of the store as its callers do, in a folder and in memory.
"""

from datetime import timedelta
from pathlib import Path

import pytest
from bundlekit import CLIENT, CREATED, EXPIRES, NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from trustkit import (
    DIGEST,
    FORGED,
    FORGED_THIRD,
    NOBODY_KEY,
    SECOND,
    SECOND_KEY,
    STOLEN,
    STOLEN_THIRD,
    THIRD,
    THIRD_KEY,
    TURN,
    accept,
    digest,
    forged,
    given_up,
    listing,
    pin,
    refusal,
    release,
    snapshot,
)

from protocol.errors import PolicyError, ProtocolError, UntrustedKeyError
from protocol.provider import ProviderKey, rotate_provider_key
from protocol.revocation import Revocation
from protocol.trust import TrustStore

# --- keys (B-38, B-39) ------------------------------------------------------------------------


def test_next_key_is_accepted(store: TrustStore) -> None:
    done = store.update(SECOND, now=NOW)
    assert (done.label, done.what, done.changed) == ("nord", "key 2 accepted", True)
    accept(store, THIRD)
    assert [found.key for found in store.list()] == [STUDIO, SECOND, THIRD]
    assert {found.label for found in store.list()} == {"nord"}
    assert pin(store, SECOND).roles == ("adapter", "style")


@pytest.mark.parametrize("again", [STUDIO, SECOND])
def test_known_key_changes_nothing(store: TrustStore, again: ProviderKey) -> None:
    accept(store, SECOND)
    before = snapshot(store)
    assert not store.update(again, now=NOW).changed
    assert snapshot(store) == before


def test_key_from_before_the_first_pin_changes_nothing(store: TrustStore) -> None:
    store.remove("nord")
    store.add(THIRD)
    assert not store.update(SECOND, now=NOW).changed
    assert [found.key.serial for found in store.list()] == [3]


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (THIRD, "E_KEY_CHAIN"),  # serial 2 is missing
        (FORGED, "E_KEY_CHAIN"),
        (OTHER, "E_UNTRUSTED"),
    ],
)
def test_key_that_does_not_follow_is_refused(store: TrustStore, key: ProviderKey, code: str) -> None:
    before = snapshot(store)
    assert refusal(store, key) == code
    assert snapshot(store) == before


def test_key_cannot_come_back_under_a_new_serial(store: TrustStore) -> None:
    accept(store, SECOND, THIRD)
    back = rotate_provider_key(THIRD_KEY, THIRD, SECOND_KEY, not_before=NOW, expires=EXPIRES)
    assert refusal(store, back) == "E_KEY_CHAIN"


def test_key_of_another_provider_cannot_be_taken_over(store: TrustStore) -> None:
    store.add(OTHER)
    shared = rotate_provider_key(STUDIO_KEY, STUDIO, OTHER_KEY, not_before=TURN, expires=EXPIRES)
    assert refusal(store, shared) == "E_PROVIDER_MISMATCH"


def test_roles_of_the_pin_hold_for_the_next_key(store: TrustStore) -> None:
    store.add(STUDIO, label="nord", roles=("style",))
    accept(store, SECOND)
    assert pin(store, SECOND).roles == ("style",)


def test_any_serial_can_be_pinned_and_followed(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(SECOND)
    accept(store, THIRD)
    assert refusal(store, STOLEN) == "E_KEY_CHAIN"  # nothing here could tell who endorses it
    assert not pin(store, SECOND).disputed


def test_pinning_another_key_of_a_provider_is_an_update(store: TrustStore) -> None:
    with pytest.raises(UntrustedKeyError) as caught:
        store.add(SECOND)
    assert caught.value.code == "E_KEY_CHAIN"
    assert "content-client trust update" in caught.value.fix
    assert [found.key for found in store.list()] == [STUDIO]


def test_pinning_a_later_key_of_a_chain_relabels_the_provider(store: TrustStore) -> None:
    accept(store, SECOND)
    added = store.add(SECOND, label="south")
    assert (added.key, added.label) == (SECOND, "south")
    assert [found.label for found in store.list()] == ["south", "south"]


def test_replaced_key_signs_nothing_new(store: TrustStore) -> None:
    accept(store, SECOND)
    old = pin(store, STUDIO)
    assert old.retired_from == TURN
    assert pin(store, SECOND).retired_from is None
    store.check_release(old, release(created=TURN), DIGEST)
    with pytest.raises(PolicyError) as caught:
        store.check_release(old, release(created=TURN + timedelta(seconds=1)), DIGEST)
    assert caught.value.code == "E_KEY_RETIRED"
    store.check_release(pin(store, SECOND), release(created=TURN + timedelta(seconds=1)), DIGEST)


# --- a second key with one serial (B-38) ------------------------------------------------------


@pytest.fixture
def split(store: TrustStore) -> TrustStore:
    accept(store, SECOND)
    assert refusal(store, STOLEN) == "E_KEY_FORK"
    return store


def test_fork_puts_the_provider_in_dispute(split: TrustStore) -> None:
    assert all(found.disputed for found in split.list())
    assert [found.key for found in split.list()] == [STUDIO, SECOND]


@pytest.mark.parametrize(
    "item", [STUDIO, SECOND, THIRD, STOLEN, listing(1, SECOND_KEY, SECOND), given_up(STUDIO_KEY, STUDIO)]
)
def test_nothing_ends_a_dispute(split: TrustStore, item: ProviderKey | Revocation) -> None:
    assert refusal(split, item) == "E_KEY_FORK"
    assert all(found.disputed for found in split.list())


def test_pinning_again_does_not_end_a_dispute(split: TrustStore) -> None:
    for key in (STUDIO, SECOND):
        with pytest.raises(UntrustedKeyError) as caught:
            split.add(key)
        assert caught.value.code == "E_KEY_FORK"
        assert "trust remove nord" in caught.value.fix


def test_disputed_provider_signs_nothing(split: TrustStore) -> None:
    with pytest.raises(UntrustedKeyError) as caught:
        split.advance(pin(split, SECOND), release(), DIGEST)
    assert caught.value.code == "E_KEY_FORK"


@pytest.mark.parametrize("right", [SECOND, STOLEN])
def test_removing_and_pinning_ends_a_dispute(split: TrustStore, right: ProviderKey) -> None:
    assert split.remove("nord").disputed
    split.add(right)
    assert [found.key for found in split.list()] == [right]
    assert not pin(split, right).disputed


def test_forged_fork_disables_nobody(store: TrustStore) -> None:
    accept(store, SECOND)
    before = snapshot(store)
    assert refusal(store, FORGED) == "E_KEY_CHAIN"
    assert snapshot(store) == before


def test_fork_by_a_revoked_key_is_ignored(store: TrustStore) -> None:
    accept(store, SECOND, listing(1, SECOND_KEY, SECOND, keys={STUDIO.fingerprint: "stolen"}))
    before = snapshot(store)
    assert not store.update(STOLEN, now=NOW).changed
    assert snapshot(store) == before


# --- any order of events ----------------------------------------------------------------------

KEYS = (STUDIO, SECOND, THIRD, STOLEN, STOLEN_THIRD, FORGED, FORGED_THIRD, OTHER, CLIENT)
LISTS = tuple(
    listing(number, key, provider, bundles={digest(item): "wrong" for item in bundles}, min_sequence=floors)
    for key, provider in ((STUDIO_KEY, STUDIO), (SECOND_KEY, SECOND), (THIRD_KEY, THIRD))
    for number, bundles, floors in (
        (1, (1,), {}),
        (2, (1, 2), {release().id: 2}),
        (2, (3,), {}),
        (3, (1, 2, 3), {release().id: 3}),
    )
)
GIVEN_UP = (given_up(STUDIO_KEY, STUDIO), given_up(SECOND_KEY, SECOND))
RELEASES = tuple((sequence, digest(which)) for sequence in (1, 2, 3) for which in (2 * sequence, 2 * sequence + 1))
EVENTS = st.lists(st.sampled_from((*KEYS, *LISTS, *GIVEN_UP, *RELEASES)), max_size=14)


class Facts:
    """What a store holds, in a form in which 'never less' can be said."""

    def __init__(self, store: TrustStore) -> None:
        provider = store.provider("nord")
        revocations, seen = store.revocations(provider), store.last_seen(provider)
        self.disputed = provider.disputed
        self.keys = provider.fingerprints
        self.number = max((item.number for item in revocations), default=0)
        self.bundles = {name for item in revocations for name in item.bundles}
        self.revoked = {name for item in revocations for name in item.keys}
        self.floor = max((item.min_sequence.get(release().id, 0) for item in revocations), default=0)
        self.sequence = max((item.sequence for item in seen), default=0)


def is_one(event: object, *candidates: object) -> bool:
    """Forged and genuine records are equal but for their signatures, so equality would not do."""
    return any(event is candidate for candidate in candidates)


@settings(max_examples=300)
@given(EVENTS)
def test_no_order_of_files_takes_anything_back(events: list[object]) -> None:
    store = TrustStore.of()
    store.add(STUDIO, label="nord")
    before = Facts(store)
    for event in events:
        try:
            if isinstance(event, tuple):
                store.advance(pin(store, STUDIO), release(event[0]), event[1])
            else:
                store.update(event if isinstance(event, ProviderKey) else event.signed, now=NOW)  # type: ignore[attr-defined]
        except ProtocolError as error:
            after = Facts(store)
            if error.code != "E_KEY_FORK":
                assert vars(after) == vars(before)  # what is refused leaves no trace
        after = Facts(store)
        assert after.disputed >= before.disputed
        assert after.disputed == before.disputed or is_one(event, STOLEN, STOLEN_THIRD, SECOND, THIRD)
        assert after.keys[: len(before.keys)] == before.keys
        assert after.number >= before.number
        assert after.floor >= before.floor
        assert after.sequence >= before.sequence
        assert after.bundles >= before.bundles
        assert after.revoked >= before.revoked
        assert vars(after) == vars(before) or not is_one(event, FORGED, FORGED_THIRD, OTHER, CLIENT)
        before = after


@given(st.permutations([SECOND, THIRD, listing(1, THIRD_KEY, THIRD, bundles={DIGEST: "wrong"})]))
def test_files_given_twice_in_any_order_end_the_same(items: list[ProviderKey | Revocation]) -> None:
    store = TrustStore.of(STUDIO)
    for item in items * 3:
        refusal(store, item)
    assert [found.key.serial for found in store.list()] == [1, 2, 3]
    assert [item.number for item in store.revocations(store.provider("Studio"))] == [1]


def test_forged_keys_are_what_they_should_be() -> None:
    # They pass every check that needs no other key, so that the store alone is what refuses them.
    assert forged(SECOND, SECOND_KEY, by=STUDIO_KEY) == SECOND
    assert forged(SECOND, SECOND_KEY, by=NOBODY_KEY).fingerprint == SECOND.fingerprint
    assert CREATED < TURN < NOW
