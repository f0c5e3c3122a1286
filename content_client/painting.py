"""Photos through a loaded style: read, paint, put back, write (U-45, U-60 to U-67).

Faces are painted in the main thread, those of several photos in one batch; threads
read and search photos ahead, and put pictures back and write them behind (``pipeline``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from content_client.introduction import introduce, used_before
from content_client.overview import SHEET_ROWS, WHOLE_SIDE, Overview
from content_client.pipeline import Ahead, Behind, Written, impatient
from content_client.results import Job, Journal, Record, write_records
from modify_fl.config import Runtime
from modify_fl.console import Console, ItemsFailedError
from modify_fl.data import to_uint8
from modify_fl.errors import DataError, InterruptedRunError, MissingWeightsError
from modify_fl.faces.decode import Picture, save_png
from modify_fl.perceptual import FaceNet, PerceptualNets
from modify_fl.photo import PhotoReader, ReadPhoto, faces_of, similarity
from modify_fl.style import Style
from modify_fl.styles import Controls
from modify_fl.training.interrupt import StopRequest
from modify_fl.training.runtime import resolve
from protocol.encryption import Identity
from protocol.trust import TrustStore

__all__ = ["Options", "Painter", "load_style"]

_NAMED = 10
_REPAIR = "repair them, then run the command for them alone with another --out"  # what is there is not replaced

Pixels = NDArray[np.uint8]


def load_style(
    bundle: Path, adapter: Path | None, threads: int | None, *, identity: Identity | None, console: Console
) -> Style:
    """Verify and load a style from the user's trust store, computing on the CPU (M-40).

    Args:
        bundle: The ``.mdfy`` file.
        adapter: An ``.mdfa`` file made for it, if any.
        threads: Compute threads; the cores this process may use if none.
        identity: The user's own age identity.
        console: Says what is wrong with the trust store, if anything is.

    Raises:
        ProtocolError: Verification failed; nothing was loaded.
    """
    resolve(Runtime(device="cpu", threads=threads, precision="fp32"))
    trust = TrustStore.default()
    used = used_before(trust)
    style = Style.load(bundle, trust=trust, adapter=adapter, identity=identity)
    for warning in style.loaded.bundle.warnings:
        console.warn(warning)
    introduce(console, style.loaded.bundle, used)
    return style


@dataclass(frozen=True, kw_only=True)
class Options:
    """What else is done with a picture."""

    refine: int = 0
    """Steps of test-time training on each face before it is painted (M-35)."""
    seed: int = 0
    """Of that training."""
    scores: bool = False
    """Measure how like each face is to its photo (U-8)."""
    keep_metadata: bool = False
    """Keep a photo's metadata, all but the place (U-67)."""
    provenance: bool = True
    """Leave a note on bundle, style and settings in the picture (U-67)."""


@dataclass(frozen=True, kw_only=True)
class _Painted:
    """A photo between painting and writing."""

    index: int
    photo: ReadPhoto
    faces: Pixels
    """Its painted faces, uint8 [S, B, R, R, 3]."""
    notes: Sequence[Mapping[str, object]]
    """Figures of each face: losses and scores, where asked for."""


