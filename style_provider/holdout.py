"""Which style images are set aside before training, and the provider's note of it (P-72).

Pictures of one work stay on one side: a held-out picture whose near-duplicate
was trained on would say nothing. The split is a function of pictures, number
and seed, so who holds all pictures of a bundle can draw it again; the note stays in the run's folder and never
enters a bundle.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, DataError
from modify_fl.metrics.duplicates import works
from protocol.manifest import Manifest
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["HoldoutNote", "one_of_each", "split", "usual_count", "weights_digest"]

_NOTE = "holdout.json"
_LONGEST = 64 << 20
_LARGEST_WORK = 10


def usual_count(total: int) -> int:
    """Return how many of ``total`` images are held out unless the provider says otherwise (P-72)."""
    return max(round(total / 10), min(100, total // 4))


def split(images: ImageSet, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Split a set into training and held-out indices, both ascending.

    Works are ranked by a hash of the seed and of their place, and held out in
    that order until ``count`` images are; with the number that came out, the
    same split comes out again. A work of more than a tenth of all images is
    never held out, and two images always stay.

    Args:
        images: N style images.
        count: How many to hold out at least; 0 holds out none.
        seed: The run's seed.

    Raises:
        DataError: Fewer than two images are left for training.
    """
    total = len(images)
    groups: dict[int, list[int]] = {}
    for index, work in enumerate(works(images) if count else range(total)):
        groups.setdefault(work, []).append(index)
    held: list[int] = []
    for work in sorted(groups, key=lambda work: hashlib.sha256(f"{seed}/holdout/{work}".encode()).digest()):
        pictures = groups[work]
        if len(held) >= count or total - len(held) - len(pictures) < 2:
            break
        if len(pictures) <= max(1, total // _LARGEST_WORK):
            held += pictures
    if total < 2:  # equation 2 needs another image
        raise DataError("a style needs two images or more", got=f"{total} for training", fix="add images")
    kept = set(held)
    return [index for index in range(total) if index not in kept], sorted(held)


def one_of_each(images: ImageSet, indices: Sequence[int]) -> list[int]:
    """Return the first image of each work among ``indices`` (P-78, P-82)."""
    found = works(images)
    first: dict[int, int] = {}
    for index in indices:
        first.setdefault(found[index], index)
    return sorted(first.values())


def weights_digest(manifest: Manifest) -> str:
    """Return one SHA-256, hex, over the digests of all weight files of a bundle."""
    listing = "".join(f"{file.file} {file.sha256}\n" for file in sorted(manifest.model.weights, key=lambda f: f.file))
    return hashlib.sha256(listing.encode()).hexdigest()


def _digests(images: ImageSet, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(images.batch([index]).numpy().data).hexdigest() for index in indices)


@dataclass(frozen=True, kw_only=True)
class HoldoutNote:
    """What the provider remembers of a split; for the provider alone, since digests of pictures name them (P-81)."""

    trained: tuple[str, ...]
    """SHA-256 of the pixels of each image that was trained on."""
    held: tuple[str, ...]
    """The same of those that were set aside."""
    weights: str = ""
    """``weights_digest`` of the networks that came out; empty until they are there."""

    @classmethod
    def of(cls, images: ImageSet, trained: Sequence[int], held: Sequence[int]) -> Self:
        """Note a split."""
        return cls(trained=_digests(images, trained), held=_digests(images, held))

    @classmethod
    def read(cls, run: Path) -> Self:
        """Read the note in a run's folder.

        Raises:
            ConfigError: There is none, or it cannot be read.
        """
        path = run / _NOTE
        fix = "name the folder that package kept for this bundle with --run, or make the bundle again"
        if not path.is_file():
            why = "it says which images were trained on and which were set aside"
            raise ConfigError(f"there is no {path}", why=why, fix=fix)
        try:
            content: Mapping[str, Any] = json.loads(read_file(path, limit=_LONGEST))
            trained, held = (tuple(map(str, content[key])) for key in ("trained", "held"))
            return cls(trained=trained, held=held, weights=str(content["weights"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"cannot read {path}", why=str(error), fix=fix) from error

    def write(self, run: Path) -> None:
        """Write the note into a run's folder, which must be there, for its owner alone."""
        content = {"trained": self.trained, "held": self.held, "weights": self.weights}
        with atomic_writer(run / _NOTE, overwrite=True, mode=PRIVATE) as stream:
            stream.write(json.dumps(content, indent=0).encode())

    def find(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Return the images that were trained on and those that were set aside, whatever their order now.

        Raises:
            DataError: Some of them are not among ``images``.
        """
        place = {digest: index for index, digest in enumerate(_digests(images, range(len(images))))}
        missing = sum(digest not in place for digest in (*self.trained, *self.held))
        if missing:
            raise DataError(
                f"{missing} of the {len(self.trained) + len(self.held)} images of this run are not in the data set",
                why="an audit compares with the very pictures that were trained on",
                fix="give --dataset as package had it",
            )  # fmt: skip
        trained, held = ([place[digest] for digest in part] for part in (self.trained, self.held))
        return images.subset(trained), images.subset(held)
