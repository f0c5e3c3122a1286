"""F-17, P-41: what a site trains, what it charges, and what may leave it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedkit import plan_for
from torch import Tensor
from vaultkit import ORDER, put_photos

from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Runtime, StylizationConfig, Subset
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import PrivacyBudgetError, VaultBusyError
from modify_fl.federated.client_app import make_client_app
from modify_fl.federated.compat import ConfigRecord, Context, Message, MessageType, RecordDict, TaskIdentity
from modify_fl.federated.plan import FederationPlan, PrivatePlan
from modify_fl.federated.records import (
    Instruction,
    RefusedError,
    Schema,
    instruction_content,
    make_record,
    read_reply,
)
from modify_fl.federated.site import Answered, OpenTraining, PrivateTraining, Site
from modify_fl.federated.tensors import first_tensors, merged_tensors
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault, read_vault
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.training.private import PrivateTask
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.views import PhotoUnits

PRIVATE = PrivatePlan(n_public=6, batch=3, noise_multiplier=3.0)
CONFIG = StylizationConfig(batch=2, lambda_id=0.0)


@pytest.fixture(scope="session")
def photos(style: LoadedStyle) -> ImageSet:
    return load_images("synthetic", resolution=style.network.resolution, limit=6)


@pytest.fixture(scope="session")
def compute() -> Compute:
    return resolve(Runtime(device="cpu", threads=1, precision="fp32"))


@pytest.fixture(scope="session")
def nets(compute: Compute) -> PerceptualNets:
    return PerceptualNets.find(require=False, device=compute.device)


@pytest.fixture
def training(
    style: LoadedStyle, photos: ImageSet, compute: Compute, nets: PerceptualNets
) -> Callable[[FederationPlan], OpenTraining]:
    return lambda plan: OpenTraining(
        style, photos, plan, config=CONFIG, seed=3, compute=compute, nets=nets, reason="a test"
    )


def asked(style: LoadedStyle, plan: FederationPlan, round_: int = 1, run: str = "r") -> RecordDict:
    schema = Schema.of(style, plan.subset)
    return instruction_content(
        make_record(first_tensors(style, plan.subset)), federated_round=round_, run=run, bundle=style.digest,
        schema=schema.digest,
    )  # fmt: skip


def answered(site: Site, style: LoadedStyle, plan: FederationPlan, round_: int = 1) -> dict[str, Tensor]:
    return read_reply(site.answer(asked(style, plan, round_)), Schema.of(style, plan.subset))


def distance(found: dict[str, Tensor], style: LoadedStyle, subset: Subset) -> float:
    start = first_tensors(style, subset)
    return float(torch.cat([(value - start[name]).flatten() for name, value in found.items()]).norm())


@pytest.mark.parametrize("subset", ["heads", "lora", "all"])
def test_local_steps_move_what_travels_and_nothing_else(
    subset: Subset, style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plan = plan_for(style, subset=subset, batch=2, learning_rate=1e-3)
    stage = training(plan)
    before = {name: value.clone() for name, value in stage.encoder.state_dict().items()}
    found = answered(Site(style, plan, stage), style, plan)
    assert all(not torch.equal(value, first_tensors(style, subset)[name]) for name, value in found.items())
    untouched = set(before) - {name.removeprefix("encoder.") for name in found}
    after = stage.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in untouched)
    if subset == "lora":  # B alone travels, and stands for the whole update
        assert sum(v.numel() for v in found.values()) < sum(v.numel() for v in first_tensors(style, "heads").values())
        merged = merged_tensors(style, subset, found)
        own = style.model.encoder.state_dict()
        assert any(not torch.equal(value, own[name]) for name, value in merged.items())


def test_a_round_depends_on_what_was_sent_and_on_nothing_before(
    style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    """So a site that was restarted gives the reply that it would have given (F-22)."""
    plan = plan_for(style, batch=2, learning_rate=1e-3)
    long, fresh = Site(style, plan, training(plan)), Site(style, plan, training(plan))
    first = answered(long, style, plan, 1)
    second, alone = answered(long, style, plan, 2), answered(fresh, style, plan, 2)
    assert all(torch.equal(value, alone[name]) for name, value in second.items())
    assert any(not torch.equal(value, first[name]) for name, value in second.items())  # other photos, other draws


def test_the_proximal_term_holds_a_site_near_the_model(
    style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plain = plan_for(style, batch=2, learning_rate=1e-2, local_steps=6)
    near = replace(plain, fedprox_mu=100.0)
    free, held = (distance(answered(Site(style, p, training(p)), style, p), style, "heads") for p in (plain, near))
    assert held < 0.8 * free


def test_an_update_leaves_no_longer_than_was_published(
    style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plan, log = plan_for(style, batch=2, learning_rate=1e-2, max_update_norm=0.01), list[Answered]()
    found = answered(Site(style, plan, training(plan), log=log.append), style, plan)
    assert distance(found, style, "heads") == pytest.approx(0.01, rel=1e-3)
    assert log[0].norm > log[0].kept == 0.01
    assert log[0].epsilon is None


@pytest.mark.parametrize("round_", [0, 3, -1])
def test_a_round_that_was_not_planned_is_refused(
    round_: int, style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plan = plan_for(style, batch=2)
    with pytest.raises(RefusedError) as caught:
        Site(style, plan, training(plan)).answer(asked(style, plan, round_))
    assert caught.value.word == "policy"


def test_a_round_is_answered_once(
    style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:  # fmt: skip
    plan = plan_for(style, batch=2)
    site = Site(style, plan, training(plan))
    site.answer(asked(style, plan))
    with pytest.raises(RefusedError, match="policy"):
        site.answer(asked(style, plan))
    site.answer(asked(style, plan, run="the next run"))


def test_a_policy_that_forbids_a_round_is_heard_before_anything_is_trained(
    style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    def admit(instruction: Instruction) -> None:
        raise RefusedError("policy", f"round {instruction.round}")

    plan = plan_for(style, batch=2)
    stage = training(plan)
    with pytest.raises(RefusedError):
        Site(style, plan, stage, admit=admit).answer(asked(style, plan))
    assert stage.step_count == 0


HOSTILE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "other tensors": ("bundle_mismatch", lambda r: r.update({"arrays": make_record({"encoder.x": torch.zeros(1)})})),
    "another bundle": ("bundle_mismatch", lambda r: r["config"].update({"bundle_payload_sha256": "0" * 64})),
    "another schema": ("bundle_mismatch", lambda r: r["config"].update({"adapter_schema": "0" * 64})),
    "noise": ("policy", lambda r: r["config"].update({"noise_multiplier": 0.0})),
    "more steps": ("policy", lambda r: r["config"].update({"local_steps": 10**6})),
    "a path": ("policy", lambda r: r["config"].update({"photos": "/home/ann/other-photos"})),
    "a metric": ("policy", lambda r: r["config"].update({"metrics": ["loss", "num-photos"]})),
    "code": ("policy", lambda r: r.update({"code": ConfigRecord({"source": "import os"})})),
    "a run whose id is too long for the log": ("policy", lambda r: r["config"].update({"run": "r" * 65})),
    "a later round": ("policy", lambda r: r["config"].update({"round": 99})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_coordinator_gets_a_word_and_no_photo_is_touched(
    name: str, style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plan = plan_for(style, batch=2)
    stage = training(plan)
    expected, change = HOSTILE[name]
    content = asked(style, plan)
    change(content)
    reply = sent(Site(style, plan, stage), content)
    assert (reply.has_content(), reply.error.reason) == (False, expected)
    assert stage.step_count == 0


@pytest.mark.parametrize("kind", ["evaluate", "query", "train.other"])
def test_nothing_but_training_is_answered(
    kind: str, style: LoadedStyle, training: Callable[[FederationPlan], OpenTraining]
) -> None:
    plan = plan_for(style, batch=2)
    site = Site(style, plan, training(plan))
    if kind == "train.other":  # Flower finds no handler; its own words hold nothing of the site
        with pytest.raises(ValueError, match="No train function registered with name 'other'"):
            sent(site, asked(style, plan), kind)
    else:
        assert sent(site, asked(style, plan), kind).error.reason == "policy"


def sent(site: Site, content: RecordDict, kind: str = MessageType.TRAIN) -> Message:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    app = make_client_app(lambda _: site, lambda _: None)
    return app(Message(content, 7, kind), Context(1, 7, {}, RecordDict(), {}))


# With privacy -----------------------------------------------------------------------------


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    Vault.create(put_photos(tmp_path / "photos"), order=ORDER)
    return tmp_path / "photos"


Private = Callable[[FederationPlan], PrivateTraining]


@pytest.fixture
def private(style: LoadedStyle, photos: ImageSet, vault: Path, compute: Compute, nets: PerceptualNets) -> Private:
    def make(plan: FederationPlan) -> PrivateTraining:
        settings = plan.settings()
        assert settings is not None
        task = PrivateTask(
            style=style, settings=settings, recipe=PrivateConfig(learning_rate=plan.learning_rate, ema=0.0),
            config=replace(CONFIG, subset=plan.subset),
        )  # fmt: skip
        units = PhotoUnits(photos, [[index] for index in range(len(photos))], seed=0, augmentations=1, per_person=4)
        return PrivateTraining(
            task, units, plan, hold=lambda run: Vault.open(vault, run=run), compute=compute, nets=nets
        )

    return make


@pytest.mark.parametrize("subset", ["heads", "lora"])
def test_each_round_is_charged_as_one_block_and_released_once(
    subset: Subset, style: LoadedStyle, vault: Path, private: Private
) -> None:
    plan, log = plan_for(style, private=PRIVATE, subset=subset, learning_rate=1e-3), list[Answered]()
    site = Site(style, plan, private(plan), log=log.append)
    for round_ in (1, 2):
        assert distance(answered(site, style, plan, round_), style, subset) > 0
    ledger = read_vault(vault).ledger
    runs = [f"r@{plan.digest[:16]}/{number}" for number in (1, 2)]
    assert [(charge.run, charge.steps) for charge in ledger.charges] == [(run, 2) for run in runs]
    assert [release.run for release in ledger.releases] == runs
    assert ledger.single_schedule
    assert all(charge.bundle == style.digest for charge in ledger.charges)
    assert log[1].epsilon == pytest.approx(ledger.epsilon)


def test_a_round_that_breaks_off_stays_charged_and_releases_nothing(
    style: LoadedStyle, vault: Path, private: Private
) -> None:
    plan = plan_for(style, private=PRIVATE)
    stage = private(plan)
    stage.mechanism.step = lambda number: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        Site(style, plan, stage).answer(asked(style, plan))
    ledger = read_vault(vault).ledger
    assert [charge.steps for charge in ledger.charges] == [2]
    assert ledger.releases == ()


def test_a_budget_that_does_not_reach_is_one_word_and_nothing_leaves(
    style: LoadedStyle, vault: Path, private: Private
) -> None:
    plan = plan_for(style, private=replace(PRIVATE, noise_multiplier=0.3))
    site = Site(style, plan, private(plan))
    assert word(site, style, plan) == "budget"
    ledger = read_vault(vault).ledger
    assert (ledger.charges, ledger.releases) == ((), ())


def test_a_vault_that_another_run_holds_is_busy(style: LoadedStyle, vault: Path, private: Private) -> None:
    plan = plan_for(style, private=PRIVATE)
    site = Site(style, plan, private(plan))
    with Vault.open(vault, run="another"):
        assert word(site, style, plan) == "busy"
    assert issubclass(VaultBusyError, PrivacyBudgetError)
    assert answered(site, style, plan, 2)  # afterwards it is free again


def word(site: Site, style: LoadedStyle, plan: FederationPlan) -> str | None:
    """What the coordinator is told."""
    reply = sent(site, asked(style, plan))
    assert not reply.has_content()
    return reply.error.reason
