"""What a provider lets out, and what not: limits per class of the data, and the verdict (P-71, P-79, P-80).

Limits can be changed in ``config.toml`` of the configuration folder::

    [package.leakage]
    "copy rate" = { warn = 0.02, confidential = 0.05, licensed = 0.10 }

A limit that is looser than the one here is printed in the card.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from modify_fl.datasets import StyleData
from modify_fl.errors import ConfigError, ModifyError
from protocol.storage import read_file
from protocol.trust import config_folder
from style_provider.leakage.findings import (
    COMPLETION,
    COPY_RATE,
    EXTRACTED,
    HEADLINES,
    MEMBERSHIP,
    MEMBERSHIP_TPR,
    RATED,
    THREE_SAMPLE,
    Finding,
)

__all__ = ["CONFIG", "LIMITS", "MITIGATIONS", "LeakageError", "Limit", "Verdict", "judge", "loosened", "read_limits"]

CONFIG = "config.toml"
"""Name of the file with the provider's own limits."""

_LONGEST = 1 << 20
_NEVER = float("inf")

MITIGATIONS = (
    "leave the critic out (--critic no)",
    "stop on the held-out gap (--set encapsulation.stop_gap=1.2) or earlier (--budget)",
    "train on one image of each work (--near-duplicates remove)",
    "shift and zoom a little (--set encapsulation.jitter=0.04)",
    "smaller networks (--set channel_base=1024)",
    "more images",
)
"""What a provider can do, in the order to try (P-82)."""
_LONGER = ("measure for longer (--audit standard)", "hold out more images (--holdout)")
_UNKNOWN = " was not measured"
_LESS: Mapping[StyleData, str] = {"confidential": "licensed or public", "licensed": "public", "public": "public"}


class LeakageError(ModifyError):
    """The audit found more than the provider's limits allow (P-80)."""

    code = "E_LEAKAGE"
    exit_code = 11
    hint = 'try the mitigations in their order, or add --accept-leakage "REASON"'


@dataclass(frozen=True, kw_only=True)
class Limit:
    """From where on a figure is warned of, or refused."""

    warn: float
    """Above it a bundle of any class carries a warning."""
    confidential: float
    """Above it a bundle of confidential images is refused."""
    licensed: float
    """The same for licensed images; images that are public are never refused."""


LIMITS: Mapping[str, Limit] = {
    COPY_RATE: Limit(warn=0.02, confidential=0.05, licensed=0.10),
    THREE_SAMPLE: Limit(warn=0.60, confidential=0.70, licensed=0.80),
    EXTRACTED: Limit(warn=0, confidential=0, licensed=4),
    COMPLETION: Limit(warn=0.60, confidential=0.75, licensed=0.90),
    MEMBERSHIP: Limit(warn=0.60, confidential=0.75, licensed=0.95),
    MEMBERSHIP_TPR: Limit(warn=0.05, confidential=0.20, licensed=_NEVER),
}
"""The limits of P-79."""


def read_limits(folder: Path | None = None) -> Mapping[str, Limit]:
    """Return the limits in force: those of P-79 with the provider's changes.

    Args:
        folder: Where ``config.toml`` may be; the configuration folder when omitted.

    Raises:
        ConfigError: The file cannot be read, or names a figure or class that does not exist.
    """
    path = (folder or config_folder()) / CONFIG
    if not path.is_file():
        return LIMITS
    try:
        table = tomllib.loads(read_file(path, limit=_LONGEST).decode("utf-8"))
        changes = table.get("package", {}).get("leakage", {})
        return {**LIMITS, **{name: _changed(path, name, change) for name, change in changes.items()}}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"cannot read {path}", why=str(error), fix="see docs/leakage.md for its form") from error


def _changed(path: Path, name: str, change: object) -> Limit:
    classes = {item.name for item in fields(Limit)}
    if name not in LIMITS:
        raise ConfigError(f"{path} limits {name!r}, which is no figure", fix=f"use one of {', '.join(HEADLINES)}")
    if not isinstance(change, dict) or not change.keys() <= classes:
        raise ConfigError(f"{path}: the limits of {name!r} cannot be read", fix=f"give {', '.join(sorted(classes))}")
    if not all(type(value) in {int, float} and value >= 0 for value in change.values()):
        raise ConfigError(f"{path}: a limit of {name!r} is not a number from 0")
    return replace(LIMITS[name], **{key: float(value) for key, value in change.items()})


