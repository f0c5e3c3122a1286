"""A site before its first round: its folder and key, its policy, and whether a plan fits what is here (F-12, F-33)."""

import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from content_client.private.vaults import epsilon_text
from modify_fl.console import Console, Verbosity
from modify_fl.errors import ConfigError, DataError, FederationPolicyError, FederationSetupError, PrivacyBudgetError
from modify_fl.federated.certificates import CA
from modify_fl.federated.journal import append
from modify_fl.federated.kit import COORDINATOR_KEY, KIT, Kit, read_kit
from modify_fl.federated.plan import PLAN_FILE
from modify_fl.federated.policy import POLICY, Policy, PrivacyRule, write_policy
from modify_fl.federated.site_folder import SiteFolder, SiteSettings, check_plan, privacy_of
from modify_fl.federated.site_keys import SITE_KEY, SITE_PUBLIC, check_pair, make_site_key
from modify_fl.federated.visibility import COLUMNS, Row, rows
from modify_fl.outputs import make_folder
from modify_fl.privacy.accounting import Segment, rdp_of
from modify_fl.privacy.ledger import VaultState, read_vault
from modify_fl.privacy.sharing import warn_of_overlaps
from modify_fl.privacy.statement import require_claim
from protocol.encryption import Identity
from protocol.errors import StorageError
from protocol.schema import encode
from protocol.storage import storage_errors
from protocol.trust import TrustStore
from protocol.verify import Verification, verify_bundle

__all__ = ["Checked", "check_site", "enroll", "preview"]

_CLEAR = "updates would go to the coordinator in clear: faces may be reconstructed from them"
_REPEATED = 2
"""Rounds that a policy allows for each one of the plan: a coordinator that goes on repeats some (F-23)."""
_SILENT = Console("content-client", "federate", Verbosity(quiet=True))
_MASKED = "updates would be masked, but their sum is read by everybody, and nothing hides what photos do to it"


def enroll(folder: Path, out: Path, *, name: str, unprotected: str | None, console: Console) -> Mapping[str, object]:
    """Make a site's folder: key, accepted kit, and the narrowest policy that the plan fits into.

    Args:
        folder: The kit.
        out: The new folder.
        name: Stands in the public key file.
        unprotected: Why updates may leave without privacy, where the plan has none (P-39).
        console: Shows what was made, and what to do next.

    Raises:
        FederationSetupError: The kit is not whole.
        FederationPolicyError: The plan has no privacy, and nobody said why that may be.
        StorageError: The folder exists or cannot be written.
    """
    kit = read_kit(folder)
    policy = _proposal(kit, unprotected)
    with storage_errors(out):
        if out.exists():
            raise StorageError(f"{out} exists", fix="choose another --out; the key of a site is never replaced")
        make_folder(out.parent)
        staging = Path(tempfile.mkdtemp(prefix=".site-", dir=out.parent))  # mode 0700
    try:
        _fill(staging, kit, policy, name)
        with storage_errors(out):
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    file = out / "kit" / COORDINATOR_KEY
    trust = shlex.join(["content-client", "trust", "add", str(file), "--fingerprint", kit.key.fingerprint])
    console.say(f"private key  {out / SITE_KEY}  (keep it to yourself)")
    console.say(f"public key   {out / SITE_PUBLIC}  (send this file to the coordinator, and nothing else)")
    console.say(f"policy       {out / POLICY}  (read it; what it does not name is refused)")
    console.say(f"kit          {kit.file.digest}  (compare with the coordinator by another channel)")
    console.say()
    console.say("To use the result later, accept the key that will sign it:")
    console.say(f"  {trust}")
    return {
        "site": out, "public_key": out / SITE_PUBLIC, "policy": out / POLICY, "kit": kit.file.digest,
        "trust_command": trust,
    }  # fmt: skip


def _fill(folder: Path, kit: Kit, policy: Policy, name: str) -> None:
    with storage_errors(folder):
        (folder / "kit").mkdir()
        for part in (KIT, PLAN_FILE, CA, COORDINATOR_KEY):
            shutil.copyfile(kit.folder / part, folder / "kit" / part)
    make_site_key(folder, name)
    write_policy(folder / POLICY, policy)
    append(SiteFolder(folder).journal, "enrolled", kit=kit.file.digest, plan=kit.plan.digest, bundle=kit.plan.bundle)


