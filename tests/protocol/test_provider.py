"""Provider keys: the file, and the chain from one key to the next (B-36 to B-38)."""

import base64
import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bundlekit import CLIENT_KEY, CREATED, EXPIRES, NOW, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY, provider_key
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.canonical import Json, dump_json
from protocol.dsse import Envelope, PrivateKey
from protocol.errors import KeyFileError, ProtocolError, StorageError, UntrustedKeyError
from protocol.provider import (
    KEY_PAYLOAD_TYPE,
    ProviderKey,
    issue_provider_key,
    read_provider_key,
    rotate_provider_key,
    write_provider_key,
)
from protocol.signing import fingerprint, key_hint, public_der

SECOND_KEY = ec.derive_private_key(0x5D11, ec.SECP256R1())
LATER = EXPIRES + timedelta(days=365)
SECOND = rotate_provider_key(STUDIO_KEY, STUDIO, SECOND_KEY, not_before=NOW, expires=LATER)


def test_provider_key_file(tmp_path: Path) -> None:
    path = tmp_path / "studio.mdfykey"
    write_provider_key(path, STUDIO)
    read = read_provider_key(path)
    assert read == STUDIO
    assert (read.name, read.serial, read.roles, read.not_before, read.expires) == (
        "Studio",
        1,
        ("adapter", "style"),
        CREATED,
        EXPIRES,
    )
    assert read.fingerprint == fingerprint(STUDIO_KEY.public_key())
    assert read.hint == key_hint(STUDIO_KEY.public_key())
    assert read.provider_id == hashlib.sha256(public_der(STUDIO_KEY.public_key())).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(StorageError):
        write_provider_key(path, STUDIO)


def test_provider_block_of_a_manifest() -> None:
    info = STUDIO.info(url="https://studio.example/")
    assert (info.id, info.name, info.contact, info.url) == (
        STUDIO.provider_id,
        "Studio",
        "mail@studio.example",
        "https://studio.example/",
    )


def resigned(change: dict[str, Json]) -> Json:
    """Change the record and sign it again with the right key."""
    record = {**json.loads(STUDIO.envelope.payload), **change}
    return Envelope.signed(KEY_PAYLOAD_TYPE, dump_json(record), STUDIO_KEY).to_json()


def test_unchanged_record_passes() -> None:
    assert ProviderKey.from_json(resigned({}), source="x") == STUDIO


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"serial": 2}, "E_KEYFILE"),  # the first key of a provider has serial 1
        ({"serial": 0}, "E_KEYFILE"),
        ({"name": ""}, "E_KEYFILE"),
        ({"name": "a\x1b[31m"}, "E_KEYFILE"),
        ({"roles": []}, "E_KEYFILE"),
        ({"roles": ["style", "adapter"]}, "E_KEYFILE"),  # not sorted
        ({"roles": ["root"]}, "E_KEYFILE"),
        ({"provider_id": "0" * 64}, "E_KEYFILE"),
        ({"previous": "SHA256:x"}, "E_KEYFILE"),
        ({"expires": "2020-01-01T00:00:00Z"}, "E_KEYFILE"),
        ({"format": "mdfykey/2"}, "E_KEYFILE"),
        ({"extra": 1}, "E_KEYFILE"),
        ({"spki": "AAAA"}, "E_KEYFILE"),
        ({"spki": "A"}, "E_KEYFILE"),
        (
            {"spki": base64.b64encode(public_der(ec.derive_private_key(7, ec.SECP384R1()).public_key())).decode()},
            "E_KEY_TYPE",
        ),
        ({"spki": base64.b64encode(public_der(OTHER_KEY.public_key())).decode()}, "E_SIG_BAD"),
    ],
)
def test_record_that_breaks_a_rule(change: dict[str, Json], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        ProviderKey.from_json(resigned(change), source="x.mdfykey")
    assert caught.value.code == code


def test_forged_record_is_refused(tmp_path: Path) -> None:
    # An impostor changes the name and cannot sign it.
    path = tmp_path / "x.mdfykey"
    write_provider_key(path, STUDIO)
    value = json.loads(path.read_bytes())
    payload = base64.b64decode(value["payload"]).replace(b"Studio", b"Studi0")
    path.write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}))
    with pytest.raises(ProtocolError) as caught:
        read_provider_key(path)
    assert caught.value.code == "E_SIG_BAD"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"not json", b"\xff", b'{"payload":"","signatures":[]}'])
