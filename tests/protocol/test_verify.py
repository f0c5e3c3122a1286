"""The door from bytes to a VerifiedBundle: what it gives, and what it asks for (B-25)."""

import gc
import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from bundlekit import ENCODER, MEMBERS, NOW, OTHER, STUDIO, open_trusted, refusal, style_manifest, write_style

from protocol.container import SIGNATURE
from protocol.errors import PolicyError, ProtocolError, VerificationError
from protocol.manifest import Usage
from protocol.rules import RULES
from protocol.trust import TrustStore
from protocol.verify import Verification, open_bundle, read_terms, verify_bundle


def test_verified_bundle(style_path: Path) -> None:
    with open_trusted(style_path) as bundle:
        assert bundle.kind == "style-bundle"
        assert bundle.signer.label == "Studio"
        assert set(bundle.members) == {*MEMBERS, "manifest.json", "model-card.md"}
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]
        assert [(step.number, step.name) for step in bundle.steps] == [(rule.number, rule.name) for rule in RULES]
        assert bundle.warnings == ()
        with pytest.raises(VerificationError, match="missing"):
            bundle.read(SIGNATURE)
    with pytest.raises(ValueError, match="closed"):
        bundle.read(ENCODER)


def test_both_doors_find_the_same(style_path: Path) -> None:
    seen = verify_bundle(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    with open_trusted(style_path) as bundle:
        assert vars(bundle.facts()) == vars(seen)
    assert type(bundle.facts()) is Verification
    assert bundle.manifest.bundle.name == "paintings"  # the facts stay
    assert not hasattr(seen, "read")


@pytest.mark.parametrize("door", [open_bundle, verify_bundle])
def test_no_defaults_for_trust_and_time(door: Callable[..., object]) -> None:
    parameters = inspect.signature(door).parameters
    for name in ("trust", "now"):
        assert parameters[name].default is inspect.Parameter.empty
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_time_needs_a_zone(style_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        open_trusted(style_path, now=datetime(2026, 6, 1))  # noqa: DTZ001 - the point of the test


def test_refusal_closes_the_file(style_path: Path) -> None:
    # An open file whose owner is gone warns when it is collected, and a warning is an error here.
    refusal(style_path, trust=TrustStore.of(OTHER))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_suffix_is_only_a_label(style_path: Path) -> None:
    # B-1: the signed kind decides.
    renamed = style_path.rename(style_path.with_suffix(".mdfa"))
    with open_trusted(renamed) as bundle:
        assert bundle.kind == "style-bundle"


def test_terms_are_agreed_to_for_one_bundle(tmp_path: Path) -> None:
    usage = Usage(allowed=("art",), requires_acknowledgement=True)
    first, second = tmp_path / "first.mdfy", tmp_path / "second one.mdfy"
    manifest = replace(style_manifest(), usage=usage)
    digest = write_style(first, manifest=manifest)
    write_style(second, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    trust = TrustStore.of(STUDIO)
    error = refusal(first, trust=trust)
    assert (error.code, error.step, error.exit_code) == ("E_USAGE", 10, 6)
    trust.acknowledge(digest)
    seen = verify_bundle(first, trust=trust, now=NOW)
    assert "agreed to" in [step.result for step in seen.steps]
    assert f"content-client verify '{second}' --accept-terms" in refusal(second, trust=trust).fix


def test_terms_are_read_from_what_is_verified(tmp_path: Path) -> None:
    usage = Usage(allowed=("art",), requires_acknowledgement=True)
    path, trust = tmp_path / "style.mdfy", TrustStore.of(STUDIO)
    digest = write_style(path, manifest=replace(style_manifest(), usage=usage))
    for _ in range(2):  # before the agreement and after it
        terms = read_terms(path, trust=trust, now=NOW)
        assert (terms.usage, terms.payload_digest) == (usage, digest)
        trust.acknowledge(digest)


def test_terms_of_a_bundle_that_breaks_another_rule_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "style.mdfy"
    usage = Usage(audience=("age1x",), requires_acknowledgement=True)
    write_style(path, manifest=replace(style_manifest(), usage=usage))
    with pytest.raises(PolicyError) as caught:
        read_terms(path, trust=TrustStore.of(STUDIO), now=NOW)
    assert (caught.value.code, caught.value.step) == ("E_AUDIENCE", 10)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ProtocolError, match="ends early"):
        read_terms(path, trust=TrustStore.of(STUDIO), now=NOW)


def test_use_is_recorded_and_verification_is_not(tmp_path: Path) -> None:
    manifest = style_manifest()
    older, newer = tmp_path / "older.mdfy", tmp_path / "newer.mdfy"
    write_style(older, manifest=manifest)
    write_style(newer, manifest=replace(manifest, bundle=replace(manifest.bundle, sequence=2)))
    trust = TrustStore.of(STUDIO)
    verify_bundle(newer, trust=trust, now=NOW)
    early = open_bundle(older, trust=trust, now=NOW)
    open_bundle(newer, trust=trust, now=NOW).record_use()
    assert refusal(older, trust=trust).code == "E_ROLLBACK"
    with pytest.raises(PolicyError) as caught:  # verified before, used after the newer one
        early.record_use()
    assert (caught.value.code, caught.value.step) == ("E_ROLLBACK", 14)


def test_warnings_of_the_store_come_along(tmp_path: Path, style_path: Path) -> None:
    trust = TrustStore(tmp_path / "trust")
    trust.add(STUDIO)
    (tmp_path / "trust" / "state.json").unlink(missing_ok=True)
    seen = verify_bundle(style_path, trust=trust, now=NOW)
    assert seen.warnings == trust.warnings(NOW)
    assert "W_STATE_RESET" in seen.warnings[0]
