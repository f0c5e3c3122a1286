"""The privacy card of a bundle: what can leak, said truthfully (B-19, P-83, P-84).

Rules kept here: the statement is generated; without differential privacy it says
so, and that traces may be recognisable; an epsilon stands beside its delta and
unit or nowhere (P-2); what was not measured is called not measured.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from protocol.errors import problem
from protocol.schema import Bound, Line, Positive, Text

__all__ = [
    "KINDS",
    "MANIFEST",
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
class DpStatement:
    """Differential privacy: not applied, or everything that an epsilon needs (P-2)."""

    applied: bool
    unit: Line | None = None
    adjacency: Line | None = None
    epsilon: Annotated[float, Bound(low=0)] | None = None
    delta: Annotated[float, Bound(low=0, high=1)] | None = None
    sampling_rate: Annotated[float, Bound(low=0, high=1)] | None = None
    noise_multiplier: Annotated[float, Bound(low=0)] | None = None
    max_grad_norm: Annotated[float, Bound(low=0)] | None = None
    steps: Positive | None = None
    accountant: Line | None = None

    def __post_init__(self) -> None:
        """Refuse a partial statement."""
        stated = [value is not None for name, value in vars(self).items() if name != "applied"]
        if stated != [self.applied] * len(stated):
            raise problem(
                "E_MANIFEST",
                member=MANIFEST,
                detail="rule P-2: an applied DP statement has all fields, any other has none",
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
        """Refuse a card that keeps silent about missing differential privacy (B-19).

        Raises:
            MalformedBundleError: E_MANIFEST.
        """
        if not self.dp.applied and not self.statement.startswith(_WITHOUT_DP[kind]):
            raise problem(
                "E_MANIFEST",
                member=MANIFEST,
                detail="rule B-19: the statement does not say that no differential privacy ran",
            )


def privacy_statement(kind: Kind, dp: DpStatement) -> str:
    """Say in plain words what protects the training images, and what does not (B-19, P-84).

    Args:
        kind: What was trained: a style bundle on style images, an adapter on photos.
        dp: The DP statement.

    Returns:
        One paragraph for ``PrivacyCard.statement``.
    """
    if dp.applied:
        return (
            f"This model was trained with differential privacy: epsilon {dp.epsilon:g} at delta "
            f"{dp.delta:g}, unit {dp.unit}, adjacency {dp.adjacency}, accountant {dp.accountant}."
        )
    return f"{_WITHOUT_DP[kind]} {_NOT_MEASURED}"
