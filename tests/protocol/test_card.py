"""The model card is generated and cannot be steered by what it shows (B-21)."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from bundlekit import adapter_manifest, open_trusted, style_manifest

from protocol.card import model_card
from protocol.manifest import LeakageFigure, MemorisationAudit, privacy_statement


def test_front_matter_is_what_hugging_face_reads() -> None:
    lines = model_card(style_manifest()).decode().splitlines()
    end = lines.index("---", 1)
    assert lines[0] == "---"
    assert lines[1:end] == [
        "license: cc-by-4.0",
        "library_name: modify-fl",
        "pipeline_tag: image-to-image",
        'model_name: "paintings"',
        'tags: ["modify", "face-stylization", "style-bundle", "oil", "portrait"]',
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("CC0-1.0", ["license: cc0-1.0"]),
        ("All rights reserved", ["license: other", 'license_name: "all-rights-reserved"']),
        ('"\n: [', ["license: other", 'license_name: "other"']),
    ],
)
def test_licence_is_an_id(name: str, lines: list[str]) -> None:
    manifest = style_manifest()
    card = model_card(replace(manifest, licence=replace(manifest.licence, model=name))).decode()
    assert card.splitlines()[1 : 1 + len(lines)] == lines


@pytest.mark.parametrize("text", ["plain", "a: b # c", "- [x]", "\"'\\", "\u00e4\u2028", "no", "1.5"])
def test_front_matter_is_yaml_whatever_the_manifest_says(text: str) -> None:
    # YAML 1.2 contains JSON: each value is a JSON value, or a bare word of fixed letters.
    manifest = style_manifest()
    assert manifest.style is not None
    said = replace(
        manifest,
        bundle=replace(manifest.bundle, name=text),
        style=replace(manifest.style, tags=(text,)),
        licence=replace(manifest.licence, model=text),
    )
    front = model_card(said).decode().split("---\n")[1]
    values = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(values["model_name"]) == text
    assert json.loads(values["tags"])[-1] == text
    assert re.fullmatch(r'"[a-z0-9.-]+"', values["license_name"])
    assert set(values) == {"license", "license_name", "library_name", "pipeline_tag", "model_name", "tags"}


def test_conditions_of_use_are_shown() -> None:
    manifest = style_manifest()
    card = model_card(manifest).decode()
    assert "agreement" not in card
    assert "addressed" not in card
    usage = replace(manifest.usage, requires_acknowledgement=True, audience=("age1x",))
    bundle = replace(manifest.bundle, supersedes="0" * 64)
    card = model_card(replace(manifest, usage=usage, bundle=bundle)).decode()
    assert "- **agreement**: needed before use" in card
    assert "- **addressed to**: certain recipients only" in card
    assert "age1x" not in card
    assert f"- **supersedes**: {'0' * 64}" in card


def test_privacy_statement_comes_whole() -> None:
    # P-84; the escapes of Markdown touch no letter of it.
    manifest = style_manifest()
    assert manifest.privacy.statement in model_card(manifest).decode()


def test_audit_is_told_whole() -> None:
    """P-83: figures, what was not measured, looser limits and the reason stand in the card."""
    manifest = style_manifest()
    assert "- **leakage**: not measured" in model_card(manifest).decode()
    audit = MemorisationAudit(
        status="accepted", critic_shipped=False, date="2026-01-31", tool_version="modify-fl 0.1.0",
        report="reports/leakage.json", methods=("inversion", "completion"), held_out="100 to 299",
        figures=(LeakageFigure(name="copy rate", value=0.07, shown="7.0%"),), not_measured=("membership AUC: too few",),
        loosened=("copy rate: refused above 0.1 instead of 0.05",), reason="all owners agreed",
    )  # fmt: skip
    told = privacy_statement("style-bundle", manifest.privacy.dp, audit)
    privacy = replace(manifest.privacy, memorisation_audit=audit, statement=told)
    card = model_card(replace(manifest, privacy=privacy)).decode()
    for line in (
        "**leakage**: accepted", "**copy rate**: 7.0%", "**critic in the bundle**: no",
        "**accepted because**: all owners", "**attacks tried**: inversion; completion",
        "**attacks not measured**: membership AUC: too few",
        "**limits loosened**: copy rate: refused above 0.1",
        "**audited**: 2026-01-31, modify-fl 0.1.0; 100 to 299 images",
    ):  # fmt: skip
        assert f"- {line}" in card


def test_figures_carry_their_sample_count() -> None:
    card = model_card(style_manifest()).decode()
    assert r"lpips\_holdout**: 0.25, 20 samples, 32 px (held-out tenth)" in card
    assert "**identity**: not available" in card  # M-43: never 0


def test_text_cannot_become_markup() -> None:
    manifest = style_manifest()
    assert manifest.style is not None
    hostile = replace(manifest.style, description="[click](http://evil.example) <script> # x | y")
    card = model_card(replace(manifest, style=hostile)).decode()
    assert r"\[click\](http://evil.example) \<script\> \# x \| y" in card
    named = replace(manifest, bundle=replace(manifest.bundle, name='x"\\: y'))
    assert 'model_name: "x\\"\\\\: y"' in model_card(named).decode()


def test_card_of_an_adapter(style_path: Path) -> None:
    with open_trusted(style_path) as base:
        manifest = replace(adapter_manifest(base), evaluation=())
    card = model_card(manifest).decode()
    assert "- **release**: local-only" in card
    assert "This adapter was trained on photos without differential privacy" in card
    assert "Figures" not in card.replace("figures", "")
    assert "**style**" not in card


def test_equal_manifests_give_equal_cards() -> None:
    assert model_card(style_manifest()) == model_card(style_manifest())
