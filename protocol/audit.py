"""Every rule at once: which are kept, which are broken, which cannot be tried (B-26).

For finding out what is wrong with a file. Nothing that is found here can be
used: an audit gives sentences, never a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from protocol.encryption import Identity
from protocol.errors import ProtocolError
from protocol.rules import DEFAULT_SIZE_LIMIT, GIVEN_BY, RULES, Case, Rule
from protocol.trust import TrustStore

__all__ = ["Finding", "audit_bundle"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one rule."""

    number: int
    """Step of B-25; some steps have several rules."""
    name: str
    state: Literal["passed", "failed", "not run"]
    result: str
    """What was found, what is wrong, or why it could not be tried; one phrase."""
    error: ProtocolError | None = None
    """What ``verify_bundle`` would have raised here, if it failed."""


def audit_bundle(
    path: Path,
    *,
    trust: TrustStore,
    now: datetime,
    identity: Identity | None = None,
    size_limit: int = DEFAULT_SIZE_LIMIT,
) -> tuple[Finding, ...]:
    """Apply every rule that can be applied, and report all that are broken.

    A rule that needs what a broken one should have given is not run: nothing of
    a payload is parsed, for one, whose signature is not right.

    Args:
        path: A ``.mdfy`` or ``.mdfa`` file.
        trust: The keys that are accepted.
        now: The time to check validity against, with time zone.
        identity: The user's own age identity.
        size_limit: Most bytes to accept.

    Returns:
        One finding a rule, in the order of ``RULES``; the bundle is acceptable
        if all passed.

    Raises:
        ValueError: ``now`` has no time zone.
    """
    case = Case(path=path, trust=trust, now=now, identity=identity, size_limit=size_limit, every=True)
    with case.stack:
        return tuple(_findings(case))


def _findings(case: Case) -> Iterator[Finding]:
    for rule in RULES:
        missing = [need for need in rule.needs if not hasattr(case, need)]
        if missing:
            waits = f"step {GIVEN_BY[missing[0]]} did not pass"
            yield Finding(number=rule.number, name=rule.name, state="not run", result=waits)
        else:
            yield _finding(rule, case)


def _finding(rule: Rule, case: Case) -> Finding:
    try:
        result = rule.run(case)
    except ProtocolError as error:
        return Finding(number=rule.number, name=rule.name, state="failed", result=error.what, error=error)
    return Finding(number=rule.number, name=rule.name, state="passed", result=result)
