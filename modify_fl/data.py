"""Picture sets, and which pictures a step sees (M-1, M-6, M-49, M-51).

Rules this module keeps: pictures are decoded and resized once, kept as uint8,
in memory or in a mapped file (``data_files``), and become float32 in [-1, 1]
only batch by batch; unreadable files are named
and counted, never dropped in silence (U-21, U-66); what a step sees is a pure
function of the seed and of the images seen so far (M-52), so a resumed run
needs no loader state; no picture is lost at the end of an epoch.

Legend of shapes: N pictures, B batch, R resolution.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl import streams
from modify_fl.data_files import PixelFile, PixelWriter, listing_digest, memory_limit
from modify_fl.datasets import PictureFiles, open_pictures
from modify_fl.errors import ConfigError, DataError, ShapeError
from modify_fl.faces.align import template_digest
from modify_fl.faces.decode import read_picture
from modify_fl.photo import PhotoReader
from modify_fl.synthetic import Look, draw_faces

__all__ = [
    "ImageSet",
    "check_range",
    "holdout_split",
    "load_images",
    "other_indices",
    "shuffled_indices",
    "to_uint8",
]

SYNTHETIC_COUNT = 512
"""Faces of the data set ``synthetic`` unless a limit says otherwise."""

# The two looks show different people, as photos and paintings do.
_SYNTHETIC_SEEDS: dict[Look, int] = {"photo": 1, "painting": 2}
_HASHED_TOGETHER = 4 << 20
_UNREADABLE_SHARE = 0.05
_NAMED_FIRST = 5
_RANGE_IMAGES = 64
_RANGE_BOUND = 0.5
_RANGE_TELLING = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Pictures of one source at one resolution."""

    images: Tensor
    """uint8 [N, 3, R, R], RGB, on the CPU; of more pictures where ``rows`` says which. May be a mapped file."""
    names: tuple[str, ...]
    """Relative POSIX path of each picture in its source (U-65)."""
    digest: str
    """SHA-256 over resolution and pixels, in hexadecimal; a run resumes on the same data only."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Unreadable files: name and reason."""
    notes: tuple[tuple[str, str], ...] = ()
    """Name and remark on pictures that were read, such as that only the first frame was used."""
    rows: Tensor | None = None
    """int64 [N]: where each picture stands in ``images``; nothing where they are all, in order."""
    file: PixelFile | None = None
    """The file behind ``images``, where there is one."""

    def __post_init__(self) -> None:
        """Check type and shape."""
        shape = list(self.images.shape)
        square = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]
        count = shape[0] if self.rows is None else len(self.rows)
        if self.images.dtype != torch.uint8 or not square or count != len(self.names):
            expected = f"uint8 [{len(self.names)}, 3, R, R]"
            got = f"{self.images.dtype} {shape}"
            raise ShapeError("an image set holds uint8 pictures, one per name", expected=expected, got=got)

    @classmethod
    def of(
        cls,
        images: Tensor,
        names: Sequence[str],
        *,
        skipped: Sequence[tuple[str, str]] = (),
        notes: Sequence[tuple[str, str]] = (),
    ) -> "ImageSet":
        """Build a set and its digest from uint8 [N, 3, R, R] pictures."""
        return cls(
            images=images, names=tuple(names), digest=_digest(images, range(len(images))), skipped=tuple(skipped),
            notes=tuple(notes),
        )  # fmt: skip

    def __len__(self) -> int:
        """Return N."""
        return len(self.names)

    @property
    def resolution(self) -> int:
        """R in pixels."""
        return int(self.images.shape[-1])

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return the pictures at ``indices``, float32 [B, 3, R, R] in [-1, 1] (M-1)."""
        chosen = self.images[self._rows(indices)]  # [B, 3, R, R]
        return chosen.to(torch.float32).div_(127.5).sub_(1)

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Return the set of the pictures at ``indices``, in that order, with its own digest.

        Pictures in memory are copied, pictures in a file stay there.
        """
        names, rows = [self.names[i] for i in indices], self._rows(indices)
        if self.file is None:
            return ImageSet.of(self.images[rows], names)
        digest = _digest(self.images, rows.tolist())
        return ImageSet(images=self.images, names=tuple(names), digest=digest, rows=rows, file=self.file)

    def _rows(self, indices: Sequence[int]) -> Tensor:
        wanted = torch.as_tensor(indices, dtype=torch.long)
        return wanted if self.rows is None else self.rows[wanted]

    def discard(self) -> None:
        """Remove the file behind the set, where there is one; the pictures can still be read."""
        if self.file is not None:
            self.file.discard()


