"""A site whose plan has privacy: what it refuses before it joins, and what no round may depend on (P-86, F-17)."""

import json
import shutil
from pathlib import Path

import pytest
from programs import draw_photos
from sitekit import Party, join_words, make_coordinator, make_site, plan

from content_client.federation.site import admit, asked_rounds, open_site
from modify_fl.artifacts import LoadedStyle
from modify_fl.errors import FederationPolicyError
from modify_fl.federated.plan import FederationPlan, read_plan
from modify_fl.federated.records import Instruction, Schema, instruction_content, make_record, read_reply
from modify_fl.federated.site_folder import SiteFolder, SiteSettings, privacy_of
from modify_fl.federated.tensors import first_tensors
from modify_fl.privacy.ledger import read_vault
from protocol.provider import read_provider_key
from style_provider.federation.planning import load_planned

DP = ("--privacy", "dp", "--epsilon", "8", "--n-public", "4")
SPOILT = {"image": "photos/broken.png", "person": "photos/of-nobody.png"}


@pytest.fixture(scope="module")
def coordinator(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Party:
    made = make_coordinator(tmp_path_factory.mktemp("federation") / "coordinator", studio)
    for unit in SPOILT:
        plan(made, *DP, "--unit", unit, out=unit)
    return made


@pytest.fixture(scope="module")
def style(coordinator: Party) -> LoadedStyle:
    key = read_provider_key(coordinator.path / "keys" / "studio.mdfykey")
    return load_planned(coordinator.path / "style.mdfy", key)[0]


@pytest.fixture(params=sorted(SPOILT))
def unit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kit(coordinator: Party, unit: str) -> Path:
    return coordinator.path / unit / "kit"


@pytest.fixture
def site(coordinator: Party, kit: Path, unit: str, tmp_path: Path) -> Party:
    """A site that has joined, with a budget that pays for more than the plan asks for."""
    made = make_site(tmp_path / "anna", coordinator, kit=kit)
    draw_photos(made.path / "photos" / "ann", 2)
    for path in (made.path / "photos").glob("*.png"):
        path.unlink()
    init = made.client("privacy", "init", "--photos", "photos", "--epsilon", "50", "--unit", unit)
    assert init.code == 0, init.err
    settings = SiteSettings(
        bundle=str(coordinator.path / "style.mdfy"), photos=str(made.path / "photos"), align=False, threads=1
    )
    SiteFolder(made.path / "site").write_settings(settings)
    return made


def answer(site: Party, style: LoadedStyle, found: FederationPlan, *, run: str = "r", round_: int = 1) -> int:
    """Let the site answer a round, and return how many tensors it sends."""
    schema = Schema.of(style, found.subset)
    content = instruction_content(
        make_record(first_tensors(style, found.subset)), federated_round=round_, run=run, bundle=found.bundle,
        schema=schema.digest,
    )  # fmt: skip
    with site.at_home():
        return len(read_reply(open_site(SiteFolder(site.path / "site")).answer(content), schema))


def test_photos_are_judged_before_joining_and_never_in_a_round(
    site: Party, coordinator: Party, kit: Path, style: LoadedStyle, unit: str
) -> None:
    """One file more may not decide whether the coordinator gets an update: nothing was charged for that word."""
    words, spoilt, found = join_words(coordinator, kit=kit), site.path / SPOILT[unit], read_plan(kit)
    assert site.client("federate", "preview", *words).code == 0
    assert answer(site, style, found) > 0
    if unit == "image":
        spoilt.write_bytes(b"no picture")
    else:
        shutil.copy(site.path / "photos" / "ann" / "p0.png", spoilt)
    refused = site.client("federate", "join", *words)
    assert refused.code == {"image": 10, "person": 2}[unit], refused.err
    assert not (site.path / "site" / "bin").exists()
    assert answer(site, style, found, round_=2) > 0
    with site.at_home():
        assert len(read_vault(site.path / "photos").ledger.charges) == 2


@pytest.mark.parametrize("unit", ["image"], indirect=True)
def test_where_no_photo_is_left_noise_answers(site: Party, kit: Path, style: LoadedStyle) -> None:
    for path in (site.path / "photos" / "ann").iterdir():
        path.write_bytes(b"no picture")
    assert answer(site, style, read_plan(kit)) > 0


# What all rounds together spend -------------------------------------------------------


@pytest.mark.parametrize("unit", ["image"], indirect=True)
def test_preview_and_policy_say_what_repeated_rounds_may_spend(site: Party, coordinator: Party, kit: Path) -> None:
    found, path = read_plan(kit), site.path / "site" / "policy.json"
    allowed = json.loads(path.read_text())
    most = privacy_of(found, rounds=allowed["max_rounds"]).eps_max
    assert allowed["privacy"]["eps_max"] == most > (privacy_of(found).eps_max or 0)  # type: ignore[operator]
    words = join_words(coordinator, kit=kit)
    shown = site.client("federate", "preview", *words, "--json").json["result"]["privacy"]
    assert (shown["epsilon"], shown["epsilon_most"]) == (privacy_of(found).eps_max, most)
    path.write_text(json.dumps(allowed | {"privacy": allowed["privacy"] | {"eps_max": 8.5}}))
    assert "at most      epsilon 8.50 at delta 1e-05, unit image" in site.client("federate", "preview", *words).out


@pytest.mark.parametrize("unit", ["image"], indirect=True)
def test_a_new_run_does_not_spend_what_the_policy_does_not_allow(site: Party, kit: Path) -> None:
    """Rounds of every run count: a new run id makes no round free."""
    folder, path = SiteFolder(site.path / "site"), site.path / "site" / "policy.json"
    allowed = json.loads(path.read_text())
    narrow = privacy_of(read_plan(kit)).eps_max
    path.write_text(json.dumps(allowed | {"privacy": allowed["privacy"] | {"eps_max": narrow}}))
    for number in (1, 2):
        admit(folder, folder.policy(), Instruction(tensors={}, round=number, run="r"))
    with pytest.raises(FederationPolicyError) as caught:
        admit(folder, folder.policy(), Instruction(tensors={}, round=1, run="s"))
    assert "privacy.eps_max" in caught.value.why
    assert len(asked_rounds(folder)) == 2
