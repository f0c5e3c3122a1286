"""What may be said about photos, from what a ledger holds (P-1 to P-3).

The sentence itself is ``protocol.privacy.privacy_statement``, which readers of an
adapter compute again. No number of it can be chosen here: all come from the ledger,
and from those of other vaults that hold some of the same photos (ADR 18).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from modify_fl.errors import PrivacyBudgetError
from modify_fl.privacy.accounting import Accountant, Segment, accountant_version, epsilon_at, epsilon_of, rounded_up
from modify_fl.privacy.records import Charge, Ledger
from modify_fl.privacy.settings import NOT_STATED
from modify_fl.privacy.sharing import Sharing, sharing_of
from protocol.privacy import DpMechanism, DpStatement, privacy_statement

__all__ = ["NOT_COVERED", "joint_statement", "no_guarantee", "require_claim", "sentence", "statement_of"]

NOT_COVERED = ("stylised images you share", "logs you export", "test-time weights")
"""Outputs that no claim of this project covers (P-1, P-50)."""

_NO_RUN = "no run under differential privacy was charged to these photos"
_TEST = "the noise was repeatable"
_CHOSEN = "runs whose settings, length or existence were chosen by the results of earlier ones"
_OTHER_CLAIM = "some of these photos are in another vault too, whose charges make another claim and do not add up"
_DIGITS = 4


def no_guarantee(reason: str, *, test: bool = False) -> DpStatement:
    """Return the statement of a model without differential privacy (P-3).

    Args:
        reason: Why there is none.
        test: A mechanism ran with repeatable noise, which protects nothing.
    """
    return DpStatement(applied=False, guarantee="none (test)" if test else "none", reason=reason)


def statement_of(
    ledger: Ledger, *, accountant: Accountant = "RDP", tuned_on_private: str = NOT_STATED, release: str = "none yet"
) -> DpStatement:
    """Return the statement about all photos of a vault, composed over everything that was charged (P-40).

    Where other vaults hold some of the photos, their charges and releases count here
    too: a photo that is in both was used by both (P-34, P-47).

    Args:
        ledger: Of the vault.
        accountant: ``PRV`` for the smaller of RDP and PRV, where all charges are of
            one schedule that was fixed in advance and PRV returns; RDP else (P-32).
        tuned_on_private: What was chosen by looking at private photos, as its owner
            says; the runs for it are in the ledger like all others (P-30).
        release: What stands in the list of releases while there is none.

    Returns:
        A claim; or ``guarantee: none`` where nothing was charged, noise was
        repeatable, something left without protection, or another vault with some of
        the photos has charges that do not add up.

    Raises:
        PrivacyBudgetError: The ledger of such a vault cannot be relied on.
    """
    sharing = sharing_of(ledger.opening.vault)
    hindrance = _hindrance(ledger, sharing)
    if hindrance is not None or not ledger.charges:
        return hindrance or no_guarantee(_NO_RUN)
    opening, every = ledger.opening, (ledger, *(other for other in sharing.ledgers if other.charges))
    alone = len(every) == 1
    chosen, epsilon = _account(ledger, accountant) if alone else ("RDP", _sum(every))
    presumed = () if alone and ledger.single_schedule else (_presumed(ledger if alone else None),)
    return DpStatement(
        applied=True, unit=opening.unit, adjacency="add/remove", epsilon=rounded_up(epsilon, _DIGITS),
        delta=opening.delta, mechanisms=_mechanisms([charge for part in every for charge in part.charges]),
        accountant=chosen, accountant_version=accountant_version(),
        releases=tuple(entry.release for part in every for entry in part.releases) or (release,), n_is_public=False,
        tuned_on_private=tuned_on_private, not_covered=(*NOT_COVERED, *presumed),
    )  # fmt: skip


def _presumed(ledger: Ledger | None) -> str:
    """Say that an epsilon of several runs presumes that none was chosen by results of others, and what else holds.

    The filter bounds any choice by the budget (P-45); one that was raised may have been a choice itself, and no
    filter counts several vaults.
    """
    if ledger is None or ledger.raised:
        return _CHOSEN
    opening = ledger.opening
    return f"{_CHOSEN} (for them the budget holds: epsilon {opening.epsilon_max:.12g} at delta {opening.delta:.12g})"


def require_claim(ledger: Ledger) -> None:
    """Refuse photos about which nothing can be claimed, whatever is charged to them from now on.

    Args:
        ledger: Of their vault.

    Raises:
        PrivacyBudgetError: See ``statement_of`` for the cases.
    """
    hindrance = _hindrance(ledger, sharing_of(ledger.opening.vault))
    if hindrance is not None:
        raise PrivacyBudgetError(
            "nothing can be claimed about these photos any more", why=hindrance.reason or "",
            fix="train and release without a claim: content-client export --release-unprotected REASON",
        )  # fmt: skip


def _hindrance(ledger: Ledger, sharing: Sharing) -> DpStatement | None:
    """Return why nothing can be claimed, whatever is charged from now on; nothing where something can."""
    others = [other for other in sharing.ledgers if other.charges]
    gone = (*(entry for entry in ledger.releases if entry.reason is not None), *sharing.unprotected)
    if gone:
        return no_guarantee(f"{gone[0].release} left without differential privacy: {gone[0].reason}")
    if any(charge.deterministic for part in (ledger, *others) for charge in part.charges):
        return no_guarantee(_TEST, test=True)
    if any(other.opening.unit != ledger.opening.unit or not other.keeps(ledger.opening.order) for other in others):
        return no_guarantee(_OTHER_CLAIM)
    return None


def joint_statement(statements: Sequence[DpStatement]) -> DpStatement:
    """Return what may be said about the photos of every one of several sites, whose photos differ (P-34).

    Each photo is at one site, so claims do not add up: the weakest one holds for all.

    Args:
        statements: Of each site; the same unit and delta.

    Returns:
        The claim with the largest epsilon, over the releases of all; or a statement
        without a guarantee where any site has none.
    """
    without = [statement for statement in statements if not statement.applied]
    if without:
        return without[0]
    if len({(statement.unit, statement.delta) for statement in statements}) != 1:
        return no_guarantee("the sites protect their photos in different units or at different deltas")
    weakest = max(statements, key=lambda statement: statement.epsilon or 0.0)
    releases = {release for statement in statements for release in statement.releases or ()}
    not_covered = dict.fromkeys(output for statement in statements for output in statement.not_covered or ())
    return replace(weakest, releases=tuple(sorted(releases)), not_covered=tuple(not_covered))


def sentence(statement: DpStatement) -> str:
    """Return the one sentence that is printed about photos (P-1), or ``guarantee: none`` and why (P-3)."""
    if statement.applied:
        return privacy_statement("encoder-adapter", statement)
    return f"guarantee: {statement.guarantee} ({statement.reason})"


def _mechanisms(charges: Sequence[Charge]) -> tuple[DpMechanism, ...]:
    """Add up the steps of equal mechanisms."""
    steps: dict[tuple[float, float, float], int] = {}
    for charge in charges:
        key = (charge.sampling_rate, charge.noise_multiplier, charge.max_grad_norm)
        steps[key] = steps.get(key, 0) + charge.steps
    return tuple(
        DpMechanism(sampling_rate=q, noise_multiplier=sigma, max_grad_norm=clip, steps=count)
        for (q, sigma, clip), count in steps.items()
    )


def _account(ledger: Ledger, accountant: Accountant) -> tuple[Accountant, float]:
    if accountant == "PRV" and ledger.single_schedule:
        segments: list[Segment] = [charge.segment for charge in ledger.charges]
        tighter = epsilon_of(segments, ledger.opening.delta, accountant="PRV")
        if tighter < ledger.epsilon:
            return "PRV", tighter
    return "RDP", ledger.epsilon


def _sum(ledgers: Sequence[Ledger]) -> float:
    """Return the epsilon of several ledgers together, at the order and delta of the first (P-34, P-45)."""
    opening = ledgers[0].opening
    spent = math.fsum(ledger.rdp_at(opening.order) for ledger in ledgers)
    return epsilon_at(opening.order, spent, opening.delta)