def _digest(images: Tensor, rows: Sequence[int]) -> str:
    """Return the SHA-256 over resolution and the pixels of ``rows``, a few megabytes at a time."""
    digest = hashlib.sha256(f"{images.shape[-1]}\n".encode())
    step = max(1, _HASHED_TOGETHER // max(1, images[0].numel() if len(images) else 1))
    for at in range(0, len(rows), step):
        chunk = images[torch.as_tensor(rows[at : at + step], dtype=torch.long)]
        digest.update(chunk.contiguous().numpy().data)
    return digest.hexdigest()


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Turn pictures of the network into pixels.

    Args:
        images: Float [..., 3, R, R] in [-1, 1]; values outside are clipped.

    Returns:
        uint8 [..., R, R, 3]. The inverse of ``ImageSet.batch`` for every pixel.
    """
    scaled = images.detach().to("cpu", torch.float32).clamp(-1, 1).add(1).mul(127.5).round()
    pixels: NDArray[np.uint8] = scaled.to(torch.uint8).movedim(-3, -1).contiguous().numpy()  # [..., R, R, 3]
    return pixels


def load_images(
    source: str | Path,
    *,
    resolution: int,
    data_root: Path | None = None,
    look: Look = "photo",
    limit: int | None = None,
    in_memory: int | None = None,
    align: bool = False,
    judged: bool = True,
) -> ImageSet:
    """Load a folder, a ZIP file or a named data set.

    A set of more than ``in_memory`` bytes is decoded once into a private file
    of the user's cache folder; the next call finds it there, until somebody
    calls ``ImageSet.discard``.

    Args:
        source: Path, or the name of a data set.
        resolution: R; pictures are cropped to their central square and resized (M-49).
        data_root: Folder of a named data set; see ``open_pictures``.
        look: What ``synthetic`` draws, and which pictures of ``demo``; without meaning for other sources.
        limit: Load the first so many only; of ``synthetic``, draw so many.
        in_memory: Most bytes of pixels to keep in memory; a quarter of this machine's when omitted.
        align: Find the largest face of each picture and align it (U-62); a picture
            without a face is left out. Without, a picture is one aligned face.
        judged: Refuse the set for what its pictures are together. Without, each
            counts or is left out by itself, whatever the others are: maybe none is left.

    Raises:
        ConfigError: ``limit`` or ``resolution`` is below 1, or, judged, the pictures fail M-1.
        DataError: There is no such source, it holds no picture, or, judged, none
            that can be used, or more than 5 % of its pictures are unreadable.
    """
    for name, value in (("resolution", resolution), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if source == "synthetic":
        images = _draw(look, resolution, SYNTHETIC_COUNT if limit is None else limit)
    else:
        with open_pictures(source, data_root=data_root, look=look) as files:
            reader = PhotoReader(resolution=resolution, faces="largest", align=align)
            wanted = files.names[:limit]
            report = _Report.of(files, wanted, judged=judged)
            images = _load(files, wanted, reader, report, memory_limit() if in_memory is None else in_memory)
    if judged:
        check_range(images)
    return images


def check_range(images: ImageSet) -> None:
    """Refuse a set whose first 64 pictures do not use the range [-1, 1] (M-1).

    The rule catches pictures in [0, 1]. It needs a few pictures to tell: one
    foggy photo, or a handful, may be pale and yet right, so sets of fewer than
    eight pictures pass. Their values are known to be bytes in any case.

    Raises:
        ConfigError: The minimum is not below -0.5 or the maximum not above 0.5.
    """
    if len(images) < _RANGE_TELLING:
        return
    first = images.images[:_RANGE_IMAGES]
    low, high = (float(value) / 127.5 - 1 for value in (first.min(), first.max()))
    if low >= -_RANGE_BOUND or high <= _RANGE_BOUND:
        raise ConfigError(
            "the pictures use too little of the range from black to white",
            why=f"values of the first {len(first)} run from {low:.2f} to {high:.2f}",
            fix="look at the pictures: they are almost all grey, black or white",
            expected="a minimum below -0.5 and a maximum above 0.5",
            got=f"{low:.2f} to {high:.2f}",
        )


def holdout_split(n: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split ``range(n)`` into training and held-out indices, both ascending.

    Every index is ranked by a hash of itself and the seed, so the split depends
    on no library and hardly moves when a picture is added. Of two pictures or
    more at least one is held out, unless the fraction is 0; one always stays.

    Args:
        n: Number of pictures.
        fraction: Share to hold out, in [0, 1).
        seed: The run's seed.

    Raises:
        ConfigError: ``fraction`` is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"the held-out share must be at least 0 and below 1, got {fraction}")
    count = min(n - 1, max(1, round(n * fraction))) if fraction and n else 0
    ranked = sorted(range(n), key=lambda index: hashlib.sha256(f"{seed}/holdout/{index}".encode()).digest())
    return sorted(ranked[count:]), sorted(ranked[:count])


def shuffled_indices(n: int, seed: int, images_seen: int, batch: int) -> list[int]:
    """Return the indices of the next ``batch`` pictures.

    Epoch e is a permutation of all n pictures drawn from the stream ``shuffle``
    at step e. A batch is a window on the epochs written one after the other, so
    no tail is dropped (U-21) and a batch may be larger than the set.

    Args:
        n: Number of pictures, at least 1.
        seed: The run's seed.
        images_seen: Pictures shown before this batch.
        batch: B.
    """
    positions = range(images_seen, images_seen + batch)
    return [_epoch(n, seed, position // n)[position % n] for position in positions]


def other_indices(indices: Sequence[int], n: int, seed: int, step: int) -> list[int]:
    """Return for every index another one, uniformly among the rest (M-6).

    Args:
        indices: Indices of the pictures y, each in [0, n).
        n: Number of pictures; if there is one only, it is its own partner.
        seed: The run's seed.
        step: The training step, which picks the draw in the stream ``other``.

    Returns:
        Indices of the pictures y', as many; none equals its partner when n >= 2.
    """
    if n == 1:
        return list(indices)
    offsets = torch.randint(1, n, (len(indices),), generator=streams.generator(seed, "other", step))  # [B]
    return [(index + int(offset)) % n for index, offset in zip(indices, offsets, strict=True)]


@lru_cache(maxsize=4)
def _epoch(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(torch.randperm(n, generator=streams.generator(seed, "shuffle", epoch)).tolist())


def _draw(look: Look, resolution: int, count: int) -> ImageSet:
    faces = draw_faces(look, count, resolution, _SYNTHETIC_SEEDS[look])  # [N, R, R, 3]
    images = torch.from_numpy(faces.transpose(0, 3, 1, 2).copy())  # [N, 3, R, R]
    return ImageSet.of(images, [f"{look}-{index:05d}.png" for index in range(count)])


def _load(
    files: PictureFiles, wanted: Sequence[str], reader: PhotoReader, report: "_Report", in_memory: int
) -> ImageSet:  # fmt: skip
    resolution = reader.resolution
    if 3 * resolution**2 * len(wanted) > in_memory:
        return _load_mapped(files, wanted, reader, report)
    pixels = np.empty((len(wanted), 3, resolution, resolution), np.uint8)
    for index, picture in enumerate(_decoded(files, wanted, reader, report)):
        pixels[index] = picture
    images = torch.from_numpy(pixels[: len(report.names)])
    return ImageSet.of(images, report.names, skipped=report.skipped, notes=report.notes)


def _load_mapped(files: PictureFiles, wanted: Sequence[str], reader: PhotoReader, report: "_Report") -> ImageSet:
    """Decode into a file, or find the file of an earlier call; either way no set lies in memory."""
    resolution = reader.resolution
    file = PixelFile(listing_digest(files, wanted, resolution, template_digest() if reader.align else ""))
    known = file.find()
    if known is None:
        with file.making() as writer:
            _write(writer, files, wanted, reader, report)
        known = file.find()
    if known is None:
        raise DataError(f"cannot keep the decoded pictures of {files.title}", why="their file vanished")
    report.recall(known)
    return ImageSet(
        images=file.pixels(len(report.names), resolution), names=tuple(report.names), digest=known["digest"],
        file=file, skipped=tuple(report.skipped), notes=tuple(report.notes),
    )  # fmt: skip


def _write(
    writer: PixelWriter, files: PictureFiles, wanted: Sequence[str], reader: PhotoReader, report: "_Report"
) -> None:  # fmt: skip
    digest = hashlib.sha256(f"{reader.resolution}\n".encode())
    for picture in _decoded(files, wanted, reader, report):
        digest.update(picture.tobytes())
        writer.add(picture)
    known = {"names": report.names, "skipped": report.skipped, "notes": report.notes, "unreadable": report.unreadable}
    writer.finish({**known, "digest": digest.hexdigest()})


@dataclass(kw_only=True)
class _Report:
    """What became of the files of a source, and whether that speaks against the set as a whole."""

    title: str
    total: int
    judged: bool
    skipped: list[tuple[str, str]]
    unreadable: int
    names: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, files: PictureFiles, wanted: Sequence[str], *, judged: bool) -> "_Report":
        rejected = list(files.rejected)
        return cls(
            title=files.title, total=len(wanted) + len(rejected), judged=judged, skipped=rejected,
            unreadable=len(rejected),
        )  # fmt: skip

    def recall(self, known: Mapping[str, Any]) -> None:
        """Take over what was written beside decoded pictures, which may not have been judged then."""
        self.skipped, self.notes = ([(str(name), str(said)) for name, said in known[k]] for k in ("skipped", "notes"))
        self.names, self.unreadable = list(known["names"]), int(known.get("unreadable", 0))
        self.judge()

    def judge(self) -> None:
        """Refuse the set where too many are unreadable, or none can be used."""
        self.judge_share()
        if self.judged and not self.names:
            first = "; ".join(f"{name}: {why}" for name, why in self.skipped[:_NAMED_FIRST])
            raise DataError(f"none of the pictures in {self.title} can be used", why=first, fix="look at the pictures")

    def judge_share(self) -> None:
        if not self.judged or self.unreadable <= self.total * _UNREADABLE_SHARE:
            return
        first = "; ".join(f"{name}: {why}" for name, why in self.skipped[:_NAMED_FIRST])
        raise DataError(
            f"more than 5 % of the {self.total} pictures in {self.title} cannot be used",
            why=first + ("; and more" if len(self.skipped) > _NAMED_FIRST else ""),
            fix="repair these files or take them out",
        )


def _decoded(
    files: PictureFiles, wanted: Sequence[str], reader: PhotoReader, report: _Report
) -> Iterator[NDArray[np.uint8]]:
    """Yield every readable picture, uint8 [3, R, R]; fill in ``report``."""
    for name in wanted:
        try:
            picture = read_picture(files.read(name), name=name)
        except DataError as error:
            report.skipped.append((name, error.why or error.what))
            report.unreadable += 1
            report.judge_share()  # going on would be in vain: the share can only grow
            continue
        try:
            photo = reader.find(picture, name=name)
        except DataError as error:  # a photo without a face is no reason to distrust the folder
            report.skipped.append((name, error.why or error.what))
            continue
        report.notes += [(name, note) for note in photo.remarks]
        report.names.append(name)
        yield photo.crops[0].transpose(2, 0, 1)
    report.judge()
