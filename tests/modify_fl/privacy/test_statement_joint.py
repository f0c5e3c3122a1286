"""P-34: what may be said about the photos of several sites at once."""

from pathlib import Path

import pytest
from vaultkit import charge, make_vault

from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.statement import joint_statement, no_guarantee, statement_of
from protocol.privacy import DpStatement


def claim(folder: Path, steps: int, **changes: object) -> DpStatement:
    make_vault(folder, first=10 * len(list(folder.parent.iterdir())), **changes)  # no photo is at two sites
    with Vault.open(folder) as vault:
        charge(vault, steps, delta=vault.delta, unit=vault.unit)
        vault.record_release(release=f"release of {folder.name}", run="run-1")
        return statement_of(vault.ledger)


def test_photos_of_different_sites_do_not_add_up(tmp_path: Path) -> None:
    near, far = claim(tmp_path / "near", 10), claim(tmp_path / "far", 60)
    joint = joint_statement([near, far, near])
    assert joint.epsilon == far.epsilon > near.epsilon  # type: ignore[operator]
    assert joint.releases == ("release of far", "release of near")
    assert joint.mechanisms == far.mechanisms


def test_what_one_site_does_not_cover_nobody_covers(tmp_path: Path) -> None:
    claim(tmp_path / "near", 10)
    far = claim(tmp_path / "far", 60)
    with Vault.open(tmp_path / "near") as vault:
        charge(vault, 1, run="run-2")
        near = statement_of(vault.ledger)
    assert joint_statement([near, far]).not_covered == near.not_covered != far.not_covered


def test_one_site_without_a_guarantee_is_none_for_all(tmp_path: Path) -> None:
    joint = joint_statement([claim(tmp_path / "near", 10), no_guarantee("it had none")])
    assert (joint.applied, joint.reason) == (False, "it had none")


@pytest.mark.parametrize("change", [{"delta": 1e-6}, {"unit": "person"}])
def test_claims_of_different_kinds_are_no_claim(change: dict[str, object], tmp_path: Path) -> None:
    joint = joint_statement([claim(tmp_path / "a", 10), claim(tmp_path / "b", 10, **change)])
    assert not joint.applied
