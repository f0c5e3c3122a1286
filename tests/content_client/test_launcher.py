"""The shim: which app answers on a site, and what leaves when none does (F-8, F-9, F-11, F-35)."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flowerkit import Node, hostile_fab, running_node, unpacked
from sitekit import Party, join_words, make_coordinator, make_site, plan
from vaultkit import ledger_file

from content_client.federation.joining import write_shim
from content_client.federation.launcher import word_of
from modify_fl.errors import DataError, FederationPolicyError, PrivacyBudgetError
from modify_fl.federated.fab import fab_bytes
from modify_fl.federated.journal import read_journal
from modify_fl.federated.site_folder import SiteFolder, SiteSettings
from modify_fl.privacy.ledger import read_vault
from protocol.errors import StorageError, problem

pytestmark = pytest.mark.filterwarnings("default")  # of Flower's web server, which runs in this process


@pytest.fixture(scope="module")
def coordinator(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Party:
    made = make_coordinator(tmp_path_factory.mktemp("federation") / "coordinator", studio)
    plan(made)
    return made


@pytest.fixture(scope="module")
def enrolled(coordinator: Party, tmp_path_factory: pytest.TempPathFactory) -> Party:
    return make_site(tmp_path_factory.mktemp("sites") / "anna", coordinator, kit=coordinator.path / "plan" / "kit")


@pytest.fixture
def home(enrolled: Party, coordinator: Party, tmp_path: Path) -> Party:
    """A fresh copy of an enrolled site that has joined before."""
    made = Party(path=tmp_path / "anna")
    shutil.copytree(enrolled.path, made.path)
    return _joined(made, coordinator)


def _joined(made: Party, coordinator: Party) -> Party:
    settings = SiteSettings(
        bundle=str(coordinator.path / "style.mdfy"), photos=str(made.path / "photos"), align=False, threads=1
    )
    site = SiteFolder(made.path / "site")
    site.write_settings(settings)
    write_shim(site)
    return made


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running_node() as served:
        yield served


def _ask(node: Node, home: Party, fab: bytes, content: Any, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.setenv("MODIFY_CONFIG", str(home.path / "config"))
    monkeypatch.setenv("MODIFY_DATA_DIR", str(home.path / "data"))
    site = SiteFolder(home.path / "site")
    return node.ask(fab, content, programs=site.programs, home=site.home, **more)


def _instruction(coordinator: Party, *, out: str = "plan", **changes: Any) -> Any:
    """What a coordinator sends in the first round."""
    from modify_fl.federated.compat import ConfigRecord, RecordDict
    from modify_fl.federated.plan import read_plan
    from modify_fl.federated.records import make_record
    from modify_fl.federated.tensors import first_tensors
    from protocol.provider import read_provider_key
    from style_provider.federation.planning import load_planned

    found = read_plan(coordinator.path / out / "kit")
    key = read_provider_key(coordinator.path / "keys" / "studio.mdfykey")
    style, _ = load_planned(coordinator.path / "style.mdfy", key)
    config: dict[str, Any] = {
        "round": 1, "run": "r", "bundle_payload_sha256": found.bundle, "adapter_schema": found.adapter_schema,
    }  # fmt: skip
    arrays = make_record(first_tensors(style, found.subset))
    return RecordDict({"arrays": arrays, "config": ConfigRecord(config | changes)})


def _events(home: Party) -> list[tuple[str, Any]]:
    entries = read_journal(SiteFolder(home.path / "site").journal)
    return [(entry.event, entry.facts.get("word")) for entry in entries if entry.event != "enrolled"]


@pytest.mark.slow
def test_the_app_that_bundle_and_policy_name_answers(
    node: Node, home: Party, coordinator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _instruction(coordinator)
    reply = _ask(node, home, fab_bytes(), asked, monkeypatch)
    assert reply is not None, node.output
    assert reply.has_content(), reply.error
    assert sorted(reply.content) == ["arrays", "metrics"]
    assert dict(reply.content["metrics"]) == {"num-examples": 1}
    assert list(reply.content["arrays"]) == list(asked["arrays"])
    assert _events(home) == [("asked", None), ("unprotected", None), ("answered", None)]
    again = _ask(node, home, fab_bytes(), asked, monkeypatch)  # a restarted node gives no second update for a round
    assert again.error.reason == "policy"


@pytest.mark.slow
def test_a_client_app_that_is_killed_sends_nothing_and_stays_charged(
    node: Node, coordinator: Party, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 7: silence for the coordinator, a line in the ledger, and no second update for the round."""
    dp = ("--privacy", "dp", "--epsilon", "8", "--n-public", "4", "--local-steps", "500")
    kit = plan(coordinator, *dp, out="private") / "kit"
    home = make_site(tmp_path / "berta", coordinator, kit=kit)
    made = home.client("privacy", "init", "--photos", "photos", "--epsilon", "50", "--delta", "1e-5")
    assert made.code == 0, made.err
    _joined(home, coordinator)
    with home.at_home():
        file = ledger_file(read_vault(home.path / "photos"))
    before, asked = file.stat().st_size, _instruction(coordinator, out="private")
    killed = _ask(node, home, fab_bytes(), asked, monkeypatch, until=lambda: file.stat().st_size > before)
    assert killed is None, node.output
    assert _events(home) == [("asked", None)]
    ledger = read_vault(home.path / "photos").ledger
    assert (len(ledger.charges), len(ledger.releases)) == (1, 0)
    assert _ask(node, home, fab_bytes(), asked, monkeypatch).error.reason == "policy"
    assert read_vault(home.path / "photos").ledger.epsilon == ledger.epsilon


