"""``content-client adapt``: stage 2 on this machine, in three modes (M-34)."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from content_client.cli.private_options import (
    PRIVATE,
    AcceptOption,
    AugmentationsOption,
    BatchOption,
    ClipOption,
    DeltaOption,
    EngineOption,
    EpsilonOption,
    PersonsOption,
    PhotosNumberOption,
    PrivacyOption,
    PrivateWords,
    PublicOption,
    ScheduleOption,
    StepsOption,
    TunedOption,
    UnitOption,
)
from content_client.identity import own_identity
from content_client.photos import default_photos
from modify_fl.config import PRESETS, Budget, Precision, Runtime, StylizationConfig, preset
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.errors import ConfigError
from modify_fl.launch import Launch
from modify_fl.options import (
    BudgetOption,
    BundleOption,
    DebugOption,
    DeviceOption,
    DryRunOption,
    FreshOption,
    IdentityOption,
    JsonOption,
    KeepCacheOption,
    OverwriteOption,
    PassphraseFileOption,
    PrecisionOption,
    QuietOption,
    RequireOption,
    SeedOption,
    SetOption,
    ShowConfigOption,
    TensorboardOption,
    ThreadsOption,
    VerboseOption,
)
from modify_fl.outputs import refuse_existing, require_folder
from modify_fl.overrides import override
from modify_fl.passphrase import known_passphrase
from modify_fl.ready import bundle_path, demo_advice
from protocol.encryption import Identity
from protocol.verify import inspect_bundle

if TYPE_CHECKING:
    from content_client.adaptation import Adaptation
    from content_client.private.request import PrivateRequest
    from modify_fl.training.estimate import RunEstimate

__all__ = ["adapt", "recipe_of", "split_changes"]

_Mode = Literal["offline", "online", "test-time"]
_SECTION = "stylization."


def adapt(
    bundle: BundleOption,
    photos: Annotated[
        str | None,
        typer.Option(
            "--photos", metavar="DIR", help="Folder, ZIP file or demo.", show_default="$MODIFY_PHOTOS or ./photos"
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="offline: shuffled; online: in order; test-time: one photo each."),
    ] = "offline",
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Photos are aligned faces already: take the central square.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Adapter; a folder in test-time mode.", show_default="PHOTOS.mdfa"),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write each photo's picture after its step, in online mode."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep each photo's adapter too, in test-time mode.")] = False,
    budget: BudgetOption = None,
    seed: SeedOption = 0,
    subset: Annotated[
        str | None, typer.Option("--subset", metavar="PART", help="heads, lora or all.", show_default="preset")
    ] = None,
    privacy: PrivacyOption = "none",
    epsilon: EpsilonOption = None,
    delta: DeltaOption = None,
    n_public: PhotosNumberOption = None,
    batch: BatchOption = None,
    steps: StepsOption = None,
    dp_schedule: ScheduleOption = "default",
    clip: ClipOption = None,
    unit: UnitOption = None,
    persons: PersonsOption = None,
    augmentations: AugmentationsOption = 1,
    engine: EngineOption = "micro",
    public: PublicOption = None,
    tuned_on: TunedOption = None,
    accept: AcceptOption = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    require: RequireOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    settings: SetOption = None,
    show_config: ShowConfigOption = False,
    fresh: FreshOption = False,
    keep_cache: KeepCacheOption = False,
    tensorboard: TensorboardOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> int:
    """Adapt the encoder of a style to your photos.

    Of every photo the largest face is found and aligned; photos without a face are left out and named.
    The modes offline and online write an adapter (.mdfa), signed by a key that
    is made for this machine at first use. Test-time mode writes one picture per
    photo and forgets what it learnt, unless told to keep it.
    An adapter stays on this machine, unless it was made with --privacy dp under
    the budget of its photos: see content-client privacy.
    """
    launch = Launch.from_environment()
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug).for_rank(leads=launch.leads)
    console = Console("content-client", "adapt", verbosity)
    words = PrivateWords(
        privacy=privacy, epsilon=epsilon, delta=delta, n_public=n_public, batch=batch, steps=steps,
        schedule=dp_schedule, clip=clip, unit=unit, persons=persons, augmentations=augmentations, engine=engine,
        public=public, accept=accept, tuned_on=tuned_on,
    )  # fmt: skip

    def action() -> Mapping[str, object]:
        if launch.size > 1 and mode != "offline":
            raise ConfigError(f"the mode {mode} is one process", fix="use --mode offline, or start without torchrun")
        style_file, chosen = bundle_path(bundle), _mode(mode, keep=keep, budget=budget, pictures=pictures)
        private = words.wanted(mode=chosen, tensorboard=tensorboard)
        part = subset or ("lora" if private else None)  # P-51
        changes, recipe = split_changes([*(settings or []), *([f"subset={part}"] if part else [])], private=private)
        own = own_identity(identity, passphrase_file, console.ask_secret)
        config = recipe_of(style_file, own, changes)
        if show_config:
            console.say(json.dumps(dataclasses.asdict(config), indent=1))
            return {"config": dataclasses.asdict(config)}
        runtime = Runtime(device=device, threads=threads, precision=cast("Precision", precision))
        length = Budget.parse(budget) if budget else None
        request = words.request(changes=recipe, budget=length, align=not no_align) if private else None
        source = photos or str(default_photos())
        target = out or _default_out(source, chosen)
        if chosen != "test-time":
            refuse_existing([target], overwrite=overwrite)
        require_folder(target if chosen == "test-time" else target.parent)

        from content_client.adaptation import Adaptation, adapt_encoder, adapt_photos, load, measure

        with demo_advice(style_file):
            style, images = load(style_file, source, console, identity=own, record=not dry_run, align=not no_align)
        task = Adaptation(
            style=style, bundle=style_file, photos=images, config=config, seed=seed, runtime=runtime, require=require,
            out=target, overwrite=overwrite,
            ask=lambda question: known_passphrase(passphrase_file) or console.ask_secret(question),
            tensorboard=tensorboard, keep_cache=keep_cache,
        )  # fmt: skip
        if request is not None:
            return _adapt_privately(console, task, request, Path(source), fresh=fresh, dry_run=dry_run)
        if dry_run:
            return _plan(console, task, measure(task, chosen, length), chosen, length)
        if chosen == "test-time":
            return adapt_photos(task, keep=keep, console=console)
        return adapt_encoder(task, chosen, budget=length, fresh=fresh, pictures=pictures, console=console)

    return run_command(console, action)


def split_changes(changes: list[str], *, private: bool) -> tuple[list[str], list[str]]:
    """Part changes of the recipe with privacy from all others."""
    recipe = [change for change in changes if change.startswith(PRIVATE)]
    if recipe and not private:
        raise ConfigError(f"{recipe[0]} belongs to training with privacy", fix="add --privacy dp")
    return [change for change in changes if change not in recipe], recipe


def _adapt_privately(
    console: Console, task: "Adaptation", request: "PrivateRequest", source: Path, *, fresh: bool, dry_run: bool
) -> Mapping[str, object]:
    from content_client.private.adaptation import adapt_privately, plan_privately

    if dry_run:
        return plan_privately(task, request, source=source, console=console)
    return adapt_privately(task, request, source=source, fresh=fresh, console=console)


def _mode(text: str, *, keep: bool, budget: str | None, pictures: Path | None) -> _Mode:
    if text not in get_args(_Mode):
        raise ConfigError(f"no mode is called {text}", fix=f"use one of {', '.join(get_args(_Mode))}")
    if keep and text != "test-time":
        raise ConfigError("--keep belongs to test-time mode", fix="leave it out: the other modes always keep")
    if pictures and text != "online":
        raise ConfigError("--pictures belongs to online mode", fix="use content-client stylize with the adapter")
    if budget and text == "test-time":
        raise ConfigError("test-time mode takes a fixed number of steps (M-34)", fix="leave out --budget")
    return cast("_Mode", text)


def recipe_of(bundle: Path, identity: Identity | None, changes: list[str]) -> StylizationConfig:
    """Return the recipe of the preset that the bundle was made with, changed as asked.

    The name of a preset decides nothing about trust, so it may be read before
    the file is verified; an unknown one gives the default preset.
    """
    name = inspect_bundle(bundle, identity=identity).manifest.provenance.training.preset
    chosen = preset(name if name in PRESETS else next(iter(PRESETS)))
    named = [change if change.startswith(_SECTION) else _SECTION + change for change in changes]
    return override(chosen, named).stylization


def _default_out(source: str, mode: _Mode) -> Path:
    stem = Path(source).resolve().name.removesuffix(".zip")
    return Path(f"{stem}-stylized" if mode == "test-time" else f"{stem}.mdfa")


def _plan(
    console: Console, task: "Adaptation", taken: "RunEstimate", mode: _Mode, budget: Budget | None
) -> Mapping[str, object]:
    """Say what would be done, as measured with a few steps (U-34, M-30)."""
    config, photos = task.config, len(task.photos)
    steps = {"offline": config.steps, "online": config.online_steps, "test-time": config.test_time_steps}[mode]
    length = str(budget) if budget else f"{steps} steps{' for each photo' if mode == 'test-time' else ''}"
    console.say(f"would adapt to {photos} photos in {mode} mode for {length} and write {task.out}")
    console.say(f"measured: {taken}")
    console.say("nothing leaves this machine; no privacy budget is spent")
    return {
        "photos": photos, "mode": mode, "length": length, "out": task.out, "images_seen": taken.images,
        "steps": taken.steps, "seconds": taken.seconds, "memory": taken.host_bytes,
        "device_memory": taken.device_bytes, "compute": taken.compute,
    }  # fmt: skip
