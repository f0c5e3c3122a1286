"""A site of a deployment: its folder, photos and vault become what answers one message (F-17).

Each message is answered by a process of its own, so everything a site must not
forget is on its disk: what was asked of it in the audit log, what was spent in the
ledger of its vault.
"""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from content_client.adaptation import open_style, read_photos
from content_client.federation.site_photos import read_units
from content_client.identity import own_identity
from modify_fl.artifacts import LoadedStyle
from modify_fl.config import PRESETS, Runtime, StylizationConfig, preset
from modify_fl.console import Console, Verbosity
from modify_fl.data import ImageSet
from modify_fl.federated.journal import Entry, append, read_journal
from modify_fl.federated.policy import Policy
from modify_fl.federated.records import Instruction, RefusedError
from modify_fl.federated.site import Answered, OpenTraining, PrivateTraining, Site, Training
from modify_fl.federated.site_folder import SiteFolder, privacy_of
from modify_fl.federated.site_keys import SITE_PUBLIC
from modify_fl.federated.tensors import Shortened
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.release import Reply, record_unprotected
from modify_fl.privacy.settings import DpSettings
from modify_fl.training.private import PrivateTask
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.views import PhotoUnits

__all__ = ["admit", "asked_rounds", "open_site"]

_ASKED = "asked"
_UNPROTECTED = "unprotected"
_SILENT = Console("content-client", "federate join", Verbosity(quiet=True))


def open_site(folder: SiteFolder) -> Site:
    """Return the site, ready for one message; photos are read once a round is allowed.

    Args:
        folder: The site's folder, checked by the launcher.

    Raises:
        ProtocolError: The bundle is not acceptable.
    """
    settings, policy, plan = folder.settings(), folder.policy(), folder.kit().plan
    style = open_style(Path(settings.bundle), _SILENT, identity=own_identity(None, None, None), record=False)
    return Site(
        style, plan, _Later(folder, style, policy), admit=lambda asked: admit(folder, policy, asked),
        log=lambda answered: _log(folder, answered), floors=policy.secagg,
    )  # fmt: skip


@dataclass(frozen=True)
class _Later:
    """Reads photos and builds networks for the message that trains; three of four masked ones do not (F-28)."""

    folder: SiteFolder
    style: LoadedStyle
    policy: Policy

    def answer(self, instruction: Instruction) -> tuple[Reply, Shortened, float | None]:
        """See ``Training``.

        Raises:
            DataError: The photos cannot be used.
            PrivacyBudgetError: The photos have no vault.
        """
        settings, style, privacy = self.folder.settings(), self.style, self.folder.kit().plan.settings()
        compute = resolve(Runtime(device=settings.device, threads=settings.threads, precision=settings.precision))
        nets = PerceptualNets.find(require=False, device=compute.device)
        if privacy is None:
            photos = read_photos(style, settings.photos, _SILENT, align=settings.align)
            training: Training = _open(self.folder, style, photos, policy=self.policy, compute=compute, nets=nets)
        else:
            units = read_units(style, settings, privacy, _SILENT)
            training = _private(self.folder, style, units, privacy, compute=compute, nets=nets)
        return training.answer(instruction)


def _open(
    folder: SiteFolder, style: LoadedStyle, photos: ImageSet, *, policy: Policy, compute: Compute, nets: PerceptualNets
) -> OpenTraining:  # fmt: skip
    reason = policy.privacy.reason or "the policy of the site allows it"
    _end_claims(folder, photos.digest, reason)
    return OpenTraining(
        style,
        photos,
        folder.kit().plan,
        config=_config(style),
        seed=_seed(folder),
        compute=compute,
        nets=nets,
        reason=reason,
    )


def _end_claims(folder: SiteFolder, photos: str, reason: str) -> None:
    """Write down, once for each set of photos, that from now on nothing can be claimed about them (P-39)."""
    known = {entry.facts.get("photos") for entry in read_journal(folder.journal) if entry.event == _UNPROTECTED}
    if photos not in known:
        record_unprotected(reason, Path(folder.settings().photos))
        append(folder.journal, _UNPROTECTED, reason=reason, photos=photos)


def _private(
    folder: SiteFolder, style: LoadedStyle, units: PhotoUnits, privacy: DpSettings, *, compute: Compute,
    nets: PerceptualNets,
) -> PrivateTraining:  # fmt: skip
    plan, source = folder.kit().plan, Path(folder.settings().photos)
    config = replace(_config(style), subset=plan.subset)
    recipe = PrivateConfig(learning_rate=plan.learning_rate)
    task = PrivateTask(style=style, settings=privacy, recipe=recipe, config=config)

    def hold(run: str) -> AbstractContextManager[Vault]:
        return Vault.open(source, run=run)

    return PrivateTraining(task, units, plan, hold=hold, compute=compute, nets=nets)


def _config(style: LoadedStyle) -> StylizationConfig:
    name = style.manifest.provenance.training.preset
    return preset(name if name in PRESETS else next(iter(PRESETS))).stylization


def _seed(folder: SiteFolder) -> int:
    """Return a seed that differs from site to site; it decides the order of photos and the styles that are drawn."""
    return int.from_bytes(hashlib.sha256((folder.path / SITE_PUBLIC).read_bytes()).digest()[:4], "big")


# What was asked -------------------------------------------------------------------------


def asked_rounds(folder: SiteFolder) -> tuple[Entry, ...]:
    """Return the rounds for which this site began to make an update.

    Raises:
        FederationError: The audit log cannot be relied on.
    """
    return tuple(entry for entry in read_journal(folder.journal) if entry.event == _ASKED)


def admit(folder: SiteFolder, policy: Policy, asked: Instruction) -> None:
    """Refuse a round that the policy does not allow, and a second update for the same round; put down any other.

    Raises:
        FederationPolicyError: The policy does not allow it.
        RefusedError: An update for it was begun before.
    """
    earlier, today = asked_rounds(folder), f"{datetime.now(UTC):%Y-%m-%d}"
    policy.check_round("train", earlier=len(earlier), today=sum(entry.time[:10] == today for entry in earlier))
    policy.check_privacy(privacy_of(folder.kit().plan, rounds=len(earlier) + 1))  # whatever run they were of
    if any(entry.facts.get("run") == asked.run and entry.facts.get("round") == asked.round for entry in earlier):
        raise RefusedError("policy", f"an update for round {asked.round} of this run was begun before")
    append(folder.journal, _ASKED, run=asked.run, round=asked.round)


def _log(folder: SiteFolder, answered: Answered) -> None:
    instruction = answered.instruction
    sent = 4 * sum(tensor.numel() for tensor in instruction.tensors.values())
    append(
        folder.journal, "answered", run=instruction.run, round=instruction.round, bytes=sent,
        norm=answered.norm, norm_sent=answered.kept, epsilon=answered.epsilon, bundle=folder.kit().plan.bundle,
    )  # fmt: skip
