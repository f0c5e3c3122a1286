"""``style-provider reproduce``: the comparisons of the paper on your own pictures (M-45, M-47)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from modify_fl.config import Budget, Precision, Preset, Runtime, preset
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.options import (
    DebugOption,
    DryRunOption,
    FreshOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    RequireOption,
    SeedOption,
    SetOption,
    ThreadsOption,
    VerboseOption,
)
from modify_fl.overrides import override
from style_provider.starts import Origin, choose_start

if TYPE_CHECKING:
    from style_provider.reproduction.task import Experiment, Material, Reproduction

__all__ = ["Request", "reproduce", "run_reproduction"]

_NAMES = ("table1", "swap", "xi", "modes")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was typed."""

    name: str
    """``table1``, ``swap``, ``xi`` or ``modes``."""
    dataset: str
    """Style images to train on."""
    reference: str
    """Style images that nothing is trained on."""
    photos: str
    """Photos to adapt to."""
    held_out: str
    """Photos that nothing is trained on."""
    out: Path
    """Folder of all results."""
    preset: str = "quick-64"
    """Sizes and recipes."""
    settings: tuple[str, ...] = ()
    """Changes of the preset."""
    budget: str = "10m"
    """Length of stage 1."""
    adapt_budget: str = "3m"
    """Length of stage 2."""
    seeds: int = 3
    """Trainings of everything."""
    seed: int = 0
    """The first training seed."""
    styles: int = 10
    """Styles for each photo."""
    init: str | None = None
    """Where stage 1 starts."""
    limit: int | None = None
    """Measure on the first so many photos only."""
    threads: int | None = None
    """Compute threads."""
    precision: str = "auto"
    """``auto``, ``fp32`` or ``bf16``."""
    require: bool = False
    """Whether missing networks are an error."""
    fresh: bool = False
    """Whether to throw away what the folder holds."""
    dry_run: bool = False
    """Whether to say only what would be done."""


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="D", help="Style images to train on.")],
    reference: Annotated[
        str, typer.Option("--reference", metavar="D", help="Style images that nothing is trained on.")
    ],
    photos: Annotated[str, typer.Option("--photos", metavar="DIR", help="Aligned photos to adapt to.")],
    held_out: Annotated[
        str, typer.Option("--held-out", metavar="DIR", help="Aligned photos that nothing is trained on.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where trainings and results go.")],
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="quick-64, quick-128, good-128, gpu-256 or paper-1024.")
    ] = "quick-64",
    budget: Annotated[str, typer.Option("--budget", metavar="LENGTH", help="Length of stage 1.")] = "10m",
    adapt_budget: Annotated[str, typer.Option("--adapt-budget", metavar="LENGTH", help="Length of stage 2.")] = "3m",
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, max=100, help="Trainings of each kind.")] = 3,
    seed: SeedOption = 0,
    styles: Annotated[int, typer.Option("--styles", metavar="N", min=2, max=1000, help="Styles per photo.")] = 10,
    init: Annotated[
        str | None,
        typer.Option(
            "--init", metavar="START", help="Start stage 1 from base, none, or a file.",
            show_default="the base that fits, or none",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=2, help="Measure on N photos.", show_default="all")
    ] = None,
    require: RequireOption = False,
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    settings: SetOption = None,
    fresh: FreshOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:  # fmt: skip
    """Do a comparison of the paper again and say whether its direction holds.

    NAME is table1 (the style beside raw photos, colour transfer, unpaired pSp
    and StarGAN v2), swap (phase B with and without L_swap), xi (cuts between
    content and style) or modes (ways to adapt). Trains, measures, and writes
    NAME.json, NAME.md and NAME.png into --out. Stopped, the same command goes
    on; in one folder the comparisons share their trainings.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    console = Console("style-provider", "reproduce", verbosity)
    request = Request(
        name=name, dataset=dataset, reference=reference, photos=photos, held_out=held_out, out=out, preset=preset_name,
        settings=tuple(settings or ()), budget=budget, adapt_budget=adapt_budget, seeds=seeds, seed=seed, styles=styles,
        init=init, limit=limit, threads=threads, precision=precision, require=require, fresh=fresh, dry_run=dry_run,
    )  # fmt: skip
    return run_command(console, lambda: run_reproduction(console, request))


def run_reproduction(console: Console, request: Request) -> Mapping[str, object]:
    """Carry out a request and print what came out; the result of the command.

    Raises:
        Error: As ``style_provider.reproduction.reproduce``, and where the request cannot be read.
    """
    if request.name not in _NAMES:
        raise ConfigError(f"there is no comparison called {request.name}", fix=f"use one of {', '.join(_NAMES)}")
    if request.precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, got {request.precision}")
    origin, chosen = choose_start(request.init, override(preset(request.preset), request.settings))
    lengths = Budget.parse(request.budget), Budget.parse(request.adapt_budget)
    if origin.note:
        console.note(origin.note)
    from style_provider.reproduction.report import as_result, markdown, protocol_line

    task = _task(console, request, origin=origin, chosen=chosen, lengths=lengths)
    if request.dry_run:
        task.material.check()
        console.say(f"would do {request.name} with {protocol_line(task)}")
        console.say(f"stage 1 for {lengths[0]}, stage 2 for {lengths[1]}; nothing is sent")
        return {"name": request.name, "out": request.out, "seeds": list(task.seeds)}
    from style_provider.reproduction.run import reproduce as carry_out

    for why in task.instruments.missing.values():
        console.warn(f"not available: {why}")
    name = cast("Experiment", request.name)
    outcome = carry_out([name], task, fresh=request.fresh)[name]
    console.say(markdown(outcome, task))
    console.say(f"wrote {name}.json, {name}.md and {name}.png into {request.out}; they stay with you")
    result = as_result(outcome, task, {})
    return {"rows": result["rows"], "directions": result["directions"], "out": request.out}


def _task(
    console: Console, request: Request, *, origin: Origin, chosen: Preset, lengths: tuple[Budget, Budget]
) -> "Reproduction":
    from modify_fl.metrics.instruments import Instruments
    from modify_fl.perceptual import PerceptualNets
    from modify_fl.training.runtime import resolve
    from style_provider.reproduction.task import Reproduction

    # Whatever is measured is measured on the CPU, and what is trained is small.
    runtime = Runtime(device="cpu", threads=request.threads, precision=cast("Precision", request.precision))
    resolve(runtime, bf16=False)
    nets = PerceptualNets.find(require=request.require)
    return Reproduction(
        material=_material(console, request, chosen.network.resolution), preset=chosen, origin=origin,
        budget=lengths[0], adapt_budget=lengths[1], seeds=tuple(range(request.seed, request.seed + request.seeds)),
        styles=tuple(range(request.styles)), runtime=runtime, folder=request.out, nets=nets,
        instruments=Instruments.find(trained_identity=nets.identity.name, require=request.require), console=console,
    )  # fmt: skip


def _material(console: Console, request: Request, side: int) -> "Material":
    from modify_fl.data import load_images
    from style_provider.encapsulation import load_styles
    from style_provider.reproduction.task import Material

    photos, held_out = (
        load_images(source, resolution=side, look="photo", limit=limit)
        for source, limit in ((request.photos, None), (request.held_out, request.limit))
    )
    for images in (photos, held_out):
        if images.skipped:  # photos are not named where they need not be
            console.warn(f"{len(images.skipped)} photos left out: {images.skipped[0][1]}")
    return Material(
        styles=load_styles(request.dataset, None, side, None, console),
        reference=load_styles(request.reference, None, side, None, console), photos=photos, held_out=held_out,
    )  # fmt: skip
