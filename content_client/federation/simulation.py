"""``federate simulate``: a federation whose sites are all on this machine (F-34).

The same plan, apps, guard and release gate as over a network. Without privacy the
result is ``local-only``; with it, each site's photos are a vault of their own, each
round is charged there before it runs, and the result may be shared.
"""

import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from content_client.federation.simulated_sites import (
    REASON,
    Ground,
    open_sites,
    private_sites,
    require_different,
    source_of,
)
from content_client.identity import adapter_identity, sharing_advice
from content_client.private.request import PrivateRequest, plan_of, settings_for, tell_plan, unit_groups
from modify_fl.artifacts import LoadedStyle
from modify_fl.config import Runtime, StylizationConfig
from modify_fl.console import Console, ItemsFailedError
from modify_fl.errors import ConfigError
from modify_fl.federated.claims import federation_sentence, for_each_site
from modify_fl.federated.guard import RoundRecord
from modify_fl.federated.plan import PLAN_FILE, FederationPlan, PrivatePlan, read_plan, write_plan
from modify_fl.federated.ray_backend import run_with_ray
from modify_fl.federated.records import Schema
from modify_fl.federated.result import write_result
from modify_fl.federated.simulation import Traffic, plan_simulation, simulate
from modify_fl.federated.site import Training
from modify_fl.options import run_folder
from modify_fl.passphrase import Ask
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault, read_vault
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.statement import joint_statement, no_guarantee, statement_of
from modify_fl.progress import duration
from modify_fl.training.loop import differences
from modify_fl.training.private import PrivateTask
from modify_fl.training.runtime import resolve
from protocol.privacy import DpStatement
from protocol.trust import TrustStore

__all__ = ["Simulation", "run_simulation"]

_ALOUD = (
    "without privacy: nothing is guaranteed about the photos. Over a network the coordinator would see every "
    "update as it is, and faces may be reconstructed from updates; --privacy dp protects them"
)
_ALOUD_MASKED = (
    "without privacy: nothing is guaranteed about the photos. The sum of all updates is read by everybody, and "
    "masks hide what a photo does to it from nobody; --privacy dp protects photos"
)
_MASKED = (
    "secure aggregation is experimental: over a network it hides single updates from a coordinator that keeps to the "
    "protocol, not from one that poses as other sites"
)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A checked request."""

    style: LoadedStyle
    """The verified style."""
    bundle: Path
    """Its file, for messages only."""
    grounds: Sequence[Ground]
    """The sites."""
    config: StylizationConfig
    """Weights, rate, batch, subset."""
    rounds: int
    """Of the whole run."""
    local_steps: int
    """Of a site in a round."""
    fedprox_mu: float
    """Weight of the proximal term."""
    quorum: int | None
    """Fewest replies of a round; 3, or all sites where there are fewer, when omitted."""
    max_update_norm: float | None
    """Published norm; what Adam can move at most when omitted."""
    seed: int
    """Of everything that is drawn; a site's own is this plus its number."""
    runtime: Runtime
    """Device, threads, precision."""
    require: bool
    """Whether to refuse the replacements of M-41 and M-42."""
    out: Path
    """The adapter."""
    overwrite: bool
    """Whether it may be replaced."""
    ask: Ask
    """Asks for the passphrase of this client's adapter key, if it has one."""
    request: PrivateRequest | None
    """Public numbers of privacy; nothing without it."""
    ray: bool = False
    """Whether rounds run in Flower's own simulation, not in this process."""
    secagg: bool = False
    """Whether updates are masked, so that only their sum is read."""
    align: bool = True
    """Whether faces are found and aligned, for sites that read their photos themselves."""


