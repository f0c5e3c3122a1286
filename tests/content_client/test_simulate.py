"""``content-client federate simulate``: several sites on one machine become one adapter."""

import json
from pathlib import Path

import pytest
from programs import QUICK, Result, client, draw_photos

from modify_fl.privacy.ledger import read_vault
from protocol.verify import inspect_bundle

SHORT = ("--rounds", "2", "--local-steps", "1", "--set", "batch=2")
NUMBERS = ("--privacy", "dp", "--n-public", "6", "--batch", "3", "--accept-low-utility")


@pytest.fixture
def sites(desk: Path) -> Path:
    """The desk, with the photos of three sites."""
    for at, name in enumerate(("north", "south", "west")):
        draw_photos(desk / name, 3 + at, first=10 * at)
    return desk


def simulate(desk: Path, *words: str, names: tuple[str, ...] = ("north", "south", "west")) -> Result:
    folders = [word for name in names for word in ("--site", name)]
    asked = ("federate", "simulate", "style.mdfy", *folders, "--no-align", "--out", "f.mdfa")
    return client(*asked, *SHORT, *QUICK, *words, cwd=desk)


def test_three_sites_become_one_adapter_that_stays_here_and_paints(sites: Path) -> None:
    result = simulate(sites, "--json")
    assert result.code == 0, result.err
    body = result.json["result"]
    assert body["sites"] == 3
    assert body["photos"] == [3, 4, 5]
    assert [record["accepted"] for record in body["rounds"]] == [3, 3]
    assert any("nothing is guaranteed about the photos" in warning for warning in result.json["warnings"])  # F-33
    manifest = inspect_bundle(sites / "f.mdfa").manifest
    assert manifest.release == "local-only"
    assert manifest.privacy.dp.guarantee == "none"
    federation = manifest.federation
    assert federation is not None
    assert (federation.rounds, federation.participants_band, federation.secure_aggregation) == (2, "2 to 4", False)
    assert manifest.provenance.training.seed == 0
    words = ("stylize", "--bundle", "style.mdfy", "--adapter", "f.mdfa", "north/p0.png", "--out", "out", "--no-align")
    painted = client(*words, cwd=sites)
    assert painted.code == 0, painted.err


def test_masked_updates_become_an_adapter_that_says_so(sites: Path) -> None:
    result = simulate(sites, "--secagg", "--json")
    assert result.code == 0, result.err
    assert [record["accepted"] for record in result.json["result"]["rounds"]] == [3, 3]
    assert any("experimental" in warning for warning in result.json["warnings"])
    federation = inspect_bundle(sites / "f.mdfa").manifest.federation
    assert federation is not None
    assert federation.secure_aggregation is True


def test_masks_need_three_sites_of_this_process(sites: Path) -> None:
    two = simulate(sites, "--secagg", names=("north", "south"))
    assert two.code == 2
    assert "quorum of 3" in two.err
    assert simulate(sites, "--secagg", "--backend", "ray").code == 2


def test_nothing_but_tensors_is_sent(sites: Path) -> None:
    """F-16: what is carried is what was planned, and a head for each tensor."""
    body = simulate(sites, "--json").json["result"]
    manifest = inspect_bundle(sites / "f.mdfa").manifest
    values = sum(
        info_size(info.shape) for file in manifest.model.weights for info in file.tensors.values()
    )  # fmt: skip
    tensors = sum(len(file.tensors) for file in manifest.model.weights)
    for way in ("bytes_down", "bytes_up"):
        assert 4 * values < body[way] / 6 < 4 * values + 300 * tensors + 1000


def info_size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def test_the_same_command_goes_on_and_gives_the_same_model(sites: Path) -> None:
    whole = simulate(sites, "--rounds", "3")
    assert whole.code == 0, whole.err
    first = (sites / "f.mdfa.run" / "checkpoints" / "00000003" / "model.safetensors").read_bytes()
    exists = simulate(sites, "--rounds", "3")
    assert exists.code == 9
    again = simulate(sites, "--rounds", "3", "--overwrite", "--fresh")
    assert again.code == 0, again.err
    second = (sites / "f.mdfa.run" / "checkpoints" / "00000003" / "model.safetensors").read_bytes()
    assert first == second  # M-40
    done = simulate(sites, "--rounds", "3", "--overwrite", "--json")
    assert done.json["result"]["bytes_up"] == 0  # all rounds were on the disk


