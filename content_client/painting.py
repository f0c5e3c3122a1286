"""Photos through a loaded style, and a record of what became of each (U-45, U-65 to U-67)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from content_client.photos import Job, Record, write_records
from modify_fl.config import Runtime
from modify_fl.console import Console, ItemsFailedError
from modify_fl.data import ImageSet, to_uint8
from modify_fl.errors import ConfigError, DataError
from modify_fl.faces.decode import fit_square, read_picture, save_png
from modify_fl.sheet import contact_sheet
from modify_fl.style import Style
from modify_fl.training.runtime import resolve
from protocol.encryption import Identity
from protocol.trust import TrustStore

__all__ = ["Painter", "load_style"]

_BATCH = 16
_SHEET_ROWS = 40
_NAMED = 10

Pixels = NDArray[np.uint8]
Rows = list[tuple[str, list[Pixels]]]


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
    style = Style.load(bundle, trust=TrustStore.default(), adapter=adapter, identity=identity)
    for warning in style.loaded.bundle.warnings:
        console.warn(warning)
    return style


@dataclass(kw_only=True)
class Painter:
    """Decodes, paints and writes photo by photo; keeps a record of each."""

    console: Console
    """Says what happens."""
    style: Style
    """The verified style, with its adapter."""
    xi: int | None
    """Rows that the style takes; as trained if none (M-25)."""
    strength: float
    """Share of the style in these rows, 0 to 1 (M-26)."""
    width: int
    """Rows over which the cut is blended."""
    provenance: bool
    """Whether pictures carry a note on bundle and settings (U-67)."""

    def run(self, job: Job) -> Mapping[str, object]:
        """Paint every photo and return the result of the command.

        Args:
            job: Photos, names and seeds.

        Raises:
            ConfigError: ``xi`` is larger than the style was trained for.
            DataError: None of the photos can be read; nothing was written.
            ItemsFailedError: Some photos cannot be read; the others were painted.
        """
        self._check()
        records: list[Record] = []
        rows: Rows = []
        for start in range(0, len(job.photos), _BATCH):
            chunk = range(start, min(start + _BATCH, len(job.photos)))
            records += self._chunk(job, chunk, rows)
            self.console.note(f"{len(records)} of {len(job.photos)} photos")
        if not rows:
            raise DataError("none of the photos can be read", why=_reasons(records), fix="check the files")
        self._sheet(job, rows)
        write_records(job.results, records)
        return self._report(job, records)

    def _check(self) -> None:
        trained = self.style.loaded.network.style_rows
        if self.xi is not None and self.xi > trained:
            raise ConfigError(
                f"this style was trained for at most {trained} rows (M-25)", expected=f"0 to {trained}",
                got=str(self.xi), fix=f"choose --xi {trained} or less",
            )  # fmt: skip

    def _chunk(self, job: Job, chunk: range, rows: Rows) -> Iterator[Record]:

        pixels: dict[int, Pixels] = {}
        failed: dict[int, str] = {}
        for index in chunk:
            photo = job.photos[index]
            try:
                picture = read_picture(photo.read(), name=photo.name)
            except (DataError, OSError) as error:
                failed[index] = getattr(error, "why", "") or str(error)
                self.console.warn(f"{photo.name} left out: {failed[index]}")
            else:
                pixels[index] = fit_square(picture.pixels, self.style.resolution)
        painted = self._paint(pixels, job.seeds)
        for index in chunk:
            name = job.photos[index].name
            if index in failed:
                yield Record(photo=name, status="failed", reason=failed[index])
                continue
            self._write(job, index, painted[index])
            if len(rows) < _SHEET_ROWS:
                rows.append((name, [pixels[index], *painted[index]]))
            yield Record(photo=name, status="written", outputs=job.names[index], seeds=job.seeds)

    def _paint(self, pixels: Mapping[int, Pixels], seeds: Sequence[int]) -> dict[int, list[Pixels]]:

        if not pixels:
            return {}
        stack = torch.from_numpy(np.stack(list(pixels.values())).transpose(0, 3, 1, 2).copy())  # [B, 3, R, R]
        photos = ImageSet.of(stack, [str(index) for index in pixels]).batch(range(len(pixels)))
        painted = self.style.stylize(photos, seeds=seeds, xi=self.xi, strength=self.strength, width=self.width)
        pictures = to_uint8(painted.transpose(0, 1))  # [B, S, R, R, 3]
        return {index: list(row) for index, row in zip(pixels, pictures, strict=True)}

    def _write(self, job: Job, index: int, pictures: Sequence[Pixels]) -> None:

        for name, seed, picture in zip(job.names[index], job.seeds, pictures, strict=True):
            save_png(picture, job.out / name, text=self._note(seed))

    def _note(self, seed: int) -> dict[str, str]:
        """Return the provenance note: no path, no time (U-67)."""
        if not self.provenance:
            return {}

        note = {
            "bundle": self.style.loaded.digest, "seed": seed, "xi": self.xi, "strength": self.strength,
            "width": self.width, "version": version("modify-fl"),
        }  # fmt: skip
        return {"modify-fl": json.dumps(note, sort_keys=True)}

    def _sheet(self, job: Job, rows: Sequence[tuple[str, list[Pixels]]]) -> None:

        columns = ["photo", *(f"seed {seed}" for seed in job.seeds)]
        sheet = contact_sheet([row for _, row in rows], columns=columns, names=[name for name, _ in rows])
        save_png(np.asarray(sheet), job.sheet)

    def _report(self, job: Job, records: Sequence[Record]) -> Mapping[str, object]:
        written = sum(len(record.outputs) for record in records)
        failed = [record for record in records if record.status == "failed"]
        self.console.say(f"wrote {written} pictures of {len(records) - len(failed)} photos to {job.out}")
        self.console.say(f"contact sheet  {job.sheet}")
        if len(records) - len(failed) > _SHEET_ROWS:
            self.console.say(f"it shows the first {_SHEET_ROWS} photos")
        result = {
            "out": job.out, "contact_sheet": job.sheet, "results": job.results, "photos": len(records),
            "pictures": written, "failed": [record.photo for record in failed], "seeds": list(job.seeds),
        }  # fmt: skip
        if failed:
            raise ItemsFailedError(
                f"{len(failed)} of {len(records)} photos failed", why=_reasons(failed), result=result
            )
        return result


def _reasons(records: Sequence[Record]) -> str:
    named = "; ".join(f"{record.photo}: {record.reason}" for record in records[:_NAMED])
    return named + ("; and more" if len(records) > _NAMED else "")
