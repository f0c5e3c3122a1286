"""A provider in the place of a client, to see what clients will see (B-25)."""

from pathlib import Path

from protocol.encryption import Identity
from protocol.errors import KeyFileError, ProtocolError
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle

__all__ = ["stand_in"]


def stand_in(path: Path, trust: TrustStore) -> Identity | None:
    """Let a bundle be checked as by a client who is addressed and has agreed to its terms.

    Args:
        path: The plain bundle.
        trust: A store in memory; the agreement is noted there.

    Returns:
        Somebody of the bundle's audience, without a secret; ``None`` where anyone is addressed.

    Raises:
        KeyFileError: E_NOT_RECIPIENT, the file is encrypted.
    """
    try:
        seen = inspect_bundle(path)
    except KeyFileError as error:
        raise KeyFileError(
            "only its recipients can open this file", code=error.code, step=error.step,
            why="it is encrypted to them", fix="check the plain copy, or have a recipient run content-client verify",
        ) from error  # fmt: skip
    except ProtocolError:
        return None  # what checks it names the step
    if seen.payload_digest is not None:
        trust.acknowledge(seen.payload_digest)
    audience = seen.manifest.usage.audience
    return Identity(recipient=audience[0], secret=str) if audience else None
