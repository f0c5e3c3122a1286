"""``model-card.md``, generated from the manifest and never written by hand (B-21).

Strings of the manifest hold no line breaks (``schema``), so none of them can
start a new field, heading or list item; what could still mean something inside
a line of Markdown is escaped.
"""

import json
import re
from collections.abc import Iterable, Iterator

from protocol.manifest import Manifest
from protocol.schema import format_time

__all__ = ["CARD", "model_card"]

CARD = "model-card.md"
"""Name of the member that holds the card."""

_KNOWN_LICENCES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "gpl-3.0",
        "mit",
        "openrail",
    }
)
"""Ids of licences that Hugging Face knows by themselves."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!&~$])")


def _text(value: str) -> str:
    """Escape a string for a line of Markdown."""
    return _SPECIAL.sub(r"\\\1", value)


def _licence(name: str) -> Iterator[str]:
    """Name the licence as Hugging Face does: by its own id, or as ``other`` with an id made from the name."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    if slug in _KNOWN_LICENCES:
        yield f"license: {slug}"
    else:
        yield "license: other"
        yield f"license_name: {json.dumps(slug or 'other')}"


def _front_matter(manifest: Manifest) -> Iterator[str]:
    """YAML of the Hugging Face model card; a JSON string is a YAML string."""
    tags = ["modify", "face-stylization", manifest.kind]
    yield "---"
    yield from _licence(manifest.licence.model)
    yield "library_name: modify-fl"
    yield "pipeline_tag: image-to-image"
    yield f"model_name: {json.dumps(manifest.bundle.name)}"
    yield f"tags: {json.dumps(tags + list(manifest.style.tags if manifest.style else ()))}"
    yield "---"


def _section(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    for name, value in rows:
        if value:
            yield f"- **{name}**: {_text(value)}"


def _what(manifest: Manifest) -> Iterator[tuple[str, str]]:
    bundle = manifest.bundle
    if manifest.style:
        yield "style", manifest.style.name
        yield "description", manifest.style.description
        yield "limits", manifest.style.limits
    if manifest.base:
        yield "for bundle", f"{manifest.base.bundle_id}, sequence {manifest.base.sequence}"
    yield "release", manifest.release or ""
    yield "version", f"{bundle.version} (sequence {bundle.sequence})"
    yield "id", bundle.id
    yield "supersedes", bundle.supersedes or ""
    yield "created", format_time(bundle.created)
    yield "valid", f"{format_time(bundle.not_before)} to {format_time(bundle.expires)}"
    yield "provider", manifest.provider.name
    yield "contact", manifest.provider.contact


def _model(manifest: Manifest) -> Iterator[tuple[str, str]]:
    model, training = manifest.model, manifest.provenance.training
    yield "architecture", model.architecture
    yield "input", model.input
    yield "output", model.output
    yield "stored values", f"{model.n_parameters} ({model.precision})"
    yield "preset", training.preset
    yield "mode", training.mode or ""
    yield "images seen", str(training.images_seen)
    yield "started from", training.init
    yield "perceptual loss", training.losses.perceptual.name
    yield "identity loss", training.losses.identity.name


def _terms(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "licence of the weights", manifest.licence.model
    yield "licence of the training data", manifest.licence.dataset
    yield "attribution", manifest.licence.attribution
    yield "allowed", "; ".join(manifest.usage.allowed)
    yield "prohibited", "; ".join(manifest.usage.prohibited)
    yield "agreement", "needed before use" if manifest.usage.requires_acknowledgement else ""
    yield "addressed to", "certain recipients only" if manifest.usage.audience else ""


def _privacy(manifest: Manifest) -> Iterator[tuple[str, str]]:
    data, audit = manifest.privacy.training_data, manifest.privacy.memorisation_audit
    yield "statement", manifest.privacy.statement
    yield "leakage", audit.status if audit else ""
    for figure in (audit.figures or ()) if audit else ():
        yield figure.name, figure.shown
    yield (
        "audited",
        f"{audit.date}, {audit.tool_version}; {audit.held_out} images held out" if audit and audit.date else "",
    )
    yield "attacks tried", "; ".join(audit.methods or ()) if audit else ""
    yield "attacks not measured", "; ".join(audit.not_measured or ()) if audit else ""
    yield "limits loosened", "; ".join(audit.loosened or ()) if audit else ""
    yield "accepted because", (audit.reason or "") if audit else ""
    yield "critic in the bundle", ("yes" if audit.critic_shipped else "no") if audit else ""
    yield "training images", data.number_of_images
    yield "contains faces", "yes" if data.contains_faces else "no"
    yield "basis", data.basis
    yield "classification", data.classification
    yield "retention", data.retention


def _figures(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for figure in manifest.evaluation:
        value = "not available" if figure.value is None else f"{figure.value:.6g}"
        samples = "" if figure.samples is None else f", {figure.samples} samples"
        side = "" if figure.resolution is None else f", {figure.resolution} px"
        note = f" ({figure.note})" if figure.note else ""
        yield _text(figure.metric), f"{value}{samples}{side}{note}"


def model_card(manifest: Manifest) -> bytes:
    """Write the card of a bundle.

    Args:
        manifest: The finished manifest, apart from the card's own digest,
            which only the signed statement holds.

    Returns:
        Markdown with Hugging Face front matter, UTF-8; equal manifests give
        equal bytes.
    """
    lines = [*_front_matter(manifest), "", f"# {_text(manifest.bundle.name)}"]
    lines += _section("What this is", _what(manifest))
    lines += _section("Privacy", _privacy(manifest))
    lines += _section("Terms", _terms(manifest))
    lines += _section("Model", _model(manifest))
    if manifest.evaluation:
        lines += _section("Figures", _figures(manifest))
    return ("\n".join(lines) + "\n").encode("utf-8")
