"""A vault with charges, for the tests of ledger and places."""

from pathlib import Path

import pytest
from vaultkit import charge, make_vault

from modify_fl.privacy.ledger import Vault, VaultState


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
