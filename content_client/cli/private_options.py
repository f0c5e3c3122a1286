"""Options of ``adapt --privacy dp``, and the request that they make (P-7: every number is the user's own)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from modify_fl.config import Budget
from modify_fl.errors import ConfigError
from modify_fl.overrides import override_part
from modify_fl.privacy.recipe import DP_SCHEDULES, PrivateConfig
from modify_fl.privacy.settings import NOT_STATED, Engine, Unit

if TYPE_CHECKING:
    from content_client.private.request import PrivateRequest

__all__ = [
    "PRIVATE",
    "AcceptOption",
    "AugmentationsOption",
    "BatchOption",
    "ClipOption",
    "DeltaOption",
    "EngineOption",
    "EpsilonOption",
    "PersonsOption",
    "PhotosNumberOption",
    "PrivacyOption",
    "PrivateWords",
    "PublicOption",
    "ScheduleOption",
    "StepsOption",
    "TunedOption",
    "UnitOption",
]

_LINE = 200

PRIVATE = "private."
"""Section of ``--set`` for the recipe of training with privacy."""

PrivacyOption = Annotated[
    str,
    typer.Option(
        "--privacy", metavar="KIND",
        help="none: the adapter stays on this machine; dp: differential privacy, under the budget of the photos.",
    ),
]  # fmt: skip
EpsilonOption = Annotated[
    float | None,
    typer.Option("--epsilon", metavar="E", help="dp: what this run may spend.", show_default="all that is left"),
]
DeltaOption = Annotated[
    float | None, typer.Option("--delta", metavar="D", help="dp: of the claim.", show_default="the vault's")
]
PhotosNumberOption = Annotated[
    int | None,
    typer.Option("--n-public", metavar="N", min=1, help="dp: number of photos (or persons), rounded: it is public."),
]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch", metavar="B", min=1, help="dp: expected photos per step.", show_default="schedule"),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", metavar="T", min=1, help="dp: length of the run.", show_default="schedule")
]
ScheduleOption = Annotated[
    str, typer.Option("--dp-schedule", metavar="NAME", help=f"dp: batch and steps: {' or '.join(DP_SCHEDULES)}.")
]
ClipOption = Annotated[
    float | None,
    typer.Option(
        "--clip", metavar="C", help="dp: bound on one gradient; never choose it by looking at the photos.",
        show_default="from the public faces, else 1",
    ),
]  # fmt: skip
UnitOption = Annotated[
    str | None,
    typer.Option("--unit", metavar="UNIT", help="dp: image, or person (a sub-folder).", show_default="the vault's"),
]
PersonsOption = Annotated[
    Path | None,
    typer.Option("--persons", metavar="FILE", help="dp: JSON that names the person on each photo, by path."),
]
AugmentationsOption = Annotated[
    int, typer.Option("--augmentations", metavar="K", min=1, help="dp: views of a photo, averaged before clipping.")
]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="dp: micro or opacus; the same result at another pace.")
]
PublicOption = Annotated[
    str | None,
    typer.Option("--public", metavar="DIR", help="dp: public faces to adapt to first, for --budget; costs nothing."),
]
TunedOption = Annotated[
    str | None,
    typer.Option(
        "--tuned-on", metavar="TEXT", show_default=NOT_STATED,
        help="dp: what was chosen by looking at private photos; type nothing only if that is true. It is signed.",
    ),
]  # fmt: skip
AcceptOption = Annotated[bool, typer.Option("--accept-low-utility", help="dp: go on where noise drowns the signal.")]


@dataclass(frozen=True, kw_only=True)
class PrivateWords:
    """The options as they were typed."""

    privacy: str
    epsilon: float | None
    delta: float | None
    n_public: int | None
    batch: int | None
    steps: int | None
    schedule: str
    clip: float | None
    unit: str | None
    persons: Path | None
    augmentations: int
    engine: str
    public: str | None
    accept: bool
    tuned_on: str | None = None

    def wanted(self, *, mode: str, tensorboard: Path | None) -> bool:
        """Return whether differential privacy was asked for.

        Raises:
            ConfigError: The kind is not known, an option does not belong to it, or
                it does not go with the mode.
        """
        if self.privacy not in {"none", "dp"}:
            raise ConfigError(f"no privacy is called {self.privacy}", fix="use --privacy none or --privacy dp")
        if self.privacy == "none":
            self._require_nothing()
            return False
        if mode == "test-time":
            raise ConfigError(
                "test-time mode takes no privacy",
                why="its weights are made of one photo and never leave (P-50)", fix="use --privacy none",
            )  # fmt: skip
        if mode == "online":
            raise ConfigError(
                "online mode cannot be private yet",
                why="a stream has another mechanism, without amplification by sampling (P-49)",
                fix="use --mode offline",
            )
        if tensorboard is not None:
            raise ConfigError(
                "training with privacy has no curves", why="figures of private photos are not computed (P-28)",
                fix="leave out --tensorboard",
            )  # fmt: skip
        return True

    def _require_nothing(self) -> None:
        typed: dict[str, object] = {
            "--epsilon": self.epsilon, "--delta": self.delta, "--n-public": self.n_public, "--batch": self.batch,
            "--steps": self.steps, "--clip": self.clip, "--unit": self.unit, "--persons": self.persons,
            "--public": self.public, "--tuned-on": self.tuned_on, "--accept-low-utility": self.accept or None,
            "--augmentations": self.augmentations if self.augmentations != 1 else None,
        }  # fmt: skip
        for name, value in typed.items():
            if value is not None:
                raise ConfigError(f"{name} belongs to training with privacy", fix="add --privacy dp")

    def _require_numbers(self) -> None:
        """Refuse a 0, which would read as "not given", and what is no number."""
        for name, value in (("--epsilon", self.epsilon), ("--delta", self.delta), ("--clip", self.clip)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(
                    f"{name} must be a number above 0, got {value:g}", fix=f"leave {name} out for its default"
                )

    def request(self, *, changes: list[str], budget: Budget | None, align: bool) -> "PrivateRequest":
        """Return what is asked for, checked.

        Args:
            changes: Texts of ``--set`` that begin with ``private.``.
            budget: Length of the adaptation to public faces.
            align: Whether public pictures are aligned as the photos are.

        Raises:
            ConfigError: A number is missing or makes no sense, or a choice is unsound.
        """
        from content_client.private.request import PrivateRequest

        if self.n_public is None:
            raise ConfigError(
                "training with privacy needs the number of photos, rounded",
                why="it is public and fixes the sampling rate; the true number is not read, or it would leak (P-12)",
                fix="add --n-public N",
            )
        if budget is not None and self.public is None:
            raise ConfigError(
                "the length of training with privacy is --steps", why="it is fixed in advance (P-27)",
                fix="leave out --budget, which is the length of adaptation to --public faces",
            )  # fmt: skip
        self._require_numbers()
        if self.schedule not in DP_SCHEDULES:
            raise ConfigError(f"no schedule is called {self.schedule}", fix=f"use {' or '.join(DP_SCHEDULES)}")
        if self.unit is not None and self.unit not in get_args(Unit):
            raise ConfigError(f"no unit is called {self.unit}", fix="use image or person (P-9, P-11)")
        if self.engine not in get_args(Engine):
            raise ConfigError(f"no engine is called {self.engine}", fix=f"use {' or '.join(get_args(Engine))}")
        if self.tuned_on is not None:
            _require_sayable(self.tuned_on)
        schedule = DP_SCHEDULES[self.schedule]
        return PrivateRequest(
            epsilon=self.epsilon, delta=self.delta, n_public=self.n_public, batch=self.batch or schedule.batch,
            steps=self.steps or schedule.steps, clip=self.clip,
            unit=cast("Unit | None", self.unit), persons=self.persons,
            augmentations=self.augmentations, engine=cast("Engine", self.engine),
            recipe=override_part(PrivateConfig(), [change.removeprefix(PRIVATE) for change in changes]),
            public=self.public, public_budget=budget, align=align, accept_low_utility=self.accept,
            tuned_on_private=NOT_STATED if self.tuned_on is None else self.tuned_on,
        )  # fmt: skip


def _require_sayable(text: str) -> None:
    """Refuse what a signed statement cannot say.

    Raises:
        ConfigError: It is no line of text.
        PolicyError: E_LINT, it holds a private detail.
    """
    from protocol.lint import lint_texts

    if not (text.strip() and text.isprintable() and len(text) <= _LINE):
        raise ConfigError(
            "the text of --tuned-on is no line of text", expected=f"1 to {_LINE} printable characters",
            got=f"{len(text)} characters", fix='say it in one line, such as "clip and steps"',
        )  # fmt: skip
    lint_texts({"--tuned-on": text})
