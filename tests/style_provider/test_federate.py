"""The coordinator without a network: plan, what is claimed, status, stop (F-7, F-24, F-26)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sitekit import Party, make_coordinator, make_site, plan

from modify_fl.errors import ConfigError, FederationError
from modify_fl.federated.coordinator_folder import CoordinatorFolder
from modify_fl.federated.fab import FAB_SHA256
from modify_fl.federated.guard import RoundRecord
from modify_fl.federated.holder import held
from modify_fl.federated.journal import append, read_journal
from modify_fl.federated.plan import PrivatePlan
from style_provider.federation.address import parse_address
from style_provider.federation.planning import site_files
from style_provider.federation.result import _blocks, planned_statement
from style_provider.federation.server_process import record_round


@pytest.fixture(scope="module")
def made(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Party:
    coordinator = make_coordinator(tmp_path_factory.mktemp("federation") / "coordinator", studio)
    plan(coordinator)
    return coordinator


@pytest.fixture
def coordinator(made: Party, tmp_path: Path) -> Party:
    copy = Party(path=tmp_path / "coordinator")
    shutil.copytree(made.path, copy.path)
    return copy


def test_a_plan_keeps_its_secrets_and_gives_out_the_rest(coordinator: Party) -> None:
    folder = coordinator.path / "plan"
    assert (folder / "private").stat().st_mode & 0o777 == 0o700
    for path in (folder / "private").iterdir():
        public = path.suffix == ".crt" or path.name == "server.pem"
        assert public or path.stat().st_mode & 0o777 == 0o600, path
    assert {path.name for path in (folder / "kit").iterdir()} == {
        "ca.crt", "coordinator.mdfykey", "kit.json", "plan.json",
    }  # fmt: skip
    kit = CoordinatorFolder(folder).kit()
    assert kit.plan.fab_sha256 == FAB_SHA256
    assert kit.key.roles == ("adapter",)
    assert not list(coordinator.path.glob(".plan-*"))


def test_a_plan_makes_the_folders_above_it(coordinator: Party) -> None:
    assert {path.name for path in plan(coordinator, out="new/deep").iterdir()} >= {"kit", "private"}


def test_a_plan_is_made_once(coordinator: Party) -> None:
    before = (coordinator.path / "plan" / "kit" / "kit.json").read_bytes()
    again = coordinator.provider("federate", "plan", "style.mdfy", "--sites", "sites", "--rounds", "2")
    assert again.code == 2
    assert (coordinator.path / "plan" / "kit" / "kit.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--subset", "some"), 2), (("--privacy", "maybe"), 2), (("--privacy", "dp"), 2), (("--epsilon", "8"), 2),
        (("--address", "fl.example"), 2), (("--quorum", "4", "--number", "3"), 2), (("--key", "none.mdfykey"), 9),
        (("--learning-rate", "0"), 2), (("--secagg", "--quorum", "2"), 2),
        (("--privacy", "dp", "--epsilon", "8", "--n-public", "9", "--unit", "pixel"), 2),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(words: tuple[str, ...], code: int, coordinator: Party) -> None:
    base = ("federate", "plan", "style.mdfy", "--sites", "sites", "--rounds", "2", "--out", "other")
    refused = coordinator.provider(*base, *words)
    assert refused.code == code, refused.err
    assert not (coordinator.path / "other").exists()


def test_a_masked_plan_says_what_masks_do_not_do(coordinator: Party) -> None:
    words = ("federate", "plan", "style.mdfy", "--sites", "sites", "--rounds", "2", "--out", "masked", "--json")
    said = coordinator.provider(*words, "--secagg").json
    assert CoordinatorFolder(coordinator.path / "masked").kit().plan.secagg
    assert said["result"]["bytes_per_site_and_round"] == 12 * said["result"]["parameters"]
    assert any("nothing of what photos do to the sum" in warning for warning in said["warnings"])
    assert any("experimental" in warning for warning in said["warnings"])


def test_a_key_that_is_none_is_named(coordinator: Party) -> None:
    (coordinator.path / "sites" / "anna.pub").write_text("ssh-rsa AAAA\n")
    refused = coordinator.provider("federate", "plan", "style.mdfy", "--sites", "sites", "--rounds", "2", "--out", "x")
    assert refused.code == 8
    assert "anna.pub" in refused.err


def test_keys_of_sites_count_as_sites_that_are_expected(coordinator: Party, tmp_path: Path) -> None:
    site = make_site(tmp_path / "anna", coordinator, kit=coordinator.path / "plan" / "kit")
    for name in ("anna", "bert", "carl", "dora"):
        shutil.copy(site.path / "site" / "site.pub", coordinator.path / "sites" / f"{name}.pub")
    assert [path.stem for path in site_files(coordinator.path / "sites")] == ["anna", "bert", "carl", "dora"]
    plan(coordinator, out="four")
    assert CoordinatorFolder(coordinator.path / "four").kit().plan.sites == 4


def test_status_shows_rounds_and_who_was_left_out(coordinator: Party) -> None:
    folder = CoordinatorFolder(coordinator.path / "plan")
    folder.write_nodes({11: "anna", 12: "bert"})
    record_round(folder, RoundRecord(round=1, asked=3, accepted=2, rejected={"12": "budget"}, norms=(0.5, 2.0)))
    record_round(folder, RoundRecord(round=2, asked=3, accepted=0, rejected={"11": "missing"}, skipped=True))
    append(folder.journal, "ended", status="finished:completed", bytes_down=2_000_000, bytes_up=1_000_000)
    shown = coordinator.provider("federate", "status", "plan")
    assert shown.code == 0, shown.err
    assert "2 of 3 updates; bert: budget" in shown.out
    assert "round 2: SKIPPED; anna: missing" in shown.out
    assert "2.00 MB to sites, 1.00 MB from them" in shown.out
    stopped = coordinator.provider("federate", "stop", "plan", "--json")
    assert stopped.json["result"]["stopped"] is False


def test_a_log_that_was_edited_is_not_believed(coordinator: Party) -> None:
    log = coordinator.path / "plan" / "journal.jsonl"
    append(log, "begun", sites=3)
    append(log, "ended", status="finished:completed", bytes_down=1, bytes_up=1)
    log.write_bytes(log.read_bytes().replace(b'"sites":3', b'"sites":9'))
    assert coordinator.provider("federate", "status", "plan").code == 14


@pytest.mark.parametrize("status", ["finished:failed", "finished:stopped", "finished:completed"])
def test_a_run_is_believed_only_with_its_last_round_on_the_disk(status: str, coordinator: Party) -> None:
    """F-26: a ServerApp that raised, one that was ended, and one that says it is done and left nothing."""
    from modify_fl.federated.control import RunState
    from style_provider.federation.serving import Serving, _require_completed

    folder = CoordinatorFolder(coordinator.path / "plan")
    task = Serving(
        folder=folder, kit=folder.kit(), out=coordinator.path / "plan.mdfa", overwrite=False, host="localhost", port=1
    )
    state = RunState(status=status, details="ServerApp failed with exception: disk full", bytes_down=1, bytes_up=1)
    with pytest.raises(FederationError) as caught:
        _require_completed(task, state)
    assert caught.value.exit_code == 14
    assert "--resume" in (caught.value.fix or "")
    assert ("disk full" in caught.value.why) == (status != "finished:completed")
    assert [entry.event for entry in read_journal(folder.journal)][-2:] == ["ended", "failed"]


def test_serve_refuses_what_cannot_work(coordinator: Party) -> None:
    (coordinator.path / "plan.mdfa").write_bytes(b"an earlier result")
    assert coordinator.provider("federate", "serve", "plan").code == 9
    assert coordinator.provider("federate", "serve", "plan", "--out", "x.mdfa", "--listen", "nowhere").code == 2
    with held(coordinator.path / "plan", fix="stop"):
        busy = coordinator.provider("federate", "serve", "plan", "--out", "x.mdfa")
    assert busy.code == 2
    (coordinator.path / "plan" / "kit" / "plan.json").write_text(json.dumps({}))
    assert coordinator.provider("federate", "serve", "plan", "--out", "x.mdfa").code == 3


def test_the_claim_counts_rounds_that_were_begun_twice(coordinator: Party) -> None:
    folder = CoordinatorFolder(coordinator.path / "plan")
    found = folder.kit().plan
    open_claim = planned_statement(found, blocks=2, run="r")
    assert (open_claim.applied, open_claim.guarantee) == (False, "none")
    private = replace(found, private=PrivatePlan(n_public=40, batch=4, noise_multiplier=3.0))
    once, more = (planned_statement(private, blocks=blocks, run="r") for blocks in (2, 3))
    assert once.mechanisms is not None
    assert more.mechanisms is not None
    assert (once.mechanisms[0].steps, more.mechanisms[0].steps) == (2, 3)
    assert (once.epsilon or 0) < (more.epsilon or 0)
    assert more.tuned_on_private == "not stated"
    assert {"what else the same photos were used for", "photos that several sites hold"} <= set(more.not_covered or ())
    for _ in range(2):
        append(folder.journal, "begun", sites=3)  # and cut short
    assert _blocks(folder, found) == found.rounds + 2
    _complete(folder, found.rounds)
    assert _blocks(folder, found) == found.rounds + 2


def _complete(folder: CoordinatorFolder, rounds: int) -> None:
    append(folder.journal, "begun", sites=3)
    for number in range(1, rounds + 1):
        record_round(folder, RoundRecord(round=number, asked=3, accepted=3))
    append(folder.journal, "ended", status="finished:completed", bytes_down=1, bytes_up=1)


@pytest.mark.parametrize("event", ["fresh", None])
def test_the_claim_counts_rounds_that_were_thrown_away(event: str | None, coordinator: Party) -> None:
    """Updates that came before ``--fresh``, or before somebody deleted the rounds, came all the same."""
    folder = CoordinatorFolder(coordinator.path / "plan")
    plan = folder.kit().plan
    _complete(folder, plan.rounds)
    assert _blocks(folder, plan) == plan.rounds
    if event:
        append(folder.journal, event)
    _complete(folder, plan.rounds)
    assert _blocks(folder, plan) == 2 * plan.rounds


def test_addresses() -> None:
    assert parse_address("fl.example:8443") == ("fl.example", 8443)
    assert parse_address("[::1]:8443") == ("::1", 8443)
    for text in ("fl.example", ":80", "fl.example:0", "fl.example:70000", "fl.example:http"):
        with pytest.raises(ConfigError):
            parse_address(text)