@dataclass(kw_only=True)
class Painter:
    """Paints photos and keeps a record of each."""

    console: Console
    """Says what happens."""
    style: Style
    """The verified style, with its adapter."""
    reader: PhotoReader
    """Finds the faces."""
    controls: Controls
    """How the styles are applied."""
    options: Options
    """What else is done."""
    overview: Overview = field(init=False)
    """The contact sheet."""

    def __post_init__(self) -> None:
        """Begin a contact sheet: of whole photos, or of faces at their own size."""
        self.overview = Overview(side=WHOLE_SIDE if self.reader.align else self.style.resolution)

    @cached_property
    def _version(self) -> str:
        return version("modify-fl")

    @cached_property
    def nets(self) -> PerceptualNets:
        """The networks that refining trains with."""
        return PerceptualNets.find()

    @cached_property
    def judge(self) -> FaceNet:
        """The network that scores likeness; no training used it."""
        found = PerceptualNets.find(identity="casia-webface").face
        if found is None:
            raise MissingWeightsError(
                "likeness cannot be scored without a face network",
                fix="run content-client weights fetch, or leave out --scores",
            )
        return found

    def run(self, job: Job, *, fresh: bool) -> Mapping[str, object]:
        """Paint every photo, or those that an unfinished run left, and return the result of the command.

        Args:
            job: Photos, names and styles.
            fresh: Start anew where an unfinished run is.

        Raises:
            ConfigError: A setting does not fit the style, or an unfinished run had others.
            DataError: None of the photos can be used; nothing was written.
            InterruptedRunError: A signal asked for a stop; the same command goes on.
            ItemsFailedError: Some photos cannot be used; the others were painted.
            StorageError: A picture cannot be written.
        """
        self.controls.check(self.style.loaded.network.style_rows)
        rows = self.style.rows(job.styles, self.controls)
        if self.options.scores:
            self.judge  # noqa: B018 - a missing network is told before any work
        with Journal(job.journal, self._settings(job), fresh=fresh) as journal:
            records = self._finished(job, journal)
            with StopRequest() as stop:
                for index, record in self._written(job, rows, set(records), stop):
                    records[index] = record
                    if record.outputs:
                        journal.add(record)
            if len(records) < len(job.photos):
                done = sum(bool(record.outputs) for record in records.values())
                raise InterruptedRunError("stopped", why=f"{done} of {len(job.photos)} photos are painted")
            return self._finish(job, [records[index] for index in range(len(job.photos))], journal)

    def _settings(self, job: Job) -> Mapping[str, object]:
        """Return all that decides the pictures (U-35)."""
        options = asdict(self.options) | {"crops": job.crops, "faces": self.reader.faces, "align": self.reader.align}
        return {
            "bundle": self.style.loaded.digest, "adapter": self.style.adapter, "controls": asdict(self.controls),
            "styles": [style.identity for style in job.styles], "options": options,
        }  # fmt: skip

    def _finished(self, job: Job, journal: Journal) -> dict[int, Record]:
        """Return what an unfinished run left whole."""
        records = {}
        for index, photo in enumerate(job.photos):
            record = journal.finished(photo.name, job.stems[index], job.out)
            if record is not None:
                records[index] = record
                journal.add(record)
        if records:
            self.console.note(f"going on: {len(records)} of {len(job.photos)} photos are painted")
        return records

    @property
    def ahead(self) -> Ahead:
        """What reads the photos."""
        return Ahead(
            console=self.console, reader=self.reader, together=self.style.portion,
            keep_metadata=self.options.keep_metadata,
        )  # fmt: skip

    def _written(self, job: Job, rows: Tensor, done: set[int], stop: StopRequest) -> Iterator[Written]:
        """Yield the record of every photo that is not done, once its pictures are on disk."""
        left, behind = [index for index in range(len(job.photos)) if index not in done], Behind()
        with impatient(), ThreadPoolExecutor(2) as writers:
            for batch in self.ahead.batches(job.photos, left, behind, stop):
                yield from ((index, found) for index, found in batch if isinstance(found, Record))
                for painted in self._paint([(i, p) for i, p in batch if isinstance(p, ReadPhoto)], rows):
                    behind.add(writers.submit(self._write, job, painted), painted.photo.pixels)
                    del painted  # the last reference to a large photo must not wait for the next one
                batch.clear()
                yield from behind.finished()
            yield from behind.all()

    # Painting -----------------------------------------------------------------

    def _paint(self, photos: Sequence[tuple[int, ReadPhoto]], rows: Tensor) -> Iterator[_Painted]:
        if not photos:
            return
        faces = faces_of(photo for _, photo in photos)  # [B, 3, R, R]
        notes: list[dict[str, object]] = [{} for _ in faces]
        if self.options.refine:
            painted = torch.cat(
                [self._refined(face[None], rows, note) for face, note in zip(faces, notes, strict=True)], 1
            )
        else:
            painted = self.style.paint(faces, rows, self.controls)
        pixels, start = to_uint8(painted), 0  # [S, B, R, R, 3]
        for index, photo in photos:
            part = slice(start, start + len(photo.crops))
            if self.options.scores:
                scores = [similarity(self.judge, photo.crops, own) for own in pixels[:, part]]
                for note, *likeness in zip(notes[part], *scores, strict=True):
                    note["likeness"] = [round(value, 4) for value in likeness]
            yield _Painted(index=index, photo=photo, faces=pixels[:, part], notes=notes[part])
            start = part.stop

    def _refined(self, face: Tensor, rows: Tensor, note: dict[str, object]) -> Tensor:
        """Adapt to one face and paint it, float32 [S, 1, 3, R, R]; the losses go into ``note``."""
        done = self.style.refined(face, steps=self.options.refine, seed=self.options.seed, nets=self.nets)
        note["loss"] = [round(done.first_loss, 4), round(done.last_loss, 4)]
        return done.style.paint(face, rows, self.controls)

    # Writing ------------------------------------------------------------------

    def _write(self, job: Job, painted: _Painted) -> Written:
        """Put the faces back, write every style, and return the record; runs in a thread of its own."""
        photo, index = painted.photo, painted.index
        names = job.names(index, photo.numbers)
        shown = [photo.picture.pixels]
        for style, own, faces in zip(job.styles, names, painted.faces, strict=True):
            whole = photo.put_back(list(faces))
            for name, pixels in zip(own, faces if job.crops else [whole], strict=True):
                self._save(job.out / name, pixels, photo.picture if pixels is whole else None, style.mark)
            shown.append(whole)
        self.overview.add(index, shown)
        return index, Record(
            photo=job.photos[index].name, status="written", outputs=tuple(name for own in names for name in own),
            styles=tuple(style.mark for style in job.styles), skipped=photo.skipped, remarks=photo.remarks,
            faces=tuple({**_located(photo, at), **note} for at, note in enumerate(painted.notes)),
        )  # fmt: skip

    def _save(self, path: Path, pixels: Pixels, picture: Picture | None, mark: str) -> None:
        """Write a picture; what belongs to the photo besides its pixels fits a whole photo only."""
        whole = picture is not None and pixels.shape == picture.pixels.shape
        save_png(
            pixels, path, alpha=picture.alpha if picture and whole else None,
            metadata=picture.metadata if picture and self.options.keep_metadata else None, text=self._note(mark),
        )  # fmt: skip

    def _note(self, mark: str) -> dict[str, str]:
        """Return the provenance note: no path, no time (U-67)."""
        if not self.options.provenance:
            return {}
        note = {
            "bundle": self.style.loaded.digest, "style": mark, **asdict(self.controls), "refine": self.options.refine,
            "version": self._version,
        }  # fmt: skip
        return {"modify-fl": json.dumps(note, sort_keys=True)}

    # The end ------------------------------------------------------------------

    def _finish(self, job: Job, records: Sequence[Record], journal: Journal) -> Mapping[str, object]:
        if not any(record.outputs for record in records):
            raise DataError("none of the photos can be used", why=_reasons(records), fix="look at the files")
        self.overview.write(job, records)
        write_records(job.results, records)
        journal.complete()
        return self._report(job, records)

    def _report(self, job: Job, records: Sequence[Record]) -> Mapping[str, object]:
        written = sum(len(record.outputs) for record in records)
        failed = [record for record in records if not record.outputs]
        self.console.say(f"wrote {written} pictures of {len(records) - len(failed)} photos to {job.out}")
        self.console.say(f"contact sheet  {job.sheet}")
        if len(records) - len(failed) > SHEET_ROWS:
            self.console.say(f"it shows the first {SHEET_ROWS} photos")
        result = {
            "out": job.out, "contact_sheet": job.sheet, "results": job.results, "photos": len(records),
            "pictures": written, "faces": sum(len(record.faces) for record in records),
            "failed": [record.photo for record in failed], "styles": [style.mark for style in job.styles],
        }  # fmt: skip
        if failed:
            raise ItemsFailedError(
                f"{len(failed)} of {len(records)} photos failed", why=_reasons(failed), result=result, fix=_REPAIR
            )
        return result


def _located(photo: ReadPhoto, at: int) -> dict[str, object]:
    """Return where a face is and how it was found; nothing of a photo that is one aligned face."""
    if not photo.faces:
        return {}
    face = photo.faces[at]
    return {
        "number": photo.numbers[at], "box": [round(value) for value in face.box], "size": round(face.size),
        "found": face.path, "probability": round(face.probability, 4),
    }  # fmt: skip


def _reasons(records: Sequence[Record]) -> str:
    named = "; ".join(f"{record.photo}: {record.reason}" for record in records[:_NAMED])
    return named + ("; and more" if len(records) > _NAMED else "")
