"""P-1 to P-3: every number of the sentence comes from the ledger, and without a claim there is none."""

from pathlib import Path

import pytest
from vaultkit import BUNDLE, charge, make_vault, settings

from modify_fl.privacy import statement as statements
from modify_fl.privacy.accounting import Segment, epsilon_of
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.statement import NOT_COVERED, no_guarantee, sentence, statement_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_vault(tmp_path / "photos")
    return tmp_path / "photos"


def test_statement_composes_everything_that_was_charged(photos: Path) -> None:
    with Vault.open(photos) as vault:
        charge(vault, 60, run="a")
        charge(vault, 40, run="b")
        vault.record_release(release="first", run="a")
        made = statement_of(vault.ledger)
    exact = epsilon_of([Segment(sampling_rate=0.128, noise_multiplier=2.0, steps=100)], 1e-5)
    assert made.applied
    assert made.epsilon is not None
    assert exact <= made.epsilon <= exact + 1e-4
    assert (made.unit, made.adjacency, made.delta, made.accountant) == ("image", "add/remove", 1e-5, "RDP")
    assert [(part.steps, part.noise_multiplier) for part in made.mechanisms or ()] == [(100, 2.0)]
    assert (made.releases, made.n_is_public, made.tuned_on_private) == (("first",), False, "nothing")
    assert made.not_covered == NOT_COVERED
    assert (made.accountant_version or "").startswith("opacus ")


def test_sentence_has_every_field(photos: Path) -> None:
    with Vault.open(photos) as vault:
        charge(vault, 100)
        charge(vault, 20, noise=4.0)
        made = statement_of(vault.ledger)
    assert sentence(made) == (
        f"Every encoder update that left this client, together, is ({made.epsilon:g}, 1e-05)-DP under add/remove of "
        "ONE IMAGE, with Poisson sampling rate 0.128, noise multiplier 2, clip 1, 100 steps, and Poisson sampling rate "
        "0.128, noise multiplier 4, clip 1, 20 steps, accountant RDP, sampler and noise from an OS CSPRNG. Not "
        "covered: stylised images you share, logs you export, test-time weights."
    )


def test_person_is_named(tmp_path: Path) -> None:
    make_vault(tmp_path / "people", unit="person")
    with Vault.open(tmp_path / "people") as vault:
        charge(vault, 1, unit="person")
        assert "ONE PERSON" in sentence(statement_of(vault.ledger))


def test_nothing_charged_is_no_guarantee_and_no_epsilon(photos: Path) -> None:
    with Vault.open(photos) as vault:
        made = statement_of(vault.ledger)
    assert sentence(made) == "guarantee: none (no run under differential privacy was charged to these photos)"
    assert made.epsilon is None


def test_repeatable_noise_is_a_test(photos: Path) -> None:
    with Vault.open(photos) as vault:
        charge(vault, 10)
        vault.charge(run="t", bundle=BUNDLE, settings=settings(), steps=1, deterministic=True)
        assert sentence(statement_of(vault.ledger)) == "guarantee: none (test) (the noise was repeatable)"


def test_one_unprotected_release_ends_every_claim(photos: Path) -> None:
    """ "Every update that left, together" would be false from then on."""
    with Vault.open(photos) as vault:
        charge(vault, 10)
        vault.record_release(release="ours", run="run-1")
        vault.record_release(release="theirs", reason="a present")
        made = statement_of(vault.ledger)
    assert sentence(made) == "guarantee: none (theirs left without differential privacy: a present)"


@pytest.mark.parametrize(("found", "accountant"), [(3.1, "PRV"), (99.0, "RDP")])
def test_prv_counts_where_it_is_tighter(
    photos: Path, monkeypatch: pytest.MonkeyPatch, found: float, accountant: str
) -> None:
    def account(segments: list[Segment], delta: float, accountant: str) -> float:
        return min(found, epsilon_of(segments, delta))

    monkeypatch.setattr(statements, "epsilon_of", account)
    with Vault.open(photos) as vault:
        charge(vault, 100)
        made = statement_of(vault.ledger, accountant="PRV")
        assert made.accountant == accountant
        charge(vault, 1, noise=4.0)  # chosen later: PRV is for a schedule that was fixed in advance (P-32)
        assert statement_of(vault.ledger, accountant="PRV").accountant == "RDP"


def test_no_guarantee_has_no_number() -> None:
    made = no_guarantee("because")
    assert (made.applied, made.guarantee, made.reason, made.epsilon) == (False, "none", "because", None)