def test_the_code_of_a_stranger_never_runs(
    node: Node, home: Party, coordinator: Party, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-8: its digest is in no policy; it is not unpacked, no photo is opened, and torch is not imported."""
    marker = tmp_path / "marker"
    fab = hostile_fab(tmp_path / "stranger", marker)
    assert "stranger/app.py" in unpacked(fab)
    shutil.rmtree(home.path / "photos")
    reply = _ask(node, home, fab, _instruction(coordinator), monkeypatch)
    assert reply.error.reason == "policy"
    assert not marker.exists()
    assert not list(home.path.rglob("stranger*"))
    assert _events(home) == [("refused", "policy")]


def test_a_policy_is_not_enough_without_the_bundle(
    node: Node, home: Party, coordinator: Party, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    fab = hostile_fab(tmp_path / "stranger", marker)
    path = home.path / "site" / "policy.json"
    policy = json.loads(path.read_text())
    path.write_text(json.dumps(policy | {"fab_sha256": [hashlib.sha256(fab).hexdigest()]}))
    reply = _ask(node, home, fab, _instruction(coordinator), monkeypatch)
    assert reply.error.reason == "bundle_mismatch"
    assert not marker.exists()


def test_without_a_policy_nothing_is_allowed(
    node: Node, home: Party, coordinator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.path / "site" / "policy.json").unlink()
    reply = _ask(node, home, fab_bytes(), _instruction(coordinator), monkeypatch)
    assert reply.error.reason == "policy"
    assert _events(home) == [("refused", "policy")]


def test_a_message_that_asks_for_more_is_refused(
    node: Node, home: Party, coordinator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-10: nothing from the coordinator selects noise, budget, loss or data."""
    reply = _ask(node, home, fab_bytes(), _instruction(coordinator, noise_multiplier=0.0), monkeypatch)
    assert reply.error.reason == "policy"
    assert _events(home) == [("failed", "policy")]


def test_no_text_of_an_exception_leaves(
    node: Node, home: Party, coordinator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-11: a path in the text of an exception is for the site's own log."""
    site = SiteFolder(home.path / "site")
    site.write_settings(replace(site.settings(), photos="/home/anna/wedding"))
    reply = _ask(node, home, fab_bytes(), _instruction(coordinator), monkeypatch)
    assert reply.error.reason == "data_missing"
    assert "wedding" in str(read_journal(site.journal)[-1].facts["why"])


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (RuntimeError("/home/anna"), "train_failed"), (DataError("no photos"), "data_missing"),
        (PrivacyBudgetError("spent"), "budget"), (FederationPolicyError("no"), "policy"),
        (problem("E_DIGEST", member="m"), "bundle_mismatch"), (StorageError("full"), "bundle_mismatch"),
    ],
)  # fmt: skip
def test_an_exception_becomes_one_word_of_the_list(error: Exception, word: str) -> None:
    assert word_of(error) == word
    error.word = "/home/anna"  # type: ignore[attr-defined]
    assert "/" not in word_of(error)


def test_preview_checks_and_shows_without_a_coordinator(enrolled: Party, coordinator: Party) -> None:
    words = join_words(coordinator, kit=coordinator.path / "plan" / "kit")
    shown = enrolled.client("federate", "preview", *words, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["result"]["privacy"]["mode"] == "none"
    assert len(shown.json["result"]["who_sees_what"]) == 7
