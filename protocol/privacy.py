"""The privacy card of a bundle: what can leak, said truthfully (B-19, P-83, P-84).

Rules kept here: the statement is generated; with differential privacy it is the
one sentence of P-1, without it says so, and that traces may be recognisable; an
epsilon stands beside everything that it needs or nowhere (P-2); what was not
measured is called not measured.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from protocol.errors import problem
from protocol.schema import Bound, Line, Positive, Text

__all__ = [
    "KINDS",
    "MANIFEST",
    "Day",
    "DpMechanism",
    "DpStatement",
    "Kind",
    "LeakageFigure",
    "MemorisationAudit",
    "PrivacyCard",
    "TrainingData",
    "privacy_statement",
]

MANIFEST = "manifest.json"
"""Name of the member that holds the manifest, and with it the card."""

Kind = Literal["encoder-adapter", "style-bundle"]
KINDS: tuple[Kind, ...] = ("encoder-adapter", "style-bundle")
"""Both kinds of bundle: ``.mdfa`` and ``.mdfy``."""

Day = Annotated[str, Bound(pattern=r"\d{4}-\d\d-\d\d")]
"""A date, ``2026-01-31``."""

_TRACES = (
    "without differential privacy. It can contain recognisable traces of them. "
    "The figures below are attacks that were tried, not a bound."
)
_WITHOUT_DP: dict[Kind, str] = {
    "style-bundle": f"This model was trained on the style images {_TRACES}",
    "encoder-adapter": f"This adapter was trained on photos {_TRACES}",
}
_SUBJECT: dict[Kind, str] = {
    "style-bundle": "Every update of this model",
    "encoder-adapter": "Every encoder update that left this client",
}
_FEDERATED = "Every update of this federation"
_NOT_MEASURED = "Leakage was not measured: no attack was tried."


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What the weights were trained on, without a word that singles out an image (P-83)."""

    number_of_images: Line
    """A band such as ``100 to 999``, or ``not stated``."""
    contains_faces: bool
    basis: Line
    """Consent or licence that allowed the training."""
    classification: Literal["confidential", "licensed", "public"]
    """P-71; undeclared data is confidential."""
    retention: Line


@dataclass(frozen=True, kw_only=True)
class DpMechanism:
    """Steps of the subsampled Gaussian mechanism with one set of public numbers (P-1)."""

    sampling_rate: Annotated[float, Bound(low=0, high=1)]
    """q, by Poisson sampling."""
    noise_multiplier: Annotated[float, Bound(low=0)]
    """sigma, standard deviation of the noise over ``max_grad_norm``."""
    max_grad_norm: Annotated[float, Bound(low=0)]
    """C, bound on the gradient of one unit."""
    steps: Positive
    """T, noisy sums that were released."""


@dataclass(frozen=True, kw_only=True)
class DpStatement:
    """Differential privacy: everything that an epsilon needs (P-2), or that there is none and why (P-3)."""

    applied: bool
    unit: Literal["image", "person"] | None = None
    """What is protected as one."""
    adjacency: Literal["add/remove"] | None = None
    """Neighbouring data sets differ by one unit more or less."""
    epsilon: Annotated[float, Bound(low=0)] | None = None
    """Of all that was charged, rounded up."""
    delta: Annotated[float, Bound(low=0, high=1)] | None = None
    mechanisms: tuple[DpMechanism, ...] | None = None
    """All that compose, in the order in which each was first used."""
    accountant: Literal["PRV", "RDP"] | None = None
    accountant_version: Line | None = None
    """Program and version that computed epsilon."""
    releases: tuple[Line, ...] | None = None
    """Ids of everything that left under this epsilon, together."""
    n_is_public: bool | None = None
    """Whether the true number of units is public; q and the divisor never depend on it."""
    tuned_on_private: Line | None = None
    """What was chosen by looking at private photos, as said: ``nothing``, what, or ``not stated`` (P-30)."""
    not_covered: tuple[Line, ...] | None = None
    """Outputs, and ways to use the budget, that the claim says nothing about."""
    guarantee: Literal["none", "none (test)"] | None = None
    """Only where no differential privacy was applied; an absent epsilon is not zero."""
    reason: Text | None = None
    """Why there is no guarantee; stands with ``guarantee``."""

    def __post_init__(self) -> None:
        """Refuse a partial statement."""
        claim = {name: value for name, value in vars(self).items() if name not in {"applied", "guarantee", "reason"}}
        stated = {value not in {None, ()} for value in claim.values()}
        denied = {self.guarantee is not None, self.reason is not None}
        if stated != {self.applied} or len(denied) > 1 or (self.applied and denied != {False}):
            raise problem(
                "E_MANIFEST",
                member=MANIFEST,
                detail="rule P-2: an applied DP statement has all fields, any other has none of them",
            )


@dataclass(frozen=True, kw_only=True)
class LeakageFigure:
    """One figure of an audit."""

    name: Line
    """Such as ``membership AUC``."""
    value: float | None = None
    """Left out where it was not measured, never 0 instead."""
    low: float | None = None
    """Lower end of the 95 % interval, where there is one."""
    high: float | None = None
    """Upper end."""
    shown: Line
    """Value and interval as people read them, ``not measured`` among them."""