def run_simulation(task: Simulation, *, fresh: bool, dry_run: bool, console: Console) -> Mapping[str, object]:
    """Run the rounds and write the adapter, or say what would be done.

    Args:
        task: What to do.
        fresh: Throw away an earlier run for this result; what it spent stays spent.
        dry_run: Write, spend and train nothing.
        console: Shows progress.

    Returns:
        Result of the command.

    Raises:
        ConfigError: A number makes no sense, or the run in the folder had others.
        PrivacyBudgetError: A site has no vault, or its budget does not reach.
        FederationError: No round came about.
        ItemsFailedError: Rounds were skipped; the adapter was written.
        InterruptedRunError: A signal asked for a stop.
    """
    folder = run_folder(task.out)
    plan = _plan(task, folder, fresh=fresh, console=console)
    _tell(task, plan, console)
    if dry_run:
        console.say(f"would write {task.out}; nothing was trained or spent")
        return {"plan": asdict(plan), "photos": [len(ground.photos) for ground in task.grounds], "out": task.out}
    key, provider = adapter_identity(TrustStore.default(), task.ask)  # now, when somebody can answer
    if fresh:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_plan(plan, folder, overwrite=True)
    nets = PerceptualNets.find(require=task.require, device=resolve(task.runtime, bf16=False).device)
    for warning in nets.warnings:
        console.warn(warning)
    traffic, start = Traffic(), time.monotonic()
    if task.ray:
        run_with_ray(
            plan, folder, bundle=task.bundle, sites=[source_of(ground) for ground in task.grounds], align=task.align,
            seed=task.seed,
        )  # fmt: skip
    done = simulate(
        task.style, plan, _sites(task, plan, nets, console), folder, watch=traffic.count,
        tell=lambda record: console.note(_line(record, plan, time.monotonic() - start)),
        complain=lambda number, error: console.warn(f"{task.grounds[number - 1].name}: {_short(error)}"),
    )  # fmt: skip
    statement = _statement(task)
    released = write_result(
        task.out, done, plan, task.style, statement=statement, local=True, key=key, provider=provider,
        overwrite=task.overwrite, nets=(nets.perceptual, nets.identity),
    )  # fmt: skip
    leaves = "may be shared" if statement.applied else "stays on this machine"
    console.say(f"wrote {task.out} ({task.out.stat().st_size / 1e6:.1f} MB), which {leaves}")
    if statement.applied:
        for line in (federation_sentence(statement), *sharing_advice(provider)):
            console.say(line)
    command = shlex.join(["content-client", "stylize", "--bundle", str(task.bundle), "--adapter", str(task.out)])
    console.say(f"next: {command} PHOTO... --out DIR")
    result = {
        "adapter": task.out, "digest": released.digest, "run": folder, "plan": asdict(plan),
        "sites": len(task.grounds), "photos": [len(ground.photos) for ground in task.grounds],
        "rounds": [asdict(record) for record in done.rounds], "skipped": list(done.skipped),
        "bytes_down": traffic.down, "bytes_up": traffic.up, "seconds": time.monotonic() - start,
        "statement": asdict(statement), "losses": {"perceptual": nets.perceptual.name, "identity": nets.identity.name},
    }  # fmt: skip
    if done.skipped:
        why = "; ".join(f"round {number}" for number in done.skipped)
        raise ItemsFailedError(f"{len(done.skipped)} rounds had no quorum and were skipped", why=why, result=result)
    return result


# The plan -----------------------------------------------------------------------------


def _plan(task: Simulation, folder: Path, *, fresh: bool, console: Console) -> FederationPlan:
    """Return the plan of a new run, or that of the run in ``folder`` if it was begun with the same numbers (U-35)."""
    old = read_plan(folder) if (folder / PLAN_FILE).is_file() and not fresh else None
    config = task.config
    plan = plan_simulation(
        task.style, sites=len(task.grounds), subset=config.subset, rounds=task.rounds,
        local_steps=task.local_steps, batch=config.batch, learning_rate=_rate(task), fedprox_mu=task.fedprox_mu,
        quorum=task.quorum, max_update_norm=task.max_update_norm, private=_private(task, old, console),
        secagg=task.secagg,
    )  # fmt: skip
    if old and (found := differences(asdict(old), asdict(plan))):
        raise ConfigError(
            "this run was started with other numbers",
            why="; ".join(found),
            fix="repeat the old numbers to go on, or add --fresh to start anew; what was spent stays spent",
        )
    return plan


def _rate(task: Simulation) -> float:
    return task.request.recipe.learning_rate if task.request else task.config.learning_rate


