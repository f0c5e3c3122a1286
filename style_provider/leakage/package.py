"""The audit that ``package`` makes before it signs, and what it says in the card (P-80, P-83)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modify_fl.artifacts import Encapsulated
from modify_fl.bundle import Release, image_band, write_style_bundle
from modify_fl.config import Budget
from modify_fl.console import Console
from modify_fl.data import ImageSet
from protocol.manifest import LeakageFigure, MemorisationAudit
from protocol.trust import TrustStore
from style_provider.holdout import HoldoutNote, one_of_each, weights_digest
from style_provider.keys import KeyPair
from style_provider.leakage.findings import HEADLINES, SURE
from style_provider.leakage.limits import Verdict, judge, loosened, read_limits
from style_provider.leakage.page import pages
from style_provider.leakage.report import METHODS, RESULT, Told, members, write_report
from style_provider.leakage.task import Request, load_material, load_public_photos, open_style, run_audit
from style_provider.leakage.wish import AuditWish

__all__ = ["Audited", "audit_budget", "audit_release", "card", "require_wish", "warn_few"]

_SHORTEST = 20.0
_CANDIDATE = "candidate.mdfy"
_KEPT = (
    "no bundle was written; the training is kept: the same command with another --audit, --critic, --style-data or "
    "--accept-leakage does not train again"
)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What goes into the card."""

    audit: MemorisationAudit
    """Signed with the manifest."""
    note: HoldoutNote
    """What the run's folder remembers of the split, with the digest of the weights; for when the bundle is written."""
    reports: Mapping[str, bytes] = field(default_factory=dict)
    """Members of the bundle."""
    told: Told | None = None
    """The audit itself, where one was made."""

    def say(self, console: Console) -> None:
        """Print what was found."""
        critic = f"the critic is {'' if self.audit.critic_shipped else 'not '}in the bundle"
        if self.told is None:
            console.say(f"leakage of style images was not measured; {critic}")
            return
        console.say(f"leakage of style images, {self.audit.status} (attacks that were tried, not a bound); {critic}:")
        for finding in self.told.headlines:
            console.say(f"  {finding.name:<26}{finding.text()}")

    def as_json(self) -> dict[str, Any]:
        """Return the audit for the envelope."""
        return {"status": self.audit.status, **(self.told.as_json() if self.told else {})}


def require_wish(wish: AuditWish, resolution: int, *, critic: bool) -> None:
    """Find out before training what would end the audit after it.

    Args:
        wish: Whether and how.
        resolution: Side of the pictures.
        critic: Whether Dis is to be handed out.

    Raises:
        LeakageError: Nothing is to be measured, the class of the images asks for it, and no reason was given (P-80).
        ConfigError: The provider's limits cannot be read, or there are too few public photos.
        DataError: The public photos cannot be read.
    """
    limits = read_limits()
    if wish.form == "no" and wish.reason is None:
        judge((), wish.style_data, limits).require(critic=critic)
    if wish.form != "no" and wish.photos:
        load_public_photos(wish.photos, resolution)


def warn_few(wish: AuditWish, images: ImageSet, held: Sequence[int], console: Console) -> None:
    """Say before training that so few held-out images will be too weak for the class of the images (P-78, P-80).

    Args:
        wish: Whether and how.
        images: All style images.
        held: Which of them are held out.
        console: Shows the warning.
    """
    if wish.style_data != "confidential" or wish.reason is not None:
        return
    count = len(one_of_each(images, held))
    if count < SURE:
        console.warn(
            f"the bundle will be refused: {count} images held out, {SURE} needed "
            "(--holdout, more images, --style-data, --accept-leakage)"
        )


def audit_budget(wish: AuditWish, trained: float) -> Budget | None:
    """Return about how long the audit takes at most; nothing where no time limits it, or none is made.

    Args:
        wish: Whether and how.
        trained: Seconds that the training takes.
    """
    return Budget(kind="seconds", amount=max(_SHORTEST, trained)) if wish.form == "trained" else wish.budget


