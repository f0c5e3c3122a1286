"""Vaults for tests, and a run that charges and releases until it is killed."""

import os
import sys
from pathlib import Path

import pytest

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.settings import DpSettings

BUNDLE = "ab" * 32
ORDER = 3.7  # the best one for epsilon 8; naming it keeps Opacus out of tests that do not need it


def settings(*, noise: float = 2.0, **changes: object) -> DpSettings:
    """The defaults of P-52 at 2000 photos."""
    fields: dict[str, object] = {"n_public": 2000, "batch": 256, "steps": 500, "noise_multiplier": noise}
    return DpSettings(**(fields | changes))  # type: ignore[arg-type]


def put_photos(folder: Path, count: int = 3, *, first: int = 0) -> Path:
    """Write files that are pictures by name; a vault never decodes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"p{number}.png").write_bytes(b"picture %d" % number)
    return folder


def make_vault(folder: Path, *, epsilon: float = 8.0, first: int = 0, **changes: object) -> VaultState:
    """Put photos into ``folder``, those from number ``first`` on, and make their vault."""
    put_photos(folder, first=first)
    return Vault.create(folder, epsilon_max=epsilon, order=ORDER, **changes)[0]  # type: ignore[arg-type]


def charge(vault: Vault, steps: int, *, run: str = "run-1", noise: float = 2.0, **changes: object) -> int:
    """Charge a block and return the number of its line."""
    return vault.charge(run=run, bundle=BUNDLE, settings=settings(noise=noise, **changes), steps=steps).sequence


def run_until_killed(photos: Path, released: Path) -> None:
    """Charge three steps, then release three updates one after the other, over and over."""
    with Vault.open(photos, run="killed") as vault, released.open("ab", buffering=0) as log:
        while True:
            receipt = vault.charge(run="killed", bundle=BUNDLE, settings=settings(noise=90.0), steps=3)
            for _ in range(receipt.steps):
                log.write(b"u")
                os.fsync(log.fileno())


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


if __name__ == "__main__":
    run_until_killed(Path(sys.argv[1]), Path(sys.argv[2]))