def _private(task: Simulation, old: FederationPlan | None, console: Console) -> PrivatePlan | None:
    """Return the numbers with which the run fits into the budget of every site; noise and C of a run that goes on."""
    request = task.request
    if request is None:
        return None
    _require_plain(request.recipe)
    openings = [read_vault(source_of(ground)).ledger.opening for ground in task.grounds]
    if len({(opening.unit, opening.delta) for opening in openings}) > 1:
        raise ConfigError(
            "the sites protect their photos in different units or at different deltas",
            why="one statement must hold for all of them",
            fix="make their vaults with the same --unit and --delta",
        )
    require_different(task.grounds)
    kept = old.private if old else None
    clip = request.clip or (kept.max_grad_norm if kept else 1.0)
    if kept:
        noise = kept.noise_multiplier
    else:
        vaults = [Vault(read_vault(source_of(ground))) for ground in task.grounds]  # looked at, not held
        noise = max(settings_for(request, vault, clip=clip).noise_multiplier for vault in vaults)
    for ground in task.grounds:
        unit_groups(ground.photos.names, request, openings[0].unit, console)
    return PrivatePlan(
        n_public=request.n_public, batch=request.batch, noise_multiplier=noise, max_grad_norm=clip,
        delta=openings[0].delta, unit=openings[0].unit, augmentations=request.augmentations,
    )  # fmt: skip


def _require_plain(recipe: PrivateConfig) -> None:
    """Refuse choices that would silently not be heard."""
    if recipe != PrivateConfig(learning_rate=recipe.learning_rate, betas=recipe.betas, critic=recipe.critic):
        raise ConfigError(
            "in a federation only learning_rate, betas and critic of the private recipe can be chosen",
            why="sites are averaged instead of the steps of one, and the published norm is that of Adam",
            fix="leave out the other --set private.NAME=VALUE",
        )


def _tell(task: Simulation, plan: FederationPlan, console: Console) -> None:
    """Say what will be done, and what is not protected (F-33)."""
    schema = Schema.of(task.style, plan.subset)
    whole = sum(value.numel() for value in task.style.model.state_dict().values())
    console.say(
        f"{plan.sites} sites: " + ", ".join(f"{ground.name} {len(ground.photos)} photos" for ground in task.grounds)
    )
    console.say(
        f"{plan.rounds} rounds of {plan.local_steps} steps, quorum {plan.quorum}; {plan.subset}: "
        f"{4e-6 * schema.parameters:.2f} MB each way for a site and round, "
        f"{100 * schema.parameters / whole:.1f} % of the networks"
    )
    if plan.secagg:
        console.warn(_MASKED)
    settings = plan.settings()
    if settings is None:
        console.warn(_ALOUD_MASKED if plan.secagg else _ALOUD)
    else:
        accept = task.request is not None and task.request.accept_low_utility
        made = replace(plan_of(settings, schema.parameters), sites=plan.sites)
        tell_plan(console, made, settings.unit, accept=accept)


def _sites(task: Simulation, plan: FederationPlan, nets: PerceptualNets, console: Console) -> list[Training]:
    compute, settings = resolve(task.runtime), plan.settings()
    console.note(f"computing on {compute}")
    if task.request is None or settings is None:
        return open_sites(
            task.style, task.grounds, plan, config=task.config, seed=task.seed, compute=compute, nets=nets
        )
    private = PrivateTask(
        style=task.style, settings=settings, recipe=task.request.recipe, config=task.config, seed=task.seed
    )
    return private_sites(
        private, task.request, task.grounds, plan, compute=compute, nets=nets, console=console
    )  # fmt: skip


def _statement(task: Simulation) -> DpStatement:
    if task.request is None:
        return no_guarantee(REASON)
    joint = joint_statement([statement_of(read_vault(source_of(ground)).ledger) for ground in task.grounds])
    return for_each_site(joint, photos_differ=True)  # see ``require_different``


# Words ----------------------------------------------------------------------------------


def _line(record: RoundRecord, plan: FederationPlan, seconds: float) -> str:
    counted = "skipped, no quorum" if record.skipped else f"{record.accepted} of {record.asked} sites"
    longest = f", longest update {max(record.norms):.3g}" if record.norms else ""
    words = f", not counted: {', '.join(sorted(record.rejected.values()))}" if record.rejected else ""
    return f"round {record.round} of {plan.rounds}: {counted}{longest}{words}, {duration(seconds)}"


def _short(error: Exception) -> str:
    return f"{getattr(error, 'what', type(error).__name__)}: {getattr(error, 'why', '') or error}"