def audit_release(
    wish: AuditWish, result: Encapsulated, *, release: Release, key: KeyPair, critic: bool, images: ImageSet,
    note: HoldoutNote, home: Path, console: Console,
) -> Audited:  # fmt: skip
    """Attack what would be handed out, and refuse where the provider's limits are passed.

    Args:
        wish: Whether and how.
        result: What stage 1 made.
        release: What the provider says of it.
        key: Signs the candidate; it is removed again.
        critic: Whether Dis is part of it.
        images: All style images.
        note: Which of them were trained on.
        home: The run's folder.
        console: Shows progress and warnings.

    Raises:
        LeakageError: A figure is above the limits, and no reason was given (P-80).
        InterruptedRunError: A signal asked for a stop; the same command goes on.
    """
    candidate, trust = home / _CANDIDATE, TrustStore.of(key.provider)
    write_style_bundle(
        candidate, result, release=release, key=key.private, provider=key.provider, overwrite=True, critic=critic
    )
    try:
        style = open_style(candidate, trust, now=release.created)
        note = replace(note, weights=weights_digest(style.manifest))
        if wish.form == "no":
            return Audited(audit=_unmeasured(wish, critic=critic, console=console), note=note)
        photos = load_public_photos(wish.photos, images.resolution)
        material = load_material(
            candidate, images, photos, note=note, trust=trust, seed=result.summary.seed,
            now=release.created,
        )  # fmt: skip
    finally:
        candidate.unlink(missing_ok=True)
    request = Request(
        seed=result.summary.seed, budget=audit_budget(wish, result.summary.seconds), threads=wish.threads,
        date=release.created,
    )  # fmt: skip
    told = run_audit(material, request, folder=home / "audit", style_data=wish.style_data, console=console)
    page = write_report(told, home / "audit" / "report", pages(told))
    console.note(f"the audit's report is {page}; it shows style images and stays with you")
    for sentence in told.verdict.warnings:
        console.warn(sentence)
    if wish.reason is None:
        _require(told.verdict, critic=critic, console=console)
    found = card(told, wish.reason)
    return Audited(audit=found, note=note, reports=members(told), told=told)


def _unmeasured(wish: AuditWish, *, critic: bool, console: Console) -> MemorisationAudit:
    verdict = judge((), wish.style_data, read_limits())
    if wish.reason is None:
        _require(verdict, critic=critic, console=console)
    console.warn("leakage was not measured (--audit no)")
    if verdict.status == "refused":
        return MemorisationAudit(status="accepted", critic_shipped=critic, reason=wish.reason)
    return MemorisationAudit(status="not measured", critic_shipped=critic)


def _require(verdict: Verdict, *, critic: bool, console: Console) -> None:
    """Refuse, and say that hours of training are not lost."""
    if verdict.status == "refused":
        console.note(_KEPT)
    verdict.require(critic=critic)


def card(told: Told, reason: str | None) -> MemorisationAudit:
    """Return what the manifest says of an audit (P-83).

    Args:
        told: The audit.
        reason: Why it is handed out although it is refused; not used where it is not.
    """
    refused = told.verdict.status == "refused"
    known = {finding.name: finding for finding in told.headlines}
    return MemorisationAudit(
        status="accepted" if refused else told.verdict.status,  # type: ignore[arg-type]
        critic_shipped=told.material.style.discriminator is not None,
        date=told.date, tool_version=f"modify-fl {version('modify-fl')}", report=RESULT, methods=METHODS,
        held_out=image_band(len(told.material.held)),
        figures=tuple(
            LeakageFigure(name=f.name, value=f.value, low=f.low, high=f.high, shown=f.text())
            for f in (finding.published() for finding in told.headlines)
        ),
        not_measured=tuple(
            f"{name}: {'too weak to tell' if known[name].weak else known[name].note}"
            for name in HEADLINES
            if not known[name].measured
        ),
        loosened=loosened(told.limits, told.style_data), reason=reason if refused else None,
    )  # fmt: skip
