"""All attacks on one bundle, one after the other; stopped, the same call goes on (P-73 to P-78).

What was done lies in a private folder of the provider, one file per step, under
a key over all that decides it. Raw scores stay there.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modify_fl.config import Budget
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, InterruptedRunError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.training.interrupt import StopRequest
from style_provider.leakage.copies import Neighbours, drawn, measure_copies
from style_provider.leakage.findings import Finding, attack_findings, copy_findings
from style_provider.leakage.inversion import (
    COMPLETED_TOGETHER,
    blur_errors,
    complete,
    critic_scores,
    invert,
    reconstruction_scores,
)
from style_provider.leakage.material import Material, Strength, chunks

__all__ = ["AuditResult", "audit", "planned"]

_NO_HOLDOUT = "no image was held out"
_NONE_COMPLETED = "the budget is too short for it"
_PLAN = "plan.json"
_KEY = re.compile(r"[0-9a-f]{16}")
_PROBED = 6
_EMBEDDINGS = 2
"""Times that a training image is embedded in all spaces: itself and mirrored."""


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


def planned(material: Material, budget: Budget | None, folder: Path) -> Material:
    """Fit the attacks into a time, by a probe of real steps; without one they have their standard form.

    The plan is kept, so that the same call goes on with it.

    Args:
        material: What is attacked.
        budget: A time.
        folder: Private folder of the provider.

    Raises:
        ConfigError: The budget is no time.
    """
    if budget is None:
        return material
    if budget.kind != "seconds":
        raise ConfigError("the budget of an audit is a time", got=str(budget), fix="write it like 5m")
    path = folder / _PLAN
    question = {"key": material.key, "budget": str(budget)}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if {name: known.get(name) for name in question} == question:
        return replace(material, strength=Strength(**known["strength"]))
    strength = material.strength.scaled(budget.amount / max(_whole_time(material), 1e-6))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps({**question, "strength": asdict(strength)}), encoding="utf-8")
    return replace(material, strength=strength)


def _whole_time(material: Material) -> float:
    """Return about how many seconds the attacks would take, from a few real steps."""
    part = list(range(min(_PROBED, len(material.trained))))
    material.spaces.embed(drawn(material, part))  # what is done once for all is not counted
    begin = time.monotonic()
    material.spaces.embed(drawn(material, part))
    each = (time.monotonic() - begin) / len(part)
    copying = each * (material.strength.generated + _EMBEDDINGS * len(material.trained) + 2 * len(material.held))
    if not material.comparable:
        return copying
    short = replace(material, strength=replace(material.strength, first_steps=2, last_steps=2))
    begin = time.monotonic()
    _seek(short, material.trained, part[:2], "probe")
    seconds = (time.monotonic() - begin) / plan_steps(short) * plan_steps(material)
    return copying + seconds / 2 * sum(map(len, material.sample))


def plan_steps(material: Material) -> int:
    """Return steps of one image in completion and inversion together, over all its starts."""
    plan = material.strength
    return (plan.starts + 2) * plan.first_steps + (plan.kept + 1) * plan.last_steps


@dataclass(kw_only=True)
class _Work:
    """The folder of an audit: what is there is not done again."""

    folder: Path
    emit: Emit
    total: int
    done: int = 0
    stop: StopRequest = field(default_factory=StopRequest)
    begin: float = field(default_factory=time.monotonic)

    def step(self, name: str, weight: int, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors called ``name``, made now or earlier.

        Raises:
            InterruptedRunError: A signal asked for a stop; what is done is kept.
        """
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            made = {key: value.detach().contiguous() for key, value in make().items() if value.numel()}
            partial = path.with_suffix(".part")
            save_file(made or {"nothing": torch.zeros(1)}, partial)
            partial.replace(path)
        self.done += weight
        self.tell(name)
        return load_file(path)

    def tell(self, name: str, extra: int = 0) -> None:
        """Report progress and heed a signal."""
        seconds, done = time.monotonic() - self.begin, self.done + extra
        pace = done / max(seconds, 1e-6)
        self.emit(TrainingEvent(
            kind="tick", phase=name, step=done, images_seen=done, images_total=self.total, seconds=seconds,
            images_per_second=pace, eta_seconds=max(0, self.total - done) / max(pace, 1e-6),
        ))  # fmt: skip
        if self.stop.requested:
            raise InterruptedRunError("stopped during the audit", why="a signal asked for it; finished steps were kept")


