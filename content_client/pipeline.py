"""Photos read and searched ahead, pictures written behind, by threads, while others are painted (U-45, U-66).

What is held at a time is bounded in pixels, so a folder of large photos needs no
more memory than a few of them. Each kind of work has a pool of its own: nothing
queues behind what waits for a disk, or for a face to be found.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from content_client.photos import Photo
from content_client.results import Record
from modify_fl.console import Console
from modify_fl.errors import DataError
from modify_fl.faces.decode import Picture, count_pixels, read_picture
from modify_fl.photo import PhotoReader, ReadPhoto
from modify_fl.training.interrupt import StopRequest

__all__ = ["Ahead", "Batch", "Behind", "Written", "impatient"]

_AHEAD = 16  # files read, and photos decoded and searched, while others are painted
_BEHIND = 16  # photos waiting to be written
_PIXELS = 64_000_000  # of the photos that are held at a time
_SWITCH = 1e-4  # seconds

Written = tuple[int, Record]
Batch = list[tuple[int, ReadPhoto | Record]]
File = tuple[int, bytes | DataError | OSError]


@contextmanager
def impatient() -> Iterator[None]:
    """Let no thread keep the interpreter for long: the one that paints gives it away in every call of torch."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Behind:
    """Photos that are being written, and how many pixels they hold."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: deque[tuple[Future[Written], int]] = deque()

    def add(self, written: "Future[Written]", pixels: int) -> None:
        """Take note of a photo that is being written."""
        self._waiting.append((written, pixels))

    def wait(self, pixels: int) -> None:
        """Wait until no more than so many pixels, and no more than a few photos, are held."""
        while (held := [(f, p) for f, p in self._waiting if not f.done()]) and (
            len(held) > _BEHIND or sum(p for _, p in held) > pixels
        ):
            wait([future for future, _ in held], return_when=FIRST_COMPLETED)

    def finished(self) -> Iterator[Written]:
        """Yield the first ones, as far as they are written."""
        while self._waiting and self._waiting[0][0].done():
            yield self._waiting.popleft()[0].result()

    def all(self) -> Iterator[Written]:
        """Yield all, in order."""
        while self._waiting:
            yield self._waiting.popleft()[0].result()


@dataclass(frozen=True)
class _Read:
    """A photo that is being decoded and searched."""

    index: int
    pixels: int
    photo: Future[ReadPhoto]


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Reads photos and cuts their faces out while others are painted."""

    console: Console
    """Told which photos are left out, and why."""
    reader: PhotoReader
    """Finds the faces."""
    together: int
    """Faces that are painted together; more would only make the painter wait."""
    keep_metadata: bool = False
    """Keep a photo's metadata, all but the place (U-67)."""

    def batches(
        self, photos: Sequence[Photo], indices: Sequence[int], behind: Behind, stop: StopRequest
    ) -> Iterator[Batch]:
        """Yield photos with their faces, as many as are painted together; a record for what cannot be used.

        Args:
            photos: All of them.
            indices: Those that are wanted, in order.
            behind: What it holds counts too.
            stop: Ends the reading.
        """
        left, files, ahead = deque(indices), deque[tuple[int, Future[File]]](), deque[_Read]()
        batch: Batch = []
        faces = pixels = 0
        with ThreadPoolExecutor(1) as disk, ThreadPoolExecutor(1) as searchers:
            while (left or files or ahead) and not stop.requested:
                while left and len(files) < _AHEAD:
                    index = left.popleft()
                    files.append((index, disk.submit(_file, photos[index])))
                while files and len(ahead) < _AHEAD:
                    index, (own, data) = files[0][0], files[0][1].result()
                    behind.wait(_PIXELS - own - pixels)
                    if ahead and own + pixels + sum(read.pixels for read in ahead) > _PIXELS:
                        break
                    files.popleft()
                    ahead.append(_Read(index, own, searchers.submit(self._search, photos[index], data)))
                index, found = self._found(photos, ahead.popleft())
                batch.append((index, found))
                if isinstance(found, ReadPhoto):
                    faces, pixels = faces + len(found.crops), pixels + found.pixels
                del found  # the last reference to a large photo must not wait for the next one
                if faces >= self.together or pixels >= _PIXELS // 2:
                    yield batch
                    batch, faces, pixels = [], 0, 0
                    self.console.note(f"{index + 1} of {len(photos)} photos")
            for read in ahead:  # after a stop: nobody wants them
                read.photo.cancel()
            yield batch

    def _search(self, photo: Photo, data: bytes | DataError | OSError) -> ReadPhoto:
        """Decode a photo and cut its faces out; runs in a thread of its own."""
        return self.reader.find(self._decode(photo, data), name=photo.name)

    def _decode(self, photo: Photo, data: bytes | DataError | OSError) -> Picture:
        if not isinstance(data, bytes):
            raise data
        return read_picture(data, name=photo.name, metadata=self.keep_metadata)

    def _found(self, photos: Sequence[Photo], read: _Read) -> tuple[int, ReadPhoto | Record]:
        """Return a photo with its faces; the record of one that cannot be used, which is told."""
        name = photos[read.index].name
        try:
            photo = read.photo.result()
        except (DataError, OSError) as error:
            reason = getattr(error, "why", "") or str(error)
            self.console.warn(f"{name} left out: {reason}")
            return read.index, Record(photo=name, status="failed", reason=reason)
        for remark in (*photo.skipped, *photo.remarks):
            self.console.warn(f"{name}: {remark}")
        return read.index, photo


def _file(photo: Photo) -> File:
    """Return how many pixels a photo will have and its file, or why it cannot be read: errors are told in one place."""
    try:
        data = photo.read()
    except (DataError, OSError) as error:
        return 0, error
    return count_pixels(data), data
