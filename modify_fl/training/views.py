"""Photos as units of privacy: one picture, or one person, in one or several views (P-9, P-10, P-17).

Guarantees: what a unit shows at a step is a function of the seed, the step and
this unit's own pixels; never of its place among the others, so that a unit more
or less changes no other unit.

Letters: v views, R resolution.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl.augment import flip
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.privacy.settings import Unit
from modify_fl.streams import generator

__all__ = ["PhotoUnits", "group_photos", "shared_share"]

_SHIFT = 1 / 16


def group_photos(
    names: Sequence[str], unit: Unit, persons: Mapping[str, str] | None = None, *, judged: bool = True
) -> list[list[int]]:  # fmt: skip
    """Return the indices of the photos of each unit.

    Args:
        names: Relative path of each photo.
        unit: ``"image"`` puts each photo by itself.
        persons: Name of the person on each photo, by path; the first folder of the path where omitted.
        judged: Refuse all for a photo that does not say whose it is; without, such a photo is left out.

    Raises:
        ConfigError: The unit is a person, and, judged, a photo does not say whose it is.
    """
    if unit == "image":
        return [[index] for index in range(len(names))]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        parts = PurePosixPath(name).parts
        person = persons.get(name) if persons is not None else (parts[0] if len(parts) > 1 else None)
        if person is None and not judged:
            continue
        if person is None:
            raise ConfigError(
                "with --unit person every photo must say whose it is",
                why="at least one photo lies outside the folders of persons, or is not in the list of persons (P-10)",
                fix="put the photos of each person into a folder of their own, or name them all with --persons FILE",
            )
        groups.setdefault(person, []).append(index)
    return [groups[person] for person in sorted(groups)]


def shared_share(names: Sequence[str]) -> float:
    """Return the share of photos that lie in a sub-folder together with another one, 0 to 1 (P-9)."""
    homes = Counter(str(PurePosixPath(name).parent) for name in names)
    return sum(count for home, count in homes.items() if home != "." and count > 1) / max(1, len(names))


class PhotoUnits:
    """Reads the views of a unit."""

    def __init__(
        self, photos: ImageSet, groups: Sequence[Sequence[int]], *, seed: int, augmentations: int, per_person: int
    ) -> None:
        """Keep where the photos are.

        Args:
            photos: All photos.
            groups: Indices of each unit's photos.
            seed: Of the public draws.
            augmentations: K, views of each photo.
            per_person: m, most photos of a unit in one step.
        """
        self._photos, self._groups, self._seed = photos, [list(group) for group in groups], seed
        self._augmentations, self._most = augmentations, per_person

    def __len__(self) -> int:
        """Return the number of units: private, for drawing alone."""
        return len(self._groups)

    def __call__(self, index: int, step: int) -> Tensor:
        """Return the views of unit ``index`` at a step, float32 [v, 3, R, R], v at most K m."""
        photos = self._photos.batch(self._groups[index])
        if len(photos) > self._most:
            ranks = [self._draws("choice", photo, step).initial_seed() for photo in photos]
            photos = photos[sorted(sorted(range(len(photos)), key=ranks.__getitem__)[: self._most])]
        if self._augmentations == 1:
            return photos
        return torch.cat([self._views(photo, step) for photo in photos])

    def _views(self, photo: Tensor, step: int) -> Tensor:
        """Return the photo itself and K - 1 mirrored and shifted views, float32 [K, 3, R, R]."""
        draws, count, side = self._draws("views", photo, step), self._augmentations - 1, photo.shape[-1]
        margin = max(1, round(side * _SHIFT))
        padded = functional.pad(photo[None], (margin,) * 4, mode="replicate")[0]
        corners = torch.randint(0, 2 * margin + 1, (count, 2), generator=draws).tolist()
        shifted = torch.stack([padded[:, y : y + side, x : x + side] for y, x in corners])  # [K - 1, 3, R, R]
        return torch.cat([photo[None], flip(shifted, draws)])

    def _draws(self, what: str, photo: Tensor, step: int) -> torch.Generator:
        pixels = hashlib.sha256(photo.contiguous().numpy().tobytes()).hexdigest()
        return generator(self._seed, f"{what}/{pixels}", step)
