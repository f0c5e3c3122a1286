"""A real deployment on loopback: TLS, registered sites, and what has to hold when parts of it die (F-25, F-26, F-36).

Driven by the two programs alone. Every party has a folder, a configuration and processes of its own; photos and
networks are tiny. `docs/how-to/federate.md` shows the same commands.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sitekit import Party, join_words, make_coordinator, make_site, plan

from modify_fl.federated.coordinator_folder import CoordinatorFolder
from modify_fl.federated.journal import Entry, read_journal
from modify_fl.federated.processes import free_port
from modify_fl.federated.site_folder import SiteFolder
from modify_fl.privacy.ledger import read_vault
from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, verify_bundle

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_PATIENCE = 600.0


@dataclass
class Running:
    """A command that runs by itself, and what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> tuple[int, str]:
        """Return exit code and output once it has ended."""
        return self.process.wait(_PATIENCE), self.log.read_text()


@dataclass
class World:
    """Coordinator and sites, each at home in its folder."""

    coordinator: Party
    sites: dict[str, Party]
    kit: Path
    port: int
    started: list[Running] = field(default_factory=list)

    def run(self, party: Party, program: str, *words: str | Path) -> Running:
        """Start a command of a party in a process of its own."""
        log = party.path / f"{words[1]}.out"
        with party.at_home(), log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", program, *map(str, words)], cwd=party.path, stdout=stream,
                stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        made = Running(process, log)
        self.started.append(made)
        return made

    def serve(self, *words: str | Path) -> Running:
        """Start ``style-provider federate serve``."""
        return self.run(self.coordinator, "style_provider", "federate", "serve", "plan", *words)

    def join(self, name: str, *words: str | Path) -> Running:
        """Start ``content-client federate join`` at a site."""
        known = join_words(self.coordinator, kit=self.kit)
        return self.run(self.sites[name], "content_client", "federate", "join", *known, "--threads", "1", *words)

    def events(self, name: str) -> list[Entry]:
        """The audit log of a site, or of the coordinator."""
        folder = self.coordinator.path / "plan" if name == "coordinator" else self.sites[name].path / "site"
        return list(read_journal(folder / "journal.jsonl"))


def _until(what: str, happened: Callable[[], Any], *running: Running) -> Any:
    """Wait for something to happen while commands go on."""
    deadline = time.monotonic() + _PATIENCE
    while not (found := happened()):
        ended = [one.log.read_text() for one in running if one.process.poll() is not None]
        assert not ended, f"ended before {what}: {ended}"
        assert time.monotonic() < deadline, f"{what}: {[one.log.read_text() for one in running]}"
        time.sleep(0.2)
    return found


def _children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _child(process: int, word: str) -> int:
    """The process below ``process`` that runs ``word``."""
    for child in _children(process):
        if word in Path(f"/proc/{child}/cmdline").read_text():
            return child
    raise AssertionError(word)


@pytest.fixture
def world(studio: Path, tmp_path: Path) -> Iterator[World]:
    """A plan with privacy for three sites, a quorum of two, and vaults for their photos."""
    coordinator, port = make_coordinator(tmp_path / "coordinator", studio), free_port()
    plan(
        coordinator, "--address", f"localhost:{port}", "--number", "3", "--quorum", "2", "--round-time", "90",
        "--privacy", "dp", "--epsilon", "8", "--n-public", "4",
    )  # fmt: skip
    kit = coordinator.path / "plan" / "kit"
    sites = {name: make_site(tmp_path / name, coordinator, kit=kit) for name in ("anna", "bert", "carl", "dora")}
    for name in ("anna", "bert", "carl"):  # dora has enrolled, and nobody has put her key there
        made = sites[name].client("privacy", "init", "--photos", "photos", "--epsilon", "50", "--delta", "1e-5")
        assert made.code == 0, made.err
        shutil.copy(sites[name].path / "site" / "site.pub", coordinator.path / "sites" / f"{name}.pub")
    made = World(coordinator=coordinator, sites=sites, kit=kit, port=port)
    with ExitStack() as stack:
        stack.callback(lambda: [_end(one) for one in reversed(made.started)])
        yield made


def _end(running: Running) -> None:
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(60)


