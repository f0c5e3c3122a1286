"""manifest.json: schema, kinds, version (B-16), privacy card (B-19, P-2, P-84)."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bundlekit import adapter_manifest, open_trusted, style_manifest

from protocol.canonical import Json
from protocol.errors import MalformedBundleError, UnsupportedVersionError
from protocol.manifest import DpStatement, Federation, Manifest, privacy_statement

APPLIED = DpStatement(
    applied=True,
    unit="image",
    adjacency="add or remove one",
    epsilon=8.0,
    delta=1e-5,
    sampling_rate=0.01,
    noise_multiplier=1.1,
    max_grad_norm=1.0,
    steps=1000,
    accountant="prv 1.5",
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
        adapter = replace(adapter_manifest(base), federation=Federation(fab_sha256=("0" * 64,)))
    swapped = {"style": (adapter, style.style), field: (style, getattr(adapter, field))}
    manifest, value = swapped[field]
    with pytest.raises(MalformedBundleError, match=field):
        replace(manifest, **{field: value})


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


def test_statement_with_dp_names_epsilon_with_delta_and_unit() -> None:
    text = privacy_statement("style-bundle", APPLIED)
    assert "epsilon 8 at delta 1e-05, unit image" in text


def test_silent_statement_is_refused() -> None:
    manifest = style_manifest()
    with pytest.raises(MalformedBundleError, match="B-19"):
        replace(manifest, privacy=replace(manifest.privacy, statement="all is well"))


def test_dp_statement_is_whole_or_absent() -> None:
    with pytest.raises(MalformedBundleError, match="P-2"):
        replace(APPLIED, delta=None)
    with pytest.raises(MalformedBundleError, match="P-2"):
        DpStatement(applied=False, epsilon=0.0)


def test_applied_dp_needs_no_warning() -> None:
    manifest = style_manifest()
    card = replace(manifest.privacy, dp=APPLIED, statement=privacy_statement("style-bundle", APPLIED))
    assert Manifest.from_bytes(replace(manifest, privacy=card).to_bytes()).privacy.dp == APPLIED
