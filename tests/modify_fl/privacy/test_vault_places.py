"""P-38, P-42, P-47: where the files of a vault lie, and photos that two vaults hold."""

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from vaultkit import ORDER, charge, ledger_file, put_photos, refused

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy import places
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.places import MARKER, vaults_folder
from modify_fl.privacy.settings import Unit
from protocol.errors import StorageError

# Where things lie (P-38, P-42) ----------------------------------------------------------


def test_files_of_a_vault_are_private_and_the_photo_folder_holds_only_the_marker(
    photos: Path, vault: VaultState
) -> None:
    with Vault.open(photos) as held:
        assert stat.S_IMODE(held.private_folder.stat().st_mode) == 0o700
        assert photos not in held.private_folder.parents
    folder = vault.place.folder
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(vaults_folder().stat().st_mode) == 0o700
    files = [path for path in vaults_folder().rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {path.name for path in photos.iterdir()} == {"p0.png", "p1.png", "p2.png", MARKER}
    assert json.loads((photos / MARKER).read_bytes()) == {"format": 1, "vault": vault.vault, "sequence": 2}


def test_a_ledger_open_to_others_is_refused(photos: Path, vault: VaultState) -> None:
    from protocol.errors import KeyFileError

    ledger_file(vault).chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        read_vault(photos)


def test_vaults_lie_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    assert places.data_folder() == Path(os.environ["MODIFY_DATA_DIR"])
    monkeypatch.delenv("MODIFY_DATA_DIR")
    assert places.data_folder() == platformdirs.user_data_path("modify-fl")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as target:
        for photo in put_photos(tmp_path / "loose").iterdir():
            target.write(photo, photo.name)
    return path


def test_a_zip_file_is_known_by_its_path_and_by_its_contents(archive: Path, tmp_path: Path) -> None:
    state, _ = Vault.create(archive, order=ORDER)
    assert not state.marked
    with Vault.open(archive) as vault:
        charge(vault, 5)
    moved = archive.rename(tmp_path / "elsewhere.zip")
    assert read_vault(moved).vault == state.vault
    with pytest.raises(PrivacyBudgetError, match="has the vault"):
        Vault.create(moved, order=ORDER)
    ledger_file(state).write_bytes(b"")
    refused(moved)  # damage is no reason to believe that there is no vault
    ledger_file(state).unlink()
    refused(moved)


def test_a_read_only_folder_is_known_by_its_path(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(**_: object) -> None:
        raise PermissionError

    put_photos(photos)
    monkeypatch.setattr(places.tempfile, "TemporaryFile", no_file)
    state, _ = Vault.create(photos, order=ORDER)
    with Vault.open(photos) as vault:
        charge(vault, 5)
    assert not (photos / MARKER).exists()
    assert not read_vault(photos).marked
    assert read_vault(photos).vault == state.vault
    put_photos(photos, 1, first=9)  # the path alone is enough where photos came
    assert read_vault(photos).vault == state.vault


def test_making_a_vault_that_was_interrupted_can_be_repeated(photos: Path) -> None:
    put_photos(photos)
    state, _ = Vault.create(photos, order=ORDER)
    (photos / MARKER).unlink()  # it comes last
    again, _ = Vault.create(photos, order=ORDER)
    assert again.vault != state.vault
    assert [place.vault for place in places.places()] == [again.vault]


# Overlap (P-47) ---------------------------------------------------------------------------


def test_a_copied_folder_is_a_new_vault_and_a_warning(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    _, warnings = Vault.create(put_photos(tmp_path / "copy", 5, first=2), order=ORDER)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"1 of these photos are in the vault {vault.vault} too")
    with Vault.open(photos) as held:
        assert len(held.warnings) == 1


@pytest.mark.parametrize(("unit", "warned"), [("image", True), ("person", False)])
def test_many_photos_in_one_sub_folder_may_be_of_one_person(photos: Path, unit: Unit, warned: bool) -> None:
    """P-9."""
    put_photos(photos, 30)
    put_photos(photos / "ann", 2, first=40)
    _, warnings = Vault.create(photos, unit=unit, order=ORDER)
    assert [text for text in warnings if "6 % of the photos are in the sub-folder ann" in text] == list(warnings)
    assert bool(warnings) == warned


def test_photos_that_came_later_are_compared_too(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    other = put_photos(tmp_path / "other", 2, first=20)
    assert Vault.create(other, order=ORDER)[1] == ()
    put_photos(photos, 1, first=20)
    with Vault.open(photos) as held:
        assert held.warnings[0].startswith("1 of these photos")


def test_fingerprints_are_no_hashes_of_photos(photos: Path, vault: VaultState) -> None:
    import hashlib

    kept = (vault.place.folder / "fingerprints.json").read_text()
    plain = [hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in photos.glob("*.png")]
    assert len(json.loads(kept)) == 3
    assert not any(digest in kept for digest in plain)


@pytest.mark.parametrize("damage", [b"", b"{", b"7"])
def test_a_damaged_secret_or_list_stops_with_a_sentence(photos: Path, vault: VaultState, damage: bytes) -> None:
    for path in (vaults_folder() / "secret", vault.place.folder / "fingerprints.json"):
        kept = path.read_bytes()
        path.write_bytes(damage)
        with pytest.raises(StorageError, match="damaged"), Vault.open(photos):
            pytest.fail("the vault must not open")
        path.write_bytes(kept)
