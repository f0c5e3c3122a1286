"""Stage 2 on this machine, from photos to a signed adapter or finished pictures (M-33 to M-39).

Photos, the critic that has seen them, and checkpoints stay in the run's folder;
the adapter holds the trained encoder tensors and nothing about the photos.
"""

import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from content_client.identity import adapter_identity
from content_client.introduction import introduce, used_before
from content_client.results import SHEET, Record, output_stems, write_records
from modify_fl.artifacts import LoadedStyle, Mode, PhotoAdapted
from modify_fl.bundle import load_style, write_adapter
from modify_fl.config import Budget, Runtime, StylizationConfig
from modify_fl.console import Console, ItemsFailedError
from modify_fl.data import ImageSet, load_images, to_uint8
from modify_fl.events import TrainingEvent
from modify_fl.faces.decode import save_png
from modify_fl.launch import Launch
from modify_fl.options import run_folder
from modify_fl.outputs import refuse_existing
from modify_fl.passphrase import Ask
from modify_fl.perceptual import PerceptualNets
from modify_fl.progress import MetricsLog, duration
from modify_fl.sheet import contact_sheet
from modify_fl.style import Style
from modify_fl.tensorboard import BoardLog
from modify_fl.training.estimate import RunEstimate
from modify_fl.training.runtime import resolve
from modify_fl.training.stylization import adapt, adapt_to_photo, estimate
from protocol.encryption import Identity
from protocol.provider import ProviderKey
from protocol.signing import PrivateKey
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["Adaptation", "adapt_encoder", "adapt_photos", "load", "measure", "open_style", "read_photos"]

_SHEET_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """A checked request for stage 2."""

    style: LoadedStyle
    """The verified style."""
    bundle: Path
    """Its file, for messages only."""
    photos: ImageSet
    """The photos at the style's resolution."""
    config: StylizationConfig
    """Weights, rates, subset."""
    seed: int
    """Of everything that is drawn."""
    runtime: Runtime
    """Device, threads, precision."""
    require: bool
    """Whether to refuse the replacements of M-41 and M-42."""
    out: Path
    """The adapter, or the folder of the pictures."""
    overwrite: bool
    """Whether results may be replaced."""
    ask: Ask
    """Asks for the passphrase of this client's adapter key, if it has one."""
    tensorboard: Path | None = None
    """Gets the course of the run in TensorBoard's form, figures only (P-38); nothing without it."""
    keep_cache: bool = False
    """Whether decoded photos stay in their file after the run, where there is one (M-51)."""

    def nets(self) -> PerceptualNets:
        """Return LPIPS and the face network, where found, on the device of the run."""
        device = resolve(self.runtime, bf16=False).device
        return PerceptualNets.find(require=self.require, device=device)


def load(
    bundle: Path, photos: str | Path, console: Console, *, identity: Identity | None, record: bool, align: bool
) -> tuple[LoadedStyle, ImageSet]:
    """Verify the style, then read the photos.

    Args:
        bundle: The ``.mdfy`` file.
        photos: A folder, a ZIP file or a named data set.
        console: Names every photo that cannot be read.
        identity: The user's own age identity.
        record: Whether the release counts as used; not in a dry run (U-34).
        align: Find and align the largest face of each photo; without, a photo is one aligned face.

    Raises:
        ProtocolError: Verification failed; no photo was touched.
        DataError: The photos cannot be used.
    """
    style = open_style(bundle, console, identity=identity, record=record)
    return style, read_photos(style, photos, console, align=align)


def open_style(bundle: Path, console: Console, *, identity: Identity | None, record: bool) -> LoadedStyle:
    """Verify a style; arguments as in ``load``.

    Raises:
        ProtocolError: Verification failed.
    """
    trust = TrustStore.default()
    used = used_before(trust)
    with open_bundle(bundle, trust=trust, now=datetime.now(UTC), identity=identity) as verified:
        style = load_style(verified, record=record)
    for warning in style.bundle.warnings:
        console.warn(warning)
    introduce(console, style.bundle, used)
    return style