def audit(material: Material, folder: Path, emit: Emit) -> AuditResult:
    """Attack a bundle.

    Args:
        material: What, with what, how hard.
        folder: Private folder of the provider; work under another key is removed.
        emit: Told after each step.

    Raises:
        InterruptedRunError: A signal asked for a stop; the same call goes on.
    """
    home = _home(folder, material.key)
    compared = material.strength.compared if material.comparable else 0
    total = material.strength.generated + 2 * (compared and len(material.sample[0]) + len(material.sample[1]))
    begin = time.monotonic()
    with StopRequest() as stop:
        work = _Work(folder=home, emit=emit, total=max(1, total), stop=stop)
        near = _unpack(work.step("copies", material.strength.generated, lambda: _copies(material, work)))
        scores, best, places = _compare(material, work) if material.comparable else ({}, torch.empty(0), [])
    seconds = _spent(home, time.monotonic() - begin)
    findings = (*copy_findings(near), *attack_findings(scores, why_not=_why_not(material)))
    return AuditResult(findings=findings, neighbours=near, completions=best, completed=tuple(places), seconds=seconds)


def _why_not(material: Material) -> str:
    """Say why images of both sides were not compared, where that is known beforehand."""
    if not len(material.held):
        return _NO_HOLDOUT
    return _NONE_COMPLETED if material.comparable and not material.strength.compared else ""


def _home(folder: Path, key: str) -> Path:
    """Return the folder of this very audit; what an earlier one left is removed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = folder / key[:16]
    for old in folder.iterdir():
        if _KEY.fullmatch(old.name) and old != home:
            shutil.rmtree(old)
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _spent(home: Path, seconds: float) -> float:
    path = home / "seconds.json"
    before = float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0
    whole = before + seconds if seconds > 1 or not before else before
    path.write_text(json.dumps(whole), encoding="utf-8")
    return whole


def _copies(material: Material, work: _Work) -> dict[str, Tensor]:
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


def _compare(material: Material, work: _Work) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, list[int]]:
    """Return scores of training and held-out images by attack, and the best completions of training images."""
    sides = [
        work.step(f"scores-{name}", 0, lambda images=images: _cheap_scores(material, images))  # type: ignore[misc]
        for name, images in (("trained", material.trained), ("held", material.held))
    ]
    scores = {name: (sides[0][name], sides[1][name]) for name in sides[0]}
    if not material.strength.compared:
        return scores, torch.empty(0), []
    sought = [
        _sought(material, work, name, images) for name, images in zip(("trained", "held"), material.sample, strict=True)
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


def _sought(material: Material, work: _Work, side: str, images: ImageSet) -> dict[str, Tensor]:
    """Complete and invert a sample, a few images at a time."""
    rows: dict[str, list[Tensor]] = {"completion": [], "inversion": [], "picture": []}
    for part in chunks(len(images), COMPLETED_TOGETHER):
        found = work.step(
            f"{side}-{part[0]:05d}",
            2 * len(part),
            lambda part=part: _seek(material, images, part, side),  # type: ignore[misc]
        )
        for name, parts in rows.items():
            parts.append(found[name])
    return {name: torch.cat(parts) for name, parts in rows.items()}


def _seek(material: Material, images: ImageSet, part: list[int], side: str) -> dict[str, Tensor]:
    hidden, pictures = complete(material, images, part, side)
    whole, _ = invert(material, images, part, side)
    return {"completion": hidden, "inversion": whole, "picture": pictures}
