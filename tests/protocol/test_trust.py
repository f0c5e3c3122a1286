"""Pinned keys (B-34, B-37, B-43)."""

import json
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from bundlekit import CLIENT, OTHER, OTHER_KEY, STUDIO, provider_key

from protocol.errors import KeyFileError, StorageError, UntrustedKeyError
from protocol.trust import TrustStore, config_folder


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "trust")


def test_nothing_is_trusted_at_first(store: TrustStore, tmp_path: Path) -> None:
    assert store.list() == ()
    assert store.find(STUDIO.hint) is None
    assert not (tmp_path / "trust").exists()  # asking leaves no trace


def test_pin_is_found_by_its_hint(store: TrustStore, tmp_path: Path) -> None:
    store.add(STUDIO, label="my studio")
    pin = TrustStore(tmp_path / "trust").find(STUDIO.hint)
    assert pin is not None
    assert pin.key == STUDIO
    assert (pin.label, pin.roles) == ("my studio", ("adapter", "style"))
    assert (pin.fingerprint, pin.provider_id) == (STUDIO.fingerprint, STUDIO.provider_id)
    assert pin.public_key.public_numbers() == STUDIO.public_key.public_numbers()
    assert store.find(OTHER.hint) is None


def test_store_is_private(store: TrustStore, tmp_path: Path) -> None:
    store.add(STUDIO)
    pins = tmp_path / "trust" / "pins.json"
    assert pins.stat().st_mode & 0o777 == 0o600
    assert pins.parent.stat().st_mode & 0o777 == 0o700
    pins.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        store.list()


def test_pin_allows_no_more_than_the_key_declares(store: TrustStore) -> None:
    assert store.add(STUDIO, roles=("adapter",)).roles == ("adapter",)
    for roles in (("style",), ()):
        with pytest.raises(UntrustedKeyError) as caught:
            store.add(CLIENT, roles=roles)
        assert caught.value.code == "E_KEY_ROLE"
    assert len(store.list()) == 1


def test_pinning_again_replaces_label_and_roles(store: TrustStore) -> None:
    store.add(STUDIO)
    store.add(STUDIO, label="b", roles=("style",))
    assert [(pin.label, pin.roles) for pin in store.list()] == [("b", ("style",))]


def test_one_label_for_one_key(store: TrustStore) -> None:
    store.add(STUDIO)
    impostor = provider_key(OTHER_KEY, name="Studio")
    with pytest.raises(UntrustedKeyError, match="already pinned as Studio"):
        store.add(impostor)
    store.add(impostor, label="the other Studio")
    assert [pin.label for pin in store.list()] == ["Studio", "the other Studio"]


@pytest.mark.parametrize("name", ["Studio", STUDIO.fingerprint])
def test_remove(store: TrustStore, name: str) -> None:
    store.add(STUDIO)
    store.add(OTHER)
    assert store.remove(name).key == STUDIO
    assert store.find(STUDIO.hint) is None
    assert store.find(OTHER.hint) is not None
    with pytest.raises(UntrustedKeyError, match="no pinned key"):
        store.remove(name)
    with pytest.raises(UntrustedKeyError):
        store.remove(OTHER.fingerprint[:20])  # B-35: never shortened for a decision


def test_label_that_could_not_be_read_back_is_refused(store: TrustStore) -> None:
    store.add(STUDIO)
    with pytest.raises(KeyFileError, match="label"):
        store.add(OTHER, label="a\x1b[2Jb")
    assert [pin.label for pin in store.list()] == ["Studio"]


def edited(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "unknown field", "other format", "forged key", "bad role", "more roles"]
)
def test_damaged_store_refuses_everything(store: TrustStore, tmp_path: Path, damage: str) -> None:
    store.add(CLIENT)
    path = tmp_path / "trust" / "pins.json"
    text = path.read_text()
    entry = json.loads(text)["pins"][0]
    forged = entry["key"].replace('"sig":"MEU', '"sig":"MEQ').replace('"sig":"MEY', '"sig":"MEU')
    path.write_text(
        {
            "empty": "",
            "cut": text[:-5],
            "unknown field": edited(text, extra=1),
            "other format": edited(text, format="mdfy-pins/2"),
            "forged key": edited(text, pins=[{**entry, "key": forged[:-20] + forged[-19:]}]),
            "bad role": edited(text, pins=[{**entry, "roles": ["root"]}]),
            "more roles": edited(text, pins=[{**entry, "roles": ["adapter", "style"]}]),
        }[damage]
    )
    with pytest.raises(KeyFileError, match="is damaged"):
        store.find(CLIENT.hint)
    with pytest.raises(KeyFileError):
        store.add(STUDIO)  # nothing is lost by writing over it


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "trust").write_bytes(b"")  # a file where the folder should be
    with pytest.raises(StorageError):
        TrustStore(tmp_path / "trust").add(STUDIO)


def test_store_in_memory_accepts_exactly_its_keys() -> None:
    store = TrustStore.of(STUDIO, CLIENT)
    assert {pin.label for pin in store.list()} == {"Studio", "this computer"}
    assert store.find(OTHER.hint) is None
    store.remove("Studio")
    assert store.find(STUDIO.hint) is None


def test_default_store_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODIFY_CONFIG", str(tmp_path))
    TrustStore.default().add(STUDIO)
    assert (tmp_path / "trust" / "pins.json").exists()
    monkeypatch.delenv("MODIFY_CONFIG")
    assert config_folder() == platformdirs.user_config_path("modify-fl")
