"""Files and sets of pictures to checked requests: one for each bundle of ``evaluate``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path

from modify_fl.config import Runtime
from modify_fl.console import Console
from modify_fl.data import ImageSet, load_images
from modify_fl.errors import ConfigError
from modify_fl.style import Style
from modify_fl.training.runtime import resolve
from protocol.trust import TrustStore
from protocol.verify import verify_bundle
from style_provider.encapsulation import load_styles
from style_provider.evaluation.task import Evaluation
from style_provider.standin import stand_in

__all__ = ["Sources", "load_tasks"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the pictures are."""

    dataset: str
    """The style images of the bundles: a folder, a ZIP file or a named data set."""
    photos: str
    """Photos that nothing was trained on."""
    reference: str | None = None
    """Style images kept out of every training; none: ``dataset`` is the reference."""
    data_root: Path | None = None
    """Folder of named data sets."""
    style_limit: int | None = None
    """Read the first so many of ``dataset`` only."""
    limit: int | None = None
    """Read the first so many photos only."""


def load_tasks(
    bundles: Sequence[Path], adapters: Sequence[Path], sources: Sources, *, trust: TrustStore, seeds: tuple[int, ...],
    seed: int, xi: int | None, threads: int | None, console: Console,
) -> tuple[Evaluation, ...]:  # fmt: skip
    """Verify and load every bundle, then read the pictures once for all.

    Args:
        bundles: Plain ``.mdfy`` files, one for each training seed.
        adapters: None at all, or one ``.mdfa`` file for each bundle, in the same order.
        sources: Where the pictures are.
        trust: The keys that are accepted.
        seeds: Styles for each photo.
        seed: Of subsets, bootstrap and baselines.
        xi: Rows that the style takes; as trained if none.
        threads: Compute threads; the cores this process may use if none.
        console: Says what is left out.

    Raises:
        ProtocolError: Verification failed; no picture was read.
        ConfigError: Bundles and adapters do not pair up, or differ in more than their training.
        DataError: A set of pictures cannot be used.
    """
    if adapters and len(adapters) != len(bundles):
        raise ConfigError(
            "every bundle needs its own adapter", expected=f"no --adapter, or {len(bundles)}", got=str(len(adapters)),
            fix="repeat --adapter, in the order of the bundles",
        )  # fmt: skip
    resolve(Runtime(device="cpu", threads=threads, precision="fp32"))
    pairs = zip_longest(bundles, adapters)
    loaded = [_load(bundle, adapter, trust, console) for bundle, adapter in pairs]
    resolution = loaded[0][0].resolution
    _check_together([style for style, _ in loaded], console)
    styles = load_styles(sources.dataset, sources.data_root, resolution, sources.style_limit, console)
    reference = None
    if sources.reference is not None:
        reference = load_styles(sources.reference, sources.data_root, resolution, None, console)
        _check_kept_out(reference, styles, console)
    photos = load_images(
        sources.photos, resolution=resolution, data_root=sources.data_root, look="photo", limit=sources.limit
    )
    if photos.skipped:  # photos are not named where they need not be
        console.warn(f"{len(photos.skipped)} photos left out: {photos.skipped[0][1]}")
    tasks = tuple(
        Evaluation(
            style=style, styles=styles, reference=reference, photos=photos, seeds=seeds, seed=seed, xi=xi,
            adapter_digest=digest,
        )
        for style, digest in loaded
    )  # fmt: skip
    for task in tasks:
        task.check()
    return tasks


def _load(bundle: Path, adapter: Path | None, trust: TrustStore, console: Console) -> tuple[Style, str | None]:
    """Return the style and the adapter's digest."""
    digest, now = None, datetime.now(UTC)
    verify_bundle(bundle, trust=trust, now=now, identity=stand_in(bundle, trust))
    if adapter is not None:
        digest = verify_bundle(adapter, trust=trust, now=now, identity=stand_in(adapter, trust)).payload_digest
    style = Style.load(bundle, trust=trust, adapter=adapter, identity=stand_in(bundle, trust))
    for warning in style.loaded.bundle.warnings:
        console.warn(warning)
    return style, digest


def _check_together(styles: Sequence[Style], console: Console) -> None:
    """Refuse bundles that are not several trainings of one thing."""
    first = styles[0].loaded
    if len({style.loaded.digest for style in styles}) < len(styles):
        raise ConfigError("one bundle is given twice", why="it would count as two trainings", fix="name each once")
    for style in styles[1:]:
        ours, theirs = first.manifest.provenance.training, style.loaded.manifest.provenance.training
        if (first.network, ours.losses) != (style.loaded.network, theirs.losses):
            raise ConfigError(
                f"{style.loaded.manifest.bundle.name} has other networks or losses than {first.manifest.bundle.name}",
                why="several bundles stand for several trainings with the same settings",
                fix="evaluate them one by one",
            )  # fmt: skip
    seeds = [style.loaded.manifest.provenance.training.seed for style in styles]
    if len(set(seeds)) < len(seeds):
        console.warn(f"training seeds {seeds} are not all different: the range over them says too little (M-46)")


def _check_kept_out(reference: ImageSet, styles: ImageSet, console: Console) -> None:
    """Warn of pictures that are in both sets, pixel by pixel."""
    known, wanted = ([sha256(picture.numpy().data).digest() for picture in each.images] for each in (styles, reference))
    trained = set(known)
    twice = sum(digest in trained for digest in wanted)
    if twice:
        console.warn(f"{twice} of {len(reference)} pictures of --reference are in --dataset too: they are not kept out")