def loosened(limits: Mapping[str, Limit], style_data: StyleData) -> tuple[str, ...]:
    """Say which limits let more through than those of P-79, for the card (P-80)."""
    kinds = {"warn": "warned of"} | ({} if style_data == "public" else {style_data: "refused"})
    return tuple(
        f"{name}: {words} above {_number(getattr(limit, kind))} instead of {_number(getattr(LIMITS[name], kind))}"
        for name, limit in limits.items()
        for kind, words in kinds.items()
        if getattr(limit, kind) > getattr(LIMITS[name], kind)
    )


def _number(value: float) -> str:
    return "never" if value == _NEVER else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the limits say of an audit."""

    status: Literal["passed", "warned", "refused"]
    """Public images are never refused."""
    refusals: tuple[str, ...] = ()
    """Figure and limit, one sentence each."""
    warnings: tuple[str, ...] = ()
    """Figure and limit of those that are only warned of."""
    style_data: StyleData = "confidential"
    """The class that decides."""

    def require(self, *, critic: bool) -> None:
        """Refuse to hand out what is above the limits (P-80).

        Args:
            critic: Whether Dis is in the bundle, and could be left out.

        Raises:
            LeakageError: Names figures, limits, the class and what to do, in order.
        """
        if self.status != "refused":
            return
        unknown, above = (
            tuple(sentence for sentence in self.refusals if (_UNKNOWN in sentence) == kind) for kind in (True, False)
        )
        tries = [*(_LONGER if unknown else ()), *(MITIGATIONS[not critic :] if above else ())]
        tries.append(f"say so if they are {_LESS[self.style_data]} (--style-data)")
        what = (
            "this bundle gives away more of its style images than their class allows" if above
            else "what this bundle gives away of its style images is not known, and their class asks for that"
        )  # fmt: skip
        found = [*above, *([f"not measured: {', '.join(s.replace(_UNKNOWN, '') for s in unknown)}"] if unknown else [])]
        raise LeakageError(
            what, why=f"{'; '.join(found)}; the images count as {self.style_data}",
            fix="\n".join(["try in this order:", *(f"{place}. {words}" for place, words in enumerate(tries, 1)),
                           'or package it as it is with --accept-leakage "REASON", which enters the signed card']),
        )  # fmt: skip


def judge(
    findings: Sequence[Finding], style_data: StyleData, limits: Mapping[str, Limit] = LIMITS, *, held_out: int = RATED
) -> Verdict:  # fmt: skip
    """Compare the figures with the limits (P-79).

    Args:
        findings: Of an audit; a headline that is not among them was not measured.
        style_data: Class of the images.
        limits: In force.
        held_out: How many images were compared with those of the training; of fewer than ``RATED`` no rate is asked.
    """
    known = {finding.name: finding for finding in findings}
    refusals: list[str] = []
    warnings: list[str] = []
    for name in HEADLINES:
        found, limit = known.get(name), limits[name]
        if found is None or not found.measured:
            if name == MEMBERSHIP_TPR and held_out < RATED:
                continue  # so small a rate cannot be measured; the AUC is asked for all the same
            sentence = f"{name}{_UNKNOWN}" + (" (too weak to tell)" if found and found.weak else "")
            (refusals if style_data == "confidential" else warnings).append(sentence)
            continue
        value = found.value or 0.0
        if found.chance is not None and value <= found.chance:
            continue
        most = _NEVER if style_data == "public" else getattr(limit, style_data)
        if value > most:
            refusals.append(f"{name} {found.text()} is above {most:g}")
        elif value > limit.warn:
            warnings.append(f"{name} {found.text()} is above {limit.warn:g}")
    status: Literal["passed", "warned", "refused"] = "refused" if refusals else "warned" if warnings else "passed"
    return Verdict(status=status, refusals=tuple(refusals), warnings=tuple(warnings), style_data=style_data)
