"""All rules at once, and never a model (B-26)."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bundlekit import (
    CREATED,
    ENCODER,
    GENERATOR,
    MEMBERS,
    NOW,
    OTHER,
    STUDIO,
    edit_json,
    forge,
    style_manifest,
    write_style,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.audit import Finding, audit_bundle
from protocol.container import SIGNATURE
from protocol.errors import ProtocolError
from protocol.manifest import Usage
from protocol.rules import GIVEN_BY, RULES, Case
from protocol.trust import TrustStore
from protocol.verify import verify_bundle


def audit(path: Path, *, trust: TrustStore | None = None, now: datetime = NOW) -> tuple[Finding, ...]:
    return audit_bundle(path, trust=trust or TrustStore.of(STUDIO), now=now)


def failed(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.error.code for finding in findings if finding.error is not None]


def states(findings: tuple[Finding, ...]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for finding in findings:
        found.setdefault(finding.number, set()).add(finding.state)
    return found


def test_every_rule_has_a_finding(style_path: Path) -> None:
    findings = audit(style_path)
    assert [(finding.number, finding.name) for finding in findings] == [(rule.number, rule.name) for rule in RULES]
    assert {finding.state for finding in findings} == {"passed"}
    seen = verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    assert [finding.result for finding in findings] == [step.result for step in seen.steps]


def test_all_failures_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    usage = Usage(audience=("age1x",), requires_acknowledgement=True)
    write_style(path, manifest=replace(style_manifest(), usage=usage))
    data = path.read_bytes()
    for name in (ENCODER, GENERATOR):
        data = data.replace(MEMBERS[name], MEMBERS[name][:-1] + b"x")
    path.write_bytes(data)
    findings = audit(path, now=CREATED + timedelta(days=400))
    assert failed(findings) == ["E_EXPIRED", "E_AUDIENCE", "E_USAGE", "E_DIGEST"]
    broken = next(finding.error for finding in findings if finding.number == 11)
    assert broken is not None
    assert (broken.step, broken.member) == (11, ENCODER)
    assert ENCODER in broken.why
    assert GENERATOR in broken.why
    assert states(findings)[12] == {"not run"}


def test_first_failure_is_the_one_of_the_strict_verifier(style_path: Path) -> None:
    forge(style_path, edit_json("manifest.json", lambda value: value.update(critical=["holograms"])))
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    assert failed(audit(style_path))[0] == caught.value.code


@settings(max_examples=150)
@given(st.data())
def test_audit_and_verifier_agree_on_any_damage(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    # One table serves both, so the first failure is the same, and so is acceptance.
    position = data.draw(st.integers(0, len(style_bytes) * 8 - 1))
    broken = bytearray(style_bytes)
    broken[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.getbasetemp() / "audited.mdfy"
    path.write_bytes(broken)
    with pytest.raises(ProtocolError) as caught:
        verify_bundle(path, trust=TrustStore.of(STUDIO), now=NOW)
    first = next(finding.error for finding in audit(path) if finding.error is not None)
    assert (first.code, first.step, first.member) == (caught.value.code, caught.value.step, caught.value.member)


def test_nothing_of_an_unknown_signer_is_parsed(style_path: Path) -> None:
    findings = audit(style_path, trust=TrustStore.of(OTHER))
    assert failed(findings) == ["E_UNTRUSTED"]
    waiting = [finding for finding in findings if finding.state == "not run"]
    assert {finding.number for finding in waiting} == {6, 7, 8, 9, 10, 11, 12}
    assert waiting[0].result == "step 6 did not pass"


def test_expired_key_does_not_hide_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    write_style(path)
    findings = audit(path, now=CREATED + timedelta(days=4000))
    assert failed(findings) == ["E_KEY_EXPIRED", "E_EXPIRED"]
    assert states(findings)[12] == {"passed"}


def test_unsigned_file(style_path: Path) -> None:
    forge(style_path, lambda members: members.pop(SIGNATURE) and None, sign=False)
    assert failed(audit(style_path)) == ["E_UNSIGNED"]


def test_missing_file(tmp_path: Path) -> None:
    findings = audit(tmp_path / "none.mdfy")
    assert failed(findings) == ["E_IO"]
    assert [finding.state for finding in findings[1:]] == ["not run"] * (len(RULES) - 1)


def test_rules_need_only_what_those_before_them_give() -> None:
    given: set[str] = set()
    for rule in RULES:
        assert {need for need in rule.needs if GIVEN_BY[need] > rule.number} == set()
    for name in GIVEN_BY:
        given.add(name)
        assert name in Case.__dataclass_fields__
    assert {need for rule in RULES for need in rule.needs} <= given
