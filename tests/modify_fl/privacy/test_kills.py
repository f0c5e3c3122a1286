"""A run that is killed at any moment: what left is never more than what was charged (P-41)."""

import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from vaultkit import charge, make_vault, run_until_killed

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.ledger import Vault, read_vault

_LATEST = 0.01  # about as long as a charge and its releases take


def kill_many(folder: Path, kills: int) -> tuple[int, int]:
    """Kill ``kills`` runs one after the other on one vault; returns how many steps were charged and how many left."""
    photos, released = folder / "photos", folder / "released"
    ledger_file = make_vault(photos, epsilon=1e6).place.folder / "ledger.jsonl"
    released.touch()
    with Vault.open(photos) as vault:
        charge(vault, 1, noise=90.0)  # computes what all later charges need, before the first fork
    moments = np.random.default_rng(11)
    fork = multiprocessing.get_context("fork")  # no second import of torch, so that hundreds of kills are quick
    for kill in range(kills):
        charged, updates = ledger_file.stat().st_size, released.stat().st_size + moments.integers(7)
        child = fork.Process(target=run_until_killed, args=(photos, released))
        child.start()
        while (ledger_file.stat().st_size == charged or released.stat().st_size < updates) and child.is_alive():
            time.sleep(0.0001)
        time.sleep(moments.uniform(0, _LATEST))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL, f"kill {kill}: the run ended by itself"
        ledger = read_vault(photos).ledger  # never damaged, whatever the moment
        assert sum(entry.steps for entry in ledger.charges) >= released.stat().st_size, f"kill {kill}"
    return sum(entry.steps for entry in ledger.charges), released.stat().st_size


def test_a_few_kills_never_release_more_than_was_charged(tmp_path: Path) -> None:
    charged, released = kill_many(tmp_path, 8)
    assert charged >= released > 0


@pytest.mark.slow
def test_two_hundred_kills_never_release_more_than_was_charged(tmp_path: Path) -> None:
    charged, released = kill_many(tmp_path, 200)
    assert charged >= released > 200


def test_two_runs_never_spend_one_budget_twice(tmp_path: Path) -> None:
    """Four processes spend as fast as they can; together they stay within the budget (P-44)."""
    photos = tmp_path / "photos"
    make_vault(photos)
    with Vault.open(photos) as vault:
        charge(vault, 40, noise=1.0)
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_spend, args=(photos, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    ledger = read_vault(photos).ledger
    assert len({entry.run for entry in ledger.charges}) > 1
    assert 7.5 < ledger.epsilon <= 8.0


def _spend(photos: Path, number: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(PrivacyBudgetError), Vault.open(photos) as vault:
            try:
                charge(vault, 4, run=f"run-{number}", noise=1.0)
            except PrivacyBudgetError as error:
                if "does not allow" in error.what:
                    return
        time.sleep(0.001 * (number + 1))
