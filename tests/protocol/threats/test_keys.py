"""Right name with wrong key; key or algorithm confusion; retired, expired, revoked or forked keys (B-34 to B-41)."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from attackkit import NEXT_KEY, ROTATED, forked_key, next_key, put_signature, snapshot
from bundlekit import (
    CLIENT,
    CLIENT_KEY,
    CREATED,
    EXPIRES,
    NOW,
    OTHER,
    OTHER_KEY,
    STUDIO,
    STUDIO_KEY,
    forge,
    open_trusted,
    provider_key,
    resign,
    style_manifest,
    unpack,
    write_style,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from protocol.container import SIGNATURE
from protocol.dsse import pae
from protocol.encryption import AGE_MAGIC
from protocol.errors import ProtocolError
from protocol.manifest import Manifest
from protocol.provider import ProviderKey
from protocol.revocation import issue_revocation, self_revocation
from protocol.signing import load_private_key
from protocol.statement import PAYLOAD_TYPE, SignatureRecord
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

Refused = Callable[..., str]


def test_right_name_with_wrong_key(refused: Refused, tmp_path: Path) -> None:
    impostor = provider_key(OTHER_KEY, name="Studio")
    write_style(tmp_path / "x.mdfy", manifest=style_manifest(impostor), key=OTHER_KEY, provider=impostor)
    assert refused((tmp_path / "x.mdfy").read_bytes()) == "E_UNTRUSTED"


def test_pinned_key_of_another_provider(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    # Both are pinned; the other one signs what the studio published.
    store.add(OTHER)
    assert refused(resign(unpack(style_bytes), key=OTHER_KEY)) == "E_PROVIDER_MISMATCH"


def test_hint_of_another_key(refused: Refused, store: TrustStore, style_path: Path) -> None:
    # Signed by a stranger, and it names the studio's key.
    def sign(members: dict[str, bytes]) -> None:
        payload = SignatureRecord.from_bytes(members[SIGNATURE]).envelope.payload
        put_signature(members, OTHER_KEY.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(SHA256())))

    assert refused(forge(style_path, sign, sign=False).read_bytes()) == "E_SIG_BAD"


def test_key_of_another_curve(refused: Refused, style_path: Path) -> None:
    # Algorithm confusion: the record has no field for an algorithm, and such a key cannot be pinned.
    larger = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(ProtocolError) as caught:
        provider_key(larger)
    assert caught.value.code == "E_KEY_TYPE"

    def sign(members: dict[str, bytes]) -> None:
        payload = SignatureRecord.from_bytes(members[SIGNATURE]).envelope.payload
        put_signature(members, larger.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(SHA384())))

    assert refused(forge(style_path, sign, sign=False).read_bytes()) == "E_SIG_BAD"


def test_adapter_key_signs_a_style(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    store.add(CLIENT)
    members = unpack(style_bytes)
    value = json.loads(members["manifest.json"])
    value["provider"]["id"] = CLIENT.provider_id
    members["manifest.json"] = json.dumps(value).encode()
    assert refused(resign(members, key=CLIENT_KEY)) == "E_KEY_ROLE"


def test_expired_key(refused: Refused, style_bytes: bytes) -> None:
    assert refused(style_bytes, now=EXPIRES + timedelta(days=1)) == "E_KEY_EXPIRED"
    assert refused(style_bytes, now=CREATED - timedelta(days=1)) == "E_NOT_YET_VALID"


def dated(days: int) -> Manifest:
    """A manifest made some days after the rotation."""
    manifest = style_manifest()
    made = ROTATED + timedelta(days=days)
    return replace(manifest, bundle=replace(manifest.bundle, created=made, not_before=made))


def test_retired_key_signs_something_new(refused: Refused, store: TrustStore, tmp_path: Path) -> None:
    store.update(next_key(), now=NOW)
    write_style(tmp_path / "old.mdfy", manifest=dated(-1))
    open_trusted(tmp_path / "old.mdfy").close()
    write_style(tmp_path / "x.mdfy", manifest=dated(1))
    assert refused((tmp_path / "x.mdfy").read_bytes()) == "E_KEY_RETIRED"


def test_retired_key_keeps_its_old_bundles(store: TrustStore, style_path: Path) -> None:
    # The counterpart: rotation alone makes nothing that was published unusable.
    store.update(next_key(), now=NOW)
    assert verify_bundle(style_path, trust=store, now=NOW).signer.fingerprint == STUDIO.fingerprint


def test_revoked_key_whatever_the_date(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    second = next_key()
    store.update(second, now=NOW)
    store.update(issue_revocation(NEXT_KEY, second, number=1, issued=NOW, keys={STUDIO.fingerprint: "lost"}).signed,
                 now=NOW)  # fmt: skip
    assert refused(style_bytes) == "E_KEY_REVOKED"


def test_self_revoked_key(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    store.update(self_revocation(STUDIO_KEY, STUDIO, reason="stolen", issued=NOW).signed, now=NOW)
    assert refused(style_bytes) == "E_KEY_REVOKED"


def test_self_revocation_survives_a_new_pin(store: TrustStore, tmp_path: Path) -> None:
    store.update(self_revocation(STUDIO_KEY, STUDIO, reason="stolen", issued=NOW).signed, now=NOW)
    store.remove("Studio")
    before = snapshot(tmp_path)
    with pytest.raises(ProtocolError) as caught:
        store.add(STUDIO)
    assert caught.value.code == "E_KEY_REVOKED"
    assert snapshot(tmp_path) == before


def update_refused(store: TrustStore, folder: Path, item: ProviderKey) -> str:
    before = snapshot(folder)
    with pytest.raises(ProtocolError) as caught:
        store.update(item, now=NOW)
    assert caught.value.exit_code not in {0, 1}
    assert snapshot(folder) == before
    return caught.value.code


def test_next_key_endorsed_by_a_stranger(store: TrustStore, tmp_path: Path) -> None:
    # It claims to follow the studio's key; the first signature is somebody else's.
    genuine = next_key()
    stranger = next_key(old=OTHER_KEY, previous=OTHER)
    first = stranger.envelope.signatures[0]
    envelope = replace(genuine.envelope, signatures=(first, genuine.envelope.signatures[1]))
    assert update_refused(store, tmp_path, replace(genuine, envelope=envelope)) == "E_KEY_CHAIN"


def test_key_of_an_unknown_provider(store: TrustStore, tmp_path: Path) -> None:
    assert update_refused(store, tmp_path, next_key(old=OTHER_KEY, previous=OTHER)) == "E_UNTRUSTED"


def test_key_that_skips_a_serial(store: TrustStore, tmp_path: Path) -> None:
    second = next_key()
    third = next_key(old=NEXT_KEY, previous=second, new=CLIENT_KEY)
    assert update_refused(store, tmp_path, third) == "E_KEY_CHAIN"


def test_fork_disputes_the_provider(refused: Refused, store: TrustStore, style_bytes: bytes) -> None:
    # B-38: both second keys are endorsed by the first, so nobody can tell which is genuine.
    store.update(next_key(), now=NOW)
    with pytest.raises(ProtocolError) as caught:
        store.update(forked_key(), now=NOW)
    assert caught.value.code == "E_KEY_FORK"
    assert refused(style_bytes) == "E_KEY_FORK"


def test_junk_cannot_dispute_a_provider(store: TrustStore, tmp_path: Path, style_path: Path) -> None:
    # A second key that the first one never signed must not disable the studio.
    store.update(next_key(), now=NOW)
    forged = forked_key()
    envelope = replace(forged.envelope, signatures=(forged.envelope.signatures[1],) * 2)
    assert update_refused(store, tmp_path, replace(forged, envelope=envelope)) == "E_KEY_CHAIN"
    found = store.find(STUDIO.hint)
    assert found is not None
    assert not found.disputed


def test_costly_key_file(tmp_path: Path) -> None:
    # B-33: 2^30 would take an hour and a terabyte; it is refused before any work.
    path = tmp_path / "key.age"
    path.write_bytes(AGE_MAGIC + b"\n-> scrypt " + b"A" * 22 + b" 30\n" + b"B" * 43 + b"\n--- " + b"C" * 43 + b"\n")
    path.chmod(0o600)
    start = time.monotonic()
    with pytest.raises(ProtocolError) as caught:
        load_private_key(path, "x")
    assert caught.value.code == "E_KEYFILE"
    assert time.monotonic() - start < 1


def test_store_beside_the_bundle(tmp_path: Path, store: TrustStore, style_path: Path) -> None:
    # The store is read from its own folder only: a pins.json beside the bundle changes nothing.
    evil = TrustStore(tmp_path / "evil")
    evil.add(OTHER)
    shutil.copy(tmp_path / "evil" / "pins.json", style_path.parent / "pins.json")
    assert store.find(OTHER.hint) is None
