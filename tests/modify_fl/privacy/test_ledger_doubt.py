"""P-43, P-44: doubt about a ledger ends in a refusal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from vaultkit import ORDER, charge, ledger_file, put_photos, refused

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy import places
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.places import MARKER
from protocol.errors import StorageError

# Fail closed (P-43) -----------------------------------------------------------------


def test_a_deleted_ledger_is_refused(photos: Path, vault: VaultState) -> None:
    ledger_file(vault).unlink()
    assert "missing" in refused(photos).what


def test_a_deleted_vault_is_refused(photos: Path, vault: VaultState) -> None:
    for path in vault.place.folder.iterdir():
        path.unlink()
    vault.place.folder.rmdir()
    assert "missing" in refused(photos).what


def test_a_ledger_cut_anywhere_is_refused(photos: Path, vault: VaultState) -> None:
    data = ledger_file(vault).read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    cuts = {0, 1, len(data) // 2, len(data) - 2, len(data) - 1, *ends, *(end + 1 for end in ends[:-1])}
    for cut in sorted(cuts):
        ledger_file(vault).write_bytes(data[:cut])
        refused(photos)
    ledger_file(vault).write_bytes(data)
    read_vault(photos)


def test_any_changed_byte_is_refused(photos: Path, vault: VaultState) -> None:
    data = ledger_file(vault).read_bytes()
    second = data.index(b"\n") + 1
    for at in (5, 200, second + 3, second + data[second:].index(b"steps") + 7, len(data) - 3):
        changed = bytearray(data)
        changed[at] ^= 1
        ledger_file(vault).write_bytes(changed)
        try:
            ledger = read_vault(photos).ledger
        except PrivacyBudgetError:
            continue
        # The last line has no successor: a change of it that is still a line keeps the number of lines.
        assert at > second
        assert len(ledger.charges) == 2


def test_a_line_taken_out_or_moved_is_refused(photos: Path, vault: VaultState) -> None:
    lines = ledger_file(vault).read_bytes().splitlines(keepends=True)
    for order in ((0, 2), (0, 2, 1), (1, 2), (0, 1, 1), (0, 0, 1), (1, 0, 2)):
        ledger_file(vault).write_bytes(b"".join(lines[index] for index in order))
        refused(photos)


def test_a_ledger_from_an_older_backup_is_refused(photos: Path, vault: VaultState) -> None:
    old = ledger_file(vault).read_bytes()
    with Vault.open(photos) as held:
        charge(held, 5)
    ledger_file(vault).write_bytes(old)
    assert "ends with line 3, and the photo folder has seen line 4" in refused(photos).what


def test_a_ledger_of_another_version_is_refused(photos: Path, vault: VaultState) -> None:
    lines = ledger_file(vault).read_bytes().splitlines()
    lines[0] = lines[0].replace(b'"schema":1', b'"schema":2')
    ledger_file(vault).write_bytes(b"\n".join(lines) + b"\n")
    assert "its version is 2, this program knows 1" in refused(photos).what


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"nonsense",
        b'{"kind":"gift"}',
        b'{"kind":"charge"}',
        b"\xff",
        b" " * (1 << 17),
        b'{"kind":"vault"}',
    ],
)
def test_a_line_that_no_version_writes_is_refused(photos: Path, vault: VaultState, line: bytes) -> None:
    with ledger_file(vault).open("ab") as stream:
        stream.write(line + b"\n")
    assert "line 4" in refused(photos).what


def test_a_ledger_of_another_vault_is_refused(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    put_photos(tmp_path / "other", first=10)
    other = Vault.create(tmp_path / "other", order=ORDER)[0]
    ledger_file(vault).write_bytes(ledger_file(other).read_bytes())
    (photos / MARKER).write_bytes((photos / MARKER).read_bytes().replace(b'"sequence":2', b'"sequence":0'))
    assert "belongs to another vault" in refused(photos).what


def test_a_deleted_marker_is_refused_and_does_not_reset_the_budget(photos: Path, vault: VaultState) -> None:
    (photos / MARKER).unlink()
    assert "is missing" in refused(photos).what
    with pytest.raises(PrivacyBudgetError, match="is missing"):
        Vault.create(photos, order=ORDER)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"nonsense", b'{"format":2,"sequence":0,"vault":"%s"}' % (b"a" * 36)]
)
def test_a_damaged_marker_is_refused(photos: Path, vault: VaultState, content: bytes) -> None:
    (photos / MARKER).write_bytes(content)
    assert MARKER in refused(photos).what


def test_a_marker_that_names_a_path_is_refused(photos: Path, vault: VaultState) -> None:
    (photos / MARKER).write_bytes(b'{"format":1,"sequence":0,"vault":"../../../../../../../../../../../../etc"}')
    assert MARKER in refused(photos).what


def test_a_marker_that_lags_behind_is_right_and_catches_up(photos: Path, vault: VaultState) -> None:
    """A kill between ledger and marker leaves it so."""
    marker = photos / MARKER
    marker.write_bytes(marker.read_bytes().replace(b'"sequence":2', b'"sequence":1'))
    assert read_vault(photos).ledger.sequence == 2
    with Vault.open(photos):
        pass
    assert json.loads(marker.read_bytes())["sequence"] == 2


def test_a_folder_that_was_moved_keeps_its_vault(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    moved = photos.rename(tmp_path / "album")
    assert read_vault(moved).vault == vault.vault


# Two processes (P-44) -----------------------------------------------------------------------


def test_a_second_process_is_told_which_run_holds_the_vault(photos: Path, vault: VaultState) -> None:
    code = (
        "import sys; from pathlib import Path; from modify_fl.privacy.ledger import Vault\n"
        "from modify_fl.errors import PrivacyBudgetError\n"
        "try:\n    with Vault.open(Path(sys.argv[1])): print('opened')\n"
        "except PrivacyBudgetError as error: print(error.what)"
    )

    def other() -> str:
        done = subprocess.run([sys.executable, "-c", code, str(photos)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with Vault.open(photos, run="winter-3"):
        assert other() == "the vault of these photos is in use by run winter-3"
        assert read_vault(photos).ledger.sequence == 2  # looking needs no lock
    assert other() == "opened"


# Disk full ------------------------------------------------------------------------------------


def test_a_full_disk_charges_nothing_and_leaves_the_vault_whole(
    photos: Path, vault: VaultState, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = ledger_file(vault).read_bytes()
    with Vault.open(photos) as held:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), hard))
        try:
            with pytest.raises(StorageError):
                charge(held, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ledger_file(vault).read_bytes() == before
        charge(held, 1)  # there is space again
    assert len(read_vault(photos).ledger.charges) == 3
    assert not [path for path in vault.place.folder.iterdir() if path.suffix == ".part"]


def test_a_marker_that_cannot_be_written_gives_no_receipt_and_keeps_the_charge(
    photos: Path, vault: VaultState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space")

    with Vault.open(photos) as held:
        with monkeypatch.context() as patch:
            patch.setattr(places.Marker, "write", full)
            with pytest.raises(StorageError):
                charge(held, 1)
        assert len(read_vault(photos).ledger.charges) == 3
        charge(held, 1)
    assert len(read_vault(photos).ledger.charges) == 4
