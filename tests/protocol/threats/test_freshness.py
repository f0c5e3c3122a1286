"""Rollback, equivocation, replay after expiry, withdrawn bundles, old revocation lists (B-40 to B-42)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from attackkit import NEXT_KEY, next_key, snapshot
from bundlekit import NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY, style_manifest, write_style

from protocol.errors import ProtocolError
from protocol.revocation import Revocation, issue_revocation
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle

Refused = Callable[..., str]
STYLE = style_manifest().bundle.id


def release(folder: Path, sequence: int, **changes: object) -> bytes:
    """Return the studio's release with this sequence."""
    manifest = style_manifest()
    bundle = replace(manifest.bundle, sequence=sequence, **changes)  # type: ignore[arg-type]
    path = folder / "release.mdfy"
    write_style(path, manifest=replace(manifest, bundle=bundle), overwrite=True)
    return path.read_bytes()


def use(store: TrustStore, folder: Path, data: bytes) -> None:
    """Use a bundle as a client does."""
    path = folder / "used.mdfy"
    path.write_bytes(data)
    with open_bundle(path, trust=store, now=NOW) as bundle:
        bundle.record_use()


def withdraw(number: int, **tables: object) -> Revocation:
    return issue_revocation(STUDIO_KEY, STUDIO, number=number, issued=NOW, **tables)  # type: ignore[arg-type]


def test_rollback(refused: Refused, store: TrustStore, tmp_path: Path) -> None:
    old = release(tmp_path, 1)
    use(store, tmp_path, release(tmp_path, 2))
    assert refused(old) == "E_ROLLBACK"


def test_rollback_after_the_pin_was_removed_and_added(refused: Refused, store: TrustStore, tmp_path: Path) -> None:
    old = release(tmp_path, 1)
    use(store, tmp_path, release(tmp_path, 2))
    store.remove("Studio")
    store.add(STUDIO)
    assert refused(old) == "E_ROLLBACK"


def test_equivocation(refused: Refused, store: TrustStore, tmp_path: Path) -> None:
    use(store, tmp_path, release(tmp_path, 2))
    assert refused(release(tmp_path, 2, name="for you only")) == "E_EQUIVOCATION"


def test_verifying_alone_records_nothing(store: TrustStore, tmp_path: Path) -> None:
    # Else an attacker could lock a client out by having a bundle of high sequence looked at.
    path = tmp_path / "new.mdfy"
    path.write_bytes(release(tmp_path, 9))
    before = snapshot(tmp_path)
    verify_bundle(path, trust=store, now=NOW)
    assert snapshot(tmp_path) == before


def test_replay_after_expiry(refused: Refused, style_bytes: bytes) -> None:
    assert refused(style_bytes, now=NOW.replace(year=2027)) == "E_EXPIRED"


def test_bundle_from_the_future(refused: Refused, tmp_path: Path) -> None:
    late = NOW + timedelta(days=1)
    assert refused(release(tmp_path, 1, created=late, not_before=late)) == "E_NOT_YET_VALID"


def test_withdrawn_bundle(refused: Refused, store: TrustStore, tmp_path: Path) -> None:
    path = tmp_path / "x.mdfy"
    digest = write_style(path)
    store.update(withdraw(1, bundles={digest: "the licence ended"}).signed, now=NOW)
    assert refused(path.read_bytes()) == "E_BUNDLE_REVOKED"


def test_floor_of_the_list(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    # B-42: also a client that has never seen a release cannot be given an old one.
    store.update(withdraw(1, min_sequence={STYLE: 2}).signed, now=NOW)
    assert refused(style_bytes) == "E_ROLLBACK"


def list_refused(store: TrustStore, folder: Path, item: Revocation) -> str:
    before = snapshot(folder)
    with pytest.raises(ProtocolError) as caught:
        store.update(item.signed, now=NOW)
    assert caught.value.exit_code not in {0, 1}
    assert snapshot(folder) == before
    return caught.value.code


@pytest.mark.parametrize(
    "later",
    [
        withdraw(1, bundles={"a" * 64: "withdrawn"}),  # older
        withdraw(2, bundles={"b" * 64: "withdrawn"}),  # of the same number, and different
        withdraw(3, bundles={"b" * 64: "withdrawn"}),  # newer, and something was taken back
        withdraw(3),
    ],
)
def test_old_revocation_list(store: TrustStore, tmp_path: Path, later: Revocation) -> None:
    store.update(withdraw(2, bundles={"a" * 64: "withdrawn"}).signed, now=NOW)
    assert list_refused(store, tmp_path, later) == "E_REVOCATION_ROLLBACK"


def test_list_of_a_stranger(store: TrustStore, tmp_path: Path) -> None:
    forged = issue_revocation(OTHER_KEY, OTHER, number=1, issued=NOW)
    assert list_refused(store, tmp_path, forged) == "E_UNTRUSTED"


def test_list_in_the_name_of_the_studio(store: TrustStore, tmp_path: Path) -> None:
    claimed = replace(OTHER, provider_id=STUDIO.provider_id)
    forged = issue_revocation(OTHER_KEY, claimed, number=1, issued=NOW, bundles={"a" * 64: "spite"})
    assert list_refused(store, tmp_path, forged) == "E_SIG_BAD"


def test_list_by_a_retired_key(store: TrustStore, tmp_path: Path) -> None:
    store.update(next_key(), now=NOW)
    assert list_refused(store, tmp_path, withdraw(1, bundles={"a" * 64: "spite"})) == "E_KEY_RETIRED"


def test_list_by_a_revoked_key(store: TrustStore, tmp_path: Path) -> None:
    second = next_key()
    store.update(second, now=NOW)
    store.update(
        issue_revocation(NEXT_KEY, second, number=1, issued=NOW, keys={second.fingerprint: "stolen"}).signed, now=NOW
    )
    later = issue_revocation(NEXT_KEY, second, number=2, issued=NOW, keys={second.fingerprint: "stolen"})
    assert list_refused(store, tmp_path, later) == "E_KEY_REVOKED"