def test_a_folder_that_is_not_there_is_made(sites: Path) -> None:
    looked = simulate(sites, "--out", "new/deep/f.mdfa", "--dry-run")
    assert (looked.code, (sites / "new").exists()) == (0, False), looked.err
    result = simulate(sites, "--out", "new/deep/f.mdfa", "--rounds", "1")
    assert result.code == 0, result.err
    assert (sites / "new" / "deep" / "f.mdfa").is_file()


def test_other_numbers_do_not_go_on(sites: Path) -> None:
    assert simulate(sites).code == 0
    changed = simulate(sites, "--overwrite", "--fedprox", "0.5")
    assert changed.code == 2
    assert "fedprox_mu was 0.0, now 0.5" in changed.err


def test_one_set_is_dealt_out(desk: Path) -> None:
    draw_photos(desk / "all", 12)
    words = ("federate", "simulate", "style.mdfy", "--sites", "3", "--photos", "all", "--no-align", *SHORT, *QUICK)
    result = client(*words, "--json", cwd=desk)
    assert result.code == 0, result.err
    assert sum(result.json["result"]["photos"]) == 12
    assert min(result.json["result"]["photos"]) >= 2
    assert (desk / "federated.mdfa").exists()


@pytest.mark.parametrize("words", [("--dry-run",), ("--dry-run", *NUMBERS)])
def test_a_dry_run_writes_trains_and_spends_nothing(sites: Path, words: tuple[str, ...]) -> None:
    make_vaults(sites)
    before = set(sites.rglob("*"))
    result = simulate(sites, *words)
    assert result.code == 0, result.err
    assert "nothing was trained or spent" in result.out
    assert "MB each way for a site and round" in result.out
    assert set(sites.rglob("*")) == before
    assert read_vault(sites / "north").ledger.epsilon == 0.0


WRONG = (
    ((), (), "not said whose photos"),
    (("north",), (), "two sites or more"),
    (("north", "north"), (), "two sites or more"),
    (("north", "south"), ("--sites", "2", "--photos", "north"), "not both"),
    (("north", "south"), ("--backend", "cloud"), "no backend is called cloud"),
    (("north", "south"), ("--quorum", "3"), "a quorum of 3 cannot be reached by 2 sites"),
    (("north", "south"), ("--epsilon", "2"), "add --privacy dp"),
    (("north", "south"), ("--out", "style.mdfy/f.mdfa"), "style.mdfy is no folder"),
    (("north", "south"), ("--subset", "half"), "subset must be one of"),
)


def test_every_site_failing_is_an_error_and_nothing_is_written(sites: Path) -> None:
    failed = simulate(sites, "--set", "learning_rate=1e38", "--max-update-norm", "1", "--local-steps", "3", "--json")
    assert failed.code == 14, failed.err
    assert "no round came about" in failed.json["error"]["what"]
    assert not (sites / "f.mdfa").exists()


def test_what_makes_no_sense_is_one_sentence_and_exit_code_2(sites: Path) -> None:
    for names, words, sentence in WRONG:
        result = simulate(sites, *words, names=names)
        assert (result.code, sentence in result.err) == (2, True), (names, words, result.err)
    assert not (sites / "f.mdfa").exists()


# With privacy ---------------------------------------------------------------------------


def make_vaults(desk: Path, *words: str) -> None:
    for name in ("north", "south", "west"):
        made = client("privacy", "init", "--photos", name, *words, cwd=desk)
        assert made.code == 0, made.err


