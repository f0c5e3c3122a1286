"""``content-client adapt --privacy dp``: from a vault to an adapter that may be shared (P-20 to P-52)."""

import json
import re
import stat
from pathlib import Path

import pytest
from programs import QUICK, Result, client, draw_photos

from content_client.identity import identity_folder
from content_client.private.public_faces import PublicFaces
from modify_fl.privacy.ledger import read_vault
from modify_fl.privacy.release import record_unprotected
from protocol.verify import inspect_bundle

NUMBERS = ("--n-public", "6", "--batch", "3", "--steps", "2", "--accept-low-utility")


@pytest.fixture
def vault(desk: Path) -> Path:
    """The desk, its photos a vault with the default budget."""
    draw_photos(desk / "photos", 6)
    made = client("privacy", "init", "--photos", "photos", cwd=desk)
    assert made.code == 0, made.err
    return desk


def adapt(desk: Path, *words: str) -> Result:
    return client("adapt", "--bundle", "style.mdfy", "--no-align", "--privacy", "dp", *QUICK, *words, cwd=desk)


def spent(desk: Path) -> float:
    return read_vault(desk / "photos").ledger.epsilon


def test_an_adapter_leaves_with_its_statement_and_paints(vault: Path) -> None:
    result = adapt(vault, *NUMBERS, "--epsilon", "4")
    assert result.code == 0, result.err
    manifest = inspect_bundle(vault / "photos.mdfa").manifest
    assert manifest.release == "shareable"
    assert manifest.provenance.training.subset == "lora"  # P-51
    claim = manifest.privacy.dp
    assert claim.applied
    assert claim.epsilon is not None
    assert 3.5 < claim.epsilon <= 4.001
    assert claim.tuned_on_private == "not stated"  # nobody said so
    assert "unit image" in result.out or "ONE IMAGE" in result.out
    assert f"public key   {identity_folder() / 'adapter.mdfykey'}" in result.out  # what has to go along
    ledger = read_vault(vault / "photos").ledger
    assert [charge.steps for charge in ledger.charges] == [1, 1]
    assert len(ledger.releases) == 1
    words = ("stylize", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", "photos/p0.png", "--out", "out")
    painted = client(*words, "--no-align", cwd=vault)
    assert painted.code == 0, painted.err


def test_no_epsilon_is_printed_alone(vault: Path) -> None:
    result = adapt(vault, *NUMBERS, "--epsilon", "4")
    planned = adapt(vault, *NUMBERS, "--epsilon", "2", "--out", "b.mdfa", "--dry-run")
    for text in (result.out, result.err, planned.out, planned.err):
        for line in text.splitlines():
            assert "delta" in line or not re.search("epsilon [0-9]", line), line


def test_the_default_says_that_the_adapter_stays_here(desk: Path) -> None:
    result = client("adapt", "--bundle", "style.mdfy", "--no-align", "--budget", "1steps", *QUICK, cwd=desk)
    assert result.code == 0, result.err
    assert "stays on this machine" in result.out


def test_a_dry_run_spends_and_writes_nothing(vault: Path) -> None:
    home = Path(read_vault(vault / "photos").place.folder)
    before = {path: path.read_bytes() for path in [*vault.rglob("*"), *home.rglob("*")] if path.is_file()}
    result = adapt(vault, *NUMBERS, "--epsilon", "4", "--dry-run", "--json")
    assert result.code == 0, result.err
    body = result.json["result"]
    assert (body["settings"]["batch"], body["settings"]["steps"], body["delta"], body["unit"]) == (3, 2, 1e-5, "image")
    assert 3.5 < body["epsilon"] <= 4.001
    assert body["isolation"] <= 1e-5
    assert body["seconds"] > 0
    assert body["memory"] > 100e6
    assert spent(vault) == 0.0
    after = {path: path.read_bytes() for path in [*vault.rglob("*"), *home.rglob("*")] if path.is_file()}
    assert after == before


def test_the_same_command_goes_on_without_a_new_charge(vault: Path) -> None:
    assert adapt(vault, *NUMBERS, "--epsilon", "4").code == 0
    once = spent(vault)
    assert adapt(vault, *NUMBERS, "--epsilon", "4").code == 9  # the result exists
    again = adapt(vault, *NUMBERS, "--epsilon", "4", "--overwrite")
    assert again.code == 0, again.err
    assert "going on after step 2" in again.err
    assert spent(vault) == once


def test_other_numbers_do_not_go_on_and_a_fresh_run_is_charged_again(vault: Path) -> None:
    assert adapt(vault, *NUMBERS, "--epsilon", "3").code == 0
    once = spent(vault)
    changed = adapt(vault, *NUMBERS[:2], "--batch", "2", *NUMBERS[4:], "--epsilon", "3", "--overwrite")
    assert changed.code == 2
    assert "batch was 3, now 2" in changed.err
    fresh = adapt(vault, *NUMBERS, "--epsilon", "3", "--overwrite", "--fresh")
    assert fresh.code == 0, fresh.err
    assert once < spent(vault) <= 8.0


def test_a_record_of_an_older_version_is_one_sentence(vault: Path) -> None:
    assert adapt(vault, *NUMBERS, "--epsilon", "3").code == 0
    path = vault / "photos.mdfa.run" / "private.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["settings"]["per_person"]
    path.write_text(json.dumps(record), encoding="utf-8")
    refused = adapt(vault, *NUMBERS, "--epsilon", "3", "--overwrite")
    assert (refused.code, "its record lacks per_person" in refused.err) == (2, True), refused.err


def test_the_folder_of_a_run_is_its_owners_from_the_start(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P-38; with public faces it is made long before the run itself begins."""
    modes = []

    def adapted_to(*_: object, **__: object) -> None:
        modes.append(stat.S_IMODE((vault / "photos.mdfa.run").stat().st_mode))

    monkeypatch.setattr(PublicFaces, "adapted_to", adapted_to)
    assert adapt(vault, *NUMBERS, "--epsilon", "4").code == 0
    assert modes == [0o700]


def test_a_budget_that_is_used_up_is_refused_before_anything_is_trained(vault: Path) -> None:
    assert adapt(vault, *NUMBERS).code == 0  # all that there is
    refused = adapt(vault, *NUMBERS, "--epsilon", "4", "--out", "b.mdfa")
    assert refused.code == 11
    assert "less is left than the epsilon 4.00 at delta 1e-05, unit image asked for" in refused.err
    assert not (vault / "b.mdfa").exists()
    assert len(read_vault(vault / "photos").ledger.charges) == 2


def test_photos_without_a_vault_are_refused(desk: Path) -> None:
    refused = adapt(desk, *NUMBERS)
    assert refused.code == 11
    assert "content-client privacy init" in refused.err


def test_noise_that_drowns_the_signal_stops_the_run_unless_accepted(vault: Path) -> None:
    refused = adapt(vault, *NUMBERS[:-1], "--epsilon", "1")
    assert refused.code == 11
    assert "signal to noise" in refused.err
    assert spent(vault) == 0.0


def test_public_faces_come_first_give_the_bound_and_judge_the_result(vault: Path) -> None:
    draw_photos(vault / "public", 10, side=48)
    words = (*NUMBERS, "--epsilon", "4", "--public", "public", "--budget", "3steps")
    result = adapt(vault, *words, "--json")
    assert result.code == 0, result.err
    body = result.json["result"]
    assert body["settings"]["max_grad_norm"] not in {0.0, 1.0}
    assert set(body["public_loss"]) == {"public_only", "private"}
    names = set(inspect_bundle(vault / "photos.mdfa").manifest.model.trainable)
    assert any(name.startswith("encoder.blocks.") for name in names)  # what public faces moved is in it
    record = json.loads((vault / "photos.mdfa.run" / "private.json").read_text(encoding="utf-8"))
    assert record["settings"]["max_grad_norm"] == body["settings"]["max_grad_norm"]


def test_public_faces_that_somebody_has_to_protect_are_refused_before_anything_is_trained(vault: Path) -> None:
    """They train E' without noise; the claim about the photos would be false."""
    draw_photos(vault / "copy", 2, first=5)  # one of the six
    words = (*NUMBERS, "--epsilon", "4", "--budget", "1steps", "--public")
    for public, sentence in (("photos", "are in one place"), ("copy", "1 of the public faces copy are photos")):
        for more in ((), ("--dry-run",)):
            refused = adapt(vault, *words, public, *more)
            assert (refused.code, sentence in refused.err) == (11, True), refused.err
    assert spent(vault) == 0.0
    assert not (vault / "photos.mdfa.run").exists()


def test_photos_without_a_claim_are_not_trained_on(vault: Path) -> None:
    """P-39: the budget would be spent on an adapter that may not leave."""
    record_unprotected("a present", vault / "photos")
    for more in ((), ("--dry-run",)):
        refused = adapt(vault, *NUMBERS, "--epsilon", "4", *more)
        assert (refused.code, "nothing can be claimed" in refused.err) == (11, True), refused.err
    assert spent(vault) == 0.0


def test_what_was_tuned_on_private_photos_is_what_the_user_says(vault: Path) -> None:
    """P-30: the program cannot know it, so it never says nothing by itself."""
    for text, code in (("two\nlines", 2), (" ", 2), ("c" * 201, 2), ("/home/ann/photos", 6)):
        refused = adapt(vault, *NUMBERS, "--epsilon", "4", "--tuned-on", text)
        assert (refused.code, "--tuned-on" in refused.err) == (code, True), refused.err
    assert spent(vault) == 0.0
    assert adapt(vault, *NUMBERS, "--epsilon", "4", "--tuned-on", "nothing").code == 0
    assert inspect_bundle(vault / "photos.mdfa").manifest.privacy.dp.tuned_on_private == "nothing"


def test_the_unit_is_that_of_the_vault(desk: Path) -> None:
    for person in ("ann", "bob"):
        draw_photos(desk / "people" / person, 2)
    made = client("privacy", "init", "--photos", "people", "--unit", "person", cwd=desk)
    assert made.code == 0, made.err
    words = (*NUMBERS, "--epsilon", "4", "--photos", "people")
    result = adapt(desk, *words)
    assert result.code == 0, result.err
    assert inspect_bundle(desk / "people.mdfa").manifest.privacy.dp.unit == "person"
    refused = adapt(desk, *words, "--unit", "image", "--out", "b.mdfa")
    assert refused.code == 11
    assert "protects each person" in refused.err


def test_folders_of_photos_are_warned_of_where_each_counts_by_itself(vault: Path) -> None:
    draw_photos(vault / "photos" / "ann", 3)
    assert "share folders" in adapt(vault, *NUMBERS, "--epsilon", "4", "--dry-run").err


def test_a_list_names_the_persons(desk: Path) -> None:
    draw_photos(desk / "flat", 3)
    assert client("privacy", "init", "--photos", "flat", "--unit", "person", cwd=desk).code == 0
    words = (*NUMBERS, "--epsilon", "4", "--photos", "flat", "--dry-run", "--persons", "who.json")
    (desk / "who.json").write_text('{"p0.png": "ann", "p1.png": "ann", "p2.png": "bob"}')
    assert adapt(desk, *words).code == 0
    (desk / "who.json").write_text("[1]")
    assert adapt(desk, *words).code == 2
    assert adapt(desk, *words[:-1], "nobody.json").code == 2


UNSOUND = (
    (("--privacy", "high"), "no privacy is called high"),
    (("--mode", "test-time"), "test-time mode takes no privacy"),
    (("--mode", "online"), "online mode cannot be private yet"),
    (("--tensorboard", "board"), "has no curves"),
    (("--budget", "10m"), "the length of training with privacy is --steps"),
    (("--dp-schedule", "slow"), "no schedule is called slow"),
    (("--unit", "client"), "no unit is called client"),
    (("--engine", "ghost"), "no engine is called ghost"),
    (("--delta", "0.5"), "delta must be below 1 / n_public"),
    (("--batch", "9"), "the sampling rate must lie between"),
    (("--persons", "who.json"), "--persons belongs to unit person"),
    (("--set", "private.critic=trained"), "private.critic cannot be trained"),
    (("--set", "private.sampling=shuffled"), "private.sampling cannot be shuffled"),
    (("--set", "private.accountant=gdp"), "private.accountant cannot be gdp"),
    (("--set", "private.speed=1"), "no setting is called speed"),
    (("--set", "private.critic"), "cannot read the setting"),
    (("--set", "private.learning_rate=1e999"), "private.learning_rate must be a number above 0, got inf"),
    (("--clip", "0"), "--clip must be a number above 0, got 0"),
    (("--clip", "inf"), "--clip must be a number above 0, got inf"),
    (("--delta", "0"), "--delta must be a number above 0, got 0"),
    (("--epsilon", "nan"), "--epsilon must be a number above 0, got nan"),
)


def test_what_would_be_unsound_is_one_sentence_and_exit_code_2(vault: Path) -> None:
    for words, sentence in UNSOUND:
        result = adapt(vault, *NUMBERS, "--epsilon", "4", *words)
        assert (result.code, sentence in result.err) == (2, True), (words, result.err)
    assert spent(vault) == 0.0


def test_the_number_of_photos_must_be_given(vault: Path) -> None:
    result = adapt(vault, "--epsilon", "4")
    assert result.code == 2
    assert "needs the number of photos, rounded" in result.err


def test_numbers_of_privacy_need_privacy(desk: Path) -> None:
    for words in (
        ("--epsilon", "4"),
        ("--n-public", "9"),
        ("--tuned-on", "nothing"),
        ("--augmentations", "2"),
        ("--set", "private.ema=0.5"),
    ):
        result = client("adapt", "--bundle", "style.mdfy", *words, cwd=desk)
        assert result.code == 2
        assert "add --privacy dp" in result.err
