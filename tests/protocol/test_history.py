"""What was seen, agreed to and taken back, as it is stored (B-40 to B-42); the rules are asked in test_rotation."""

from dataclasses import replace

import pytest
from bundlekit import OTHER, OTHER_KEY, STUDIO, STUDIO_KEY
from trustkit import (
    BUNDLE,
    DIGEST,
    FORGED,
    OTHER_DIGEST,
    SECOND,
    SECOND_KEY,
    STOLEN,
    THIEF_KEY,
    THIRD,
    THIRD_KEY,
    digest,
    given_up,
    listing,
)

from protocol.errors import KeyFileError, PolicyError, RollbackError
from protocol.history import History, Seen, dump_history, parse_history
from protocol.revocation import Revocation

SEEN = Seen(
    provider_id=STUDIO.provider_id, bundle_id=BUNDLE, sequence=2, payload_sha256=DIGEST, signer=STUDIO.fingerprint
)
FULL = History(
    seen=(SEEN, replace(SEEN, provider_id=OTHER.provider_id, signer=OTHER.fingerprint)),
    acknowledged=(DIGEST, OTHER_DIGEST),
    revocations=(
        listing(3, SECOND_KEY, SECOND, bundles={DIGEST: "wrong"}, min_sequence={BUNDLE: 2}),
        given_up(STUDIO_KEY, STUDIO),
        given_up(OTHER_KEY, OTHER),
    ),
    keys=(STUDIO, SECOND, OTHER),
    reset=(OTHER.provider_id,),
)


@pytest.mark.parametrize("history", [History(), FULL], ids=["empty", "full"])
def test_round_trip(history: History) -> None:
    back = parse_history(dump_history(history))
    assert back == history
    assert [item.signer for item in back.revocations] == [item.signer for item in history.revocations]


def test_long_lists_fit() -> None:
    # About 190 KiB each, the longest that is issued, for several providers: more than one MiB of text.
    long = {digest(number): "w" * 200 for number in range(650)}
    lists = [listing(number, bundles=long) for number in range(1, 6)]
    assert len(lists[0].signed.to_text()) > 180 << 10
    data = dump_history(History(revocations=tuple(lists), keys=(STUDIO,)))
    assert len(data) > 1 << 20
    assert parse_history(data).revocations == tuple(lists)


def test_too_much_is_refused_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.history.MAX_STATE", len(dump_history(FULL)))
    dump_history(FULL)
    with pytest.raises(KeyFileError, match="longer than"):
        dump_history(FULL.with_acknowledged(digest(1)))


def test_newest_release_is_found_by_provider_and_bundle() -> None:
    newer = replace(SEEN, sequence=3, payload_sha256=OTHER_DIGEST)
    after = FULL.with_seen(newer, [STUDIO])
    assert after.last_seen([STUDIO]) == (newer,)
    assert after.last_seen([OTHER]) == (FULL.seen[1],)
    assert FULL.last_seen([STUDIO]) == (SEEN,)  # the old one is as it was


def test_newest_release_of_all_keys_of_a_line_counts() -> None:
    newer = replace(SEEN, sequence=3, signer=SECOND.fingerprint)
    after = FULL.with_seen(newer, [STUDIO, SECOND]).with_seen(SEEN, [STUDIO, SECOND])
    for keys in ([STUDIO], [SECOND], [STUDIO, SECOND], [THIRD]):
        assert after.last_seen(keys) == (newer,)
    assert after.last_seen([STUDIO, STOLEN]) == (SEEN,)
    assert after.last_seen([FORGED]) == ()


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ((STUDIO, SECOND), [3, 0]),
        ((STUDIO,), [3, 0]),  # the list is of a key that it has endorsed
        ((SECOND,), [3, 0]),
        ((THIRD,), [3, 0]),
        ((STUDIO, STOLEN), [0]),
        ((STOLEN,), [0]),
        ((FORGED,), []),  # says that it follows the first key, which did not sign it
        ((OTHER,), [0]),
    ],
    ids=["both", "first", "second", "third", "other branch", "other branch alone", "forged", "other provider"],
)
def test_revocations_bind_by_who_signed_them(keys: tuple[object, ...], numbers: list[int]) -> None:
    assert [item.number for item in FULL.in_force(keys)] == numbers  # type: ignore[arg-type]


def test_line_leads_over_keys_that_nobody_holds_any_more() -> None:
    listed = listing(1, THIRD_KEY, THIRD, keys={STUDIO.fingerprint: "stolen"})
    history = History().heed(listed, [STUDIO, SECOND, THIRD])
    assert history.revoked_keys([STUDIO]) == {STUDIO.fingerprint: "stolen"}
    assert History().heed(listed, [THIRD]).revoked_keys([STUDIO]) == {}  # nothing shows that the two belong together


def test_keys_are_told_apart_by_who_endorsed_them() -> None:
    history = History().with_keys([FORGED]).with_keys([STOLEN])  # the records are equal
    assert history.with_keys([FORGED, STOLEN]) == history
    assert [key.envelope for key in history.keys] == [FORGED.envelope, STOLEN.envelope]


def test_key_that_revoked_itself() -> None:
    assert FULL.self_revoked(STUDIO) == "laptop stolen"
    assert FULL.self_revoked(SECOND) is None
    assert FULL.revoked_keys([STUDIO]) == {STUDIO.fingerprint: "laptop stolen"}


def test_list_that_names_a_key_is_not_its_own_word() -> None:
    history = History(revocations=(listing(1, keys={STUDIO.fingerprint: "stolen"}),))
    assert history.self_revoked(STUDIO) is None
    assert history.revoked_keys([STUDIO]) == {STUDIO.fingerprint: "stolen"}


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (listing(5), PolicyError),  # by the key before
        (listing(5, SECOND_KEY, SECOND), RollbackError),
        (listing(2, SECOND_KEY, SECOND, bundles={DIGEST: "wrong"}, min_sequence={BUNDLE: 2}), RollbackError),
    ],
    ids=["old key", "leaves one out", "lower number"],
)
def test_refused_list_leaves_the_history(item: Revocation, error: type[Exception]) -> None:
    with pytest.raises(error):
        FULL.heed(item, [STUDIO, SECOND])


def test_list_of_another_branch_is_kept_and_does_not_block() -> None:
    history = FULL.heed(listing(1, THIEF_KEY, STOLEN), [STUDIO, STOLEN])
    assert [item.number for item in history.revocations if item.provider_id == STUDIO.provider_id] == [3, 0, 1]
    assert history.heed(FULL.revocations[0], [STUDIO, SECOND]) is history
