"""The signed result of a plan, and what can be claimed about the photos of its sites (F-24, P-1 to P-3)."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from modify_fl.federated.claims import federation_sentence, for_each_site
from modify_fl.federated.coordinator_folder import CoordinatorFolder
from modify_fl.federated.journal import read_journal
from modify_fl.federated.kit import Kit
from modify_fl.federated.plan import FederationPlan
from modify_fl.privacy.accounting import Segment, accountant_version, epsilon_of
from modify_fl.privacy.settings import NOT_STATED
from modify_fl.privacy.statement import NOT_COVERED, no_guarantee
from protocol.privacy import DpMechanism, DpStatement
from protocol.provider import read_provider_key
from protocol.signing import load_private_key
from style_provider.federation.planning import ADAPTER_KEY, load_planned

__all__ = ["Sealed", "planned_statement", "seal"]

_GRID = 1e4
_OTHERS = "what else the same photos were used for"
_COMPLETED = "finished:completed"


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """The adapter that was written."""

    digest: str
    """Its payload digest."""
    release: str
    """Its id."""
    rounds: int
    skipped: tuple[int, ...]
    statement: str
    """What is claimed about the photos, in a sentence."""


def seal(folder: CoordinatorFolder, kit: Kit, out: Path, *, overwrite: bool) -> Sealed:
    """Pack, sign, verify and try what the rounds made.

    Args:
        folder: Holds checkpoints and the key.
        kit: Holds plan and public key.
        out: The ``.mdfa`` file.
        overwrite: Whether an existing file is replaced.

    Raises:
        FederationError: No round came about; nothing is written.
        ProtocolError: The bundle is not acceptable any more, or the file cannot be written.
    """
    from modify_fl.federated.result import write_result  # noqa: PLC0415 - brings in Flower
    from modify_fl.federated.rounds import finished_rounds  # noqa: PLC0415

    settings, done = folder.settings(), finished_rounds(folder.rounds, kit.plan)
    assert done is not None  # noqa: S101 - asked for after the last round
    done.require_result()
    style, _ = load_planned(Path(settings.bundle), read_provider_key(Path(settings.provider)))
    statement = planned_statement(kit.plan, blocks=_blocks(folder, kit.plan), run=done.run)
    released = write_result(
        out, done, kit.plan, style, statement=statement, local=False,
        key=load_private_key(folder.private / ADAPTER_KEY), provider=kit.key, overwrite=overwrite,
    )  # fmt: skip
    return Sealed(
        digest=released.digest, release=released.release, rounds=len(done.rounds), skipped=done.skipped,
        statement=federation_sentence(statement),
    )  # fmt: skip


def _blocks(folder: CoordinatorFolder, plan: FederationPlan) -> int:
    """Return how often a site can have been asked at most since the plan was made (F-23).

    Every round of the log counts, thrown away or not: its updates came here. A start
    that was cut short may have asked for one more than the log holds.
    """
    entries = read_journal(folder.journal)
    events = Counter(entry.event for entry in entries)
    whole = sum(entry.event == "ended" and entry.facts.get("status") == _COMPLETED for entry in entries)
    return max(plan.rounds, events["round"]) + max(0, events["begun"] - whole)


def planned_statement(plan: FederationPlan, *, blocks: int, run: str) -> DpStatement:
    """Return what a plan claims about the photos of every site; none of its numbers comes from a site.

    Args:
        plan: The public numbers.
        blocks: Rounds that a site can have answered, repeated ones included.
        run: Id of the run.
    """
    if plan.private is None:
        return no_guarantee("updates of the sites had no privacy; each site has allowed that by name")
    settings = plan.settings()
    assert settings is not None  # noqa: S101 - there where there is privacy
    part, steps = plan.private, blocks * plan.local_steps
    mechanism = DpMechanism(
        sampling_rate=settings.sampling_rate, noise_multiplier=part.noise_multiplier,
        max_grad_norm=part.max_grad_norm, steps=steps,
    )  # fmt: skip
    segment = Segment(sampling_rate=settings.sampling_rate, noise_multiplier=part.noise_multiplier, steps=steps)
    epsilon = math.ceil(epsilon_of([segment], part.delta) * _GRID) / _GRID
    claim = DpStatement(
        applied=True, unit=part.unit, adjacency="add/remove", epsilon=epsilon, delta=part.delta,
        mechanisms=(mechanism,), accountant="RDP", accountant_version=accountant_version(), releases=(run,),
        n_is_public=False, tuned_on_private=NOT_STATED, not_covered=(*NOT_COVERED, _OTHERS),
    )  # fmt: skip
    return for_each_site(claim, photos_differ=False)
