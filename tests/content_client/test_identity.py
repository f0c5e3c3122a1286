"""The client's own keys: for adapters, and for bundles encrypted to it (B-32, B-37)."""

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from programs import client

from content_client import identity
from content_client.identity import adapter_identity, identity_folder, own_identity
from protocol.encryption import decrypt_stream, encrypt_stream
from protocol.errors import KeyFileError, StorageError
from protocol.provider import issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import generate_key, load_private_key, public_der, save_private_key
from protocol.trust import TrustStore

WORD = "correct horse"
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def trust() -> TrustStore:
    return TrustStore.default()


def nobody(question: str) -> NoReturn:
    pytest.fail(f"nobody should be asked: {question}")


def fits(private: object, public: object) -> bool:
    return public_der(private.public_key()) == public_der(public.public_key)  # type: ignore[attr-defined]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three years pass: every key has run out."""
    real = identity.datetime

    class Later:
        @staticmethod
        def now(zone: object) -> object:
            return real.now(zone) + timedelta(days=1100)  # type: ignore[arg-type]

    monkeypatch.setattr(identity, "datetime", Later)


# --- the key for adapters ---------------------------------------------------------------------


def test_adapter_key_is_made_once_and_pinned_for_adapters_only(trust: TrustStore) -> None:
    _, first = adapter_identity(trust)
    private, again = adapter_identity(trust, nobody)
    assert first.fingerprint == again.fingerprint
    assert fits(private, again)
    (pin,) = trust.list()
    assert pin.roles == ("adapter",)
    trust.remove(pin.label)
    adapter_identity(trust)  # the key is kept and pinned again
    assert [pin.fingerprint for pin in trust.list()] == [first.fingerprint]


def test_adapter_key_is_renewed_when_it_has_run_out(trust: TrustStore, request: pytest.FixtureRequest) -> None:
    _, first = adapter_identity(trust)
    request.getfixturevalue("later")
    private, second = adapter_identity(trust)
    assert second.fingerprint != first.fingerprint
    assert fits(private, second)
    assert len(trust.list()) == 2  # adapters of the first are still known


def test_protected_adapter_key_is_followed_by_a_protected_one(trust: TrustStore) -> None:
    folder, asked = identity_folder(), []
    folder.mkdir(parents=True)
    key = generate_key()
    first = issue_provider_key(
        key, name="x", roles=("adapter",), not_before=LONG_AGO, expires=LONG_AGO + timedelta(days=1)
    )
    save_private_key(folder / "adapter.pem.age", key, WORD)
    write_provider_key(folder / "adapter.mdfykey", first)

    def ask(question: str) -> str:
        asked.append(question)
        return WORD

    private, second = adapter_identity(trust, ask)
    assert second.fingerprint != first.fingerprint
    assert len(asked) == 1
    assert not (folder / "adapter.pem").exists()
    assert fits(load_private_key(folder / "adapter.pem.age", WORD), second)
    assert fits(private, second)


def test_files_of_two_keys_are_not_used(trust: TrustStore) -> None:
    # As a run leaves them that was ended between its two files.
    _, first = adapter_identity(trust)
    save_private_key(identity_folder() / "adapter.pem", generate_key(), None, overwrite=True)
    private, second = adapter_identity(trust)
    assert second.fingerprint != first.fingerprint
    assert fits(private, second)
    assert fits(load_private_key(identity_folder() / "adapter.pem"), second)


def test_missing_public_half_is_made_anew(trust: TrustStore) -> None:
    _, first = adapter_identity(trust)
    (identity_folder() / "adapter.mdfykey").unlink()
    _, second = adapter_identity(trust)
    assert second.fingerprint != first.fingerprint


def test_folder_that_cannot_be_made(trust: TrustStore) -> None:
    identity_folder().parent.mkdir(parents=True)
    identity_folder().write_bytes(b"")
    with pytest.raises(StorageError):
        adapter_identity(trust)


# --- trust identity ---------------------------------------------------------------------------


