"""Stage 1 on the provider's side: style images in, signed bundle out (M-27 to M-31, B-16).

Style images stay in this process and in the run's folder; the bundle holds
weights and what the manifest says.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from modify_fl.artifacts import Encapsulated
from modify_fl.base.start import Start
from modify_fl.bundle import Release, write_style_bundle
from modify_fl.config import Budget, Preset, Runtime
from modify_fl.console import Console
from modify_fl.data import ImageSet, load_images
from modify_fl.events import TrainingEvent
from modify_fl.launch import Launch
from modify_fl.options import run_folder
from modify_fl.perceptual import PerceptualNets
from modify_fl.progress import MetricsLog, duration
from modify_fl.tensorboard import BoardLog
from modify_fl.training.encapsulation import encapsulate, estimate
from modify_fl.training.estimate import RunEstimate
from modify_fl.training.evaluation import reconstruction_report
from modify_fl.training.runtime import resolve
from protocol.manifest import Figure
from style_provider.holdout import HoldoutNote, one_of_each, split, usual_count
from style_provider.keys import KeyPair
from style_provider.leakage.package import Audited, audit_release
from style_provider.leakage.wish import AuditWish

__all__ = ["Packaging", "load_styles", "make_bundle", "measure"]

_FIGURES = (("lpips", "LPIPS", ""), ("psnr", "PSNR", " dB"), ("l1", "L1", ""), ("identity", "identity cosine", ""))


@dataclass(frozen=True, kw_only=True)
class Packaging:
    """A checked request for stage 1."""

    images: ImageSet
    """All style images at the preset's resolution."""
    holdout: float | None
    """Share that is kept out of training and measured, 0 to 1; the usual number unless given (P-72)."""
    preset: Preset
    """All settings."""
    budget: Budget
    """Length of the run."""
    seed: int
    """Of everything that is drawn."""
    runtime: Runtime
    """Device, threads, precision."""
    require: bool
    """Whether to refuse the replacements of M-41 and M-42."""
    out: Path
    """The bundle."""
    overwrite: bool
    """Whether it may be replaced."""
    start: Start | None = None
    """Weights to begin with (M-23)."""
    tensorboard: Path | None = None
    """Gets the course of the run in TensorBoard's form; nothing without it."""
    keep_cache: bool = False
    """Whether decoded pictures stay in their file after the run, where there is one (M-51)."""
    critic: bool = True
    """Whether Dis goes into the bundle (P-82)."""
    copies: bool = True
    """Whether near-duplicates are trained on; without, one image of each work is (P-82)."""
    audit: AuditWish = field(default_factory=AuditWish)
    """Whether and how leakage is measured before the bundle is signed (P-80)."""

    @cached_property
    def split(self) -> tuple[list[int], list[int]]:
        """Indices of the images to train on, and of those that are only measured.

        Raises:
            DataError: Fewer than two are left for training.
        """
        total = len(self.images)
        count = usual_count(total) if self.holdout is None else round(self.holdout * total)
        chosen, held = split(self.images, max(count, 1) if self.holdout else count, self.seed)
        return chosen if self.copies else one_of_each(self.images, chosen), held

    def nets(self) -> PerceptualNets:
        """Return LPIPS and the face network, where found, on the device of the run."""
        return PerceptualNets.find(require=self.require, device=resolve(self.runtime, bf16=False).device)


def load_styles(dataset: str, data_root: Path | None, resolution: int, limit: int | None, console: Console) -> ImageSet:
    """Read the style images; every file that cannot be read is named.

    Args:
        dataset: A folder, a ZIP file or a named data set.
        data_root: Folder of a named data set, if it is not under ``$MODIFY_DATA``.
        resolution: Side of the pictures in pixels.
        limit: Read the first so many only.
        console: Names the files.

    Raises:
        DataError: The data set is not there, or cannot be used.
    """
    images = load_images(dataset, resolution=resolution, data_root=data_root, look="painting", limit=limit)
    for name, reason in images.skipped:
        console.warn(f"{name} left out: {reason}")
    for name, remark in images.notes:
        console.note(f"{name}: {remark}")
    return images


