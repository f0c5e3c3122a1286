"""What a provider asks of the audit that ``package`` makes. Nothing here imports torch."""

from dataclasses import dataclass
from typing import Literal

from modify_fl.config import Budget
from modify_fl.datasets import StyleData

__all__ = ["AuditWish"]


@dataclass(frozen=True, kw_only=True)
class AuditWish:
    """Whether and how leakage is measured."""

    form: Literal["trained", "standard", "time", "no"] = "trained"
    """``trained``: the standard form, but about as long as training took at most; ``time``: as ``budget`` says."""
    budget: Budget | None = None
    """About how long, with ``time``."""
    reason: str | None = None
    """Why a bundle above the limits is handed out all the same."""
    photos: str | None = None
    """Public photos; faces drawn here when none are named."""
    threads: int | None = None
    """Compute threads."""
    style_data: StyleData = "confidential"
    """Class of the images."""
