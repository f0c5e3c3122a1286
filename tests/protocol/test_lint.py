"""Private details that must not leave the house (B-20, P-81)."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from bundlekit import MEMBERS, STUDIO, open_trusted, style_manifest, write_style

from protocol.errors import PolicyError
from protocol.lint import lint_members, lint_texts

# Found where it is hidden: in a field of the manifest, and in a report.
PRIVATE = {
    "picture file name": ["trained on anna_2019.jpg", "see IMG(1).HEIC"],
    "local path": ["from /home/anna/pictures", "~/media/x", r"C:\\Users\\anna", "file:///x", r"\\\\nas\\faces"],
    "e-mail address": ["ask anna@studio.example.org"],
    "private host name": ["made on gpu-7.lan", "nas.local"],
    "embedded picture": ["data:image/jpeg;base64,", "iVBORw0KGgoAAAA", "x /9j/4AAQ", "<svg xmlns"],
    "digest": [sha256(b"face").hexdigest(), "d41d8cd98f00b204e9800998ecf8427e"],
}
CASES = [(kind, text) for kind, texts in PRIVATE.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_private_detail_in_the_manifest(kind: str, text: str) -> None:
    manifest = style_manifest()
    assert manifest.style is not None
    with pytest.raises(PolicyError, match=kind) as caught:
        lint_members(replace(manifest, style=replace(manifest.style, description=text)), {})
    assert caught.value.code == "E_LINT"
    assert caught.value.member == "manifest.json"
    assert "anna" not in str(caught.value)  # the message does not repeat the detail


@pytest.mark.parametrize(("kind", "text"), CASES)
@pytest.mark.parametrize("name", ["report.json", "notes.txt", "notes.md"])
def test_private_detail_in_a_report(tmp_path: Path, kind: str, text: str, name: str) -> None:
    with pytest.raises(PolicyError, match=kind) as caught:
        write_style(tmp_path / "s.mdfy", members={**MEMBERS, name: f'{{"note": "{text}"}}'.encode()})
    assert caught.value.member == name
    assert list(tmp_path.iterdir()) == []


def test_what_belongs_there_passes(tmp_path: Path) -> None:
    # The contact of the provider, public addresses, and digests of fields made for them.
    manifest = style_manifest()
    manifest = replace(
        manifest,
        provider=replace(manifest.provider, url="https://studio.example/data/"),
        licence=replace(manifest.licence, attribution="see https://museum.example/home/open"),
        provenance=replace(manifest.provenance, source_commit="0" * 40, dataset_commitment="1" * 64),
    )
    report = f"{STUDIO.contact} made this from {'0' * 40}, wall time 3.5/4.0 h\n".encode()
    write_style(tmp_path / "s.mdfy", manifest=manifest, members={**MEMBERS, "notes.txt": report})
    open_trusted(tmp_path / "s.mdfy").close()


def test_provider_without_contact_is_linted_too() -> None:
    manifest = style_manifest()
    silent = replace(manifest, provider=replace(manifest.provider, contact=""))
    lint_members(silent, {"notes.txt": b"nothing to see"})
    with pytest.raises(PolicyError):
        lint_members(silent, {"notes.txt": STUDIO.contact.encode()})


def test_texts_are_refused_before_they_are_in_a_manifest() -> None:
    lint_texts({"--name": "Broad strokes", "--allow": ""})
    with pytest.raises(PolicyError) as caught:
        lint_texts({"--name": "Broad strokes", "--allow": "ask me@example.org"})
    assert (caught.value.code, caught.value.member) == ("E_LINT", "--allow")
