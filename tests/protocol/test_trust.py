"""Accepting providers, asking about them, and forgetting them (B-34, B-37, B-43)."""

from datetime import timedelta
from pathlib import Path

import platformdirs
import pytest
from bundlekit import CLIENT, EXPIRES, OTHER, OTHER_KEY, STUDIO, STUDIO_KEY, provider_key
from trustkit import DIGEST, OTHER_DIGEST, SECOND, SECOND_KEY, THIRD, forged

from protocol.errors import KeyFileError, UntrustedKeyError
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
    assert store.remove(name).keys == (STUDIO,)
    assert store.find(STUDIO.hint) is None
    assert store.find(OTHER.hint) is not None
    with pytest.raises(UntrustedKeyError, match="no pinned key"):
        store.remove(name)
    with pytest.raises(UntrustedKeyError):
        store.remove(OTHER.fingerprint[:20])  # B-35: never shortened for a decision


def test_label_is_not_taken_for_the_fingerprint_of_another(store: TrustStore) -> None:
    store.add(STUDIO)
    for label in (STUDIO.fingerprint, STUDIO.provider_id):
        with pytest.raises(UntrustedKeyError) as caught:
            store.add(OTHER, label=label)
        assert caught.value.code == "E_PROVIDER_MISMATCH"
    store.add(OTHER, label=OTHER.fingerprint)
    assert store.provider(OTHER.fingerprint).keys == (OTHER,)


def test_one_key_speaks_for_one_provider(store: TrustStore) -> None:
    store.add(SECOND)
    with pytest.raises(UntrustedKeyError, match="for another provider"):
        store.add(provider_key(SECOND_KEY, name="its own"))


def test_renewed_record_of_a_key_takes_its_place(store: TrustStore) -> None:
    store.add(STUDIO, label="nord")
    longer = provider_key(STUDIO_KEY, expires=EXPIRES + timedelta(days=365))
    store.add(longer, label="nord")
    assert [pin.key.expires for pin in store.list()] == [longer.expires]


def test_record_that_breaks_the_chain_takes_no_place(store: TrustStore) -> None:
    store.add(STUDIO)
    for key in (SECOND, THIRD):
        store.update(key, now=EXPIRES)
    with pytest.raises(UntrustedKeyError) as caught:
        store.add(forged(SECOND, SECOND_KEY))
    assert caught.value.code == "E_KEY_CHAIN"
    store.add(SECOND)
    assert [pin.key for pin in store.list()] == [STUDIO, SECOND, THIRD]


def test_acknowledgement_is_of_one_bundle(store: TrustStore, tmp_path: Path) -> None:
    assert not store.is_acknowledged(DIGEST)
    store.acknowledge(DIGEST)
    store.acknowledge(DIGEST)
    assert TrustStore(tmp_path / "trust").is_acknowledged(DIGEST)
    assert not store.is_acknowledged(OTHER_DIGEST)
    with pytest.raises(KeyFileError, match="no state can look like this"):
        store.acknowledge("everything")
    assert store.is_acknowledged(DIGEST)


def test_label_that_could_not_be_read_back_is_refused(store: TrustStore) -> None:
    store.add(STUDIO)
    with pytest.raises(KeyFileError, match="label"):
        store.add(OTHER, label="a\x1b[2Jb")
    assert [pin.label for pin in store.list()] == ["Studio"]


def test_store_in_memory_takes_whole_chains_only() -> None:
    store = TrustStore.of(THIRD, CLIENT, STUDIO, SECOND)
    assert [pin.key.serial for pin in store.list()] == [1, 2, 3, 1]
    with pytest.raises(UntrustedKeyError) as caught:
        TrustStore.of(STUDIO, THIRD)
    assert caught.value.code == "E_KEY_CHAIN"


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
