"""manifest.json: schema, kinds, version (B-16), privacy card (B-19, P-2, P-84)."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bundlekit import adapter_manifest, open_trusted, style_manifest

from protocol.canonical import Json
from protocol.errors import MalformedBundleError, UnsupportedVersionError
from protocol.manifest import (
    DpMechanism,
    DpStatement,
    Federation,
    LeakageFigure,
    Manifest,
    MemorisationAudit,
    privacy_statement,
)

APPLIED = DpStatement(
    applied=True,
    unit="image",
    adjacency="add/remove",
    epsilon=8.0,
    delta=1e-5,
    mechanisms=(
        DpMechanism(sampling_rate=0.01, noise_multiplier=1.1, max_grad_norm=1.0, steps=1000),
        DpMechanism(sampling_rate=0.02, noise_multiplier=2.0, max_grad_norm=0.5, steps=50),
    ),
    accountant="RDP",
    accountant_version="opacus 1.6.0",
    releases=("first", "second"),
    n_is_public=False,
    tuned_on_private="nothing",
    not_covered=("stylised images you share", "test-time weights"),
)


def test_round_trip() -> None:
    manifest = style_manifest()
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.to_bytes() == Manifest.from_bytes(manifest.to_bytes()).to_bytes()


def test_adapter_round_trip(style_path: Path) -> None:
    with open_trusted(style_path) as base:
        manifest = adapter_manifest(base)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@pytest.mark.parametrize("field", ["style", "base", "release", "federation"])
def test_fields_belong_to_one_kind(style_path: Path, field: str) -> None:
    style = style_manifest()
    with open_trusted(style_path) as base:
        adapter = replace(adapter_manifest(base), federation=Federation(fab_sha256=("0" * 64,), rounds=3))
    swapped = {"style": (adapter, style.style), field: (style, getattr(adapter, field))}
    manifest, value = swapped[field]
    with pytest.raises(MalformedBundleError, match=field):
        replace(manifest, **{field: value})


def test_a_style_may_name_the_app_of_its_federations_and_no_run(style_path: Path) -> None:
    named = replace(style_manifest(), federation=Federation(fab_sha256=("0" * 64,)))
    assert Manifest.from_bytes(named.to_bytes()) == named
    for told in ({"run_id": "r"}, {"rounds": 3}, {"secure_aggregation": False}, {"participants_band": "2 to 4"}):
        with pytest.raises(MalformedBundleError, match="federation"):
            replace(named, federation=Federation(fab_sha256=(), **told))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["base", "release"])
def test_adapter_needs_its_own_fields(style_path: Path, field: str) -> None:
    with open_trusted(style_path) as base:
        adapter = adapter_manifest(base)
    with pytest.raises(MalformedBundleError, match=field):
        replace(adapter, **{field: None})


@pytest.mark.parametrize("change", [{"format_version": "2.0"}, {"critical": ["holograms"]}])
def test_newer_format_is_said_to_be_newer(change: dict[str, Json]) -> None:
    # E_VERSION wins over the schema: a newer format may well have other fields.
    value = {**json.loads(style_manifest().to_bytes()), **change, "unheard_of": 1}
    with pytest.raises(UnsupportedVersionError):
        Manifest.from_bytes(json.dumps(value).encode())


def test_unknown_feature_is_named_without_its_control_characters() -> None:
    # The name was not held against the schema, and an error is shown before any signature was asked for.
    value = {**json.loads(style_manifest().to_bytes()), "critical": ["\x1b]0;pwned\x07"]}
    with pytest.raises(UnsupportedVersionError) as caught:
        Manifest.from_bytes(json.dumps(value).encode())
    assert caught.value.what.endswith(r": '\x1b]0;pwned\x07'")


@pytest.mark.parametrize(
    "change", [{"format_version": "x"}, {"format": "zip"}, {"critical": "x"}, {"extra": 1}, {"kind": "other"}]
)
def test_other_schema_is_refused(change: dict[str, Json]) -> None:
    value = {**json.loads(style_manifest().to_bytes()), **change}
    with pytest.raises(MalformedBundleError):
        Manifest.from_bytes(json.dumps(value).encode())


def test_newer_minor_version_is_read() -> None:
    value = {**json.loads(style_manifest().to_bytes()), "format_version": "1.7"}
    assert Manifest.from_bytes(json.dumps(value).encode()).format_version == "1.7"


@pytest.mark.parametrize("data", [b"[]", b"1", b"null"])
def test_manifest_is_an_object(data: bytes) -> None:
    with pytest.raises(MalformedBundleError):
        Manifest.from_bytes(data)


def test_window_must_not_be_empty() -> None:
    manifest = style_manifest()
    with pytest.raises(MalformedBundleError, match="ends before it begins"):
        replace(manifest, bundle=replace(manifest.bundle, expires=manifest.bundle.not_before))


def test_time_without_zone_is_refused_when_written() -> None:
    manifest = style_manifest()
    created = datetime(2026, 1, 1)  # noqa: DTZ001 - the point of the test
    with pytest.raises(MalformedBundleError, match="time zone"):
        replace(manifest, bundle=replace(manifest.bundle, created=created)).to_bytes()
    later = manifest.bundle.created + timedelta(microseconds=1)
    with pytest.raises(MalformedBundleError, match="whole seconds"):
        replace(manifest, bundle=replace(manifest.bundle, created=later)).to_bytes()


def test_statement_without_dp_says_so() -> None:
    # P-84, word for word.
    text = privacy_statement("style-bundle", DpStatement(applied=False))
    assert text.startswith(
        "This model was trained on the style images without differential privacy. It can contain recognisable "
        "traces of them. The figures below are attacks that were tried, not a bound."
    )
    assert "not measured" in text
    assert "epsilon" not in text
    assert "photos" in privacy_statement("encoder-adapter", DpStatement(applied=False))


def test_statement_with_dp_is_the_one_sentence_of_the_design() -> None:
    # P-1, every field filled in; several mechanisms stand one after the other.
    assert privacy_statement("encoder-adapter", APPLIED) == (
        "Every encoder update that left this client, together, is (8, 1e-05)-DP under add/remove of ONE IMAGE, with "
        "Poisson sampling rate 0.01, noise multiplier 1.1, clip 1, 1000 steps, and Poisson sampling rate 0.02, noise "
        "multiplier 2, clip 0.5, 50 steps, accountant RDP, sampler and noise from an OS CSPRNG. Not covered: "
        "stylised images you share, test-time weights."
    )
    assert "ONE PERSON" in privacy_statement("encoder-adapter", replace(APPLIED, unit="person"))


@pytest.mark.parametrize("guarantee", ["none", "none (test)"])
def test_statement_without_a_guarantee_says_why(guarantee: str) -> None:
    # P-3: an absent epsilon never reads as 0.
    text = privacy_statement("encoder-adapter", DpStatement(applied=False, guarantee=guarantee, reason="no run"))
    assert text.endswith(f"guarantee: {guarantee} (no run)")
    assert "epsilon" not in text


def test_silent_statement_is_refused() -> None:
    manifest = style_manifest()
    with pytest.raises(MalformedBundleError, match="B-19"):
        replace(manifest, privacy=replace(manifest.privacy, statement="all is well"))


@pytest.mark.parametrize("field", sorted(vars(APPLIED).keys() - {"applied", "guarantee", "reason"}))
def test_dp_statement_is_whole(field: str) -> None:
    with pytest.raises(MalformedBundleError, match="P-2"):
        replace(APPLIED, **{field: None})
    if isinstance(getattr(APPLIED, field), tuple):
        with pytest.raises(MalformedBundleError, match="P-2"):
            replace(APPLIED, **{field: ()})


@pytest.mark.parametrize(
    "fields",
    [
        {"applied": False, "epsilon": 0.0},
        {"applied": False, "guarantee": "none"},
        {"applied": False, "reason": "no run"},
        {**vars(APPLIED), "guarantee": "none", "reason": "no run"},
        {**vars(APPLIED), "guarantee": "none"},
    ],
)
def test_dp_statement_is_whole_or_absent(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedBundleError, match="P-2"):
        DpStatement(**fields)


def test_applied_dp_is_said_in_no_other_words() -> None:
    manifest = style_manifest()
    card = replace(manifest.privacy, dp=APPLIED, statement=privacy_statement("style-bundle", APPLIED))
    assert Manifest.from_bytes(replace(manifest, privacy=card).to_bytes()).privacy.dp == APPLIED
    with pytest.raises(MalformedBundleError, match="not the one of its DP fields"):
        replace(manifest, privacy=replace(card, statement=card.statement.replace("(8,", "(1,")))


def test_what_a_federation_made_is_said_of_the_federation(style_path: Path) -> None:
    """Nobody but each client knows what else has left it."""
    with open_trusted(style_path) as base:
        adapter = adapter_manifest(base)
    made, own = (privacy_statement("encoder-adapter", APPLIED, federated=federated) for federated in (True, False))
    assert made.startswith("Every update of this federation, together, is (8, 1e-05)-DP under")
    federation = Federation(fab_sha256=("0" * 64,), run_id="r", rounds=3)
    card = replace(adapter.privacy, dp=APPLIED, statement=made)
    assert replace(adapter, federation=federation, privacy=card).privacy.statement == made
    with pytest.raises(MalformedBundleError, match="not the one of its DP fields"):
        replace(adapter, privacy=card)
    with pytest.raises(MalformedBundleError, match="not the one of its DP fields"):
        replace(adapter, federation=federation, privacy=replace(card, statement=own))


# Leakage (P-83, P-84) -------------------------------------------------------------

AUDIT = MemorisationAudit(
    status="warned", critic_shipped=True, date="2026-01-31", tool_version="modify-fl 0.1.0",
    report="reports/leakage.json", methods=("inversion",), held_out="100 to 299",
    figures=(LeakageFigure(name="copy rate", value=0.01, shown="1.0%"),), not_measured=(), loosened=(),
)  # fmt: skip


def test_statement_of_an_audited_bundle_is_that_of_its_figures() -> None:
    manifest = style_manifest()
    statement = privacy_statement("style-bundle", DpStatement(applied=False), AUDIT)
    card = replace(manifest.privacy, memorisation_audit=AUDIT, statement=statement)
    assert Manifest.from_bytes(replace(manifest, privacy=card).to_bytes()).privacy == card
    better = statement.replace("copy rate 1.0%", "copy rate 0.0%")
    with pytest.raises(MalformedBundleError, match="P-84"):
        replace(manifest, privacy=replace(card, statement=better)).to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"figures": None},
        {"date": None},
        {"status": "not measured"},
        {"status": "accepted"},
        {"reason": "because"},
    ],
)
def test_audit_that_is_half_there_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedBundleError, match="P-83"):
        replace(AUDIT, **changes)  # type: ignore[arg-type]


def test_bundle_may_be_accepted_without_a_measurement_but_not_passed() -> None:
    accepted = MemorisationAudit(status="accepted", critic_shipped=False, reason="a test")
    assert "not measured" in privacy_statement("style-bundle", DpStatement(applied=False), accepted)
    with pytest.raises(MalformedBundleError, match="P-83"):
        MemorisationAudit(status="passed", critic_shipped=False)
