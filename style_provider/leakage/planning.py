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

    @property
    def cost(self) -> int:
        """Cost of all attacks."""
        material, copying = self.material, pictures_compared(self.material)
        if not material.comparable:
            return copying
        scoring = self.scoring_cost(material.trained) + self.scoring_cost(material.held)
        return copying + scoring + self.codes * sum(map(len, material.sample))

    def scoring_cost(self, images: ImageSet) -> int:
        """Return what one pass over images costs: by the bundle's networks, and by the reference."""
        return len(images) * (1 if self.material.reference is None else 2)


def planned(material: Material, budget: Budget | None, folder: Path) -> Plan:
    """Fit the attacks into a time, by a probe of real steps; without one they have their standard form.

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
        strength, codes = _fitted(material, budget)
        known = {**question, "strength": asdict(strength), "codes": codes}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps(known), encoding="utf-8")
    return Plan(material=replace(material, strength=Strength(**known["strength"])), codes=known["codes"])


def _fitted(material: Material, budget: Budget | None) -> tuple[Strength, int]:
    """Return how hard the attacks try within a time, and the cost of the codes of one image."""
    picture = _picture_seconds(material)
    codes = round(_codes_seconds(material) / max(picture, 1e-6)) if material.comparable else 0
    whole = picture * Plan(material=material, codes=codes).cost
    share = 1.0 if budget is None else budget.amount / max(whole, 1e-6)
    return material.strength.scaled(share), codes


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