def _proposal(kit: Kit, unprotected: str | None) -> Policy:
    max_rounds = _REPEATED * kit.plan.rounds
    privacy = privacy_of(kit.plan, rounds=max_rounds)
    if privacy.mode == "none":
        if not unprotected:
            raise FederationPolicyError(
                "this plan protects no photo", why=_MASKED if kit.plan.secagg else _CLEAR,
                fix='ask for a plan with privacy, or add --allow-unprotected "REASON"',
            )  # fmt: skip
        privacy = PrivacyRule(mode="none", reason=unprotected)
    return Policy.proposal(
        address=kit.file.address, ca_sha256=kit.file.ca_sha256, signer=kit.file.signer, bundle=kit.plan.bundle,
        fab_sha256=kit.plan.fab_sha256, plan_sha256=kit.plan.digest, max_rounds=max_rounds,
        participants=kit.plan.quorum, max_update_norm=kit.plan.max_update_norm, privacy=privacy,
        secagg=kit.plan.secagg,
    )  # fmt: skip


# Before joining -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A site whose kit, policy, bundle and photos fit together."""

    site: SiteFolder
    kit: Kit
    policy: Policy
    bundle: Verification
    settings: SiteSettings
    vault: VaultState | None
    """Of the photos; nothing where the plan has no privacy."""


def check_site(
    site: SiteFolder, kit: Path, settings: SiteSettings, identity: Identity | None, console: Console
) -> Checked:  # fmt: skip
    """Check everything that can be checked without a coordinator; photos last, and only where the plan has privacy.

    Args:
        site: The folder that ``enroll`` made.
        kit: The kit; the one that was enrolled with.
        settings: What to train on.
        identity: The user's own age identity.
        console: Names photos that are left out.

    Raises:
        ConfigError: The kit is another than the enrolled one, or photos do not say whose they are.
        FederationPolicyError: The policy does not allow it.
        PrivacyBudgetError: There is no vault, too little is left in it, or nothing can be claimed about its photos.
        DataError: There are no photos, or they cannot be used.
        ProtocolError: The bundle is not acceptable, or the key cannot be used.
    """
    own, given, now = site.kit(), read_kit(kit), datetime.now(UTC)
    if own.file != given.file:
        raise ConfigError("this is another kit than the site was enrolled with", fix="enroll anew with this kit")
    policy = site.policy()
    policy.check_valid(now)
    policy.check_coordinator(own.file.address, own.file.ca_sha256)
    policy.check_app(own.plan.fab_sha256)
    check_plan(policy, own.plan)
    check_pair(site.path)
    found = verify_bundle(Path(settings.bundle), trust=TrustStore.default(), now=now, identity=identity)
    if found.payload_digest != own.plan.bundle:
        raise ConfigError(
            "the plan is about another bundle", expected=own.plan.bundle, got=found.payload_digest,
            fix="name the bundle that the coordinator planned with",
        )  # fmt: skip
    policy.check_bundle(found.payload_digest, found.signer.fingerprint)
    vouched = found.manifest.federation.fab_sha256 if found.manifest.federation else ()
    if own.plan.fab_sha256 not in vouched:
        raise FederationSetupError(
            "the bundle does not vouch for the app of this plan", why="its provider has signed other digests or none",
            fix="ask the provider for a bundle that was packed with this version",
        )  # fmt: skip
    if not Path(settings.photos).exists():
        raise DataError(f"there are no photos at {settings.photos}", fix="name the folder with --photos")
    vault = _vault(Path(settings.photos), own) if own.plan.private else None
    _judge_photos(own, settings, identity, console)
    return Checked(site=site, kit=own, policy=policy, bundle=found, settings=settings, vault=vault)


def _judge_photos(kit: Kit, settings: SiteSettings, identity: Identity | None, console: Console) -> None:
    """Where the plan has privacy, refuse photos here that no round may refuse later."""
    privacy = kit.plan.settings()
    if privacy is None:
        return
    from content_client.adaptation import open_style  # noqa: PLC0415 - brings in torch
    from content_client.federation.site_photos import judge_units  # noqa: PLC0415

    style = open_style(Path(settings.bundle), _SILENT, identity=identity, record=False)
    judge_units(style, settings, privacy, console)


