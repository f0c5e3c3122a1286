"""``style-provider revoke``: bundles on the provider's signed list (B-40, B-42)."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zlib import crc32

import pytest
from programs import provider

from protocol.canonical import Json, dump_json
from protocol.container import SIGNATURE, canonical_order, read_directory, write_container
from protocol.dsse import Envelope
from protocol.errors import PolicyError
from protocol.manifest import MANIFEST, Manifest
from protocol.provider import ProviderKey, read_provider_key
from protocol.revocation import (
    REVOCATION_PAYLOAD_TYPE,
    Revocation,
    issue_revocation,
    read_revocation,
    write_revocation,
)
from protocol.signing import load_private_key
from protocol.statement import Resource, SignatureRecord, Statement, sign_statement
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64


@pytest.fixture(autouse=True)
def folder(studio: Path, tmp_path: Path) -> Path:
    """A copy of the studio's folder: ``keys/`` and ``style.mdfy``."""
    shutil.copytree(studio / "keys", tmp_path / "keys")
    shutil.copy(studio / "style.mdfy", tmp_path)
    return tmp_path


def public(folder: Path, stem: str = "studio") -> ProviderKey:
    return read_provider_key(folder / "keys" / f"{stem}.mdfykey")


def listed(folder: Path, name: str = "keys/studio.mdfyrev", *stems: str) -> Revocation:
    return read_revocation(folder / name).open([public(folder, stem) for stem in stems or ("studio",)])


def members(folder: Path, name: str = "style.mdfy") -> dict[str, bytes]:
    data = (folder / name).read_bytes()
    found = read_directory(BytesIO(data), size_limit=len(data))
    return {member.name: data[member.offset : member.offset + member.size] for member in found}


def manifest(folder: Path) -> Manifest:
    return Manifest.from_bytes(members(folder)[MANIFEST])


def digest(folder: Path, name: str = "style.mdfy") -> str:
    return SignatureRecord.from_bytes(members(folder, name)[SIGNATURE]).payload_digest


def resign(folder: Path, name: str, change: Callable[[Manifest], Manifest]) -> None:
    """Write the studio's bundle once more, with another manifest and a good signature."""
    parts = members(folder)
    del parts[SIGNATURE]
    parts[MANIFEST] = change(Manifest.from_bytes(parts[MANIFEST])).to_bytes()
    resources = tuple(
        Resource(name=part, digest=sha256(data).hexdigest(), size=len(data), crc32=crc32(data))
        for part, data in sorted(parts.items())
    )
    key = load_private_key(folder / "keys" / "studio.pem")
    parts[SIGNATURE] = sign_statement(key, Statement(kind="style-bundle", resources=resources)).to_bytes()
    with (folder / name).open("wb") as stream:
        write_container(stream, sorted(parts.items(), key=lambda item: canonical_order(item[0])))


def test_bundle_gets_onto_the_list_beside_the_key(folder: Path) -> None:
    result = provider("revoke", "style.mdfy", "--reason", "wrong pictures", cwd=folder)
    assert result.code == 0, result.err
    made = listed(folder)
    assert (made.number, made.bundles, made.keys) == (1, {digest(folder): "wrong pictures"}, {})
    assert (made.min_sequence, made.next_update) == ({}, None)
    assert "  content-client trust update studio.mdfyrev" in result.out.splitlines()


def test_digest_will_do(folder: Path) -> None:
    result = provider("revoke", DIGEST, "--reason", "x", "--next-update", "90d", "--json", cwd=folder)
    made = listed(folder)
    assert made.bundles == {DIGEST: "x"}
    assert made.next_update == made.issued + timedelta(days=90)
    assert result.json["result"]["bundles"] == {DIGEST: "x"}


def test_each_list_contains_the_one_before(folder: Path) -> None:
    provider("revoke", DIGEST, "--reason", "first", cwd=folder)
    first = listed(folder)
    provider("revoke", OTHER_DIGEST, "--reason", "second", cwd=folder)
    second = listed(folder)
    assert second.number == 2
    assert second.bundles == {DIGEST: "first", OTHER_DIGEST: "second"}
    assert second.contains(first)


def test_earlier_sequences_are_taken_back_too(folder: Path) -> None:
    assert provider("revoke", "style.mdfy", "--reason", "x", "--min-sequence", cwd=folder).code == 0
    info = manifest(folder).bundle
    assert listed(folder).min_sequence == {info.id: info.sequence + 1}