def test_with_privacy_each_site_is_charged_and_the_adapter_may_be_shared(sites: Path) -> None:
    make_vaults(sites)
    result = simulate(sites, *NUMBERS, "--epsilon", "4")
    assert result.code == 0, result.err
    manifest = inspect_bundle(sites / "f.mdfa").manifest
    assert manifest.release == "shareable"
    assert manifest.provenance.training.subset == "lora"
    assert manifest.privacy.statement.startswith("Every update of this federation, together, is (")
    assert manifest.privacy.statement in result.out.splitlines()
    assert "trust add adapter.mdfykey --fingerprint SHA256:" in result.out
    claim = manifest.privacy.dp
    assert claim.applied
    assert claim.epsilon is not None
    assert 3.5 < claim.epsilon <= 4.001
    releases = []
    for name in ("north", "south", "west"):
        ledger = read_vault(sites / name).ledger
        assert [charge.steps for charge in ledger.charges] == [1, 1]  # a block for each round, before it ran
        assert len(ledger.releases) == 2  # released as often as charged, never more
        releases += [entry.release for entry in ledger.releases]
    assert claim.releases == tuple(sorted(releases))
    for line in (*result.out.splitlines(), *result.err.splitlines()):
        assert "delta" in line or "epsilon 3" not in line


def test_a_finished_run_with_privacy_is_not_charged_again(sites: Path) -> None:
    make_vaults(sites)
    assert simulate(sites, *NUMBERS, "--epsilon", "4").code == 0
    spent = read_vault(sites / "north").ledger.epsilon
    again = simulate(sites, *NUMBERS, "--epsilon", "4", "--overwrite")
    assert again.code == 0, again.err
    assert read_vault(sites / "north").ledger.epsilon == spent


def test_sites_without_a_vault_or_with_the_same_photo_are_refused(sites: Path) -> None:
    refused = simulate(sites, *NUMBERS)
    assert refused.code == 11
    assert "content-client privacy init" in refused.err
    (sites / "south" / "copy.png").write_bytes((sites / "north" / "p0.png").read_bytes())
    make_vaults(sites)
    twice = simulate(sites, *NUMBERS, "--epsilon", "4")
    assert twice.code == 2
    assert "north and south hold the same photo" in twice.err
    assert read_vault(sites / "north").ledger.charges == ()


def test_vaults_of_different_kinds_are_refused(sites: Path) -> None:
    make_vaults(sites, "--delta", "1e-6")
    assert client("privacy", "init", "--photos", "photos", cwd=sites).code == 0
    refused = simulate(sites, *NUMBERS, names=("north", "photos"))
    assert refused.code == 2
    assert "different units or at different deltas" in refused.err


@pytest.mark.parametrize("change", ["private.ema=0.5", "private.optimizer=sgd"])
def test_a_choice_that_would_not_be_heard_is_refused(sites: Path, change: str) -> None:
    refused = simulate(sites, *NUMBERS, "--set", change)
    assert refused.code == 2
    assert "only learning_rate, betas and critic" in refused.err


def test_dealt_photos_have_no_vault_of_their_own(desk: Path) -> None:
    draw_photos(desk / "all", 12)
    words = ("federate", "simulate", "style.mdfy", "--sites", "3", "--photos", "all", "--no-align", *SHORT, *QUICK)
    refused = client(*words, *NUMBERS, cwd=desk)
    assert refused.code == 2
    assert "every site is a folder of its own" in refused.err


def test_a_budget_that_one_site_has_spent_stops_the_run_before_it_begins(sites: Path) -> None:
    make_vaults(sites)
    alone = client(
        "adapt", "--bundle", "style.mdfy", "--photos", "north", "--no-align", "--privacy", "dp", "--n-public", "6",
        "--batch", "3", "--steps", "1", "--accept-low-utility", *QUICK, cwd=sites,
    )  # fmt: skip
    assert alone.code == 0, alone.err
    refused = simulate(sites, *NUMBERS, "--epsilon", "4")
    assert refused.code == 11
    assert read_vault(sites / "south").ledger.charges == ()


def test_the_plan_of_a_run_is_kept_beside_it(sites: Path) -> None:
    assert simulate(sites).code == 0
    plan = json.loads((sites / "f.mdfa.run" / "plan.json").read_text(encoding="utf-8"))
    assert (plan["rounds"], plan["local_steps"], plan["sites"], plan["quorum"]) == (2, 1, 3, 3)
