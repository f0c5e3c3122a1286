"""Checks of a bundle, printed: what the commands ``verify`` of both programs do (B-25, B-26).

No torch here: the values of the weights are checked when a model is loaded.
"""

import contextlib
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from modify_fl.console import Console, ItemsFailedError
from protocol.audit import Finding, audit_bundle
from protocol.encryption import Identity
from protocol.errors import PolicyError, ProtocolError
from protocol.manifest import Usage
from protocol.trust import TrustStore
from protocol.verify import read_terms, verify_bundle

__all__ = ["accept_terms", "audit_file", "verify_file"]


def verify_file(
    console: Console, path: Path, *, trust: TrustStore, now: datetime, identity: Identity | None = None
) -> Mapping[str, object]:
    """Run steps 1 to 12 of B-25 on a file and print each; what was seen before is compared, not advanced.

    Args:
        console: Says what was checked.
        path: A ``.mdfy`` or ``.mdfa`` file.
        trust: The keys that are accepted.
        now: The time to check validity against.
        identity: The user's own age identity, for a file that is encrypted or addressed.

    Returns:
        Result of the command.

    Raises:
        ProtocolError: A rule was broken; it names the step.
    """
    seen = verify_bundle(path, trust=trust, now=now, identity=identity)
    for step in seen.steps:
        console.say(f"step {step.number:>2}  {step.name:<44}{step.result}")
    console.say(f"{path}: signed by {seen.signer.label}, unchanged")
    console.say(f"digest {seen.payload_digest}")
    for warning in seen.warnings:
        console.warn(warning)
    return {
        "file": path, "kind": seen.kind, "digest": seen.payload_digest, "signer": seen.signer.label,
        "fingerprint": seen.signer.fingerprint,
        "steps": [{"step": step.number, "name": step.name, "result": step.result} for step in seen.steps],
    }  # fmt: skip


def audit_file(
    console: Console, path: Path, *, trust: TrustStore, now: datetime, identity: Identity | None = None
) -> Mapping[str, object]:
    """Try every rule on a file and print what became of each (B-26).

    Args:
        console: Says what was found.
        path: A ``.mdfy`` or ``.mdfa`` file.
        trust: The keys that are accepted.
        now: The time to check validity against.
        identity: The user's own age identity.

    Returns:
        Result of the command, if every rule is kept.

    Raises:
        ItemsFailedError: A rule is broken; code, exit code and fields are those
            of the first one, and the result holds all of them.
    """
    findings = audit_bundle(path, trust=trust, now=now, identity=identity)
    for finding in findings:
        console.say(f"{finding.state:<8} step {finding.number:>2}  {finding.name:<44}{finding.result}")
    with contextlib.suppress(ProtocolError):  # a store that cannot be read is among the findings
        for warning in trust.warnings(now):
            console.warn(warning)
    result = {"file": path, "findings": [_record(finding) for finding in findings]}
    broken = [finding.error for finding in findings if finding.error is not None]
    if broken:
        raise _failed(len(broken), broken[0], result)
    return result


def _record(finding: Finding) -> dict[str, object]:
    error = finding.error
    return {
        "step": finding.number, "name": finding.name, "state": finding.state, "result": finding.result,
        "code": error.code if error else None, "member": error.member if error else None,
        "expected": error.expected if error else None, "got": error.got if error else None,
    }  # fmt: skip


def _failed(count: int, first: ProtocolError, result: Mapping[str, object]) -> ItemsFailedError:
    """Return the first error, with the result of the others behind it."""
    failed = ItemsFailedError(first.what, why=first.why, result=result)
    if count > 1:
        failed.what = f"{first.what}, and {count - 1} more"
    failed.code, failed.exit_code, failed.fix = first.code, first.exit_code, first.fix
    failed.step, failed.member, failed.expected, failed.got = first.step, first.member, first.expected, first.got
    return failed


def accept_terms(
    console: Console, path: Path, *, trust: TrustStore, now: datetime, identity: Identity | None = None
) -> None:
    """Show the terms of a bundle, ask for agreement, and record it for this very bundle.

    Where standard input is no terminal, calling this is the agreement.

    Args:
        console: Shows the terms and asks.
        path: A ``.mdfy`` or ``.mdfa`` file.
        trust: Remembers the agreement.
        now: The time to check validity against.
        identity: The user's own age identity.

    Raises:
        PolicyError: E_USAGE, the user did not agree.
        ProtocolError: Another rule is broken; nothing was recorded.
    """
    terms = read_terms(path, trust=trust, now=now, identity=identity)
    if not terms.usage.requires_acknowledgement:
        console.note("the provider asks for no agreement")
    elif not trust.is_acknowledged(terms.payload_digest):
        _agree(console, terms.usage)
        trust.acknowledge(terms.payload_digest)


def _agree(console: Console, usage: Usage) -> None:
    for label, uses in (("allowed", usage.allowed), ("prohibited", usage.prohibited)):
        console.show(f"{label}: {'; '.join(uses) or 'nothing is named'}")
    if sys.stdin.isatty() and not console.confirm("do you agree to these terms?", otherwise=""):
        raise PolicyError("the terms were not accepted", code="E_USAGE", fix="answer yes to use this style")
