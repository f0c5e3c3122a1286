"""All attacks on one bundle, one after the other; stopped, the same call goes on (P-73 to P-78)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modify_fl.data import ImageSet
from modify_fl.events import Emit
from modify_fl.training.interrupt import StopRequest
from style_provider.leakage.copies import Neighbours, measure_copies, pictures_compared
from style_provider.leakage.findings import Finding, attack_findings, copy_findings
from style_provider.leakage.inversion import (
    COMPLETED_TOGETHER,
    blur_errors,
    critic_scores,
    reconstruction_scores,
    seek_codes,
)
from style_provider.leakage.material import Material, chunks
from style_provider.leakage.planning import Plan
from style_provider.leakage.work import Work, add_seconds, work_folder

__all__ = ["AuditResult", "audit"]

_NO_HOLDOUT = "no image was held out"
_NONE_COMPLETED = "the budget is too short for it"


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What an audit found."""

    findings: tuple[Finding, ...]
    """Headlines first."""
    neighbours: Neighbours
    """Distances of drawn pictures, for the provider's pages."""
    completions: Tensor
    """The completed training images that came out best, float32 [K, 3, R, R]; may be none."""
    completed: tuple[int, ...]
    """Their places among the training images that were tried, best first."""
    seconds: float
    """Time over all parts."""


def audit(plan: Plan, folder: Path, emit: Emit) -> AuditResult:
    """Attack a bundle.

    Args:
        plan: What, with what, how hard.
        folder: Private folder of the provider; work under another key is removed.
        emit: Told after each step.

    Raises:
        InterruptedRunError: A signal asked for a stop; the same call goes on.
    """
    material, home = plan.material, work_folder(folder, plan.material.key)
    begin = time.monotonic()
    try:
        with StopRequest() as stop:
            work = Work(folder=home, emit=emit, total=plan.cost, stop=stop)
            near = _unpack(work.step("copies", pictures_compared(material), lambda: _copies(material, work)))
            scores, best, places = _compare(plan, work) if material.comparable else ({}, torch.empty(0), [])
    finally:  # a call that was stopped took time too
        seconds = add_seconds(home, time.monotonic() - begin)
    findings = (*copy_findings(near), *attack_findings(scores, why_not=_why_not(material)))
    return AuditResult(findings=findings, neighbours=near, completions=best, completed=tuple(places), seconds=seconds)


def _why_not(material: Material) -> str:
    """Say why images of both sides were not compared, where that is known beforehand."""
    if not len(material.held):
        return _NO_HOLDOUT
    return _NONE_COMPLETED if material.comparable and not material.strength.compared else ""


def _copies(material: Material, work: Work) -> dict[str, Tensor]:
    for done, near in measure_copies(material):
        work.tell("drawing pictures", done)
        if near is not None:
            return _packed(near)
    raise RuntimeError("nothing was drawn")


_TABLES = ("to_trained", "nearest", "to_held", "to_fellows", "floor")
_KEPT = (*_TABLES, "tau")


def _packed(near: Neighbours) -> dict[str, Tensor]:
    tables = {f"{table}/{name}": value for table in _TABLES for name, value in getattr(near, table).items()}
    tau = {f"tau/{name}": torch.tensor([value], dtype=torch.float64) for name, value in near.tau.items()}
    return {**tables, **tau, "extracted": near.extracted}


def _unpack(tensors: Mapping[str, Tensor]) -> Neighbours:
    names = {table: [key.partition("/")[2] for key in tensors if key.startswith(f"{table}/")] for table in _KEPT}
    order = sorted(names["to_trained"], key=("pixels", "LPIPS", "details", "faces").index)
    tables: dict[str, Any] = {
        table: {name: tensors.get(f"{table}/{name}", torch.empty(0)) for name in order} for table in _TABLES
    }
    tau = {name: float(tensors[f"tau/{name}"]) for name in order if name in names["tau"]}
    return Neighbours(**tables, tau=tau, extracted=tensors.get("extracted", torch.empty(0, dtype=torch.long)))


def _compare(plan: Plan, work: Work) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, list[int]]:
    """Return scores of training and held-out images by attack, and the best completions of training images."""
    material = plan.material
    sides = [
        work.step(f"scores-{name}", plan.scoring_cost(images), lambda images=images: _cheap_scores(material, images))  # type: ignore[misc]
        for name, images in (("trained", material.members), ("held", material.held))
    ]
    scores = {name: (sides[0][name], sides[1][name]) for name in sides[0]}
    if not material.strength.compared:
        return scores, torch.empty(0), []
    sought = [
        _sought(plan, work, name, images) for name, images in zip(("trained", "held"), material.sample, strict=True)
    ]
    for name in ("completion", "inversion"):
        scores[name] = (-sought[0][name], -sought[1][name])
    order = sought[0]["completion"].argsort(stable=True).tolist()[:10]
    return scores, sought[0]["picture"][order], order


def _cheap_scores(material: Material, images: ImageSet) -> dict[str, Tensor]:
    """Return what needs one pass over the images, alone, calibrated by the reference, and by a blur."""
    style, reference, lpips = material.style, material.reference, material.spaces.lpips
    found = reconstruction_scores(style.model, images, lpips)
    against = found["reconstruction, L1"] + blur_errors(images)
    if style.discriminator is not None:
        found["critic"] = critic_scores(style.discriminator, images)
    if reference is not None:
        usual = reconstruction_scores(reference.model, images, lpips)
        usual["critic"] = critic_scores(reference.critic, images)
        found |= {f"{name}, calibrated": score - usual[name] for name, score in found.items()}
    return found | {"reconstruction, L1, against a blur": against}


def _sought(plan: Plan, work: Work, side: str, images: ImageSet) -> dict[str, Tensor]:
    """Complete and invert a sample, a few images at a time."""
    rows: dict[str, list[Tensor]] = {"completion": [], "inversion": [], "picture": []}
    for part in chunks(len(images), COMPLETED_TOGETHER):
        found = work.step(
            f"{side}-{part[0]:05d}",
            plan.codes * len(part),
            lambda part=part: seek_codes(plan.material, images, part, side),  # type: ignore[misc]
        )
        for name, parts in rows.items():
            parts.append(found[name])
    return {name: torch.cat(parts) for name, parts in rows.items()}
