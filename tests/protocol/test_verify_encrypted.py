"""Encrypted bundles, and those addressed to some (B-25 steps 3 and 10, B-27, B-29)."""

import errno
import importlib
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from bundlekit import ENCODER, MEMBERS, NOW, STUDIO, open_trusted, refusal, style_manifest, write_style

from protocol import policy
from protocol.encryption import Identity, encrypt_stream, generate_identity
from protocol.errors import EnvironmentMissingError, KeyFileError, PolicyError, ProtocolError, StorageError
from protocol.identity import load_identity, save_identity
from protocol.manifest import Usage
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, open_bundle, verify_bundle

SECRET, RECIPIENT = generate_identity()
OWN = Identity(recipient=RECIPIENT, secret=lambda: SECRET)


@pytest.fixture
def sealed(style_bytes: bytes, tmp_path: Path) -> Path:
    return seal(style_bytes, tmp_path / "sealed.mdfy")


def seal(data: bytes, path: Path, recipient: str = RECIPIENT) -> Path:
    with path.open("wb") as stream:
        encrypt_stream(io.BytesIO(data), stream, [recipient])
    return path


def test_encrypted_bundle_is_the_same_bundle(sealed: Path, style_path: Path) -> None:
    # B-27: the signature covers the plain text, so the identity survives encryption.
    with open_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN) as bundle:
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]
    assert bundle.payload_digest == open_trusted(style_path).payload_digest
    seen = inspect_bundle(sealed, identity=OWN)
    assert (seen.encrypted, seen.payload_digest) == (True, bundle.payload_digest)
    assert not inspect_bundle(style_path).encrypted


def test_plain_text_is_nowhere_to_be_found(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # B-25 step 3: it has no name while it is there, and is gone afterwards.
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    during = []
    real = policy.check_acknowledged

    def look(*arguments: object) -> str:
        during.extend(folder.iterdir())
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "check_acknowledged", look)
    verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert [*during, *folder.iterdir()] == []


def test_secret_is_asked_for_encrypted_files_only(style_path: Path) -> None:
    def never() -> NoReturn:
        pytest.fail("a passphrase would be asked for")

    silent = Identity(recipient=RECIPIENT, secret=never)
    verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, identity=silent)
    inspect_bundle(style_path, identity=silent)


def test_reader_without_an_identity(sealed: Path) -> None:
    error = refusal(sealed)
    assert (error.code, error.step, error.exit_code) == ("E_NOT_RECIPIENT", 3, 8)
    assert "content-client trust identity" in error.fix
    with pytest.raises(KeyFileError):
        inspect_bundle(sealed)


@pytest.mark.parametrize("inner", [b"hello", b""])
def test_encrypted_junk(inner: bytes, tmp_path: Path) -> None:
    path = seal(inner, tmp_path / "junk.mdfy")
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_FORMAT", 3)


def test_encrypted_twice(sealed: Path, tmp_path: Path) -> None:
    path = seal(sealed.read_bytes(), tmp_path / "twice.mdfy")
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_FORMAT", 3)


def test_flipped_bits_of_an_encrypted_bundle(sealed: Path) -> None:
    data = sealed.read_bytes()
    for position in range(0, len(data), 101):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        sealed.write_bytes(broken)
        with pytest.raises(ProtocolError) as caught:
            verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
        assert caught.value.step in {2, 3}


def test_missing_age_package_is_missed_by_encrypted_bundles_only(
    sealed: Path, style_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # B-29
    key = save_identity(sealed.parent / "me.agekey", SECRET, None)

    def missing(name: str) -> NoReturn:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    identity = load_identity(key, str)
    verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
    with pytest.raises(EnvironmentMissingError) as caught:
        verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
    assert (caught.value.code, caught.value.step, caught.value.exit_code) == ("E_NO_AGE", 3, 12)


def test_full_disk_while_decrypting(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _data: object) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(StorageError) as caught:
        verify_bundle(sealed, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert (caught.value.code, caught.value.step) == ("E_IO", 3)


def addressed(path: Path, *audience: str) -> Path:
    write_style(path, manifest=replace(style_manifest(), usage=Usage(audience=audience)))
    return path


def test_audience_closes_forwarding(tmp_path: Path) -> None:
    # B-27: decrypted by a recipient and given on, it is of no use to others.
    path = addressed(tmp_path / "style.mdfy", RECIPIENT, generate_identity()[1])
    seen = verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=OWN)
    assert "you, one of 2" in [step.result for step in seen.steps]
    other = Identity(recipient=generate_identity()[1], secret=str)
    for identity, advice in ((other, "send your age1"), (None, "content-client trust identity")):
        with pytest.raises(PolicyError) as caught:
            verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW, identity=identity)
        assert (caught.value.code, caught.value.step, caught.value.exit_code) == ("E_AUDIENCE", 10, 6)
        assert advice in caught.value.fix
