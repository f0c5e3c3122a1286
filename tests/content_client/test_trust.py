"""``content-client trust`` (B-34 to B-37)."""

import io
import sys
from pathlib import Path

import pytest
from programs import client

from content_client.identity import adapter_identity
from protocol.provider import read_provider_key
from protocol.trust import TrustStore


@pytest.fixture
def key(studio: Path) -> Path:
    return studio / "keys" / "studio.mdfykey"


def test_right_fingerprint_is_accepted_then_listed_then_removed(key: Path, tmp_path: Path) -> None:
    fingerprint = read_provider_key(key).fingerprint
    assert client("trust", "list", cwd=tmp_path).out == "no key is accepted yet\n"
    assert client("trust", "add", key, "--fingerprint", fingerprint, "--label", "nord", cwd=tmp_path).code == 0
    listed = client("trust", "list", "--json", cwd=tmp_path).json["result"]["keys"]
    assert [(pin["label"], pin["roles"], pin["fingerprint"]) for pin in listed] == [("nord", ["style"], fingerprint)]
    assert fingerprint in client("trust", "list", cwd=tmp_path).out
    assert client("trust", "remove", "nord", cwd=tmp_path).code == 0
    assert TrustStore.default().list() == ()
    assert client("trust", "remove", "nord", cwd=tmp_path).code == 5
    assert client("trust", "remove", "", cwd=tmp_path).code == 2


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text.lower(), lambda text: ""])
def test_another_fingerprint_is_refused(change: object, key: Path, tmp_path: Path) -> None:
    # Compared in full: a part of it, or another case, is another fingerprint (B-35).
    wrong = change(read_provider_key(key).fingerprint)  # type: ignore[operator]
    result = client("trust", "add", key, "--fingerprint", wrong, cwd=tmp_path)
    assert result.code == 5
    assert TrustStore.default().list() == ()


def test_nothing_is_trusted_without_a_terminal_or_a_fingerprint(key: Path, tmp_path: Path) -> None:
    result = client("trust", "add", key, "--json", cwd=tmp_path)
    assert result.code == 2
    assert result.json["error"]["fix"][-1] == read_provider_key(key).fingerprint
    assert TrustStore.default().list() == ()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 5)])
def test_a_person_is_asked(answer: str, code: int, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    result = client("trust", "add", key, cwd=tmp_path)
    assert result.code == code
    assert read_provider_key(key).fingerprint in result.err
    assert len(TrustStore.default().list()) == (code == 0)


def test_own_adapter_key_is_made_once_and_pinned_for_adapters_only() -> None:
    trust = TrustStore.default()
    _, first = adapter_identity(trust)
    _, again = adapter_identity(trust)
    assert first.fingerprint == again.fingerprint
    (pin,) = trust.list()
    assert pin.roles == ("adapter",)
    trust.remove(pin.label)
    adapter_identity(trust)  # the key is kept and pinned again
    assert [pin.fingerprint for pin in trust.list()] == [first.fingerprint]


def test_own_adapter_key_is_renewed_when_it_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from content_client import identity

    trust = TrustStore.default()
    monkeypatch.setattr(identity, "_LIFE", timedelta(seconds=1))
    _, first = adapter_identity(trust)
    monkeypatch.undo()
    later = first.expires + timedelta(seconds=1)

    class _Later:
        @staticmethod
        def now(zone: object) -> object:
            return later

    monkeypatch.setattr(identity, "datetime", _Later)
    _, second = adapter_identity(trust)
    assert second.fingerprint != first.fingerprint
