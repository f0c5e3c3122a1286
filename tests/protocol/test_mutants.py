"""Mutate, then verify (B-47): no mutant crashes the verifier, and none is accepted."""

import contextlib
from pathlib import Path

import pytest
from bundlekit import NOW, STUDIO
from mutants import mutant, signed_mutant

from protocol.audit import audit_bundle
from protocol.errors import ProtocolError
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, verify_bundle

TRUST = TrustStore.of(STUDIO)
FAST, SLOW, SIGNED = range(300), range(300, 20_300), range(2000)


def accepted(path: Path, data: bytes) -> bool:
    """Put a file through every reader; anything but an error of the tree ends the test."""
    path.write_bytes(data)
    findings = audit_bundle(path, trust=TRUST, now=NOW)
    with contextlib.suppress(ProtocolError):
        inspect_bundle(path)
    refusal = None
    try:
        verify_bundle(path, trust=TRUST, now=NOW)
    except ProtocolError as error:
        refusal = error
    if refusal is None:
        assert {finding.state for finding in findings} == {"passed"}
        return True
    failed = next(finding for finding in findings if finding.state == "failed")
    assert failed.error is not None
    assert (refusal.code, refusal.step) == (failed.error.code, failed.number)
    assert refusal.exit_code not in {0, 1}
    return False


def check(numbers: range, folder: Path, good: bytes) -> None:
    path = folder / "mutant.mdfy"
    changed = 0
    for number in numbers:
        data = mutant(number, good)
        assert accepted(path, data) == (data == good), f"mutant {number}"
        changed += data != good
    assert changed > 0.9 * len(numbers)


def test_some_mutants(tmp_path: Path, style_bytes: bytes) -> None:
    check(FAST, tmp_path, style_bytes)


@pytest.mark.slow
def test_twenty_thousand_mutants(tmp_path: Path, style_bytes: bytes) -> None:
    check(SLOW, tmp_path, style_bytes)


@pytest.mark.slow
def test_mutants_with_a_genuine_signature(tmp_path: Path, style_bytes: bytes) -> None:
    # Some of them are valid bundles; none may crash a reader, or make two readers disagree.
    found = [accepted(tmp_path / "mutant.mdfy", signed_mutant(number, style_bytes)) for number in SIGNED]
    assert 0 < sum(found) < len(found)
