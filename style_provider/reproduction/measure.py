"""Figures of the rows of a reproduction, all with one yardstick (M-44, M-45, M-46).

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from modify_fl.data import ImageSet, to_uint8
from modify_fl.metrics.collector import LABELS, Collector, as_images
from modify_fl.metrics.colour import recolour
from modify_fl.metrics.figures import Measurement, mean_estimate, unavailable
from modify_fl.metrics.instruments import Instruments
from style_provider.reproduction.painters import Painter
from style_provider.reproduction.task import Reproduction
from style_provider.reproduction.units import Figures

__all__ = ["HEADINGS", "ColourPainter", "Yardstick", "pooled"]

HEADINGS: Mapping[str, str] = {
    **LABELS,
    "to_photo": "LPIPS to the photo",
    "plain_identity_cosine": "identity cosine of D(E'(x))",
    "plain_identity_auc": "identity AUC of D(E'(x))",
    "plain_to_photo": "LPIPS of D(E'(x)) to the photo",
}
"""Names of all figures, as printed."""

_CHUNK = 8

Pixels = NDArray[np.uint8]


def pooled(figures: Sequence[Measurement]) -> Measurement:
    """Take one figure of several training seeds together (M-46).

    Args:
        figures: One for each seed, at least one.

    Returns:
        The mean as value; as ends the lowest and the highest end of any seed, so
        that the interval holds what other photos and other seeds would change.
        Nothing where a seed has no value.
    """
    known = [(each.value, each.low, each.high) for each in figures if each.value is not None]
    if len(known) < len(figures):
        return next(each for each in figures if each.value is None)
    ends = [end for _, low, high in known for end in (low, high) if end is not None]
    return replace(
        figures[0], value=sum(value for value, _, _ in known) / len(known),
        low=min(ends) if ends else None, high=max(ends) if ends else None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ColourPainter(Painter):
    """Reinhard's colour transfer: each photo with the colours of random style images (M-45)."""

    task: Reproduction
    """Photos, style images, and how many of them for each photo."""

    def painted(self, indices: Sequence[int]) -> Pixels:
        """See ``Painter``."""
        material = self.task.material
        return recolour(material.held_out, material.styles, indices, count=len(self.task.styles), seed=0)


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Measures painters on the held-out photos against the reference."""

    task: Reproduction
    """Pictures and instruments."""
    seed: int = 0
    """Of subsets and bootstrap; the same for every row."""
    _memory: dict[str, Collector] = field(default_factory=dict)

    def measure(self, painter: Painter, *, distances: bool = True) -> Figures:
        """Return the figures of one painter.

        Args:
            painter: A row of the table.
            distances: Whether KID and FID are among them; they take most of the time.
        """
        instruments = self.task.instruments if distances else _without_inception(self.task.instruments)
        styled = Collector(instruments=instruments, seeds=self.task.styles)
        bare, near, bare_near = Collector(instruments=_without_inception(instruments)), [], []
        photos = self.task.material.held_out
        for chunk in _chunks(photos):
            painted, plain = painter.painted(chunk), painter.plain(chunk)
            styled.add(painted)
            near.append(self._to_photos(chunk, painted))
            if plain is not None:
                bare.add(plain[:, None])
                bare_near.append(self._to_photos(chunk, plain[:, None]))
        found = {**styled.diversity(seed=self.seed), **styled.identity(self._plain, seed=self.seed)}
        if distances:
            found |= styled.distances(self._reference.features, seed=self.seed)
        found["to_photo"] = self._near("to_photo", near, len(self.task.styles))
        if bare_near:
            own = bare.identity(self._plain, seed=self.seed)
            found |= {f"plain_{key}": replace(each, name=HEADINGS[f"plain_{key}"]) for key, each in own.items()}
            found["plain_to_photo"] = self._near("plain_to_photo", bare_near, 1)
        return found

    def measure_photos(self) -> Figures:
        """Return KID and FID of the photos as they are: no stylization at all."""
        return self._raw.distances(self._reference.features, seed=self.seed)

    def measure_pictures(self, pictures: Pixels) -> Figures:
        """Return KID and FID of pictures that are not of held-out photos.

        Args:
            pictures: uint8 [B, S, R, R, 3], content by content.
        """
        collector = Collector(instruments=self.task.instruments, seeds=self.task.styles)
        for start in range(0, len(pictures), _CHUNK):
            collector.add(pictures[start : start + _CHUNK])
        return collector.distances(self._reference.features, seed=self.seed)

    @property
    def _reference(self) -> Collector:
        return self._collected("reference", self.task.material.reference, self.task.instruments)

    @property
    def _raw(self) -> Collector:
        return self._collected("raw", self.task.material.held_out, self.task.instruments)

    @property
    def _plain(self) -> Collector:
        """Return the held-out photos with embeddings only."""
        return self._collected("plain", self.task.material.held_out, _without_inception(self.task.instruments))

    def _collected(self, name: str, images: ImageSet, instruments: Instruments) -> Collector:
        if name not in self._memory:
            collector = Collector(instruments=instruments)
            for chunk in _chunks(images):
                collector.add(to_uint8(images.batch(chunk))[:, None])
            self._memory[name] = collector
        return self._memory[name]

    @torch.no_grad()
    def _to_photos(self, chunk: Sequence[int], pictures: Pixels) -> torch.Tensor:
        """Return the mean LPIPS between each photo and its pictures, float32 [B]; empty without the network."""
        lpips = self.task.instruments.lpips
        if lpips is None:
            return torch.empty(0)
        count = pictures.shape[1]
        photos = self.task.material.held_out.batch(chunk).repeat_interleave(count, 0)  # [B S, 3, R, R]
        flat = as_images(pictures.reshape(-1, *pictures.shape[2:]))  # [B S, 3, R, R]
        distance: torch.Tensor = lpips(photos, flat).cpu().reshape(len(chunk), count).mean(1)
        return distance

    def _near(self, key: str, parts: Sequence[torch.Tensor], each: int) -> Measurement:
        instruments, photos = self.task.instruments, self.task.material.held_out
        if instruments.lpips is None:
            estimate = unavailable(instruments.missing["lpips"])
        else:
            estimate = mean_estimate(torch.cat(list(parts)), seed=self.seed)
        return Measurement.of(HEADINGS[key], estimate, n=len(photos) * each, resolution=photos.resolution)


def _chunks(images: ImageSet) -> Iterator[list[int]]:
    for start in range(0, len(images), _CHUNK):
        yield list(range(start, min(start + _CHUNK, len(images))))


def _without_inception(instruments: Instruments) -> Instruments:
    missing = {**instruments.missing, "inception": "KID and FID were not asked for here"}
    return replace(instruments, inception=None, missing=missing)
