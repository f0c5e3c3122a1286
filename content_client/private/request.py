"""Public numbers of a run with privacy: what was asked for, and what the run keeps from its first start (P-7, P-12)."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from content_client.private.vaults import epsilon_text
from modify_fl.config import Budget
from modify_fl.console import Console
from modify_fl.errors import ConfigError, PrivacyBudgetError
from modify_fl.privacy.accounting import Segment, epsilon_of, noise_multiplier_for
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.planning import Plan
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.settings import DpSettings, Engine, Unit
from modify_fl.training.views import group_photos, shared_share
from protocol.storage import PRIVATE, atomic_writer

__all__ = ["Begun", "PrivateRequest", "begin", "plan_of", "settings_for", "tell_plan", "unit_groups"]

_RECORD = "private.json"
_SHARED_MAX = 0.05
_MORE_NOISE = 1.1  # what the ledger's one order may ask beyond the best order of a run (P-45)


@dataclass(frozen=True, kw_only=True)
class PrivateRequest:
    """What the user asks of a run with privacy."""

    epsilon: float | None
    """What this run may spend; all that is left of the budget where none is given."""
    delta: float | None
    """Of the claim; that of the vault where none is given."""
    n_public: int
    """Number of units, rounded."""
    batch: int
    """B0."""
    steps: int
    """T."""
    clip: float | None
    """C; the median norm on public faces where there are any, else 1."""
    unit: Unit | None
    """What is protected as one; that of the vault where none is given."""
    persons: Path | None
    """JSON file that names the person on each photo, by path."""
    augmentations: int
    """K."""
    engine: Engine
    """Backend of the gradients."""
    recipe: PrivateConfig
    """How noisy gradients are used."""
    public: str | None
    """Public faces to adapt to first (P-51)."""
    public_budget: Budget | None
    """Length of that."""
    align: bool
    """Whether public pictures are aligned as the photos are."""
    accept_low_utility: bool
    """Go on where noise drowns the signal (P-54)."""
    tuned_on_private: str
    """What was chosen by looking at private photos, as the user says; goes into the statement (P-30)."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a run keeps from its first start."""

    run: str
    """Its id in the ledger."""
    settings: DpSettings
    """Its public numbers."""


def settings_for(request: PrivateRequest, vault: Vault, *, clip: float) -> DpSettings:
    """Return the numbers of a new run: what was asked for, and the least noise with which it fits into the budget.

    Raises:
        ConfigError: A number makes no sense.
        PrivacyBudgetError: Nothing is left.
    """
    wanted = DpSettings(
        epsilon=request.epsilon, delta=_given(request.delta, vault.delta), n_public=request.n_public,
        batch=request.batch, steps=request.steps, noise_multiplier=1.0, max_grad_norm=clip,
        unit=request.unit or vault.unit, augmentations=request.augmentations, engine=request.engine,
    )  # fmt: skip
    return replace(wanted, noise_multiplier=_noise(wanted, vault))


def _given(asked: float | None, default: float) -> float:
    """Return what was asked for, a 0 included: it is refused, not replaced."""
    return default if asked is None else asked


def _noise(wanted: DpSettings, vault: Vault) -> float:
    """Return the least noise with which the run spends what was asked for and the ledger allows all of its steps."""
    least = vault.noise_multiplier_for(wanted.sampling_rate, wanted.steps)
    if wanted.epsilon is None:
        return least
    asked = noise_multiplier_for(wanted.epsilon, wanted.delta, wanted.sampling_rate, wanted.steps)
    if least > _MORE_NOISE * asked:
        ledger = vault.ledger
        raise PrivacyBudgetError(
            f"less is left than the {epsilon_text(wanted.epsilon, wanted.delta, vault.unit)} asked for",
            why=f"{100 * ledger.spent / ledger.limit:.1f} % of the budget is spent",
            fix="ask for less, or for all that is left by leaving the option out, with more noise",
        )
    return max(least, asked)


def begin(
    folder: Path, request: PrivateRequest, vault: Vault, *, clip: Callable[[], float], fresh: bool
) -> Begun:  # fmt: skip
    """Return id and numbers of the run in ``folder``; of a new one, after they were written there (U-35).

    Args:
        folder: The run's folder, which is there.
        request: What is asked for now.
        vault: Held by this process.
        clip: Returns C of a new run where none is asked for.
        fresh: Begin a new run whatever is there.

    Raises:
        ConfigError: The run in the folder was begun with other numbers.
        PrivacyBudgetError: Nothing is left for a new run.
    """
    path = folder / _RECORD
    if path.is_file() and not fresh:
        return _resumed(path, request, vault)
    bound = clip() if request.clip is None else request.clip
    begun = Begun(run=str(uuid.uuid4()), settings=settings_for(request, vault, clip=bound))
    with atomic_writer(path, mode=PRIVATE, overwrite=True) as stream:
        stream.write(json.dumps({"run": begun.run, "settings": asdict(begun.settings)}, indent=1).encode())
    return begun


