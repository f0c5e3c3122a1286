"""P-1 to P-3: every number of the sentence comes from the ledger, and without a claim there is none."""

from pathlib import Path

import pytest
from vaultkit import BUNDLE, ORDER, charge, make_vault, settings

from modify_fl.privacy import statement as statements
from modify_fl.privacy.accounting import Segment, epsilon_at, epsilon_of, rdp_of
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
    rdp = rdp_of(Segment(sampling_rate=0.128, noise_multiplier=2.0, steps=100), (ORDER,))[0]
    assert made.applied
    assert made.epsilon is not None
    assert epsilon_at(ORDER, rdp, 1e-5) <= made.epsilon <= epsilon_at(ORDER, rdp, 1e-5) + 1e-4
    assert (made.unit, made.adjacency, made.delta, made.accountant) == ("image", "add/remove", 1e-5, "RDP")
    assert [(part.steps, part.noise_multiplier) for part in made.mechanisms or ()] == [(100, 2.0)]
    assert (made.releases, made.n_is_public, made.tuned_on_private) == (("first",), False, "not stated")
    assert made.not_covered[:3] == NOT_COVERED  # type: ignore[index]
    assert (made.accountant_version or "").startswith("opacus ")


def test_sentence_has_every_field(photos: Path) -> None:
    with Vault.open(photos) as vault:
        charge(vault, 100)
        charge(vault, 20, run="run-2", noise=4.0)
        made = statement_of(vault.ledger)
    assert sentence(made) == (
        f"Every encoder update that left this client, together, is ({made.epsilon:g}, 1e-05)-DP under add/remove of "
        "ONE IMAGE, with Poisson sampling rate 0.128, noise multiplier 2, clip 1, 100 steps, and Poisson sampling rate "
        "0.128, noise multiplier 4, clip 1, 20 steps, accountant RDP, sampler and noise from an OS CSPRNG. Not "
        "covered: stylised images you share, logs you export, test-time weights, runs whose settings, length or "
        "existence were chosen by the results of earlier ones (for them the budget holds: epsilon 8 at delta 1e-05)."
    )


def test_rounds_of_one_federated_run_are_one_schedule(photos: Path) -> None:
    exact = epsilon_of([Segment(sampling_rate=0.128, noise_multiplier=2.0, steps=100)], 1e-5)
    with Vault.open(photos) as vault:
        for number in range(10):
            charge(vault, 10, run=f"f00d/{number + 1}")
        made = statement_of(vault.ledger)
        assert made.epsilon == pytest.approx(exact, abs=1e-4)
        assert made.not_covered == NOT_COVERED


@pytest.mark.parametrize("runs", [("a", "b"), ("f00d/1", "beef/2"), ("f00d/1", "f00d/one"), ("/1", "/2")])
def test_several_runs_are_no_schedule_that_was_fixed_in_advance(
    photos: Path, monkeypatch: pytest.MonkeyPatch, runs: tuple[str, str]
) -> None:
    """Whether there is a second run may follow from the first one's result; equal numbers change nothing."""
    monkeypatch.setattr(statements, "epsilon_of", lambda *_, **__: 0.1)
    with Vault.open(photos) as vault:
        for run in runs:
            charge(vault, 50, run=run)
        made = statement_of(vault.ledger, accountant="PRV")
        assert (made.accountant, made.epsilon) == ("RDP", pytest.approx(vault.ledger.epsilon, abs=1e-4))
        assert vault.ledger.epsilon == pytest.approx(vault.ledger.spent + 8.0 - vault.ledger.limit)
        assert (made.not_covered or ())[-1].endswith("(for them the budget holds: epsilon 8 at delta 1e-05)")
        vault.raise_budget(12.0, "a second style")  # which may itself follow from results
        assert (statement_of(vault.ledger).not_covered or ())[-1].endswith("the results of earlier ones")


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
        charge(vault, 1, run="run-2")  # chosen later: PRV is for a schedule that was fixed in advance (P-32)
        assert statement_of(vault.ledger, accountant="PRV").accountant == "RDP"


def test_no_guarantee_has_no_number() -> None:
    made = no_guarantee("because")
    assert (made.applied, made.guarantee, made.reason, made.epsilon) == (False, "none", "because", None)
