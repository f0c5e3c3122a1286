"""Certificates, keys of sites, and the kit that brings them together (F-25)."""

import hashlib
import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
    load_ssh_private_key,
)

from modify_fl.errors import FederationSetupError
from modify_fl.federated.certificates import CA, SERVER, SERVER_KEY, make_authority, make_server
from modify_fl.federated.kit import COORDINATOR_KEY, KIT, KitFile, read_kit, write_kit_file
from modify_fl.federated.plan import PLAN_FILE, FederationPlan, write_plan
from modify_fl.federated.site_keys import SITE_KEY, SITE_PUBLIC, check_pair, make_site_key, read_public
from protocol.errors import KeyFileError, MalformedBundleError, StorageError
from protocol.provider import issue_provider_key, write_provider_key
from protocol.signing import generate_key

_PLAN = FederationPlan(
    bundle="b" * 64, adapter_schema="a" * 64, fab_sha256="f" * 64, subset="heads", rounds=3, local_steps=2,
    max_update_norm=1.0, sites=3,
)  # fmt: skip


def _handshake(folder: Path, trusted: Path, host: str) -> None:
    """Let a server with the certificate of ``folder`` and a client that trusts ``trusted`` meet in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / SERVER, folder / SERVER_KEY)
    client = ssl.create_default_context(cafile=str(trusted / CA))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=host),
    ]
    for _ in range(4):
        for side in sides[::-1]:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_site_accepts_the_server_of_its_kit_and_no_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_authority(tmp_path / name)
        make_server(tmp_path / name, ("fl.example", "127.0.0.1"))
    _handshake(tmp_path / "one", tmp_path / "one", "fl.example")
    _handshake(tmp_path / "one", tmp_path / "one", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path / "one", tmp_path / "two", "fl.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path / "one", tmp_path / "one", "other.example")


def test_an_authority_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = make_authority(tmp_path)
    assert make_authority(tmp_path) == first
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_site_key_is_what_a_supernode_reads_and_only_its_public_half_is_for_others(tmp_path: Path) -> None:
    make_site_key(tmp_path, "anna")
    private = load_ssh_private_key((tmp_path / SITE_KEY).read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    pem, name = read_public(tmp_path / SITE_PUBLIC)
    assert name == "anna"
    assert load_pem_public_key(pem) == private.public_key()
    assert (tmp_path / SITE_KEY).stat().st_mode & 0o777 == 0o600
    check_pair(tmp_path)
    with pytest.raises(StorageError):
        make_site_key(tmp_path, "anna")  # never a second time: the coordinator knows the first


def test_another_key_is_no_site_key(tmp_path: Path) -> None:
    (tmp_path / SITE_PUBLIC).write_text("ssh-rsa nonsense\n")
    with pytest.raises(KeyFileError, match="no key of a site"):
        read_public(tmp_path / SITE_PUBLIC)
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / SITE_PUBLIC).write_bytes(other.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    with pytest.raises(KeyFileError):
        read_public(tmp_path / SITE_PUBLIC)
    (tmp_path / SITE_KEY).write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    (tmp_path / SITE_KEY).chmod(0o600)
    with pytest.raises(KeyFileError):
        check_pair(tmp_path)
    (tmp_path / SITE_KEY).chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        check_pair(tmp_path)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    folder, now = tmp_path / "kit", datetime.now(UTC).replace(microsecond=0)
    folder.mkdir()
    key = issue_provider_key(
        generate_key(), name="coordinator", roles=("adapter",), not_before=now, expires=now + timedelta(days=9)
    )
    write_provider_key(folder / COORDINATOR_KEY, key)
    write_plan(_PLAN, folder)
    (folder / CA).write_bytes(b"certificate")
    file = KitFile(
        address="fl.example:8000", ca_sha256=hashlib.sha256(b"certificate").hexdigest(), plan_sha256=_PLAN.digest,
        signer="SHA256:" + "A" * 43, coordinator=key.fingerprint,
    )  # fmt: skip
    write_kit_file(folder, file)
    return folder


def test_a_whole_kit_is_read(kit: Path) -> None:
    read = read_kit(kit)
    assert read.plan == _PLAN
    assert read.file.digest == hashlib.sha256((kit / KIT).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", [CA, PLAN_FILE, COORDINATOR_KEY, KIT])
def test_a_kit_that_lacks_a_part_is_refused(name: str, kit: Path) -> None:
    (kit / name).unlink()
    with pytest.raises(FederationSetupError, match="not whole"):
        read_kit(kit)


def test_a_part_that_was_exchanged_is_refused(kit: Path) -> None:
    (kit / CA).write_bytes(b"another")
    with pytest.raises(FederationSetupError) as caught:
        read_kit(kit)
    assert "ca.crt" in caught.value.why
    (kit / CA).write_bytes(b"certificate")
    write_plan(replace(_PLAN, rounds=99), kit, overwrite=True)
    with pytest.raises(FederationSetupError):
        read_kit(kit)


def test_an_address_that_is_none_is_refused(kit: Path) -> None:
    fields = json.loads((kit / KIT).read_text())
    (kit / KIT).write_text(json.dumps(fields | {"address": "file:///etc/passwd"}))
    with pytest.raises(MalformedBundleError):
        read_kit(kit)


def test_a_coordinator_key_that_may_sign_styles_is_refused(kit: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    key = issue_provider_key(
        generate_key(), name="c", roles=("adapter", "style"), not_before=now, expires=now + timedelta(days=9)
    )
    write_provider_key(kit / COORDINATOR_KEY, key, overwrite=True)
    file = replace(read_file_of(kit), coordinator=key.fingerprint)
    write_kit_file(kit, file, overwrite=True)
    with pytest.raises(FederationSetupError) as caught:
        read_kit(kit)
    assert "more than adapters" in caught.value.why


def read_file_of(kit: Path) -> KitFile:
    return KitFile(**json.loads((kit / KIT).read_text()))