def test_digest_names_no_sequence(folder: Path) -> None:
    result = provider("revoke", DIGEST, "--reason", "x", "--min-sequence", cwd=folder)
    assert result.code == 2
    assert "needs the bundle itself" in result.err
    assert not (folder / "keys" / "studio.mdfyrev").exists()


def test_copy_for_clients_is_extended_with_the_list(folder: Path) -> None:
    provider("revoke", DIGEST, "--reason", "x", "--out", "public.mdfyrev", cwd=folder)
    provider("revoke", OTHER_DIGEST, "--reason", "y", "--out", "public.mdfyrev", cwd=folder)
    assert listed(folder, "public.mdfyrev") == listed(folder)
    assert listed(folder).number == 2


def test_list_that_only_clients_still_have_is_taken_up(folder: Path) -> None:
    provider("revoke", DIGEST, "--reason", "x", "--out", "public.mdfyrev", cwd=folder)
    (folder / "keys" / "studio.mdfyrev").unlink()
    provider("revoke", OTHER_DIGEST, "--reason", "y", "--out", "public.mdfyrev", cwd=folder)
    assert listed(folder).number == 2
    assert listed(folder).bundles.keys() == {DIGEST, OTHER_DIGEST}


def test_lists_that_contradict_each_other(folder: Path) -> None:
    provider("revoke", DIGEST, "--reason", "x", "--out", "public.mdfyrev", cwd=folder)
    (folder / "keys" / "studio.mdfyrev").unlink()
    provider("revoke", OTHER_DIGEST, "--reason", "y", cwd=folder)
    before = (folder / "keys" / "studio.mdfyrev").read_bytes()
    result = provider("revoke", "c" * 64, "--reason", "z", "--out", "public.mdfyrev", cwd=folder)
    assert result.code == 2
    assert "contradict each other" in result.err
    assert (folder / "keys" / "studio.mdfyrev").read_bytes() == before


def test_expired_bundle_can_be_revoked(folder: Path) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)

    def age(old: Manifest) -> Manifest:
        bundle = replace(old.bundle, created=past, not_before=past, expires=past + timedelta(days=1))
        return replace(old, bundle=bundle)

    resign(folder, "old.mdfy", age)
    assert provider("revoke", "old.mdfy", "--reason", "x", cwd=folder).code == 0
    assert listed(folder).bundles.keys() == {digest(folder, "old.mdfy")}


def test_client_who_gets_the_list_refuses_the_bundle(folder: Path) -> None:
    store, now = TrustStore.of(public(folder)), datetime.now(UTC)
    verify_bundle(folder / "style.mdfy", trust=store, now=now)
    provider("revoke", "style.mdfy", "--reason", "wrong pictures", cwd=folder)
    store.update(read_revocation(folder / "keys" / "studio.mdfyrev"), now=datetime.now(UTC))
    with pytest.raises(PolicyError) as caught:
        verify_bundle(folder / "style.mdfy", trust=store, now=now)
    assert caught.value.code == "E_BUNDLE_REVOKED"
    assert "wrong pictures" in caught.value.what


def test_client_takes_up_the_new_key_and_its_list(folder: Path) -> None:
    store = TrustStore.of(public(folder))
    rotate(folder)
    provider("revoke", "style.mdfy", "--reason", "x", "--min-sequence", cwd=folder)
    now = datetime.now(UTC)
    store.update(public(folder, "studio-2"), now=now)
    assert store.update(read_revocation(folder / "keys" / "studio.mdfyrev"), now=now).changed
    with pytest.raises(PolicyError):
        verify_bundle(folder / "style.mdfy", trust=store, now=now)


def rotate(folder: Path) -> None:
    made = provider("key", "rotate", "keys/studio.pem", "--no-passphrase", cwd=folder)
    assert made.code == 0, made.err


def test_new_key_goes_on_with_the_list_and_takes_back_old_bundles(folder: Path) -> None:
    provider("revoke", DIGEST, "--reason", "first", cwd=folder)
    rotate(folder)
    result = provider("revoke", "style.mdfy", "--reason", "second", cwd=folder)
    assert result.code == 0, result.err
    made = listed(folder, "keys/studio.mdfyrev", "studio", "studio-2")
    assert (made.number, made.signer.serial) == (3, 2)  # rotating has issued list 2
    assert made.bundles == {DIGEST: "first", digest(folder): "second"}
    assert "your key 2" in result.out


