"""The folder of a site, made by ``enroll`` and used by everything that runs there (F-5, F-12).

::

    site/site, site.pub   the key; only the public half leaves (``site_keys``)
    site/kit/             the kit that was accepted (``kit``)
    site/policy.json      what is allowed (``policy``)
    site/settings.json    bundle, photos and machine, as ``join`` was told (this module)
    site/journal.jsonl    the audit log (``journal``)
    site/flower/, bin/    Flower's own files, and the only programs it finds
"""

from dataclasses import dataclass

from modify_fl.config import Precision
from modify_fl.errors import ConfigError
from modify_fl.federated.party_folder import PartyFolder
from modify_fl.federated.plan import FederationPlan
from modify_fl.federated.policy import POLICY, Policy, PrivacyRule, read_policy
from modify_fl.privacy.accounting import Segment, epsilon_of
from protocol.canonical import dump_json, parse_json
from protocol.errors import ProtocolError
from protocol.schema import Positive, Text, decode, encode
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["SITE_VARIABLE", "SiteFolder", "SiteSettings", "check_plan", "privacy_of"]

SITE_VARIABLE = "MODIFY_SITE"
"""Names the site's folder to the app that runs there."""

_SETTINGS = "settings.json"
_SMALL = 1 << 16


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """What the site's owner decided; never a coordinator (F-10)."""

    bundle: Text
    """Path of the style."""
    photos: Text
    """Folder or ZIP file."""
    align: bool = True
    """Whether faces are found and aligned first."""
    device: Text = "auto"
    threads: Positive | None = None
    precision: Precision = "auto"


@dataclass(frozen=True)
class SiteFolder(PartyFolder):
    """The parts of the folder by name."""

    def policy(self) -> Policy:
        """Read the policy.

        Raises:
            FederationPolicyError: There is none, or none that is valid.
        """
        return read_policy(self.path / POLICY)

    def settings(self) -> SiteSettings:
        """Read what ``join`` was told.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            data = read_file(self.path / _SETTINGS, limit=_SMALL)
            return decode(SiteSettings, parse_json(data, member=_SETTINGS), member=_SETTINGS)
        except ProtocolError as error:
            raise ConfigError(f"{self.path} was not joined yet", why=error.why or error.what,
                              fix="run content-client federate join") from error  # fmt: skip

    def write_settings(self, settings: SiteSettings) -> None:
        """Keep what ``join`` was told.

        Raises:
            StorageError: It cannot be written.
        """
        with atomic_writer(self.path / _SETTINGS, mode=PRIVATE, overwrite=True) as stream:
            stream.write(dump_json(encode(settings)))


def privacy_of(plan: FederationPlan, *, rounds: int | None = None) -> PrivacyRule:
    """Return what a plan does for the privacy of photos.

    Args:
        plan: The public numbers.
        rounds: How many rounds epsilon is of, together; all that are planned when omitted.
    """
    part = plan.private
    settings = plan.settings()
    if part is None or settings is None:
        return PrivacyRule(mode="none", reason="the plan has no privacy")
    segment = Segment(
        sampling_rate=settings.sampling_rate, noise_multiplier=part.noise_multiplier,
        steps=(plan.rounds if rounds is None else rounds) * plan.local_steps,
    )  # fmt: skip
    spent = epsilon_of([segment], part.delta)
    return PrivacyRule(mode="dp", eps_max=spent, delta=part.delta, unit=part.unit)


def check_plan(policy: Policy, plan: FederationPlan) -> None:
    """Refuse a plan that a site's policy does not allow; see ``Policy.check_plan``.

    Raises:
        FederationPolicyError: Something of it is not allowed.
    """
    policy.check_plan(
        plan.digest, quorum=plan.quorum, max_update_norm=plan.max_update_norm, privacy=privacy_of(plan),
        secagg=plan.secagg,
    )  # fmt: skip