def _vault(photos: Path, kit: Kit) -> VaultState:
    state, private = read_vault(photos), kit.plan.private
    opening = state.ledger.opening
    assert private is not None  # noqa: S101 - asked for only where there is privacy
    if (opening.unit, opening.delta) != (private.unit, private.delta):
        raise PrivacyBudgetError(
            "the vault of these photos makes another claim than the plan",
            why=f"it protects each {opening.unit} at delta {opening.delta:g}, the plan each {private.unit} at delta "
            f"{private.delta:g}", fix="ask the coordinator for a plan with these numbers",
        )  # fmt: skip
    require_claim(state.ledger)
    if not _affords(state, kit, rounds=1):
        raise PrivacyBudgetError("the budget of these photos does not allow a round of this plan")
    return state


def _affords(state: VaultState, kit: Kit, *, rounds: int) -> bool:
    """Return whether what is left of a budget pays for so many rounds (P-45)."""
    settings = kit.plan.settings()
    assert settings is not None  # noqa: S101 - asked for only where there is privacy
    segment = Segment(
        sampling_rate=settings.sampling_rate, noise_multiplier=settings.noise_multiplier,
        steps=rounds * kit.plan.local_steps,
    )  # fmt: skip
    return state.ledger.allows(rdp_of(segment, state.ledger.opening.orders))


def preview(checked: Checked, console: Console) -> Mapping[str, object]:
    """Show what would be sent, to whom, at what cost, and who sees what (F-33); nothing is sent or spent.

    Args:
        checked: The site.
        console: Shows it.
    """
    kit, plan = checked.kit, checked.kit.plan
    privacy, most = privacy_of(plan), _most(checked)
    trainable = checked.bundle.manifest.model.trainable
    console.say(f"coordinator  {kit.file.address}, by the certificate in the kit")
    console.say(f"bundle       {checked.bundle.manifest.bundle.name}, {plan.bundle}")
    console.say(f"app          {plan.fab_sha256}, vouched for by the bundle; only the installed program is run")
    console.say(
        f"rounds       {plan.rounds} of {plan.local_steps} steps, with {plan.quorum} of {plan.sites} sites or more"
    )
    console.say(f"sent         {plan.subset} of the encoder, as numbers: at most {len(trainable)} tensors, weight 1")
    console.say(f"shortened    to a norm of {plan.max_update_norm:g}")
    floors = checked.policy.secagg
    if plan.secagg:
        console.say(
            f"masked       experimental; refused below {floors.min_participants} sites, or if less than "
            f"{100 * floors.min_threshold:.0f} % of them can unmask the sum"
        )
    if privacy.mode == "dp" and checked.vault is not None:
        ledger, of = checked.vault.ledger, (privacy.delta or 0, privacy.unit or "")
        console.say(f"spends       {epsilon_text(privacy.eps_max or 0, *of)}")
        console.say(f"at most      {epsilon_text(most, *of)}, where rounds are repeated: the policy allows no more")
        console.say(f"left         {100 * (1 - ledger.spent / ledger.limit):.1f} % of the budget of these photos")
        for warning in warn_of_overlaps(checked.vault.place):
            console.warn(warning)
        if not _affords(checked.vault, kit, rounds=plan.rounds):
            console.warn("the budget of these photos ends before the last round; this site then answers with one word")
    else:
        console.say(f"privacy      NONE: {checked.policy.privacy.reason}")
    console.say()
    seen = rows(privacy.mode, secagg=plan.secagg)
    _show_table(console, seen)
    return {
        "coordinator": kit.file.address, "bundle": plan.bundle, "fab_sha256": plan.fab_sha256, "rounds": plan.rounds,
        "local_steps": plan.local_steps, "subset": plan.subset, "max_update_norm": plan.max_update_norm,
        "privacy": {
            "mode": privacy.mode, "epsilon": privacy.eps_max, "epsilon_most": most or None, "delta": privacy.delta,
            "unit": privacy.unit,
        },
        "secagg": encode(floors) if plan.secagg else None,
        "who_sees_what": [dict(zip(COLUMNS, row.cells(), strict=True)) for row in seen],
    }  # fmt: skip


def _most(checked: Checked) -> float:
    """Return the epsilon of all rounds that the policy allows, repeated ones included; 0 without privacy."""
    policy = checked.policy
    epsilon = privacy_of(checked.kit.plan, rounds=policy.max_rounds).eps_max or 0.0
    return min(epsilon, policy.privacy.eps_max or epsilon)


def _show_table(console: Console, seen_rows: Iterable[Row]) -> None:
    console.say("who sees what")
    for row in seen_rows:
        console.say(f"  {row.item}")
        for party, seen in zip(COLUMNS[1:], row.cells()[1:], strict=True):
            console.say(f"      {party}: {seen}")
