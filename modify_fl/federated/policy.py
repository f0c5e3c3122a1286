"""What a site lets a coordinator have: ``policy.json``, deny by default (F-10, F-12).

Rules kept here: a missing file, an unknown field or a missing required field
refuses; whatever the policy does not name is refused; everything that decides
about code, data, loss or privacy stands in the policy and in the plan that it
names, nothing comes with a message. Standard library only, so that the program
in front of the app can read it before anything else is imported (F-8).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from modify_fl.errors import FederationPolicyError
from protocol.canonical import dump_json, parse_json
from protocol.errors import MalformedBundleError, StorageError
from protocol.schema import Bound, Hex64, Line, Positive, decode, encode
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["POLICY", "CoordinatorRule", "Policy", "PrivacyRule", "SecAggRule", "read_policy", "write_policy"]

POLICY = "policy.json"
"""Name of the file in the site's folder."""

_LIMIT = 1 << 16
_LIFE = timedelta(days=180)
_ADDRESS = r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"


@dataclass(frozen=True, kw_only=True)
class CoordinatorRule:
    """The one coordinator that the site talks to."""

    address: Annotated[str, Bound(pattern=_ADDRESS, longest=300)]
    """Host and port."""
    ca_sha256: Hex64
    """Digest of the file ``ca.crt``, which vouches for the coordinator's certificate."""


@dataclass(frozen=True, kw_only=True)
class PrivacyRule:
    """The privacy that every run must have, at least."""

    mode: Literal["dp", "none"]
    """``none`` lets updates go as they are: faces may be reconstructed from them (P-39)."""
    eps_max: Annotated[float, Bound(low=0)] | None = None
    """The most that all rounds together may spend, with ``delta``; those of every run count."""
    delta: Annotated[float, Bound(low=0, high=1)] | None = None
    """Of the claim."""
    unit: Literal["image", "person"] | None = None
    """What is protected as one."""
    reason: Line | None = None
    """Why updates may leave without privacy (P-39)."""

    def __post_init__(self) -> None:
        """Check that numbers are there exactly where privacy is, and a reason where it is not."""
        numbers = (self.eps_max, self.delta, self.unit)
        if self.mode == "dp" and (None in numbers or self.reason):
            raise _refuse("privacy", "mode dp needs eps_max, delta and unit, and no reason")
        if self.mode == "none" and (any(number is not None for number in numbers) or not self.reason):
            raise _refuse("privacy", "mode none needs a reason, and has no eps_max, delta or unit")


