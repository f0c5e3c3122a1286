"""How long a key is still valid, in the words of both programs."""

from datetime import UTC, datetime, timedelta

__all__ = ["lifetime_trouble"]

_SOON = timedelta(days=60)


def lifetime_trouble(expires: datetime) -> str:
    """Return what is wrong with a key that ends at ``expires``; nothing where that is more than 60 days away."""
    now = datetime.now(UTC)
    if expires <= now:
        return f"expired on {expires:%Y-%m-%d}"
    return f"expires on {expires:%Y-%m-%d}" if expires <= now + _SOON else ""
