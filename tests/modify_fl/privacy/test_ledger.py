"""P-40 to P-47: what was charged is never less than what was done, and doubt ends in a refusal."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from vaultkit import BUNDLE, ORDER, charge, make_vault, put_photos, settings

from modify_fl.errors import ConfigError, DataError, PrivacyBudgetError
from modify_fl.privacy import places
from modify_fl.privacy.accounting import epsilon_of, rdp_of
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.places import MARKER, vaults_folder
from modify_fl.privacy.settings import Unit
from protocol.errors import StorageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def vault(photos: Path) -> VaultState:
    """A vault with two charges of one run."""
    made = make_vault(photos)
    with Vault.open(photos, run="run-1") as vault:
        charge(vault, 10)
        charge(vault, 10)
    return made


def ledger_file(state: VaultState) -> Path:
    return state.place.folder / "ledger.jsonl"


def refused(photos: Path) -> PrivacyBudgetError:
    """Whatever is tried on these photos is refused with exit code 11, and nothing is charged."""
    with pytest.raises(PrivacyBudgetError) as caught:
        read_vault(photos)
    with pytest.raises(PrivacyBudgetError), Vault.open(photos) as vault:
        charge(vault, 1)
    assert caught.value.exit_code == 11
    assert "\n" not in caught.value.what
    return caught.value


# What a charge is -----------------------------------------------------------------


def test_a_charge_is_on_the_disk_before_its_receipt(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos, run="run-1") as vault:
        receipt = vault.charge(run="run-1", bundle=BUNDLE, settings=settings(), steps=7)
        entry = read_vault(photos).ledger.charges[-1]
    assert (receipt.run, receipt.sequence, receipt.steps) == ("run-1", entry.sequence, 7)
    assert (entry.run, entry.bundle, entry.unit, entry.steps) == ("run-1", BUNDLE, "image", 7)
    assert (entry.sampling_rate, entry.noise_multiplier, entry.max_grad_norm) == (0.128, 2.0, 1.0)


def test_divergences_of_a_mechanism_are_written_once(photos: Path, vault: VaultState) -> None:
    ledger = read_vault(photos).ledger
    assert [len(entry.rdp or ()) for entry in ledger.charges] == [len(ledger.opening.orders), 0]
    assert ledger.rdp == rdp_of(replace(ledger.charges[0].segment, steps=20), ledger.opening.orders)


@pytest.mark.parametrize("change", ["drop", "repeat", "shorten"])
def test_divergences_that_are_missing_or_come_twice_are_refused(photos: Path, change: str) -> None:
    """A line without them would count as nothing."""
    make_vault(photos)
    with Vault.open(photos) as held:
        charge(held, 1)
        rdp = held.ledger.charges[0].rdp
        forged = {"drop": (4.0, None), "repeat": (2.0, rdp), "shorten": (4.0, (rdp or ())[:-1])}[change]
        entry = replace(held.ledger.charges[0], noise_multiplier=forged[0], rdp=forged[1])
        with pytest.raises(PrivacyBudgetError, match="line 3 does not have the RDP"):
            held.ledger.extended(entry)


def test_two_styles_and_a_restart_compose(photos: Path) -> None:
    """P-40: the budget is that of the photos."""
    make_vault(photos)
    for run, bundle in (("a", "11" * 32), ("b", "22" * 32), ("a", "11" * 32)):
        with Vault.open(photos) as vault:
            vault.charge(run=run, bundle=bundle, settings=settings(), steps=50)
    part = read_vault(photos).ledger.charges[0].segment
    ledger = read_vault(photos).ledger
    assert ledger.epsilon == pytest.approx(epsilon_of([part] * 3, 1e-5), rel=1e-12)


def test_several_mechanisms_are_reported_at_the_one_order_of_the_filter(photos: Path) -> None:
    """The best of many orders is no bound where the second mechanism was chosen after the first one's result."""
    make_vault(photos)
    with Vault.open(photos) as vault:
        charge(vault, 50)
        charge(vault, 50, noise=4.0)
        segments = [entry.segment for entry in vault.ledger.charges]
        assert vault.ledger.epsilon >= epsilon_of(segments, 1e-5)
        assert vault.ledger.epsilon == pytest.approx(vault.ledger.spent + 8.0 - vault.ledger.limit)


