"""P-40, P-41, P-45: what was charged is never less than what was done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from vaultkit import BUNDLE, ORDER, charge, ledger_file, make_vault, put_photos, refused, settings

from modify_fl.errors import ConfigError, DataError, PrivacyBudgetError
from modify_fl.privacy.accounting import epsilon_at, epsilon_of, rdp_of
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.places import MARKER

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
    ledger = read_vault(photos).ledger
    rdp = rdp_of(replace(ledger.charges[0].segment, steps=150), (ORDER,))[0]
    assert ledger.epsilon == pytest.approx(epsilon_at(ORDER, rdp, 1e-5), rel=1e-12)


def test_a_run_that_was_fixed_in_advance_is_reported_at_its_best_order(photos: Path, vault: VaultState) -> None:
    ledger = read_vault(photos).ledger
    part = replace(ledger.charges[0].segment, steps=20)
    assert ledger.epsilon == pytest.approx(epsilon_of([part], 1e-5), rel=1e-12)


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