def made(tmp_path: Path, *words: str | Path) -> str:
    result = client("trust", "identity", *words, "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    recipient: str = result.json["result"]["recipient"]
    assert re.fullmatch(r"age1[a-z0-9]{58}", recipient)
    return recipient


def test_identity_is_made_once_then_shown_again(trust: TrustStore, tmp_path: Path) -> None:
    first = client("trust", "identity", "--no-passphrase", cwd=tmp_path)
    assert first.code == 0
    assert "made identity and adapter key" in first.err
    assert f"public key   {identity_folder() / 'adapter.mdfykey'}" in first.err
    assert "trust add adapter.mdfykey --fingerprint SHA256:" in first.err
    second = client("trust", "identity", cwd=tmp_path)  # no terminal, and nobody is asked
    assert second.code == 0
    assert second.out == first.out
    assert "exist already" in second.err
    assert "AGE-SECRET" not in first.out + first.err
    assert [pin.roles for pin in trust.list()] == [("adapter",)]
    assert sorted(path.name for path in identity_folder().iterdir()) == [
        "adapter.mdfykey", "adapter.pem", "client.age1", "client.agekey", "lock",
    ]  # fmt: skip
    for name in ("adapter.pem", "client.agekey"):
        assert (identity_folder() / name).stat().st_mode & 0o777 == 0o600


def test_made_identity_opens_what_is_encrypted_to_it(tmp_path: Path) -> None:
    recipient = made(tmp_path, "--no-passphrase")
    own = own_identity(None, None, nobody)
    assert own is not None
    assert own.recipient == recipient
    closed, opened = io.BytesIO(), io.BytesIO()
    encrypt_stream(io.BytesIO(b"a bundle"), closed, [recipient])
    closed.seek(0)
    decrypt_stream(closed, opened, own)
    assert opened.getvalue() == b"a bundle"


def test_overwrite_makes_new_keys(trust: TrustStore, tmp_path: Path) -> None:
    first = made(tmp_path, "--no-passphrase")
    before = read_provider_key(identity_folder() / "adapter.mdfykey")
    assert made(tmp_path, "--no-passphrase", "--overwrite") != first
    assert read_provider_key(identity_folder() / "adapter.mdfykey").fingerprint != before.fingerprint
    assert len(trust.list()) == 2


def test_adapter_key_of_before_is_kept(trust: TrustStore, tmp_path: Path) -> None:
    _, first = adapter_identity(trust)
    result = client("trust", "identity", "--no-passphrase", "--json", cwd=tmp_path).json["result"]
    assert result["made"] == ["identity"]
    assert result["adapter"]["fingerprint"] == first.fingerprint


def test_own_folder_is_for_other_places(trust: TrustStore, tmp_path: Path) -> None:
    recipient = made(tmp_path, "--out", tmp_path / "keys", "--no-passphrase")
    assert trust.list() == ()
    assert not identity_folder().exists()
    own = own_identity(tmp_path / "keys" / "client.agekey", None, None)
    assert own is not None
    assert own.recipient == recipient


def test_keys_need_a_passphrase_or_the_wish_for_none(tmp_path: Path) -> None:
    result = client("trust", "identity", "--json", cwd=tmp_path)
    assert result.code == 2
    assert "MDFY_PASSPHRASE" in result.json["error"]["hint"]
    assert [path.name for path in identity_folder().iterdir()] == ["lock"]


def test_passphrase_protects_both_keys(trust: TrustStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "word").write_text(WORD + "\n")
    recipient = made(tmp_path, "--passphrase-file", tmp_path / "word")
    names = sorted(path.name for path in identity_folder().iterdir())
    assert names == ["adapter.mdfykey", "adapter.pem.age", "client.age1", "client.agekey.age", "lock"]
    assert made(tmp_path) == recipient  # shown without the passphrase
    own = own_identity(None, tmp_path / "word", nobody)
    assert own is not None
    assert own.secret().startswith("AGE-SECRET-KEY-1")
    with pytest.raises(KeyFileError, match="passphrase needed"):
        adapter_identity(trust)
    private, provider = adapter_identity(trust, lambda _: WORD)
    assert fits(private, provider)
    monkeypatch.setenv("MDFY_PASSPHRASE", "wrong")
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        adapter_identity(trust, nobody)


# --- own_identity -----------------------------------------------------------------------------


def test_there_may_be_no_identity(tmp_path: Path) -> None:
    assert own_identity(None, None, nobody) is None
    with pytest.raises(StorageError):
        own_identity(tmp_path / "nowhere.agekey", None, nobody)


def test_identity_that_nobody_can_open_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFY_PASSPHRASE", WORD)
    recipient = made(tmp_path)
    monkeypatch.delenv("MDFY_PASSPHRASE")
    own = own_identity(None, None, None)
    assert own is not None
    assert own.recipient == recipient
    with pytest.raises(KeyFileError):
        own.secret()