def test_replaced_key_issues_no_list(folder: Path) -> None:
    rotate(folder)
    result = provider("revoke", DIGEST, "--reason", "x", "--key", "keys/studio.pem", cwd=folder)
    assert result.code == 2
    assert "not your current key" in result.err
    assert not (folder / "keys" / "studio.mdfyrev").exists()


def refused(folder: Path, named: str, code: str) -> None:
    result = provider("revoke", named, "--reason", "x", "--json", cwd=folder)
    assert result.json["error"]["code"] == code
    assert result.code != 0
    assert not (folder / "keys" / "studio.mdfyrev").exists()


def test_bundle_of_somebody_else(folder: Path) -> None:
    shutil.rmtree(folder / "keys")
    assert provider("keygen", "--name", "Studio", "--out", "keys", "--no-passphrase", cwd=folder).code == 0
    refused(folder, "style.mdfy", "E_UNTRUSTED")


def test_bundle_that_names_another_provider(folder: Path) -> None:
    resign(folder, "odd.mdfy", lambda old: replace(old, provider=replace(old.provider, id="0" * 64)))
    refused(folder, "odd.mdfy", "E_PROVIDER_MISMATCH")


def test_changed_bundle(folder: Path) -> None:
    data = bytearray((folder / "style.mdfy").read_bytes())
    position = data.index(b'"format":"mdfy"')
    data[position + 11] ^= 1
    (folder / "style.mdfy").write_bytes(data)
    refused(folder, "style.mdfy", "E_DIGEST")


def test_encrypted_bundle_is_named_by_its_digest(folder: Path) -> None:
    (folder / "sent.mdfy").write_bytes(b"age-encryption.org/v1\n-> X25519 x\n")
    result = provider("revoke", "sent.mdfy", "--reason", "x", cwd=folder)
    assert result.code == 2
    assert "digest instead of the file" in result.err


@pytest.mark.parametrize(("content", "code"), [(None, "E_IO"), (b"hello", "E_FORMAT")])
def test_what_is_no_bundle(folder: Path, content: bytes | None, code: str) -> None:
    if content is not None:
        (folder / "x.mdfy").write_bytes(content)
    refused(folder, "x.mdfy", code)


def unchanged(folder: Path, path: Path, code: int, text: str) -> None:
    before = path.read_bytes()
    result = provider("revoke", DIGEST, "--reason", "x", "--out", path, cwd=folder)
    assert result.code == code
    assert text in result.err
    assert path.read_bytes() == before
    assert not (folder / "keys" / "studio.mdfyrev").exists()


def test_other_files_are_never_replaced(folder: Path) -> None:
    unchanged(folder, folder / "style.mdfy", 9, "longer than")
    (folder / "notes").write_text("mine")
    unchanged(folder, folder / "notes", 8, "not a revocation")


def test_self_revocation_is_no_list(folder: Path) -> None:
    unchanged(folder, folder / "keys" / "studio.revoke.mdfyrev", 2, "no list of revocations")


def test_list_of_another_provider(folder: Path) -> None:
    assert provider("keygen", "--name", "Other", "--out", "other", "--no-passphrase", cwd=folder).code == 0
    other = read_provider_key(folder / "other" / "other.mdfykey")
    foreign = issue_revocation(
        load_private_key(folder / "other" / "other.pem"), other, number=1, issued=other.not_before
    )
    write_revocation(folder / "x.mdfyrev", foreign)
    unchanged(folder, folder / "x.mdfyrev", 2, "another provider")


def test_forged_list(folder: Path) -> None:
    # Words of the provider under the signature of a stranger.
    assert provider("keygen", "--name", "Other", "--out", "other", "--no-passphrase", cwd=folder).code == 0
    stranger = load_private_key(folder / "other" / "other.pem")
    record: Json = {
        "format": "mdfyrev/1", "provider_id": public(folder).provider_id, "number": 7,
        "issued": "2026-01-01T00:00:00Z", "keys": {}, "bundles": {}, "min_sequence": {},
    }  # fmt: skip
    envelope = Envelope.signed(REVOCATION_PAYLOAD_TYPE, dump_json(record), stranger)
    (folder / "x.mdfyrev").write_bytes(dump_json(envelope.to_json()))
    unchanged(folder, folder / "x.mdfyrev", 4, "signature does not match")


def test_time_that_cannot_be_read(folder: Path) -> None:
    result = provider("revoke", DIGEST, "--reason", "x", "--next-update", "soon", cwd=folder)
    assert result.code == 2
    assert "write it like" in result.err