def read_photos(
    style: LoadedStyle, photos: str | Path, console: Console, *, align: bool, judged: bool = True
) -> ImageSet:  # fmt: skip
    """Read photos for a style; arguments as in ``load`` and ``load_images``.

    Raises:
        ConfigError: The photos fail M-1.
        DataError: The photos cannot be used.
    """
    if align:
        Style(style).require_alignment()
    images = load_images(photos, resolution=style.network.resolution, look="photo", align=align, judged=judged)
    for name, reason in images.skipped:
        console.warn(f"{name} left out: {reason}")
    for name, remark in images.notes:
        console.note(f"{name}: {remark}")
    return images


def measure(task: Adaptation, mode: Mode, budget: Budget | None) -> RunEstimate:
    """Take a few real steps and throw them away: what the run would take; nothing is written (U-34)."""
    return estimate(
        task.style, task.photos, mode=mode, config=task.config, budget=budget, seed=task.seed, runtime=task.runtime,
        nets=task.nets(),
    )  # fmt: skip


def adapt_encoder(
    task: Adaptation, mode: Literal["offline", "online"], *, budget: Budget | None, fresh: bool,
    pictures: Path | None, console: Console,
) -> Mapping[str, object]:  # fmt: skip
    """Train E' on all photos and write the adapter, signed by this client's own key.

    Args:
        task: What to train on, and how.
        mode: ``"offline"`` or ``"online"``.
        budget: Length; the preset's number of steps if none.
        fresh: Throw away an earlier run for this result.
        pictures: Gets the picture of each photo, made right after its step (online mode, M-34).
        console: Shows progress.

    Returns:
        Result of the command; nothing in a process that does not lead its run (M-56).
    """
    leads, folder = Launch.from_environment().leads, run_folder(task.out)
    signer = adapter_identity(TrustStore.default(), task.ask) if leads else None  # now, when somebody can answer
    with ExitStack() as logs:
        sinks = [console.emit]
        if leads:
            sinks += [logs.enter_context(BoardLog(task.tensorboard)).write] if task.tensorboard else []
            sinks.append(logs.enter_context(MetricsLog(folder / "metrics.jsonl", fresh=fresh)).write)

        def emit(event: TrainingEvent) -> None:
            for sink in sinks:
                sink(event)

        adapted = adapt(
            task.style, task.photos, mode=mode, config=task.config, budget=budget, seed=task.seed,
            runtime=task.runtime, nets=task.nets(), folder=folder, emit=emit, fresh=fresh,
            deliver=_deliver(task, pictures) if pictures else None,
        )  # fmt: skip
    if signer is None:
        return {}
    key, provider = signer
    digest = write_adapter(task.out, adapted, style=task.style, key=key, provider=provider, overwrite=task.overwrite)
    if not task.keep_cache:
        task.photos.discard()
    summary = adapted.summary
    console.say(f"wrote {task.out} ({task.out.stat().st_size / 1e6:.1f} MB, stays on this machine)")
    console.say(f"{summary.steps} steps over {len(task.photos)} photos in {duration(summary.seconds)}")
    command = shlex.join(["content-client", "stylize", "--bundle", str(task.bundle), "--adapter", str(task.out)])
    console.say(f"next: {command} PHOTO... --out DIR")
    return {
        "adapter": task.out, "digest": digest, "mode": mode, "subset": adapted.subset, "photos": len(task.photos),
        "skipped": [name for name, _ in task.photos.skipped], "steps": summary.steps,
        "images_seen": summary.images_seen, "seconds": summary.seconds, "run": folder,
        "losses": {"perceptual": summary.perceptual.name, "identity": summary.identity.name},
    }  # fmt: skip


