"""Pictures in, photo by photo; figures of the whole set out (M-44, M-45).

A collector keeps features, embeddings and one diversity a photo, never a
picture: about 8 kB for each picture that was measured.

Legend of shapes: B photos of one batch, P photos, S pictures of each, R resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modify_fl.errors import ShapeError
from modify_fl.metrics.distances import fid, kid
from modify_fl.metrics.figures import Estimate, Measurement, mean_estimate, unavailable
from modify_fl.metrics.identity import PairHistogram, cosines, identity_auc, identity_cosine, pair_histogram
from modify_fl.metrics.instruments import Instruments
from modify_fl.metrics.perceptual import pairwise_lpips

__all__ = ["LABELS", "Collector", "as_images"]

LABELS: Mapping[str, str] = {
    "kid": "KID x 1000",
    "fid": "FID",
    "lpips_diversity": "LPIPS diversity",
    "identity_cosine": "identity cosine",
    "identity_auc": "identity AUC",
}
"""Names of the figures of a set, as printed."""


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """Return pixels as the networks see them.

    Args:
        pixels: uint8 [N, R, R, 3].

    Returns:
        float32 [N, 3, R, R] in [-1, 1] (M-1).
    """
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@dataclass(kw_only=True)
class Collector:
    """Measures one kind of pictures: those of the style, or of a baseline."""

    instruments: Instruments
    """The measuring networks."""
    seeds: tuple[int, ...] = ()
    """Styles of the pictures of each photo; empty for photos themselves."""
    resolution: int = 0
    """R, known with the first batch."""
    _features: list[Tensor] = field(default_factory=list)
    _embeddings: list[Tensor] = field(default_factory=list)
    _diversity: list[float] = field(default_factory=list)
    _photos: int = 0
    _each: int = 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Measure the pictures of some photos.

        Args:
            pixels: As they would be saved, uint8 [B, S, R, R, 3]; S is the same in every batch.

        Raises:
            ShapeError: Shapes do not fit those before.
        """
        if pixels.ndim != 5 or (self._photos and pixels.shape[1] != self._each):
            raise ShapeError(
                "pictures come photo by photo", expected="[B, S, R, R, 3] with one S", got=str(list(pixels.shape))
            )
        count, self._each, self.resolution = pixels.shape[0], pixels.shape[1], pixels.shape[2]
        self._photos += count
        flat = pixels.reshape(-1, *pixels.shape[2:])  # [B S, R, R, 3]
        if self.instruments.inception is not None:
            self._features.append(self.instruments.inception.features(flat))
        if self.instruments.face is not None:
            with torch.no_grad():
                embedded = self.instruments.face(as_images(flat))  # [B S, d]
            self._embeddings.append(embedded.reshape(count, self._each, -1))
        if self.instruments.lpips is not None and self._each > 1:
            self._diversity += [pairwise_lpips(self.instruments.lpips, as_images(row)) for row in pixels]

    @property
    def features(self) -> Tensor | None:
        """Inception features, float32 [P S, 2048], photo by photo; none without the network."""
        return torch.cat(self._features) if self._features else None

    @property
    def embeddings(self) -> Tensor | None:
        """Unit embeddings of faces, float32 [P, S, d]; none without the network."""
        return torch.cat(self._embeddings) if self._embeddings else None

    def part(self, photos: Sequence[int]) -> "Collector":
        """Return what was measured of some photos alone, such as those of one site.

        Args:
            photos: Their positions in the order they were added.
        """
        chosen = list(photos)
        features, embeddings = self.features, self.embeddings
        kept = Collector(instruments=self.instruments, seeds=self.seeds, resolution=self.resolution)
        kept._photos, kept._each = len(chosen), self._each
        if features is not None:
            kept._features = [features.reshape(self._photos, self._each, -1)[chosen].flatten(0, 1)]
        if embeddings is not None:
            kept._embeddings = [embeddings[chosen]]
        if self._diversity:
            kept._diversity = [self._diversity[index] for index in chosen]
        return kept

    def distances(self, reference: Tensor | None, *, seed: int) -> dict[str, Measurement]:
        """Return KID and FID to a set of features (M-44).

        Args:
            reference: float32 [Q, 2048]; none without the network.
            seed: Of subsets and bootstrap.
        """
        own, size = self.features, None if reference is None else len(reference)
        if own is None or reference is None:
            nothing = unavailable(self.instruments.missing.get("inception", "no features"))
            found = {"kid": nothing, "fid": nothing}
        else:
            found = {
                "kid": kid(own, reference, photos=self._photos, seed=seed),
                "fid": fid(own, reference, photos=self._photos, seed=seed),
            }
        return {key: self._named(key, estimate, reference=size) for key, estimate in found.items()}

    def diversity(self, *, seed: int) -> dict[str, Measurement]:
        """Return LPIPS diversity: the mean over photos of the pairwise distances (M-44)."""
        if self.instruments.lpips is None:
            estimate = unavailable(self.instruments.missing["lpips"])
        elif self._each < 2:
            estimate = unavailable("it needs two styles or more")
        else:
            estimate = mean_estimate(torch.tensor(self._diversity, dtype=torch.float64), seed=seed)
        return {"lpips_diversity": self._named("lpips_diversity", estimate)}

    def identity(self, photos: "Collector", *, seed: int) -> dict[str, Measurement]:
        """Return cosine and AUC against the photos (M-44).

        Args:
            photos: The photos, one picture each, in the same order.
            seed: Of the bootstrap.
        """
        faces, own = photos.embeddings, self.embeddings
        if faces is None or own is None:
            nothing = unavailable(self.instruments.missing.get("face", "no embeddings"))
            found: dict[str, Estimate] = {"identity_cosine": nothing, "identity_auc": nothing}
        else:
            found = {
                "identity_cosine": identity_cosine(faces[:, 0], own, seed=seed),
                "identity_auc": identity_auc(faces[:, 0], own, seed=seed),
            }
        return {key: self._named(key, estimate) for key, estimate in found.items()}

    def likeness(self, photos: "Collector") -> PairHistogram | None:
        """Return how the cosines of all pairs are spread; none without the network.

        Args:
            photos: The photos, one picture each, in the same order.
        """
        faces, own = photos.embeddings, self.embeddings
        return None if faces is None or own is None else pair_histogram(faces[:, 0], own)

    def least_alike(self, photos: "Collector", count: int) -> list[int]:
        """Return the photos whose pictures are least like them, worst first; none without the network.

        Args:
            photos: The photos, one picture each, in the same order.
            count: At most so many.
        """
        faces, own = photos.embeddings, self.embeddings
        if faces is None or own is None:
            return []
        chosen: list[int] = cosines(faces[:, 0], own).mean(1).argsort(stable=True)[:count].tolist()
        return chosen

    def _named(self, key: str, estimate: Estimate, *, reference: int | None = None) -> Measurement:
        return Measurement.of(
            LABELS[key], estimate, n=self._photos * self._each, reference=reference, resolution=self.resolution,
            seeds=self.seeds,
        )  # fmt: skip
