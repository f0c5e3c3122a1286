"""How hard the attacks try within a time, and what each part of them takes (P-74, P-76)."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from modify_fl.config import Budget
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from style_provider.leakage.copies import drawn, pictures_compared
from style_provider.leakage.inversion import seek_codes, seeking_steps
from style_provider.leakage.material import Material, Strength

__all__ = ["Plan", "planned"]

_PROBED = 6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An audit as it will be made; costs are in drawn pictures, measured here."""

    material: Material
    """What is attacked, and how hard."""
    codes: int
    """What it costs to complete and invert one image."""
    least: float = 0.0
    """Time of what any audit does with all images, however little it draws and completes, in seconds."""

    @property
    def cost(self) -> int:
        """Cost of all attacks."""
        return self.fixed_cost + self.elastic_cost

    @property
    def fixed_cost(self) -> int:
        """Cost of what is done with every image: no budget makes it less."""
        material = self.material
        images = pictures_compared(material) - material.strength.generated
        if not material.comparable:
            return images
        return images + self.scoring_cost(material.members) + self.scoring_cost(material.held)

    @property
    def elastic_cost(self) -> int:
        """Cost of drawn, completed and inverted pictures: what a budget makes less."""
        material = self.material
        completed = sum(map(len, material.sample)) if material.comparable else 0
        return material.strength.generated + self.codes * completed

    def scoring_cost(self, images: ImageSet) -> int:
        """Return what one pass over images costs: by the bundle's networks, and by the reference."""
        return len(images) * (1 if self.material.reference is None else 2)


def planned(material: Material, budget: Budget | None, folder: Path) -> Plan:
    """Fit the attacks into about a time, by a probe of real steps; without one they have their standard form.

    The plan is kept, so that the same call goes on with it.

    Args:
        material: What is attacked.
        budget: A time.
        folder: Private folder of the provider.

    Raises:
        ConfigError: The budget is no time.
    """
    if budget is not None and budget.kind != "seconds":
        raise ConfigError("the budget of an audit is a time", got=str(budget), fix="write it like 5m")
    path = folder / ("standard.json" if budget is None else "plan.json")
    question = {"key": material.key, "budget": None if budget is None else str(budget)}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not question.items() <= known.items():
        plan = _fitted(material, budget)
        known = {**question, "strength": asdict(plan.material.strength), "codes": plan.codes, "least": plan.least}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps(known), encoding="utf-8")
    strength = Strength(**known["strength"])
    return Plan(material=replace(material, strength=strength), codes=known["codes"], least=known["least"])


def _fitted(material: Material, budget: Budget | None) -> Plan:
    """Return the plan that takes about a time: what is done with every image stays, the rest shrinks."""
    picture = max(_picture_seconds(material), 1e-6)
    codes = round(_codes_seconds(material) / picture) if material.comparable else 0
    whole = Plan(material=material, codes=codes)
    least = picture * whole.fixed_cost
    share = 1.0 if budget is None else max(0.0, budget.amount - least) / (picture * whole.elastic_cost)
    strength = material.strength
    if share < 1:  # a share of the images that are there
        there = max(map(len, material.sample))
        strength = replace(strength, compared=min(strength.compared, there)).scaled(share)
    return Plan(material=replace(material, strength=strength), codes=codes, least=least)


def _picture_seconds(material: Material) -> float:
    """Return what drawing a picture and embedding it takes."""
    part = list(range(min(_PROBED, len(material.trained))))
    material.spaces.embed(drawn(material, part))  # what is done once for all is not counted
    begin = time.monotonic()
    material.spaces.embed(drawn(material, part))
    return (time.monotonic() - begin) / len(part)


def _codes_seconds(material: Material) -> float:
    """Return what completing and inverting an image takes, from a few steps of two."""
    short = replace(material, strength=replace(material.strength, first_steps=2, last_steps=2))
    begin = time.monotonic()
    seek_codes(short, material.trained, [0, 1], "probe")
    seconds = (time.monotonic() - begin) / 2
    return seconds / seeking_steps(short.strength) * seeking_steps(material.strength)
