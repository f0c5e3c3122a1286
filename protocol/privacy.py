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
    "DpMechanism",
    "DpStatement",
    "Kind",
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
    """What was chosen by looking at private photos: ``nothing``, or what, all of it charged (P-30)."""
    not_covered: tuple[Line, ...] | None = None
    """Outputs that the claim says nothing about."""
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
class MemorisationAudit:
    """Whether leakage of training images was measured (P-83)."""

    status: Literal["not measured"]
    critic_shipped: bool
    """The discriminator is part of the bundle; it has seen the training images."""


@dataclass(frozen=True, kw_only=True)
class PrivacyCard:
    """What can leak; ``statement`` comes from ``privacy_statement``."""

    training_data: TrainingData
    dp: DpStatement
    statement: Text
    memorisation_audit: MemorisationAudit | None = None

    def check_statement(self, kind: Kind) -> None:
        """Refuse a card that keeps silent about missing differential privacy, or claims it in other words (B-19).

        Raises:
            MalformedBundleError: E_MANIFEST.
        """
        if self.dp.applied and self.statement != privacy_statement(kind, self.dp):
            detail = "rule B-19: the statement is not the one of its DP fields"
        elif not self.dp.applied and not self.statement.startswith(_WITHOUT_DP[kind]):
            detail = "rule B-19: the statement does not say that no differential privacy ran"
        else:
            return
        raise problem("E_MANIFEST", member=MANIFEST, detail=detail)


def privacy_statement(kind: Kind, dp: DpStatement) -> str:
    """Say in plain words what protects the training images, and what does not (B-19, P-1, P-3, P-84).

    Args:
        kind: What was trained: a style bundle on style images, an adapter on photos.
        dp: The DP statement.

    Returns:
        One paragraph for ``PrivacyCard.statement``; with differential privacy it
        is the sentence of P-1, every field filled in.
    """
    if dp.applied:
        return _claim(_SUBJECT[kind], dp)
    denial = f" guarantee: {dp.guarantee} ({dp.reason})" if dp.guarantee else ""
    return f"{_WITHOUT_DP[kind]} {_NOT_MEASURED}{denial}"


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
