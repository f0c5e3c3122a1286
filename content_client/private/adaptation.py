"""Stage 2 with differential privacy on this machine, from a vault to an adapter that may be shared (P-31 to P-52).

In order: vault, adaptation to public faces where there are any, public numbers of
the run, preflight, charged steps, release through the gate. A run that is
repeated goes on with the numbers it began with.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from content_client.adaptation import Adaptation
from content_client.identity import adapter_identity, sharing_advice
from content_client.private.public_faces import PublicFaces
from content_client.private.request import PrivateRequest, begin, plan_of, settings_for, tell_plan, unit_groups
from modify_fl.console import Console
from modify_fl.events import TrainingEvent
from modify_fl.options import run_folder
from modify_fl.privacy.ledger import Vault, VaultState, read_vault
from modify_fl.privacy.release import ReleaseGate
from modify_fl.privacy.settings import DpSettings
from modify_fl.privacy.sharing import require_public
from modify_fl.privacy.statement import require_claim, sentence
from modify_fl.progress import MetricsLog, duration
from modify_fl.training.estimate import peak_memory
from modify_fl.training.private import PrivateStylization, PrivateTask, adapt_private
from modify_fl.training.runtime import resolve
from modify_fl.training.subsets import count_trainable
from modify_fl.training.views import PhotoUnits
from protocol.storage import storage_errors
from protocol.trust import TrustStore

__all__ = ["adapt_privately", "plan_privately"]


def adapt_privately(
    task: Adaptation, request: PrivateRequest, *, source: Path, fresh: bool, console: Console
) -> Mapping[str, object]:
    """Train E' on the photos of a vault under its budget, and write an adapter that may be shared.

    Args:
        task: Style, photos, seed, place of the result; its ``config`` holds the
            weights of equation 7 and the subset trained with privacy.
        request: Public numbers.
        source: The photo folder or ZIP file, a vault.
        fresh: Throw away an earlier run for this result; what it spent stays spent.
        console: Shows progress.

    Returns:
        Result of the command.

    Raises:
        ConfigError: A number makes no sense, or the run in the folder had others.
        PrivacyBudgetError: No vault, no budget, or a check failed (exit 11).
    """
    groups = _groups(task, request, read_vault(source), console)
    key, provider = adapter_identity(TrustStore.default(), task.ask)
    folder = run_folder(task.out)
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # before anything is put there (P-38)
    faces = PublicFaces.adapted_to(task, request, fresh=fresh, console=console)
    with Vault.open(source, run=task.out.name) as vault:
        for warning in vault.warnings:
            console.warn(warning)
        require_claim(vault.ledger)  # again, now that all photos were looked at
        begun = begin(folder, request, vault, fresh=fresh, clip=lambda: faces.clip(task, request) if faces else 1.0)
        tell_plan(console, plan_of(begun.settings, _size(task)), vault.unit, accept=request.accept_low_utility)
        private = _task_of(task, request, begun.settings, faces)
        with MetricsLog(folder / "metrics.jsonl", fresh=fresh) as log:

            def emit(event: TrainingEvent) -> None:
                console.emit(event)
                log.write(event)

            adapted = adapt_private(
                private, task.photos, groups, runtime=task.runtime, nets=task.nets(), folder=folder, emit=emit,
                fresh=fresh, charge=lambda steps: vault.charge(
                    run=begun.run, bundle=task.style.digest, settings=begun.settings, steps=steps
                ),
            )  # fmt: skip
        released = ReleaseGate(vault, task.style, tuned_on_private=request.tuned_on_private).write_adapter(
            task.out, adapted, run=begun.run, key=key, provider=provider, overwrite=task.overwrite
        )
    if not task.keep_cache:
        task.photos.discard()
    console.say(f"wrote {task.out} ({task.out.stat().st_size / 1e6:.1f} MB), which may be shared")
    for line in (sentence(released.statement), *sharing_advice(provider)):
        console.say(line)
    compared = faces.compare(task, private, adapted.tensors) if faces else None
    if compared:
        _tell_comparison(console, compared)
    command = shlex.join(["content-client", "stylize", "--bundle", str(task.bundle), "--adapter", str(task.out)])
    console.say(f"next: {command} PHOTO... --out DIR")
    return {
        "adapter": task.out, "digest": released.digest, "release": released.release, "run": folder,
        "steps": adapted.summary.steps, "subset": adapted.subset, "settings": asdict(begun.settings),
        "statement": asdict(released.statement), "public_loss": compared,
    }  # fmt: skip


def plan_privately(
    task: Adaptation, request: PrivateRequest, *, source: Path, console: Console
) -> Mapping[str, object]:
    """Say what ``adapt_privately`` would spend and take; spends and writes nothing (U-34, P-53).

    Arguments and errors as there.
    """
    state = read_vault(source)
    groups = _groups(task, request, state, console)
    # The vault is looked at, not held: no charge follows.
    settings = settings_for(request, Vault(state), clip=1.0 if request.clip is None else request.clip)
    compute = resolve(task.runtime)
    units = PhotoUnits(
        task.photos, groups, seed=task.seed, augmentations=settings.augmentations, per_person=settings.per_person
    )
    private = _task_of(task, request, settings, None)
    found = PrivateStylization(private, units, compute=compute, nets=task.nets(), charge=_never).check()
    seconds = found.seconds_per_unit * settings.batch * settings.steps
    console.say(f"would adapt to the photos of vault {state.vault} and write {task.out}; nothing was spent")
    memory, _ = peak_memory(compute.device)
    held = f", {memory / 1e9:.2f} GB of memory" if memory else ""
    console.say(f"about {duration(seconds)} on {compute}: {1000 * found.seconds_per_unit:.0f} ms a gradient{held}")
    if request.public is not None:
        console.say("before that it would adapt to the public faces, and take C from their gradients")
    made = plan_of(settings, _size(task))
    tell_plan(console, made, settings.unit, accept=request.accept_low_utility)
    return {
        "vault": state.vault, "settings": asdict(settings), "parameters": made.parameters,
        "epsilon": made.epsilon_rdp, "delta": made.delta, "unit": settings.unit, "signal_to_noise": made.snr,
        "seconds": seconds, "memory": memory, "isolation": found.isolation, "out": task.out, "compute": str(compute),
    }  # fmt: skip


def _groups(task: Adaptation, request: PrivateRequest, state: VaultState, console: Console) -> list[list[int]]:
    """Check what can be checked before anything is computed, and return the photos of each unit.

    Raises:
        ConfigError: A photo does not say whose it is.
        PrivacyBudgetError: Another unit is asked for than the vault has, nothing can be claimed about its photos,
            or public faces are photos of a vault.
    """
    groups = unit_groups(task.photos.names, request, state.ledger.opening.unit, console)
    require_claim(state.ledger)
    if request.public is not None:
        require_public(request.public, state.photos)
    return groups


def _never(steps: int) -> None:
    raise RuntimeError(f"a dry run was about to charge {steps} steps")


def _size(task: Adaptation) -> int:
    return count_trainable(task.style.network, task.config.subset)


def _task_of(task: Adaptation, request: PrivateRequest, settings: DpSettings, faces: PublicFaces | None) -> PrivateTask:
    return PrivateTask(
        style=task.style, settings=settings, recipe=request.recipe, config=task.config, seed=task.seed,
        start=faces.start if faces else None,
    )  # fmt: skip


def _tell_comparison(console: Console, compared: Mapping[str, float]) -> None:
    public, private = compared["public_only"], compared["private"]
    console.say(f"loss on public faces kept out: {public:.4f} after public faces alone, {private:.4f} with the photos")
    if not private < public:
        console.warn("there the private photos did not help: the noise cost more than they brought (P-55)")