@dataclass(frozen=True, kw_only=True)
class SecAggRule:
    """The floors of secure aggregation (F-30)."""

    required: bool
    """Whether a round without it is refused."""
    min_participants: Annotated[int, Bound(low=3)]
    """Fewest sites of a masked sum."""
    min_threshold: Annotated[float, Bound(low=0.5, high=1)]
    """Smallest share of them that is needed to unmask it."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the site allows; the fields of ``policy.json`` (F-12)."""

    version: Literal[1]
    coordinator: CoordinatorRule
    signers: tuple[Annotated[str, Bound(pattern=_FINGERPRINT)], ...]
    """Fingerprints of keys whose style bundles are adapted."""
    bundles: tuple[Hex64, ...]
    """Payload digests of the bundles."""
    fab_sha256: tuple[Hex64, ...]
    """Digests of the Flower apps for which the installed app is started (F-8)."""
    plan_sha256: Hex64
    """Digest of the plan that was read and accepted: the site trains by its own copy (F-10)."""
    actions: tuple[Literal["train"], ...]
    metrics: tuple[Literal["loss"], ...]
    """What may be told beside the update; never anything with privacy (F-15)."""
    max_rounds: Positive
    max_rounds_per_day: Positive
    min_participants: Annotated[int, Bound(low=2)]
    """Fewest sites of a run."""
    max_update_norm: Annotated[float, Bound(low=1e-9, high=1e9)]
    """Largest Euclidean norm of an update; a larger one is scaled down before it leaves."""
    expires: Annotated[str, Bound(pattern=_DAY)]
    """Last day on which it holds, in UTC."""
    privacy: PrivacyRule
    secagg: SecAggRule

    def __post_init__(self) -> None:
        """Check what a pattern cannot."""
        try:
            date.fromisoformat(self.expires)
        except ValueError:
            raise _refuse("expires", f"{self.expires} is no day") from None
        if self.privacy.mode == "dp" and self.metrics:
            raise _refuse("metrics", "with privacy nothing is told beside the update")

    @classmethod
    def proposal(
        cls, *, address: str, ca_sha256: str, signer: str, bundle: str, fab_sha256: str, plan_sha256: str,
        max_rounds: int, participants: int, max_update_norm: float, privacy: PrivacyRule, secagg: bool = False,
        today: date | None = None,
    ) -> Self:  # fmt: skip
        """Return the narrowest policy that a planned run fits into; the site's owner may narrow it further.

        Args:
            address: Host and port of the coordinator.
            ca_sha256: Digest of its ``ca.crt``.
            signer: Fingerprint of the key that signed the bundle.
            bundle: Payload digest.
            fab_sha256: Digest of the Flower app.
            plan_sha256: Digest of the plan.
            max_rounds: Most in all: more than the plan has, since a resumed run repeats some.
            participants: Fewest sites of the plan.
            max_update_norm: Of the plan.
            privacy: Of the plan; ``eps_max`` is what ``max_rounds`` rounds spend.
            secagg: Whether updates of the plan are masked; then nothing else is allowed.
            today: The first day; that of the clock when omitted.
        """
        last = (today or datetime.now(UTC).date()) + _LIFE
        return cls(
            version=1,
            coordinator=CoordinatorRule(address=address, ca_sha256=ca_sha256), signers=(signer,), bundles=(bundle,),
            fab_sha256=(fab_sha256,), plan_sha256=plan_sha256, actions=("train",), metrics=(),
            max_rounds=max_rounds, max_rounds_per_day=max_rounds, min_participants=participants,
            max_update_norm=max_update_norm, expires=last.isoformat(), privacy=privacy,
            secagg=SecAggRule(required=secagg, min_participants=3, min_threshold=0.67),
        )  # fmt: skip

    def check_valid(self, now: datetime) -> None:
        """Refuse once its last day is over.

        Raises:
            FederationPolicyError: It is.
        """
        if now.astimezone(UTC).date() > date.fromisoformat(self.expires):
            raise _refuse("expires", f"it held until {self.expires}")

    def check_coordinator(self, address: str, ca_sha256: str) -> None:
        """Refuse any coordinator but the one that is named.

        Raises:
            FederationPolicyError: The address or the certificate is another.
        """
        _require("coordinator.address", address, (self.coordinator.address,))
        _require("coordinator.ca_sha256", ca_sha256, (self.coordinator.ca_sha256,))

    def check_app(self, fab_sha256: str) -> None:
        """Refuse any Flower app but those that are named.

        Raises:
            FederationPolicyError: Its digest is another.
        """
        _require("fab_sha256", fab_sha256, self.fab_sha256)

    def check_bundle(self, digest: str, signer: str) -> None:
        """Refuse any bundle but those that are named.

        Raises:
            FederationPolicyError: The bundle or its signer is another.
        """
        _require("bundles", digest, self.bundles)
        _require("signers", signer, self.signers)

    def check_plan(
        self, plan_sha256: str, *, quorum: int, max_update_norm: float, privacy: PrivacyRule, secagg: bool = False
    ) -> None:
        """Refuse any plan but the accepted one, and one that the other fields no longer allow.

        Args:
            plan_sha256: Digest of the plan.
            quorum: Fewest sites of a round of it.
            max_update_norm: Of the plan.
            privacy: Of the plan; ``eps_max`` is what all its rounds spend.
            secagg: Whether updates are masked (F-28).

        Raises:
            FederationPolicyError: Something of it is not allowed.
        """
        _require("plan_sha256", plan_sha256, (self.plan_sha256,))
        if quorum < self.min_participants:
            raise _refuse("min_participants", f"the plan goes on with {quorum} sites, {self.min_participants} allowed")
        if max_update_norm > self.max_update_norm:
            raise _refuse("max_update_norm", f"the plan publishes {max_update_norm:g}")
        if self.secagg.required and not secagg:
            raise _refuse("secagg.required", "the plan does not mask updates")
        if secagg and quorum < self.secagg.min_participants:
            raise _refuse("secagg.min_participants", f"the plan goes on with {quorum} sites")
        self.check_privacy(privacy)

    def check_privacy(self, asked: PrivacyRule) -> None:
        """Refuse what would protect less, or spend more in all, than is allowed.

        Args:
            asked: Of the plan; ``eps_max`` is what all rounds spend of which is spoken.

        Raises:
            FederationPolicyError: It is not allowed.
        """
        own = self.privacy
        if own.mode == "none":
            return
        if asked.mode != "dp":
            raise _refuse("privacy", "the plan has none")
        if asked.unit != own.unit:
            raise _refuse("privacy.unit", f"the plan protects each {asked.unit}")
        if (asked.delta or 1) > (own.delta or 0) or (asked.eps_max or 0) > (own.eps_max or 0):
            raise _refuse("privacy.eps_max", f"epsilon {asked.eps_max:g} at delta {asked.delta:g} would be spent")

    def check_round(self, action: str, *, earlier: int, today: int) -> None:
        """Refuse an action that is not allowed, and one round too many.

        Args:
            action: Kind of the message.
            earlier: Rounds for which an update was made under this policy.
            today: Those of this day.

        Raises:
            FederationPolicyError: It is not allowed, or there were enough rounds.
        """
        _require("actions", action, self.actions)
        if earlier >= self.max_rounds:
            raise _refuse("max_rounds", f"there were {earlier}")
        if today >= self.max_rounds_per_day:
            raise _refuse("max_rounds_per_day", f"there were {today} today")


def _refuse(field: str, detail: str) -> FederationPolicyError:
    return FederationPolicyError("the policy of this site does not allow it", why=f"field {field}: {detail}")


def _require(field: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise _refuse(field, f"{got} is not among {', '.join(allowed) or 'none'}")


def read_policy(path: Path) -> Policy:
    """Read ``policy.json``.

    Raises:
        FederationPolicyError: It is missing, cannot be read, or is not exactly
            what F-12 asks for; without a policy nothing is allowed.
    """
    try:
        return decode(Policy, parse_json(read_file(path, limit=_LIMIT), member=path.name), member=path.name)
    except (MalformedBundleError, StorageError) as error:
        raise FederationPolicyError(
            f"there is no valid policy at {path}, so nothing is allowed", why=error.why or error.what,
            fix="repair the file, or run content-client federate enroll again",
        ) from error  # fmt: skip


def write_policy(path: Path, policy: Policy, *, overwrite: bool = False) -> None:
    """Write ``policy.json``, one field a line, for its owner to read and change.

    Raises:
        StorageError: It cannot be written, or exists and must stay.
    """
    fields = encode(policy)
    assert isinstance(fields, dict)  # noqa: S101 - a dataclass becomes an object
    lines = ",\n".join(f' "{name}": {dump_json(value).decode()}' for name, value in fields.items())
    with atomic_writer(path, mode=PRIVATE, overwrite=overwrite) as stream:
        stream.write(f"{{\n{lines}\n}}\n".encode())