def make_bundle(
    task: Packaging, *, release: Release, key: KeyPair, fresh: bool, console: Console
) -> Mapping[str, object]:
    """Set images aside, train, measure, attack, sign, pack and verify.

    Args:
        task: What to train on, and how.
        release: What the provider says about the style; figures and the number of images trained on are added here.
        key: Signs the bundle.
        fresh: Throw away an earlier run for this result.
        console: Shows progress.

    Returns:
        Result of the command; nothing in a process that does not lead its run (M-56).

    Raises:
        DataError: Fewer than two style images are left for training.
        LeakageError: The bundle gives away more than the provider's limits allow (P-80); it was not written.
        InterruptedRunError: A signal asked for a stop; the same command goes on.
    """
    chosen, held = task.split
    leads, home = Launch.from_environment().leads, run_folder(task.out)
    result = _train(task, task.images.subset(chosen), fresh=fresh, console=console)
    if not leads:
        return {}
    note = HoldoutNote.of(task.images, chosen, held)
    cpu_nets = PerceptualNets.find()
    report = reconstruction_report(result.model, task.images.subset(held), cpu_nets) if held else {}
    release = replace(_with_figures(release, report, len(held), task.preset), images=len(chosen))
    audited = audit_release(
        task.audit, result, release=release, key=key, critic=task.critic, images=task.images, note=note, home=home,
        console=console,
    )  # fmt: skip
    digest = write_style_bundle(
        task.out, result, release=release, key=key.private, provider=key.provider,
        recipients=release.usage.audience or (), overwrite=task.overwrite, critic=task.critic, audit=audited.audit,
        reports=audited.reports,
    )  # fmt: skip
    audited.note.write(home)  # not earlier: a refused run leaves the note of the bundle that is there
    if not task.keep_cache:
        task.images.discard()
    return _report(task, result, report, audited, release=release, held=len(held), digest=digest, console=console)


def measure(task: Packaging) -> RunEstimate:
    """Take a few real steps and throw them away: what ``make_bundle`` would take; nothing is written (U-34)."""
    chosen, _ = task.split
    return estimate(
        task.images.subset(chosen), preset=task.preset, budget=task.budget, seed=task.seed, runtime=task.runtime,
        nets=task.nets(), start=task.start,
    )  # fmt: skip


def _train(task: Packaging, images: ImageSet, *, fresh: bool, console: Console) -> Encapsulated:
    folder, nets = run_folder(task.out), task.nets()
    with ExitStack() as logs:
        sinks = [console.emit]
        if Launch.from_environment().leads:
            if task.tensorboard:
                board = BoardLog(task.tensorboard, samples=folder / "samples")
                sinks.append(logs.enter_context(board).write)
            sinks.append(logs.enter_context(MetricsLog(folder / "metrics.jsonl", fresh=fresh)).write)

        def emit(event: TrainingEvent) -> None:
            for sink in sinks:
                sink(event)

        return encapsulate(
            images, preset=task.preset, budget=task.budget, seed=task.seed, runtime=task.runtime, nets=nets,
            folder=folder, emit=emit, fresh=fresh, start=task.start, unseen=task.images.subset(task.split[1]),
        )  # fmt: skip


def _with_figures(release: Release, report: Mapping[str, float | None], held: int, preset: Preset) -> Release:
    side = preset.network.resolution
    figures = tuple(
        Figure(metric=f"{label} of reconstructions", value=report.get(name), samples=held, resolution=side,
               note="held-out style images")
        for name, label, _ in _FIGURES
    ) if held else ()  # fmt: skip
    return replace(release, evaluation=figures)


def _report(
    task: Packaging,
    result: Encapsulated,
    report: Mapping[str, float | None],
    audited: Audited,
    *,
    release: Release,
    held: int,
    digest: str,
    console: Console,
) -> Mapping[str, object]:
    summary = result.summary
    console.say(f"wrote {task.out} ({task.out.stat().st_size / 1e6:.1f} MB), signed and verified")
    console.say(f"digest {digest}")
    console.say(f"{summary.steps} steps, {summary.images_seen / 1000:.1f} kimg in {duration(summary.seconds)}")
    if held:
        console.say(f"reconstructions of {held} held-out images:")
    for name, label, unit in _FIGURES if held else ():
        value = report.get(name)
        console.say(f"  {label:<16}{'not available' if value is None else f'{value:.4f}{unit}'}")
    audited.say(console)
    readers = release.usage.audience
    if readers:
        console.say(f"encrypted; only the {len(readers)} recipients named can open and use it")
    console.say(f"next: give {task.out} and the .mdfykey file to your clients")
    return {
        "bundle": task.out, "digest": digest, "sequence": release.sequence, "supersedes": release.supersedes,
        "recipients": len(readers or ()), "images": len(task.images), "held_out": held,
        "skipped": [name for name, _ in task.images.skipped], "steps": summary.steps,
        "images_seen": summary.images_seen, "seconds": summary.seconds, "reconstruction": dict(report),
        "losses": {"perceptual": summary.perceptual.name, "identity": summary.identity.name},
        "run": run_folder(task.out), "init": summary.init, "critic": task.critic, "leakage": audited.as_json(),
    }  # fmt: skip