def _deliver(task: Adaptation, folder: Path) -> Callable[[int, Tensor], None]:
    """Return what writes the picture of the photo with a given index; a later pass replaces it."""
    names = [f"{stem}.png" for stem in output_stems(task.photos.names)]
    resuming = (run_folder(task.out) / "checkpoints").exists()  # then the pictures are this run's own
    refuse_existing([folder / name for name in names], overwrite=task.overwrite or resuming)

    def write(index: int, picture: Tensor) -> None:
        save_png(to_uint8(picture)[0], folder / names[index])

    return write


def adapt_photos(task: Adaptation, *, keep: bool, console: Console) -> Mapping[str, object]:
    """Adapt E' to each photo alone and write its picture D(E'(x)) (M-34, M-35).

    A picture does not depend on the other photos of the folder, so a run that
    was stopped can be repeated for the rest.

    Args:
        task: What to adapt to, and how.
        keep: Write each photo's adapter too, marked local-only.
        console: Shows progress.

    Returns:
        Result of the command.
    """
    names = [f"{stem}.png" for stem in output_stems(task.photos.names)]
    adapters = [task.out / name.removesuffix(".png") for name in names]
    adapters = [path.with_name(path.name + ".mdfa") for path in adapters] if keep else []
    sheet, results = task.out / f"{SHEET}.png", task.out / "results.jsonl"
    pictures = [task.out / name for name in names]
    refuse_existing([*pictures, *adapters, sheet, results], overwrite=task.overwrite)
    signer = adapter_identity(TrustStore.default(), task.ask) if keep else None
    compute, nets = resolve(task.runtime), task.nets()
    console.note(f"computing on {compute}")
    for warning in nets.warnings:
        console.warn(warning)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, picture in enumerate(pictures):
        photo = task.photos.batch([index])
        done = adapt_to_photo(task.style, photo, config=task.config, seed=task.seed, compute=compute, nets=nets)
        after = _paint(task.style, done, photo)
        save_png(to_uint8(after)[0], picture)
        if signer:
            _keep(task, done, adapters[index], *signer)
        if len(rows) < _SHEET_ROWS:
            rows.append((photo, Style(task.style).reconstruct(photo), after))
        console.note(f"{names[index]}: loss {done.first_loss:.3f} to {done.last_loss:.3f}")
    captions = task.photos.names[: len(rows)]
    page = contact_sheet(
        [[to_uint8(image)[0] for image in row] for row in rows], columns=["photo", "before", "after"], names=captions
    )
    save_png(np.asarray(page), sheet)
    write_records(results, _records(task, names))
    if not task.keep_cache:
        task.photos.discard()
    console.say(f"wrote {len(pictures)} pictures to {task.out}")
    console.say(f"contact sheet  {sheet}")
    result = {
        "out": task.out, "mode": "test-time", "pictures": len(pictures), "contact_sheet": sheet, "results": results,
        "skipped": [name for name, _ in task.photos.skipped], "adapters": adapters,
    }  # fmt: skip
    if task.photos.skipped:
        why = "; ".join(f"{name}: {reason}" for name, reason in task.photos.skipped)
        raise ItemsFailedError(f"{len(task.photos.skipped)} photos cannot be read", why=why, result=result)
    return result


def _paint(style: LoadedStyle, done: PhotoAdapted, photo: Tensor) -> Tensor:
    return Style(style, done.encoder).reconstruct(photo)


def _keep(task: Adaptation, done: PhotoAdapted, path: Path, key: PrivateKey, provider: ProviderKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_adapter(path, done.adapted, style=task.style, key=key, provider=provider, overwrite=task.overwrite)


def _records(task: Adaptation, names: list[str]) -> list[Record]:
    written = [
        Record(photo=photo, status="written", outputs=(name,))
        for photo, name in zip(task.photos.names, names, strict=True)
    ]
    return written + [Record(photo=name, status="failed", reason=why) for name, why in task.photos.skipped]