def test_files_that_are_no_provider_key(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.mdfykey"
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        read_provider_key(path)


def test_issuing_checks_its_fields() -> None:
    with pytest.raises(KeyFileError):
        provider_key(name="")
    with pytest.raises(KeyFileError):
        provider_key(roles=())
    with pytest.raises(KeyFileError):
        provider_key(expires=CREATED)
    with pytest.raises(KeyFileError):
        provider_key(not_before=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    same = issue_provider_key(
        STUDIO_KEY,
        name="Studio",
        contact="mail@studio.example",
        roles=("style", "adapter", "style"),
        not_before=CREATED,
        expires=EXPIRES,
    )
    assert same == STUDIO


# --- rotation -------------------------------------------------------------------------------


def test_rotated_key_goes_on_where_the_old_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "studio-2.mdfykey"
    write_provider_key(path, SECOND)
    read = read_provider_key(path)
    assert read == SECOND
    assert (read.serial, read.provider_id, read.previous) == (2, STUDIO.provider_id, STUDIO.fingerprint)
    assert (read.name, read.contact, read.roles) == (STUDIO.name, STUDIO.contact, STUDIO.roles)
    assert read.fingerprint == fingerprint(SECOND_KEY.public_key())
    read.check_endorsement(STUDIO)


def test_old_key_signs_first_and_the_new_one_last() -> None:
    assert SECOND.envelope.verify(STUDIO_KEY.public_key(), index=0) == SECOND.envelope.payload
    assert SECOND.envelope.verify(SECOND_KEY.public_key(), index=1) == SECOND.envelope.payload


def test_rotation_may_change_name_and_contact() -> None:
    renamed = rotate_provider_key(
        STUDIO_KEY, STUDIO, SECOND_KEY, not_before=NOW, expires=LATER, name="Atelier", contact="door 3"
    )
    assert (renamed.name, renamed.contact, renamed.provider_id) == ("Atelier", "door 3", STUDIO.provider_id)


def test_chain_of_three() -> None:
    third = rotate_provider_key(
        SECOND_KEY, SECOND, CLIENT_KEY, not_before=NOW + timedelta(days=1), expires=LATER + timedelta(days=1)
    )
    third.check_endorsement(SECOND)
    assert (third.serial, third.provider_id, third.previous) == (3, STUDIO.provider_id, SECOND.fingerprint)


def rotated(change: dict[str, Json], *keys: PrivateKey) -> Json:
    """Change the record of the second key and sign it anew."""
    record = {**json.loads(SECOND.envelope.payload), **change}
    return Envelope.signed(KEY_PAYLOAD_TYPE, dump_json(record), *(keys or (STUDIO_KEY, SECOND_KEY))).to_json()


def test_unchanged_rotation_passes() -> None:
    assert ProviderKey.from_json(rotated({}), source="x") == SECOND


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 1},
        {"previous": ""},
        {"previous": "SHA256:short"},
        {"previous": SECOND.fingerprint},
        {"provider_id": hashlib.sha256(public_der(SECOND_KEY.public_key())).hexdigest()},
    ],
)
def test_rotated_record_that_contradicts_itself(change: dict[str, Json]) -> None:
    with pytest.raises(KeyFileError, match="contradicts itself"):
        ProviderKey.from_json(rotated(change), source="x.mdfykey")


def test_first_key_cannot_come_back_as_a_later_one() -> None:
    later: dict[str, Json] = {"spki": STUDIO.spki, "previous": SECOND.fingerprint, "serial": 3}
    with pytest.raises(KeyFileError, match="contradicts itself"):
        ProviderKey.from_json(rotated(later, SECOND_KEY, STUDIO_KEY), source="x.mdfykey")


@pytest.mark.parametrize("serial", [1, 2])
def test_number_of_signatures_follows_the_serial(serial: int) -> None:
    first = Envelope.signed(KEY_PAYLOAD_TYPE, STUDIO.envelope.payload, OTHER_KEY, STUDIO_KEY).to_json()
    value = first if serial == 1 else rotated({}, SECOND_KEY)
    with pytest.raises(KeyFileError, match="has not the signatures"):
        ProviderKey.from_json(value, source="x.mdfykey")


@pytest.mark.parametrize("keys", [(STUDIO_KEY, OTHER_KEY), (SECOND_KEY, STUDIO_KEY)])
def test_new_key_must_sign_for_itself(keys: tuple[PrivateKey, ...]) -> None:
    with pytest.raises(ProtocolError) as caught:
        ProviderKey.from_json(rotated({}, *keys), source="x.mdfykey")
    assert caught.value.code == "E_SIG_BAD"


def refused(key: ProviderKey, previous: ProviderKey = STUDIO) -> str:
    with pytest.raises(UntrustedKeyError) as caught:
        key.check_endorsement(previous)
    assert caught.value.code == "E_KEY_CHAIN"
    return caught.value.why


def test_successor_that_the_old_key_did_not_sign() -> None:
    # What a thief of nothing can make: the right words, and any signature in the first place.
    forged = ProviderKey.from_json(rotated({}, OTHER_KEY, SECOND_KEY), source="x")
    assert refused(forged) == "the key before it did not sign it"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"provider_id": OTHER.provider_id}, "another provider"),
        ({"serial": 3}, "only 2 can follow"),
        ({"previous": OTHER.fingerprint}, "names another key"),
        ({"roles": ["style"]}, "other purposes"),
        ({"not_before": "2025-12-31T23:59:59Z"}, "does not begin within"),
        ({"not_before": "2028-01-01T00:00:00Z"}, "does not begin within"),
    ],
)
def test_successor_that_does_not_fit(change: dict[str, Json], why: str) -> None:
    assert why in refused(ProviderKey.from_json(rotated(change), source="x"))


def test_successor_may_begin_with_its_predecessor() -> None:
    ProviderKey.from_json(rotated({"not_before": "2026-01-01T00:00:00Z"}), source="x").check_endorsement(STUDIO)


def test_key_does_not_endorse_itself() -> None:
    assert "only 2 can follow" in refused(STUDIO)


def test_rotation_needs_the_old_private_key() -> None:
    with pytest.raises(UntrustedKeyError) as caught:
        rotate_provider_key(OTHER_KEY, STUDIO, SECOND_KEY, not_before=NOW, expires=LATER)
    assert caught.value.code == "E_KEY_CHAIN"


def test_expired_key_cannot_be_rotated() -> None:
    with pytest.raises(UntrustedKeyError) as caught:
        rotate_provider_key(STUDIO_KEY, STUDIO, SECOND_KEY, not_before=EXPIRES, expires=LATER)
    assert caught.value.code == "E_KEY_CHAIN"


def test_key_does_not_rotate_to_itself() -> None:
    with pytest.raises(KeyFileError):
        rotate_provider_key(STUDIO_KEY, STUDIO, STUDIO_KEY, not_before=NOW, expires=LATER)
