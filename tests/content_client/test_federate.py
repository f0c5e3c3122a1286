"""A site before it joins: what enrol, preview, join, status and leave refuse without a coordinator (F-12, F-33)."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from sitekit import REASON, Party, join_words, make_coordinator, make_site, plan

from content_client.federation.joining import _end_where_refused, _explain, _Watch
from content_client.federation.site import admit, asked_rounds
from modify_fl.errors import FederationPolicyError, FederationSetupError, PrivacyBudgetError
from modify_fl.federated.holder import held
from modify_fl.federated.journal import Entry, append
from modify_fl.federated.site_folder import SiteFolder
from modify_fl.privacy.release import record_unprotected
from protocol.errors import KeyFileError


@pytest.fixture(scope="module")
def coordinator(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Party:
    made = make_coordinator(tmp_path_factory.mktemp("federation") / "coordinator", studio)
    plan(made)
    plan(made, "--privacy", "dp", "--epsilon", "8", "--n-public", "4", out="protected")
    return made


@pytest.fixture(scope="module")
def enrolled(coordinator: Party, tmp_path_factory: pytest.TempPathFactory) -> Party:
    return make_site(tmp_path_factory.mktemp("sites") / "anna", coordinator, kit=coordinator.path / "plan" / "kit")


@pytest.fixture
def anna(enrolled: Party, tmp_path: Path) -> Party:
    made = Party(path=tmp_path / "anna")
    shutil.copytree(enrolled.path, made.path)
    return made


def _edit(site: Party, **fields: object) -> None:
    path = site.path / "site" / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_plan_without_privacy_is_accepted_by_name_only(coordinator: Party, anna: Party) -> None:
    kit = coordinator.path / "plan" / "kit"
    refused = anna.client("federate", "enroll", kit, "--out", "other", "--json")
    assert refused.code == 6
    assert "protects no photo" in refused.json["error"]["what"]
    assert not (anna.path / "other").exists()
    accepted = json.loads((anna.path / "site" / "policy.json").read_text())
    assert accepted["privacy"] == {"mode": "none", "reason": REASON}


def test_a_masked_plan_has_floors_in_policy_and_preview(coordinator: Party, tmp_path: Path) -> None:
    """F-30: what the site holds the coordinator to is in its own policy, and it may ask for more."""
    kit = plan(coordinator, "--secagg", out="masked") / "kit"
    site, words = make_site(tmp_path / "emil", coordinator, kit=kit), join_words(coordinator, kit=kit)
    refused = site.client("federate", "enroll", kit, "--out", "other")
    assert refused.code == 6
    assert "nothing hides what photos do to it" in refused.err
    floors = {"min_participants": 3, "min_threshold": 0.67, "required": True}
    assert json.loads((site.path / "site" / "policy.json").read_text())["secagg"] == floors
    shown = site.client("federate", "preview", *words, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["result"]["secagg"] == floors
    said = site.client("federate", "preview", *words).out
    assert "refused below 3 sites, or if less than 67 % of them can unmask the sum" in said
    assert "masked; the sum only, if it keeps to the protocol" in said
    _edit(site, secagg=floors | {"min_participants": 4})
    stricter = site.client("federate", "join", *words)
    assert stricter.code == 6
    assert "secagg.min_participants" in stricter.err


def test_a_key_is_never_replaced(coordinator: Party, anna: Party) -> None:
    before = (anna.path / "site" / "site").read_bytes()
    again = anna.client("federate", "enroll", coordinator.path / "plan" / "kit", "--allow-unprotected", REASON)
    assert again.code == 9
    assert (anna.path / "site" / "site").read_bytes() == before


def test_only_the_public_half_is_for_the_coordinator(anna: Party) -> None:
    site = anna.path / "site"
    assert site.stat().st_mode & 0o777 == 0o700
    assert (site / "site").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (site / "site.pub").read_bytes()


def test_preview_shows_who_sees_what_and_joins_nothing(coordinator: Party, anna: Party) -> None:
    shown = anna.client("federate", "preview", *join_words(coordinator, kit=coordinator.path / "plan" / "kit"))
    assert shown.code == 0, shown.err
    assert "in clear: faces may be reconstructed" in shown.out
    assert "NONE: " + REASON in shown.out
    status = anna.client("federate", "status", "--json")
    assert status.json["result"]["joined"] is False
    assert status.json["result"]["answered"] == []
    left = anna.client("federate", "leave", "--json")
    assert left.json["result"]["left"] is False


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"fab_sha256": ["0" * 64]}, 6), ({"bundles": []}, 6), ({"signers": []}, 6), ({"plan_sha256": "0" * 64}, 6),
        ({"expires": "2020-01-01"}, 6), ({"min_participants": 9}, 6), ({"max_update_norm": 1e-9}, 6),
        ({"unknown": True}, 6), ({"coordinator": {"address": "fl.example:1", "ca_sha256": "0" * 64}}, 6),
    ],
)  # fmt: skip
def test_join_is_refused_by_the_policy_before_anything_runs(
    fields: dict[str, object], code: int, coordinator: Party, anna: Party
) -> None:
    _edit(anna, **fields)
    refused = anna.client("federate", "join", *join_words(coordinator, kit=coordinator.path / "plan" / "kit"))
    assert refused.code == code, refused.err
    assert not (anna.path / "site" / "bin").exists()


def test_join_needs_the_enrolled_kit_the_bundle_and_photos(coordinator: Party, anna: Party) -> None:
    words = join_words(coordinator, kit=coordinator.path / "protected" / "kit")
    assert anna.client("federate", "join", *words).code == 2
    words = join_words(coordinator, kit=coordinator.path / "plan" / "kit")
    assert anna.client("federate", "join", *words, "--photos", "nowhere").code == 10
    shutil.rmtree(anna.path / "config" / "trust")
    assert anna.client("federate", "join", *words).code == 5


def test_photos_of_two_vaults_are_warned_of_and_those_without_a_claim_refused(coordinator: Party, anna: Party) -> None:
    """P-47: a round would be charged, and its update refused at the gate."""
    kit = coordinator.path / "protected" / "kit"
    shutil.rmtree(anna.path / "site")
    assert anna.client("federate", "enroll", kit, "--name", "anna").code == 0
    shutil.copytree(anna.path / "photos", anna.path / "copy")
    for photos in ("photos", "copy"):
        assert anna.client("privacy", "init", "--photos", photos, "--epsilon", "50", "--delta", "1e-5").code == 0
    words = ("federate", "preview", *join_words(coordinator, kit=kit))
    shown = anna.client(*words)
    assert (shown.code, "2 of these photos are in the vault" in shown.err) == (0, True), shown.err
    with anna.at_home():
        record_unprotected("a present", anna.path / "copy")
    refused = anna.client(*words)
    assert (refused.code, "nothing can be claimed about these photos" in refused.err) == (11, True), refused.err


def test_a_plan_with_privacy_needs_a_vault_that_can_pay(coordinator: Party, anna: Party) -> None:
    kit = coordinator.path / "protected" / "kit"
    made = anna.client("federate", "enroll", kit, "--out", "new/safe")
    assert made.code == 0, made.err
    words = (*join_words(coordinator, kit=kit), "--site", "new/safe")
    assert anna.client("federate", "preview", *words).code == 11
    init = anna.client("privacy", "init", "--photos", "photos", "--epsilon", "50", "--delta", "1e-5")
    assert init.code == 0, init.err
    shown = anna.client("federate", "preview", *words, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["result"]["privacy"]["epsilon"] == pytest.approx(8, rel=0.05)


def test_a_damaged_key_is_found_before_a_coordinator_is_asked(coordinator: Party, anna: Party) -> None:
    (anna.path / "site" / "site").write_bytes(b"nonsense")
    words = join_words(coordinator, kit=coordinator.path / "plan" / "kit")
    assert anna.client("federate", "preview", *words).code == KeyFileError("").exit_code


def test_two_at_once_are_refused(coordinator: Party, anna: Party) -> None:
    with held(anna.path / "site", fix="leave"):
        words = join_words(coordinator, kit=coordinator.path / "plan" / "kit")
        second = anna.client("federate", "join", *words)
    assert second.code == 2
    assert "another process" in second.err


# While it runs ------------------------------------------------------------------------


class _Asked:
    def __init__(self, run: str, round_: int) -> None:
        self.run, self.round = run, round_


def test_a_round_is_answered_once_and_no_more_often_than_allowed(anna: Party) -> None:
    site = SiteFolder(anna.path / "site")
    _edit(anna, max_rounds=3, max_rounds_per_day=3)
    for run, number in (("r", 1), ("r", 2), ("s", 2)):
        admit(site, site.policy(), _Asked(run, number))  # type: ignore[arg-type]
    assert [entry.facts["round"] for entry in asked_rounds(site)] == [1, 2, 2]
    with pytest.raises(FederationPolicyError) as caught:
        admit(site, site.policy(), _Asked("s", 3))  # type: ignore[arg-type]
    assert "max_rounds" in caught.value.why
    _edit(anna, max_rounds=9, max_rounds_per_day=9)
    with pytest.raises(Exception, match="refused: policy"):
        admit(site, site.policy(), _Asked("r", 2))  # type: ignore[arg-type]
    status = anna.client("federate", "status", "--json").json["result"]
    assert status["rounds_left"] == 6


def test_status_tells_what_was_answered_and_refused(anna: Party) -> None:
    log = SiteFolder(anna.path / "site").journal
    append(log, "answered", round=1, bytes=2_000_000, norm=3.0, norm_sent=1.0, epsilon=0.25)
    append(log, "refused", word="policy", why="field fab_sha256: 0 is not among 1")
    told = anna.client("federate", "status").out
    assert "2.00 MB sent" in told
    assert "norm 3, sent 1, epsilon 0.250 so far" in told
    assert "policy: field fab_sha256" in told


@pytest.mark.parametrize(
    ("event", "facts", "error"),
    [
        ("refused", {"word": "policy"}, FederationPolicyError), ("failed", {"word": "budget"}, PrivacyBudgetError),
        ("failed", {"word": "policy", "why": "field max_rounds: there were 3"}, FederationPolicyError),
        ("failed", {"word": "policy", "why": "field privacy.eps_max: epsilon 9"}, FederationPolicyError),
    ],
)  # fmt: skip
def test_a_join_ends_where_going_on_is_of_no_use(
    event: str, facts: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("content_client.federation.joining._AGAIN", 0.0)
    with pytest.raises(error):
        _end_where_refused((Entry(time="", event=event, facts=facts),))
    _end_where_refused((Entry(time="", event="failed", facts={"word": "train_failed"}),))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ERROR: SSL/TLS handshake error detected.\nexit", "certificate"),
        ("Failed to initialize the connection to the SuperLink.\n[code: 2004] Failed to activate SuperNode.", "key"),
    ],
)
def test_the_last_words_of_a_supernode_are_explained(
    text: str, why: str, coordinator: Party, anna: Party, tmp_path: Path
) -> None:
    checked = SimpleNamespace(kit=SiteFolder(anna.path / "site").kit())
    child = SimpleNamespace(log=tmp_path / "log")
    child.log.write_text(text)
    watch = _Watch(lines=0)
    with pytest.raises(FederationSetupError) as caught:
        _explain(child, checked, watch)  # type: ignore[arg-type]
    assert why in caught.value.why
    child.log.write_text("SuperNode ID: 7\n" + text)
    _explain(child, checked, watch)  # type: ignore[arg-type] - it was let in: it may try again
    child.log.write_text("[Errno 111] Connection refused")
    _explain(child, checked, watch)  # type: ignore[arg-type]


def test_a_killed_supernode_that_the_coordinator_still_counts_as_there_tries_again(
    coordinator: Party, anna: Party, tmp_path: Path
) -> None:
    """Flower refuses it for two heartbeats, in the words it has for strangers."""
    checked = SimpleNamespace(kit=SiteFolder(anna.path / "site").kit())
    child, watch = SimpleNamespace(log=tmp_path / "log"), _Watch(lines=0)
    child.log.write_text("SuperNode ID: 7\n")
    _explain(child, checked, watch)  # type: ignore[arg-type]
    child.log.write_text("[code: 2004] Failed to activate SuperNode.")
    _explain(child, checked, watch)  # type: ignore[arg-type]
    child.log.write_text("SSL/TLS handshake error detected.")
    with pytest.raises(FederationSetupError, match="cannot be joined"):
        _explain(child, checked, watch)  # type: ignore[arg-type]