def test_a_block_that_would_exceed_the_budget_is_refused_before_it_runs(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        charge(vault, 490, noise=2.01)
        before = vault.ledger
        with pytest.raises(PrivacyBudgetError, match="does not allow 100 more steps") as caught:
            charge(vault, 100, noise=2.01)
        assert vault.ledger == before
        charge(vault, 2, noise=2.01)  # a smaller block still fits
    assert all(word in caught.value.why for word in ("epsilon 8", "delta 1e-05", "unit image"))
    assert len(read_vault(photos).ledger.charges) == 2


def test_the_filter_never_lets_epsilon_pass_the_budget(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        for noise in (3.0, 1.5, 2.0, 0.9, 5.0):
            steps = 64
            while steps:
                try:
                    charge(vault, steps, noise=noise)
                except PrivacyBudgetError:
                    steps //= 2
        assert 7.9 < vault.ledger.epsilon <= 8.0


def test_noise_for_what_is_left_fits_exactly(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        charge(vault, 100, noise=4.0)
        noise = vault.noise_multiplier_for(0.128, 300)
        for _ in range(30):
            charge(vault, 10, noise=noise)
        with pytest.raises(PrivacyBudgetError):
            charge(vault, 10, noise=noise)
        assert 7.9 < vault.ledger.epsilon <= 8.0
        with pytest.raises(PrivacyBudgetError, match="no noise brings"):
            vault.noise_multiplier_for(1.0, 10**13)


def test_a_run_may_ask_for_less_than_is_left(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        noise = vault.noise_multiplier_for(0.128, 500, epsilon=3.0)
        charge(vault, 500, noise=noise)
        assert 2.9 < vault.ledger.epsilon <= 3.0


def test_a_run_under_another_claim_is_refused(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        with pytest.raises(PrivacyBudgetError, match="made for unit image, the run has unit person"):
            charge(vault, 1, unit="person")
        with pytest.raises(PrivacyBudgetError, match="made for delta 1e-05, the run has delta 1e-06"):
            charge(vault, 1, delta=1e-6)
        assert vault.ledger.charges == ()


def test_a_closed_vault_charges_nothing(photos: Path) -> None:
    make_vault(photos)
    with Vault.open(photos) as vault:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        charge(vault, 1)


def test_a_vault_that_is_not_held_charges_nothing(photos: Path) -> None:
    state = make_vault(photos)
    with pytest.raises(RuntimeError, match="closed"):
        charge(Vault(state), 1)
    assert Vault(state).noise_multiplier_for(0.128, 500) > 1  # but it can be asked


# The budget -------------------------------------------------------------------------


def test_a_budget_is_set_once(photos: Path, vault: VaultState) -> None:
    with pytest.raises(PrivacyBudgetError, match=f"has the vault {vault.vault}"):
        Vault.create(photos, epsilon_max=100.0, order=ORDER)


def test_a_budget_is_raised_with_a_reason_that_stays(photos: Path, vault: VaultState) -> None:
    with Vault.open(photos) as held:
        held.raise_budget(10.0, "second exhibition")
        for wrong in (10.0, 3.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match="can only rise"):
                held.raise_budget(wrong, "no")
        for silent in ("", "  ", "two\nlines"):
            with pytest.raises(ConfigError, match="needs a reason"):
                held.raise_budget(20.0, silent)
    state = read_vault(photos)
    assert state.ledger.epsilon_max == 10.0
    assert json.loads(ledger_file(vault).read_bytes().splitlines()[-1])["reason"] == "second exhibition"


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (float("inf"), 1e-5), (8, 0), (8, 1), (3, 1e-5)])
def test_a_budget_that_makes_no_sense_is_refused(photos: Path, epsilon: float, delta: float) -> None:
    put_photos(photos)
    with pytest.raises(ConfigError):
        Vault.create(photos, epsilon_max=epsilon, delta=delta, order=ORDER)
    assert not (photos / MARKER).exists()


def test_delta_of_a_vault_is_below_one_over_its_photos(photos: Path) -> None:
    put_photos(photos, 5)
    with pytest.raises(PrivacyBudgetError, match="delta must be below"):
        Vault.create(photos, delta=0.2, order=ORDER)


def test_photos_without_a_vault_are_refused_and_told_how_to_get_one(photos: Path) -> None:
    put_photos(photos)
    assert "content-client privacy init" in refused(photos).fix
    with pytest.raises(DataError):
        read_vault(photos / "nowhere")


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