@dataclass(frozen=True, kw_only=True)
class MemorisationAudit:
    """Whether and how leakage of training images was measured (P-83)."""

    status: Literal["accepted", "not measured", "passed", "warned"]
    """``accepted``: above the provider's limits, handed out for ``reason``."""
    critic_shipped: bool
    """The discriminator is part of the bundle; it has seen the training images."""
    date: Day | None = None
    """Of the audit; this and all below are left out where leakage was not measured."""
    tool_version: Line | None = None
    report: Line | None = None
    """Member that holds the whole report."""
    methods: tuple[Line, ...] | None = None
    """Attacks that were tried."""
    held_out: Line | None = None
    """Number of images set aside before training, as a band."""
    figures: tuple[LeakageFigure, ...] | None = None
    not_measured: tuple[Line, ...] | None = None
    """What the audit did not find out, or could not with so few images."""
    loosened: tuple[Line, ...] | None = None
    """Limits of the provider that let more through than the usual ones."""
    reason: Text | None = None
    """Why a bundle above the limits was handed out; with ``accepted`` only."""

    def __post_init__(self) -> None:
        """Refuse an audit that is half there."""
        figures = {value is not None for value in (
            self.date, self.tool_version, self.report, self.methods, self.held_out, self.figures, self.not_measured,
            self.loosened,
        )}  # fmt: skip
        measured = self.figures is not None
        allowed = {"accepted", "passed", "warned"} if measured else {"accepted", "not measured"}
        if len(figures) > 1 or self.status not in allowed or (self.status == "accepted") != bool(self.reason):
            raise problem(
                "E_MANIFEST", member=MANIFEST,
                detail="rule P-83: an audit has all of its fields or none, and a reason exactly where it was accepted",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrivacyCard:
    """What can leak; ``statement`` comes from ``privacy_statement``."""

    training_data: TrainingData
    dp: DpStatement
    statement: Text
    memorisation_audit: MemorisationAudit | None = None

    @property
    def _audited(self) -> bool:
        return self.memorisation_audit is not None and self.memorisation_audit.status != "not measured"

    def check_statement(self, kind: Kind, *, federated: bool = False) -> None:
        """Refuse a card that keeps silent about missing differential privacy, or claims it in other words (B-19).

        Args:
            kind: Of the bundle.
            federated: Whether the adapter is what a federation made.

        Raises:
            MalformedBundleError: E_MANIFEST.
        """
        if self.dp.applied and self.statement != privacy_statement(kind, self.dp, federated=federated):
            detail = "rule B-19: the statement is not the one of its DP fields"
        elif not self.dp.applied and not self.statement.startswith(_WITHOUT_DP[kind]):
            detail = "rule B-19: the statement does not say that no differential privacy ran"
        elif self._audited and self.statement != privacy_statement(kind, self.dp, self.memorisation_audit):
            detail = "rule P-84: the statement is not the one of its audit"
        else:
            return
        raise problem("E_MANIFEST", member=MANIFEST, detail=detail)


def privacy_statement(
    kind: Kind, dp: DpStatement, audit: MemorisationAudit | None = None, *, federated: bool = False
) -> str:  # fmt: skip
    """Say in plain words what protects the training images, and what does not (B-19, P-1, P-3, P-84).

    Args:
        kind: What was trained: a style bundle on style images, an adapter on photos.
        dp: The DP statement.
        audit: What was measured, where anything was; without DP its figures are part of the statement.
        federated: Whether a federation made the adapter: what each of its clients let out besides is not known.

    Returns:
        One paragraph for ``PrivacyCard.statement``; with differential privacy it
        is the sentence of P-1, every field filled in.
    """
    if dp.applied:
        return _claim(_FEDERATED if federated else _SUBJECT[kind], dp)
    denial = f" guarantee: {dp.guarantee} ({dp.reason})" if dp.guarantee else ""
    return f"{_WITHOUT_DP[kind]} {_figures(audit)}{denial}"


def _figures(audit: MemorisationAudit | None) -> str:
    """Say what was measured; the critic is named because it is a witness against the images."""
    if audit is None or audit.status == "not measured":
        return _NOT_MEASURED
    found = "; ".join(f"{figure.name} {figure.shown}" for figure in audit.figures or ())
    said = f"Measured on {audit.date}: {found}." if audit.figures is not None else _NOT_MEASURED
    critic = f"The critic is {'' if audit.critic_shipped else 'not '}in the bundle."
    if audit.status == "accepted":
        return f"{said} {critic} Above the provider's limits, handed out for this reason: {audit.reason}"
    return (
        f"{said} {critic} {'Within' if audit.status == 'passed' else 'Within, with warnings,'} the provider's limits."
    )


def _claim(subject: str, dp: DpStatement) -> str:
    mechanisms = ", and ".join(
        f"Poisson sampling rate {part.sampling_rate:g}, noise multiplier {part.noise_multiplier:g}, "
        f"clip {part.max_grad_norm:g}, {part.steps} steps"
        for part in dp.mechanisms or ()
    )
    return (
        f"{subject}, together, is ({dp.epsilon:.12g}, {dp.delta:.12g})-DP under {dp.adjacency} of ONE "
        f"{(dp.unit or '').upper()}, with {mechanisms}, accountant {dp.accountant}, sampler and noise from an OS "
        f"CSPRNG. Not covered: {', '.join(dp.not_covered or ())}."
    )
