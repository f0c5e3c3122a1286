"""Who sees what in federated rounds (F-33): one table, for the README and for ``preview``.

An update is what a site sends in one round. The words of the rows about it are the
claim that goes with a mode; nothing is called private without differential privacy.
"""

from dataclasses import dataclass

__all__ = ["COLUMNS", "Row", "rows", "table"]

COLUMNS = ("item", "style provider (not coordinating)", "coordinator", "each other site", "network observer")

_NOBODY = "-"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What each party sees of one thing."""

    item: str
    provider: str = _NOBODY
    coordinator: str = _NOBODY
    site: str = _NOBODY
    observer: str = _NOBODY

    def cells(self) -> tuple[str, ...]:
        """Return the cells in the order of ``COLUMNS``."""
        return self.item, self.provider, self.coordinator, self.site, self.observer


_FIRST = (
    Row(
        item="style images, photos, crops, previews, losses, photo counts", provider="own style images",
        site="own photos",
    ),
    Row(item="bundle", provider="all", coordinator="all", site="all",
        observer="size; content unless age-encrypted or over TLS"),
)  # fmt: skip
_UPDATE = {
    ("none", False): Row(
        item="one site's update, plain (policy must allow it)",
        coordinator="in clear: faces may be reconstructed",
        site="difference of means: with 2 sites the other's update",
    ),
    ("dp", False): Row(
        item="one site's update, with differential privacy", coordinator="noised, charged to the ledger",
        site="only through the mean",
    ),
    ("none", True): Row(
        item="one site's update, with SecAgg+", coordinator="masked; the sum only, if it keeps to the protocol",
        site="sum; all other sites together see the last one's",
    ),
    ("dp", True): Row(
        item="one site's update, with both", coordinator="sum of noised updates; each is DP even if SecAgg+ fails",
        site="sum",
    ),
}  # fmt: skip
_LAST = (
    Row(item="mean of each round, final adapter", provider="if published", coordinator="all", site="all"),
    Row(item="weight, metrics", coordinator="constant 1; only allow-listed ones"),
    Row(item="who takes part, address, times, bytes", provider="published band", coordinator="all",
        site="number only", observer="addresses, times, bytes"),
    Row(item="epsilon, delta, unit", provider="statement in the adapter", coordinator="statement", site="own ledger"),
)  # fmt: skip


def rows(mode: str, *, secagg: bool = False) -> tuple[Row, ...]:
    """Return the rows of one mode.

    Args:
        mode: ``none`` or ``dp``.
        secagg: Whether updates are masked.
    """
    return (*_FIRST, _UPDATE[mode, secagg], *_LAST)


def table() -> str:
    """Return the whole table in Markdown, as the README has it."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [row.cells() for row in (*_FIRST, *_UPDATE.values(), *_LAST)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
