"""What may be said about the photos of every site of a federation (F-24, P-1, P-34).

Sites whose photos differ compose in parallel: what holds for each holds for all. It
is a claim about the updates of one federation, made for each site by itself, so what
two sites hold of the same photo or person is not covered, and is said not to be.
"""

from collections.abc import Mapping
from dataclasses import replace

from modify_fl.privacy.settings import Unit
from modify_fl.privacy.statement import sentence
from protocol.privacy import DpStatement, privacy_statement

__all__ = ["federation_sentence", "for_each_site"]

_AT_SEVERAL: Mapping[Unit, str] = {
    "image": "photos that several sites hold", "person": "persons whose photos several sites hold",
}  # fmt: skip


def for_each_site(statement: DpStatement, *, photos_differ: bool) -> DpStatement:
    """Add what a claim that is made for each site by itself does not cover.

    Args:
        statement: About the photos of every site.
        photos_differ: Whether it was checked that no photo is at two sites; of persons nobody can.
    """
    if statement.unit is None or (photos_differ and statement.unit == "image"):
        return statement
    return replace(statement, not_covered=(*(statement.not_covered or ()), _AT_SEVERAL[statement.unit]))


def federation_sentence(statement: DpStatement) -> str:
    """Return the one sentence that is printed about the photos of all sites, or why there is none (P-1, P-3)."""
    if not statement.applied:
        return sentence(statement)
    return privacy_statement("encoder-adapter", statement, federated=True)
