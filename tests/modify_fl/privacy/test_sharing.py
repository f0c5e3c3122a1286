"""P-39, P-47, P-51: photos that are in more than one place, and what that does to a claim."""

from pathlib import Path

import pytest
from vaultkit import BUNDLE, ORDER, charge, ledger_file, put_photos, settings

from modify_fl.errors import DataError, PrivacyBudgetError
from modify_fl.privacy import making
from modify_fl.privacy.accounting import Segment, epsilon_at, rdp_of
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.release import record_unprotected
from modify_fl.privacy.sharing import require_public
from modify_fl.privacy.statement import require_claim, sentence, statement_of
from protocol.privacy import DpStatement

# Public faces (P-51) ----------------------------------------------------------------------


def test_faces_of_nobody_here_are_public(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    for faces in (str(put_photos(tmp_path / "faces", first=20)), "demo", "synthetic"):
        require_public(faces, photos)


@pytest.mark.parametrize("faces", ["photos", "photos/sub", "."])
def test_the_photos_themselves_are_not_public(photos: Path, vault: VaultState, tmp_path: Path, faces: str) -> None:
    put_photos(photos / "sub", first=20)
    with pytest.raises(PrivacyBudgetError, match="are in one place"):
        require_public(str(tmp_path / faces), photos)


def test_copies_of_any_vaults_photos_are_not_public(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    Vault.create(put_photos(tmp_path / "album", first=30), order=ORDER)
    put_photos(photos, 1, first=40)  # came after the vault was last open
    for number in (2, 30, 40):
        faces = put_photos(tmp_path / f"faces{number}", 1, first=number)
        put_photos(faces, 3, first=50)
        with pytest.raises(PrivacyBudgetError, match="1 of the public faces"):
            require_public(str(faces), photos)
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(PrivacyBudgetError, match="are in one place"):
        require_public(str(tmp_path / "link"), photos)


def test_photos_of_a_vault_that_are_gone_are_not_public(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    """What was charged is about them still."""
    faces = tmp_path / "faces"
    faces.mkdir()
    (photos / "p0.png").rename(faces / "p0.png")
    with pytest.raises(PrivacyBudgetError, match="1 of the public faces"):
        require_public(str(faces), photos)


def test_public_faces_that_are_not_there_are_named(photos: Path, vault: VaultState, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        require_public(str(tmp_path / "nowhere"), photos)


# Claims (P-34, P-47) ----------------------------------------------------------------------


def spend(folder: Path, steps: int = 100, **changes: object) -> DpStatement:
    """Make the vault of some photos, charge it, and return its statement."""
    Vault.create(put_photos(folder), order=ORDER, **changes)  # type: ignore[arg-type]
    with Vault.open(folder) as vault:
        charge(vault, steps, unit=vault.unit, delta=vault.delta)
        vault.record_release(release=f"of {folder.name}", run="run-1")
        return statement_of(vault.ledger)


def claim(folder: Path) -> DpStatement:
    return statement_of(read_vault(folder).ledger)


def test_two_vaults_with_the_same_photos_add_up_in_both_statements(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    alone = spend(a)
    spend(b, 60)
    together = epsilon_at(
        ORDER, rdp_of(Segment(sampling_rate=0.128, noise_multiplier=2.0, steps=160), (ORDER,))[0], 1e-5
    )
    for made in (claim(a), claim(b)):
        assert made.epsilon == pytest.approx(together, abs=1e-4)
        assert (made.epsilon or 0) >= together > (alone.epsilon or 0)
        assert sum(part.steps for part in made.mechanisms or ()) == 160
        assert set(made.releases or ()) == {"of a", "of b"}
    assert statement_of(read_vault(a).ledger, accountant="PRV").accountant == "RDP"


def test_vaults_without_a_common_photo_do_not_add_up(tmp_path: Path) -> None:
    put_photos(tmp_path / "other", first=20)
    Vault.create(tmp_path / "other", order=ORDER)
    with Vault.open(tmp_path / "other") as vault:
        charge(vault, 60)
        vault.record_release(release="gone", reason="a present")
    alone = spend(tmp_path / "a")
    assert [part.steps for part in alone.mechanisms or ()] == [100]
    assert alone.releases == ("of a",)


def test_photos_that_came_later_add_up_too(tmp_path: Path) -> None:
    alone = spend(tmp_path / "a")
    other = put_photos(tmp_path / "b", first=20)
    Vault.create(other, order=ORDER)
    put_photos(other, 1)
    with Vault.open(other) as vault:
        charge(vault, 60)
    (other / "p0.png").unlink()  # it was trained on, whatever lies there now
    with Vault.open(other) as vault:
        assert vault.warnings[0].startswith("1 of these photos")
        assert (claim(tmp_path / "a").epsilon or 0) > (alone.epsilon or 9)


def test_what_left_one_vault_unprotected_ends_the_claims_of_the_other(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    spend(a)
    spend(b)
    with Vault.open(b) as vault:
        vault.record_release(release="gone", reason="a present")
    for folder in (a, b):
        assert sentence(claim(folder)) == "guarantee: none (gone left without differential privacy: a present)"
        with pytest.raises(PrivacyBudgetError, match="nothing can be claimed") as caught:
            require_claim(read_vault(folder).ledger)
        assert "a present" in caught.value.why


def test_what_left_of_a_copy_without_a_vault_ends_the_claim(tmp_path: Path) -> None:
    spend(tmp_path / "a")
    record_unprotected("a present", put_photos(tmp_path / "copy", 1))
    assert "left without differential privacy: a present" in sentence(claim(tmp_path / "a"))


@pytest.mark.parametrize("change", ["unit", "noise", "order"])
def test_charges_that_do_not_add_up_are_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    spend(tmp_path / "a")
    if change == "order":
        monkeypatch.setattr(making, "ORDERS", (5.0,))
    more: dict[str, object] = {"unit": {"unit": "person"}, "order": {"order": 5.0}}.get(change, {})
    Vault.create(put_photos(tmp_path / "b"), **({"order": ORDER} | more))  # type: ignore[arg-type]
    assert claim(tmp_path / "a").applied  # as long as nothing is charged there
    with Vault.open(tmp_path / "b") as vault:
        numbers = settings(unit=vault.unit)
        vault.charge(run="r", bundle=BUNDLE, settings=numbers, steps=1, deterministic=change == "noise")
    said = sentence(claim(tmp_path / "a"))
    assert said.startswith("guarantee: none (test) (" if change == "noise" else "guarantee: none (some of these photos")


def test_another_delta_adds_up_at_ones_own(tmp_path: Path) -> None:
    """The divergences are the same; delta enters when a sum becomes an epsilon."""
    alone, other = spend(tmp_path / "a"), spend(tmp_path / "b", delta=1e-6)
    together = claim(tmp_path / "a")
    assert (together.delta, other.delta) == (1e-5, 1e-6)
    assert (alone.epsilon or 9) < (together.epsilon or 0) < (other.epsilon or 0)


def test_a_vault_whose_ledger_is_doubtful_ends_the_statements_of_the_other(tmp_path: Path) -> None:
    spend(tmp_path / "a")
    spend(tmp_path / "b")
    file = ledger_file(read_vault(tmp_path / "b"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(PrivacyBudgetError, match="cannot be relied on"):
        claim(tmp_path / "a")