def _resumed(path: Path, request: PrivateRequest, vault: Vault) -> Begun:
    """Take up a run with the noise and the bound that it began with; all else must be asked for again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        values, run = record["settings"], str(record["run"])
        settings = DpSettings(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the record of the run cannot be read", why=str(error), fix="use --fresh") from error
    if missing := asdict(settings).keys() - values.keys():
        raise ConfigError(
            "the run was begun by a version that knew less", why=f"its record lacks {', '.join(sorted(missing))}",
            fix="add --fresh to start anew; what was spent stays spent",
        )  # fmt: skip
    wanted = replace(
        settings, epsilon=request.epsilon, delta=_given(request.delta, vault.delta), n_public=request.n_public,
        batch=request.batch, steps=request.steps, sampling_rate=0.0, unit=request.unit or vault.unit,
        max_grad_norm=_given(request.clip, settings.max_grad_norm), augmentations=request.augmentations,
        engine=request.engine,
    )  # fmt: skip
    changed = [name for name, value in asdict(wanted).items() if value != values[name]]
    if changed:
        raise ConfigError(
            "this run was started with other numbers",
            why="; ".join(f"{name} was {values[name]}, now {getattr(wanted, name)}" for name in changed),
            fix="repeat the old numbers to go on, or add --fresh to start anew; what was spent stays spent",
        )
    return Begun(run=run, settings=settings)


def plan_of(settings: DpSettings, parameters: int) -> Plan:
    """Return what a run costs and is worth (P-53).

    Args:
        settings: Its numbers.
        parameters: d.
    """
    segment = Segment(
        sampling_rate=settings.sampling_rate, noise_multiplier=settings.noise_multiplier, steps=settings.steps
    )
    return Plan(
        n_public=settings.n_public, batch=settings.batch, steps=settings.steps, delta=settings.delta,
        parameters=parameters, noise_multiplier=settings.noise_multiplier,
        epsilon_rdp=epsilon_of([segment], settings.delta), epsilon_prv=None,
    )  # fmt: skip


def tell_plan(console: Console, made: Plan, unit: Unit, *, accept: bool) -> None:
    """Print what will be spent before it is (P-53, P-54).

    Raises:
        PrivacyBudgetError: The budget would be spent on noise, and nobody accepted that.
    """
    console.say(
        f"spends {epsilon_text(made.epsilon_rdp, made.delta, unit)}: {made.steps} steps, batch {made.batch} of "
        f"{made.n_public} {unit}s, sigma {made.noise_multiplier:.3g}"
    )
    console.say(f"signal to noise at best {made.snr:.1f}, with {made.parameters} trained parameters")
    for warning in made.warnings():
        console.warn(warning)
    if not accept:
        made.require_useful()


def unit_groups(names: tuple[str, ...], request: PrivateRequest, unit: Unit, console: Console) -> list[list[int]]:
    """Return the indices of each unit's photos; warn where photos that belong together count one by one (P-9).

    Args:
        names: Relative path of each photo.
        request: Names the list of persons.
        unit: That of the vault.
        console: Shows the warning.

    Raises:
        ConfigError: A photo does not say whose it is, or there is a list that nothing needs.
        PrivacyBudgetError: Another unit is asked for than the vault has.
    """
    if request.unit not in {None, unit}:
        raise PrivacyBudgetError(f"this vault protects each {unit}, the run asks for {request.unit}",
                                 why="charges of different claims do not add up", fix=f"use --unit {unit}")  # fmt: skip
    if request.persons is not None and unit == "image":
        raise ConfigError("--persons belongs to unit person", fix="leave the list out, or make the vault with it")
    if unit == "image" and shared_share(names) > _SHARED_MAX:
        console.warn("photos share folders: where these are pictures of one person, unit person protects them together")
    return group_photos(names, unit, None if request.persons is None else _read_persons(request.persons))


def _read_persons(path: Path) -> Mapping[str, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the list of persons {path}", why=str(error)) from error
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise ConfigError(f"{path} is no list of persons", fix='write it like {"photo.jpg": "anna"}')
    return value
