"""The model card is generated and cannot be steered by what it shows (B-21)."""

from dataclasses import replace
from pathlib import Path

from bundlekit import adapter_manifest, open_trusted, style_manifest

from protocol.card import model_card


def test_front_matter_is_what_hugging_face_reads() -> None:
    lines = model_card(style_manifest()).decode().splitlines()
    end = lines.index("---", 1)
    assert lines[0] == "---"
    assert lines[1:end] == [
        "license: other",
        'license_name: "CC-BY-4.0"',
        "library_name: modify-fl",
        "pipeline_tag: image-to-image",
        'model_name: "paintings"',
        'tags: ["modify", "face-stylization", "style-bundle", "oil", "portrait"]',
    ]


def test_privacy_statement_comes_whole() -> None:
    # P-84; the escapes of Markdown touch no letter of it.
    manifest = style_manifest()
    assert manifest.privacy.statement in model_card(manifest).decode()


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
