"""``style-provider package``: train, sign, pack and verify in one command (U-30)."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from modify_fl.config import Budget, Precision, Preset, Runtime, preset
from modify_fl.console import Console, Verbosity, run_command
from modify_fl.datasets import DATASETS, open_pictures
from modify_fl.errors import ConfigError
from modify_fl.launch import Launch
from modify_fl.options import (
    BudgetOption,
    DebugOption,
    DeviceOption,
    DryRunOption,
    FreshOption,
    JsonOption,
    KeepCacheOption,
    OverwriteOption,
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
from modify_fl.progress import duration
from modify_fl.recipes import require_choice
from protocol.lint import lint_texts
from protocol.manifest import Usage
from protocol.verify import Verification
from style_provider.cli.audit import style_class
from style_provider.keys import check_current, find_key, load_pair
from style_provider.leakage.wish import AuditWish
from style_provider.releases import check_life, check_texts, read_earlier, read_recipients, release_date
from style_provider.starts import Origin, choose_start

if TYPE_CHECKING:
    from modify_fl.training.estimate import RunEstimate
    from style_provider.encapsulation import Packaging

__all__ = ["package"]

_NO_DESCRIPTION = "no description given"
_NO_LICENCE = "all rights reserved"
_FIRST = "1.0.0"
_OFTEN = (
    "the images count as confidential: a style made from a few hundred of them often gives away more than the limits "
    "allow, and is then not written (--style-data, docs/leakage.md)"
)


def package(
    dataset: Annotated[str, typer.Option("--dataset", metavar="D", help="Folder, ZIP file or named data set.")],
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Folder of the named data set.", show_default="$MODIFY_DATA"),
    ] = None,
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="quick-64, quick-128, good-128, gpu-256 or paper-1024.")
    ] = "quick-64",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Your private key.", show_default="the newest of the key folder"),
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The bundle.", show_default="DATASET.mdfy")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Name of the style.", show_default="the data set")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option("--description", metavar="TEXT", help="How the style looks.", show_default=_NO_DESCRIPTION),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="TEXT", help="Licence of the weights.", show_default=_NO_LICENCE),
    ] = None,
    data_licence: Annotated[
        str | None,
        typer.Option("--data-licence", metavar="TEXT", help="Licence of the images.", show_default="of the data set"),
    ] = None,
    release_version: Annotated[
        str | None, typer.Option("--release", metavar="VERSION", help="Version of the style.", show_default=_FIRST)
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option("--update", metavar="FILE", help="Your bundle that this one replaces; it sets the defaults."),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="age1...", help="Encrypt to this recipient; repeat for more."),
    ] = None,
    to_file: Annotated[
        Path | None, typer.Option("--to-file", metavar="FILE", help="Recipients, one a line; # begins a comment.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="TEXT", help="A use you allow; repeat for more.")
    ] = None,
    prohibit: Annotated[
        list[str] | None, typer.Option("--prohibit", metavar="TEXT", help="A use you forbid; repeat for more.")
    ] = None,
    ask_consent: Annotated[
        bool, typer.Option("--ask-consent", help="Clients must agree to the terms before the first use.")
    ] = False,
    style_data: Annotated[
        str | None,
        typer.Option(
            "--style-data",
            metavar="CLASS",
            help="public, licensed or confidential.",
            show_default="of the data set, else confidential",
        ),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(
            "--critic",
            metavar="yes|no",
            help="Put the critic into the bundle; it gives away most of the images.",
            show_default="no for confidential images",
        ),
    ] = None,
    audit_form: Annotated[
        str | None,
        typer.Option(
            "--audit",
            metavar="HOW",
            help="standard, no, or about how long, such as 5m.",
            show_default="about as long as training",
        ),
    ] = None,
    accept_leakage: Annotated[
        str | None,
        typer.Option("--accept-leakage", metavar="REASON", help="Sign what the audit refuses; the card says why."),
    ] = None,
    near_duplicates: Annotated[
        str,
        typer.Option("--near-duplicates", metavar="keep|remove", help="Train on all images of a work, or on one."),
    ] = "keep",
    photos: Annotated[
        str | None,
        typer.Option("--photos", metavar="D", help="Public photos for the audit.", show_default="faces drawn here"),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            metavar="F",
            min=0,
            max=0.9,
            help="Share of images measured, not trained on.",
            show_default="a tenth, a quarter of small sets",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use the first N images.", show_default="all")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="START",
            show_default="the base that fits, or none",
            help="Start from base (a face model that came with the package), none, or a file.",
        ),
    ] = None,
    budget: BudgetOption = None,
    seed: SeedOption = 0,
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
    """Encapsulate the style of a set of images in one signed file.

    Sets images aside, trains, measures reconstructions and what the bundle
    gives away of its images, signs, packs and verifies the result. Exit code 11:
    more than your limits allow. Stopped with Ctrl-C, the same command goes on; checkpoints
    and samples are in FILE.run beside the bundle. With --to, only these recipients
    can open and use it. SOURCE_DATE_EPOCH sets its date.
    """
    verbosity = Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug)
    verbosity = verbosity.for_rank(leads=Launch.from_environment().leads)
    console = Console("style-provider", "package", verbosity)

    def action() -> Mapping[str, object]:
        origin, chosen = choose_start(init, override(preset(preset_name), settings or []))
        if show_config:
            return _show(console, chosen, origin)
        runtime = Runtime(device=device, threads=threads, precision=cast("Precision", precision))
        length = Budget.parse(budget or chosen.encapsulation.budget)
        data_class = style_class(style_data, dataset)
        wish = replace(_wish(audit_form, accept_leakage, photos, threads), style_data=data_class)
        with_critic = _with_critic(critic, data_class)
        require_choice("--near-duplicates", near_duplicates, ("keep", "remove"))
        target = out or Path(f"{_title(dataset)}.mdfy")
        refuse_existing([target], overwrite=overwrite)
        require_folder(target.parent)
        _require_data(dataset, data_root)
        if photos:
            _require_data(photos, None)
        _check_words({
            "--name": [name], "--description": [description], "--licence": [licence], "--data-licence": [data_licence],
            "--release": [release_version], "--allow": allow or (), "--prohibit": prohibit or (),
            "--accept-leakage": [accept_leakage],
        })  # fmt: skip
        recipients, created = read_recipients(to or (), to_file), release_date()
        private = key or find_key()
        pair = load_pair(private, passphrase_file, console.ask_secret)
        check_current(private, pair.provider)
        check_life(pair.provider, created)
        earlier = read_earlier(update, pair.provider, private.parent) if update else None
        usage = _usage(earlier, allow, prohibit, recipients, ask_consent=ask_consent)

        from modify_fl.bundle import Release
        from modify_fl.federated.fab import FAB_SHA256
        from style_provider.encapsulation import Packaging, load_styles, make_bundle, measure
        from style_provider.leakage.package import require_wish, warn_few

        require_wish(wish, chosen.network.resolution, critic=with_critic)
        start = origin.load(chosen.network)
        if origin.note:
            console.note(origin.note)
        images = load_styles(dataset, data_root, chosen.network.resolution, limit, console)
        card = DATASETS.get(dataset)
        old = earlier.manifest if earlier else None
        release = Release(
            name=name or (old.bundle.name if old else _title(dataset)),
            description=description or (old.style.description if old and old.style else _NO_DESCRIPTION),
            images=len(images), created=created, usage=usage,
            model_licence=licence or (old.licence.model if old else _NO_LICENCE),
            dataset_licence=data_licence or (old.licence.dataset if old else card.licence if card else "not stated"),
            style_data=data_class,
            version=release_version or (old.bundle.version if old else _FIRST),
            sequence=old.bundle.sequence + 1 if old else 1, bundle_id=old.bundle.id if old else None,
            supersedes=earlier.payload_digest if earlier else None, apps=(FAB_SHA256,),
        )  # fmt: skip
        check_texts(release)
        if data_class == "confidential":
            console.note(_OFTEN)
        task = Packaging(
            images=images, holdout=holdout, preset=chosen, budget=length, seed=seed, runtime=runtime,
            require=require, out=target, overwrite=overwrite, start=start, tensorboard=tensorboard,
            keep_cache=keep_cache, critic=with_critic, copies=near_duplicates == "keep",
            audit=wish,
        )  # fmt: skip
        warn_few(wish, images, task.split[1], console)
        if dry_run:
            return _plan(console, task, measure(task), origin)
        return make_bundle(task, release=release, key=pair, fresh=fresh, console=console)

    return run_command(console, action)


def _wish(form: str | None, reason: str | None, photos: str | None, threads: int | None) -> AuditWish:
    """Read ``--audit`` and ``--accept-leakage``."""
    if reason is not None and not reason.strip():
        raise ConfigError(
            "--accept-leakage needs a reason", why="it enters the signed card", fix="say why in a sentence"
        )
    if form in {"standard", "no", None}:
        how = cast("Literal['trained', 'standard', 'no']", form or "trained")
        return AuditWish(form=how, reason=reason, photos=photos, threads=threads)
    length = Budget.parse(form or "")
    if length.kind != "seconds":
        raise ConfigError("--audit takes standard, no, or a time", got=str(length), fix="write it like 5m")
    return AuditWish(form="time", budget=length, reason=reason, photos=photos, threads=threads)


def _with_critic(given: str | None, style_data: str) -> bool:
    """Return whether Dis is shipped: not with confidential images, unless the provider says so (P-82)."""
    require_choice("--critic", given or "yes", ("yes", "no"))
    return style_data != "confidential" if given is None else given == "yes"


def _show(console: Console, chosen: Preset, origin: Origin) -> Mapping[str, object]:
    """Print the settings in force (U-38); the recipe is the one that belongs to the start."""
    settings = {"init": origin.words} | dataclasses.asdict(chosen)
    del settings["from_base"]  # either it took the place of the other recipe, or it is not in force
    console.say(json.dumps(settings, indent=1))
    return {"config": settings}


def _check_words(given: Mapping[str, Sequence[str | None]]) -> None:
    """Find out before training what would be refused after it (B-20)."""
    lint_texts({option: "\n".join(text or "" for text in texts) for option, texts in given.items()})


def _usage(
    earlier: Verification | None,
    allow: Sequence[str] | None,
    prohibit: Sequence[str] | None,
    recipients: tuple[str, ...],
    *,
    ask_consent: bool,
) -> Usage:
    """Join what the command says with what the replaced bundle said."""
    old = earlier.manifest.usage if earlier else Usage()
    return Usage(
        allowed=tuple(allow or old.allowed), prohibited=tuple(prohibit or old.prohibited),
        requires_acknowledgement=ask_consent or old.requires_acknowledgement, audience=recipients or old.audience,
    )  # fmt: skip


def _title(dataset: str) -> str:
    return dataset if dataset in DATASETS else Path(dataset).resolve().name.removesuffix(".zip")


def _require_data(dataset: str, data_root: Path | None) -> None:
    """Say what is missing before a passphrase is asked for (U-30)."""
    if dataset != "synthetic":
        with open_pictures(dataset, data_root=data_root):
            pass


def _plan(console: Console, task: "Packaging", taken: "RunEstimate", origin: Origin) -> Mapping[str, object]:
    """Say what would be done, as measured with a few steps (U-34, M-30)."""
    from style_provider.leakage.package import audit_budget

    chosen, count, audit = task.preset, len(task.images), audit_budget(task.audit, taken.seconds)
    console.say(f"would train {chosen.name} at {chosen.network.resolution} px on {count} images for {task.budget}")
    console.say(f"measured: {taken}")
    if task.audit.form == "no":
        console.say("no audit follows (--audit no)")
    else:
        console.say(f"then an audit {f'of at most {duration(audit.amount)}' if audit else 'in full'} (--audit)")
    console.say(f"starting from {origin.words}")
    console.say(f"and write {task.out}; nothing is sent, no privacy budget is spent")
    return {
        "preset": chosen.name, "images": count, "budget": str(task.budget), "out": task.out, "init": origin.words,
        "images_seen": taken.images, "steps": taken.steps, "seconds": taken.seconds, "memory": taken.host_bytes,
        "device_memory": taken.device_bytes, "compute": taken.compute,
        "audit_seconds": audit.amount if audit else None,
    }  # fmt: skip
