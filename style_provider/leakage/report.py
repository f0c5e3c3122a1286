"""An audit as files: figures for the bundle, and everything for the provider alone (P-83, P-85).

What enters the bundle holds figures and curve points only: no picture, no name,
no score of a single image. Curves are quantiles of many distances.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from modify_fl.bundle import image_band
from modify_fl.datasets import StyleData
from protocol.storage import PRIVATE, atomic_writer, storage_errors
from style_provider.leakage.attack import AuditResult
from style_provider.leakage.findings import HEADLINES, Finding
from style_provider.leakage.limits import Limit, Verdict
from style_provider.leakage.material import Material

__all__ = ["MARKDOWN", "METHODS", "PAGE", "RESULT", "Told", "members", "write_report"]

RESULT = "reports/leakage.json"
"""Name of the report in a bundle, and below the provider's folder."""
MARKDOWN = "reports/leakage.md"
"""The same for people."""
PAGE = "report.html"
"""The provider's page, with pictures; never in a bundle."""

METHODS = (
    "nearest neighbour of drawn pictures against the real-real floor",
    "extracted images",
    "reconstruction",
    "completion of a hidden half",
    "inversion from random starts",
    "membership inference",
)
"""What an audit tries, as the card says it."""

_CURVE = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
_SURE = "These are attacks that were tried, not a bound: others may find more."


@dataclass(frozen=True, kw_only=True)
class Told:
    """An audit with its verdict, ready to be written."""

    material: Material
    """What was attacked."""
    result: AuditResult
    """What was found."""
    verdict: Verdict
    """What the limits say."""
    style_data: StyleData
    """Class of the images."""
    limits: Mapping[str, Limit]
    """In force."""
    date: str
    """Day of the audit, ``YYYY-MM-DD``."""

    @property
    def headlines(self) -> tuple[Finding, ...]:
        """The figures that have limits; one that was not measured says why."""
        known = {finding.name: finding for finding in self.result.findings}
        return tuple(known.get(name) or Finding.missing(name, "not tried") for name in HEADLINES)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs: figures, curve points, and what they depend on."""
        material = self.material
        return {
            "date": self.date, "tool": f"modify-fl {version('modify-fl')}", "classification": self.style_data,
            "status": self.verdict.status, "refusals": self.verdict.refusals, "warnings": self.verdict.warnings,
            "limits": {name: _finite(asdict(limit)) for name, limit in self.limits.items()},
            "methods": METHODS,
            "trained_band": image_band(len(material.trained)), "held_out_band": image_band(len(material.held)),
            "critic_shipped": material.style.discriminator is not None,
            "spaces": material.spaces.names, "strength": asdict(material.strength), "seed": material.seed,
            "reference_model": material.reference.name if material.reference else None,
            "resolution": material.trained.resolution,
            "findings": [finding.as_json() for finding in self.result.findings],
            "curves": _curves(self.result),
        }  # fmt: skip


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if value == float("inf") else value for name, value in values.items()}


def _curves(result: AuditResult) -> dict[str, Any]:
    """Return quantiles of the distances by space."""
    near, at = result.neighbours, torch.tensor(_CURVE)
    found: dict[str, Any] = {"quantiles": _CURVE}
    for name in near.to_trained:
        rows = {"drawn to training images": near.to_trained[name], "held-out to training images": near.floor[name]}
        found[name] = {
            label: [round(float(v), 5) for v in values.quantile(at)] for label, values in rows.items() if len(values)
        }
    return found


def markdown(told: Told) -> str:
    """Return the report for people."""
    material = told.material
    rows = "\n".join(_row(finding) for finding in told.headlines)
    shown = set(HEADLINES)
    others = "\n".join(_row(finding) for finding in told.result.findings if finding.name not in shown)
    reasons = "".join(f"- {sentence}\n" for sentence in (*told.verdict.refusals, *told.verdict.warnings))
    critic = "is" if material.style.discriminator is not None else "is not"
    return f"""# What this bundle gives away of its style images

Status: **{told.verdict.status}** for {told.style_data} images, {told.date}. {_SURE}

{reasons or "No figure is above its limit." + chr(10)}
| figure | found | how sure |
|---|---|---|
{rows}

The bundle was attacked as a reader has it, through the verifying loader: {image_band(len(material.trained))} images
that were trained on against {image_band(len(material.held))} works that were set aside before; of each work one image
was compared. The critic {critic} in the bundle. {material.strength.generated} pictures were drawn.
Distances were taken in {", ".join(material.spaces.names)}.

## All figures

| figure | found | how sure |
|---|---|---|
{others}
"""


def _row(finding: Finding) -> str:
    return f"| {finding.name} | {finding.text()} | {finding.note or '-'} |"


def members(told: Told) -> dict[str, bytes]:
    """Return the members that go into the bundle, by name (P-85)."""
    text = json.dumps(told.as_json(), indent=1, sort_keys=True) + "\n"
    return {RESULT: text.encode(), MARKDOWN: markdown(told).encode()}


def write_report(told: Told, folder: Path, pages: Sequence[tuple[str, bytes]]) -> Path:
    """Write everything into the provider's folder, for its owner alone (P-38, P-85).

    Args:
        told: The audit.
        folder: Made if need be.
        pages: Name and content of the page and its pictures.

    Returns:
        Path of the page, or of the text where there is none.

    Raises:
        StorageError: A file cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = {name.rpartition("/")[2]: content for name, content in members(told).items()} | dict(pages)
    for name, content in contents.items():
        with atomic_writer(folder / name, overwrite=True, mode=PRIVATE) as stream:
            stream.write(content)
    return folder / (PAGE if PAGE in contents else MARKDOWN.rpartition("/")[2])