def _status(world: World, path: str) -> int:
    """What an outsider gets who knows the certificate and nothing else."""
    context = ssl.create_default_context(cafile=str(world.kit / "ca.crt"))
    url = f"https://localhost:{world.port}{path}"
    request = urllib.request.Request(
        url, data=b"", headers={"content-type": "application/protobuf", "accept": "application/protobuf"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_rounds_go_on_while_parts_die(world: World) -> None:
    serve = world.serve()
    joined = {name: world.join(name) for name in ("anna", "bert", "carl")}
    _until("the SuperLink answers", lambda: "listening" in serve.log.read_text(), serve)
    _until("all sites are there", lambda: serve.log.read_text().count(" is there") == 3, serve)

    # F-25: outsiders, though they are on this machine, get no further than the part for sites.
    assert _status(world, "/v1/control/list-nodes") == 403
    assert _status(world, "/v1/control/start-run") == 403
    assert _status(world, "/v1/runtime/acquire-task") == 401
    assert _status(world, "/v1/runtime/pull-task-input") == 401
    assert _status(world, "/v1/fleet/pull-messages") == 401

    # F-17: kill -9 of a SuperNode in the middle of a round; what was charged stays charged.
    _until("carl was asked", lambda: [e for e in world.events("carl") if e.event == "asked"], serve)
    os.kill(_child(joined["carl"].process.pid, "supernode"), signal.SIGKILL)
    _until("the first round", lambda: "round 1 of 2" in serve.log.read_text(), serve)
    first = next(entry for entry in world.events("coordinator") if entry.event == "round")
    assert first.facts["accepted"] in {2, 3}  # carl may have been quicker than the signal
    assert not first.facts["skipped"]

    # F-22, F-23: kill -9 of the SuperLink in the middle of the next one.
    _until("round 2", lambda: [e for e in world.events("anna") if e.facts.get("round") == 2], serve)
    os.kill(_child(serve.process.pid, "superlink"), signal.SIGKILL)
    code, said = serve.wait()
    assert code == 14, said
    assert "style-provider federate serve" in said
    assert "--resume" in said
    assert not (world.coordinator.path / "plan.mdfa").exists()

    again = world.serve("--resume")
    code, said = again.wait()
    assert code in {0, 13}, said
    assert "round 2 of 2" in said
    assert [e.facts["round"] for e in world.events("coordinator") if e.event == "round"] == [1, 2]
    _require_result(world)
    _require_charges(world)
    for name, running in joined.items():
        left = world.sites[name].client("federate", "leave", "--json")
        assert left.code == 0, left.err
        assert running.process.wait(60) in {0, 130}
    _require_silence(world)


def _require_result(world: World) -> None:
    """F-24: signed by the key in the kit, about the bundle, and with the claim of the plan."""
    key = read_provider_key(world.kit / "coordinator.mdfykey")
    adapter = world.coordinator.path / "plan.mdfa"
    found = verify_bundle(adapter, trust=TrustStore.of(key), now=datetime.now(UTC))
    federation, dp = found.manifest.federation, found.manifest.privacy.dp
    assert federation is not None
    assert federation.participants_band is not None
    assert dp.applied
    assert dp.mechanisms is not None
    assert dp.mechanisms[0].steps == 3  # two rounds, one of them begun twice


def _require_charges(world: World) -> None:
    """Every update that was begun is in the ledger of the site, whether it was sent or not."""
    for name in ("anna", "bert", "carl"):
        asked = [e for e in world.events(name) if e.event == "asked"]
        with world.sites[name].at_home():
            charges = read_vault(world.sites[name].path / "photos").ledger.charges
        assert len(asked) >= len(charges) >= len([e for e in world.events(name) if e.event == "answered"]) >= 1


def _require_silence(world: World) -> None:
    """F-38: nothing that names a place of a site is anywhere at the coordinator's."""
    folder = world.coordinator.path / "plan"
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for party in world.sites.values():
        assert str(party.path).encode() not in written
    assert b"photos/p0" not in written


def test_who_is_not_welcome_is_told_why(world: World, studio: Path, tmp_path: Path) -> None:
    serve = world.serve()
    _until("the SuperLink answers", lambda: "listening" in serve.log.read_text(), serve)

    made = world.sites["dora"].client("privacy", "init", "--photos", "photos", "--epsilon", "50", "--delta", "1e-5")
    assert made.code == 0, made.err
    code, said = world.join("dora").wait()  # an unregistered key
    assert code == 12, said
    assert "does not know this site's key" in said

    other = make_coordinator(tmp_path / "other", studio)  # the kit of another coordinator at the same address
    plan(other, "--address", f"localhost:{world.port}", "--number", "3", "--quorum", "2")
    stranger = make_site(tmp_path / "emil", other, kit=other.path / "plan" / "kit")
    world.sites["emil"] = stranger
    words = join_words(other, kit=other.path / "plan" / "kit")
    code, said = world.run(stranger, "content_client", "federate", "join", *words).wait()
    assert code == 12, said
    assert "certificate is not vouched for" in said

    path = world.sites["anna"].path / "site" / "policy.json"  # a policy that does not name the app
    policy = json.loads(path.read_text())
    path.write_text(json.dumps(policy | {"fab_sha256": ["0" * 64]}))
    code, said = world.join("anna").wait()
    assert code == 6, said
    assert "fab_sha256" in said
    assert not [e for e in world.events("anna") if e.event == "asked"]

    stopped = world.coordinator.provider("federate", "stop", "plan")
    assert stopped.code == 0, stopped.err
    assert serve.wait()[0] == 130


def test_too_few_sites_end_with_an_error_and_not_for_ever(studio: Path, tmp_path: Path) -> None:
    """F-21: a deadline of our own; Flower would wait for ever."""
    coordinator = make_coordinator(tmp_path / "coordinator", studio)
    plan(coordinator, "--address", f"localhost:{free_port()}", "--number", "3", "--wait", "3")
    kit = coordinator.path / "plan" / "kit"
    site = make_site(tmp_path / "anna", coordinator, kit=kit)
    shutil.copy(site.path / "site" / "site.pub", coordinator.path / "sites" / "anna.pub")
    done = subprocess.run(
        [sys.executable, "-m", "style_provider", "federate", "serve", "plan", "--json"], cwd=coordinator.path,
        capture_output=True, text=True, check=False, timeout=_PATIENCE,
    )  # fmt: skip
    assert done.returncode == 14, done.stderr
    error = json.loads(done.stdout)["error"]
    assert "0 of 3 sites" in error["what"]
    assert "anna" in error["why"]
    assert not (coordinator.path / "plan.mdfa").exists()


def test_the_coordinator_of_a_masked_run_gets_the_sum(studio: Path, tmp_path: Path) -> None:
    """F-28 to F-30 over the network of this machine: three SuperNodes, one round, and the plain mean comes out."""
    coordinator, port = make_coordinator(tmp_path / "coordinator", studio), free_port()
    plan(coordinator, "--address", f"localhost:{port}", "--rounds", "1", "--number", "3", "--secagg")
    kit, names = coordinator.path / "plan" / "kit", ("anna", "bert", "carl")
    sites = {name: make_site(tmp_path / name, coordinator, kit=kit, photos=3 + at) for at, name in enumerate(names)}
    for name, site in sites.items():
        shutil.copy(site.path / "site" / "site.pub", coordinator.path / "sites" / f"{name}.pub")
    world = World(coordinator=coordinator, sites=sites, kit=kit, port=port)
    with ExitStack() as stack:
        stack.callback(lambda: [_end(one) for one in reversed(world.started)])
        serve = world.serve()
        for name in names:
            world.join(name, "--precision", "fp32")  # as it is done again below
        code, said = serve.wait()
        assert code == 0, said
    (told,) = (entry.facts for entry in world.events("coordinator") if entry.event == "round")
    assert (told["accepted"], told["rejected"]) == (3, "")
    for name in names:
        events = [entry.event for entry in world.events(name)]
        assert [events.count(event) for event in ("asked", "unprotected", "answered")] == [1, 1, 1]
    made, updates, rounding = _sums(world)
    assert float((made - sum(updates) / len(updates)).abs().max()) <= rounding
    assert all(float((made - update).abs().max()) > 10 * rounding for update in updates)  # of several, not of one
    manifest = inspect_bundle(coordinator.path / "plan.mdfa").manifest
    assert manifest.federation is not None
    assert manifest.federation.secure_aggregation


def _sums(world: World) -> tuple[Any, list[Any], float]:
    """What the round added to the model, what each site adds when it is asked in clear, and what rounding explains."""
    import torch

    from content_client.federation.site import open_site
    from modify_fl.federated.records import Schema, instruction_content, make_record, read_reply
    from modify_fl.federated.rounds import finished_rounds
    from modify_fl.federated.secagg import quantisation_step
    from modify_fl.federated.tensors import first_tensors
    from style_provider.federation.planning import load_planned

    folder = CoordinatorFolder(world.coordinator.path / "plan")
    agreed, key = folder.kit().plan, read_provider_key(world.coordinator.path / "keys" / "studio.mdfykey")
    style, _ = load_planned(world.coordinator.path / "style.mdfy", key)
    schema, start = Schema.of(style, agreed.subset), first_tensors(style, agreed.subset)

    def flat(tensors: Mapping[str, Any]) -> Any:
        return torch.cat([(tensors[name].double() - start[name].double()).flatten() for name in sorted(start)])

    asked = instruction_content(
        make_record(start), federated_round=1, run="again", bundle=agreed.bundle, schema=schema.digest
    )
    updates = []
    for site in world.sites.values():
        with site.at_home():
            reply = open_site(SiteFolder(site.path / "site")).answer(asked)
        updates.append(flat(read_reply(reply, schema)))
    done = finished_rounds(folder.rounds, agreed)
    assert done is not None
    spacing = torch.finfo(torch.float32).eps * max(float(value.abs().max()) for value in start.values())
    return flat(done.tensors), updates, 2 * quantisation_step(agreed) + spacing
