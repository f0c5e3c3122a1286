"""Keys and key files (B-32, B-35, B-36)."""

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path

import pytest
from bundlekit import CREATED, EXPIRES, OTHER_KEY, STUDIO, STUDIO_KEY, provider_key
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.canonical import Json, dump_json
from protocol.dsse import Envelope
from protocol.errors import KeyFileError, ProtocolError, StorageError, UntrustedKeyError
from protocol.provider import KEY_PAYLOAD_TYPE, ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import (
    fingerprint,
    generate_key,
    key_hint,
    load_private_key,
    public_der,
    public_pem,
    save_private_key,
)


def test_fingerprint_is_of_the_der_form() -> None:
    # B-35: what `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` prints.
    key = STUDIO_KEY.public_key()
    digest = hashlib.sha256(public_der(key)).digest()
    assert fingerprint(key) == "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    assert len(fingerprint(key)) == len("SHA256:") + 43


def test_hint_is_of_the_pem_text() -> None:
    assert key_hint(STUDIO_KEY.public_key()) == hashlib.sha256(public_pem(STUDIO_KEY.public_key())).hexdigest()


def test_new_keys_differ() -> None:
    assert public_der(generate_key().public_key()) != public_der(generate_key().public_key())


# --- private key files ----------------------------------------------------------------------


def test_bare_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_private_key(path).private_numbers() == STUDIO_KEY.private_numbers()


def test_protected_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem.age"
    save_private_key(path, STUDIO_KEY, "correct horse")
    assert path.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert load_private_key(path, lambda: "correct horse").private_numbers() == STUDIO_KEY.private_numbers()
    with pytest.raises(KeyFileError, match="passphrase needed"):
        load_private_key(path)


def test_passphrase_is_asked_for_only_when_needed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    load_private_key(path, lambda: pytest.fail("nobody should be asked"))


def test_key_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        load_private_key(path)


def test_key_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, STUDIO_KEY, None)
    with pytest.raises(StorageError):
        save_private_key(path, OTHER_KEY, None)
    save_private_key(path, OTHER_KEY, None, overwrite=True)
    assert load_private_key(path).private_numbers() == OTHER_KEY.private_numbers()


def test_key_that_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.signing.load_private_key", lambda *_: OTHER_KEY)
    with pytest.raises(KeyFileError, match="does not read back"):
        save_private_key(tmp_path / "key.pem", STUDIO_KEY, None)
    assert list(tmp_path.iterdir()) == []


def pem(key: object, encryption: serialization.KeySerializationEncryption) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_KEYFILE"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "E_KEYFILE"),
        (pem(STUDIO_KEY, serialization.BestAvailableEncryption(b"x")), "E_KEYFILE"),  # PBKDF2, 2048 rounds
        (public_pem(STUDIO_KEY.public_key()), "E_KEYFILE"),
        (pem(ec.derive_private_key(7, ec.SECP384R1()), serialization.NoEncryption()), "E_KEY_TYPE"),
    ],
)
def test_files_that_are_no_key(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ProtocolError) as caught:
        load_private_key(path)
    assert caught.value.code == code


def test_only_p256_is_saved(tmp_path: Path) -> None:
    with pytest.raises(UntrustedKeyError):
        save_private_key(tmp_path / "key.pem", ec.derive_private_key(7, ec.SECP384R1()), None)


# --- provider keys --------------------------------------------------------------------------


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
    return Envelope.signed(STUDIO_KEY, KEY_PAYLOAD_TYPE, dump_json(record)).to_json()


def test_unchanged_record_passes() -> None:
    assert ProviderKey.from_json(resigned({}), source="x") == STUDIO


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"serial": 2}, "E_VERSION"),  # rotation comes later
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
