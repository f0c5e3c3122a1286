"""Pictures that the bundle paints by itself, beside those it was trained on (P-74, P-75).

Three routes, all open to a reader: a public photo with a drawn style, a code
drawn like the codes of public photos, and the average code with a drawn style.

Legend of shapes: B batch, T training images and their mirror images, H held-out
images, n rows of a code, W width, R resolution.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modify_fl.data import ImageSet, to_uint8
from modify_fl.metrics.collector import as_images
from modify_fl.metrics.spaces import distances
from modify_fl.streams import generator
from style_provider.leakage.material import Material, chunks

__all__ = ["ROUTES", "Neighbours", "drawn", "measure_copies", "pictures_compared"]

ROUTES = ("public photo, drawn style", "code drawn like those of photos", "average code, drawn style")
"""Names of the routes; picture i takes route i modulo 3."""

_BATCH = 30
_SHIFT = 0.02
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_QUALITY = 75
_TAU = 0.95


@torch.no_grad()
def drawn(material: Material, indices: list[int]) -> Tensor:
    """Return pictures that a reader can draw, float32 [B, 3, R, R] clamped to [-1, 1].

    Args:
        material: The bundle and public photos.
        indices: Numbers of the pictures; each is a function of its number and the seed.
    """
    model, codes = material.style.model, material.public_codes
    z = torch.stack([_normal(material, i, material.style.network.z_dim) for i in indices])  # [B, Z]
    rows = model.remap(z)  # [B, xi, W]
    spread = codes.std(0)  # [n, W]
    whole = []
    for place, index in enumerate(indices):
        if index % 3 == 0:
            photo = codes[index // 3 % len(codes)]
            whole.append(model.fuse(photo[None], rows[place : place + 1])[0])
        elif index % 3 == 1:
            whole.append(codes.mean(0) + spread * _normal(material, index, codes[0].numel(), "code").view_as(spread))
        else:
            whole.append(model.fuse(model.offset.w_avg[None], rows[place : place + 1])[0])
    return model.decode(torch.stack(whole)).clamp(-1, 1)


def _normal(material: Material, index: int, size: int, stream: str = "z") -> Tensor:
    return torch.randn(size, generator=generator(material.seed, f"audit-{stream}", index))


def _embedded(material: Material, images: ImageSet) -> dict[str, Tensor]:
    """Return the vectors of images and, behind them, of their mirror images, by space."""
    parts = [material.spaces.embed(images.batch(part)) for part in chunks(len(images), 64)]
    mirrored = [material.spaces.embed(images.batch(part).flip(-1)) for part in chunks(len(images), 64)]
    return {name: torch.cat([part[name] for part in (*parts, *mirrored)]) for name in material.spaces.names}


def _jpeg(pictures: Tensor) -> Tensor:
    done = []
    for pixels in to_uint8(pictures):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
        done.append(np.asarray(Image.open(stream)))
    return as_images(np.stack(done))


def _shifted(pictures: Tensor, y: int, x: int) -> Tensor:
    """Move pictures by a few pixels; what comes in repeats the edge."""
    side = pictures.shape[-1]
    rows, columns = ((torch.arange(side) - by).clamp(0, side - 1) for by in (y, x))
    return pictures[:, :, rows][:, :, :, columns]


@torch.no_grad()
def _thresholds(material: Material, vectors: Mapping[str, Tensor]) -> dict[str, float]:
    """Return tau in pixels and perception: how far an image is from its own light changes, 95th percentile (P-75)."""
    spaces = replace(material.spaces, face=None)
    step, total = max(1, round(_SHIFT * material.trained.resolution)), len(material.trained)
    found: dict[str, list[Tensor]] = {name: [] for name in spaces.names}
    for part in chunks(total, 64):
        pictures = material.trained.batch(part)
        for y, x in _MOVES:
            changed = spaces.embed(_jpeg(_shifted(pictures, y * step, x * step)))
            for name, far in changed.items():
                found[name].append((far - vectors[name][part]).norm(dim=1))
    return {name: float(torch.cat(values).quantile(_TAU)) for name, values in found.items()}


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Distances of drawn pictures to the nearest images, by space; mirror images count as the image itself."""

    to_trained: Mapping[str, Tensor]
    """Of each drawn picture to the nearest training image, float32 [N]."""
    nearest: Mapping[str, Tensor]
    """Which training image that is, int64 [N]."""
    to_held: Mapping[str, Tensor]
    """Of each drawn picture to the nearest held-out image, float32 [N]; empty without such images."""
    to_fellows: Mapping[str, Tensor]
    """Of each drawn picture to the nearest of as many training images as there are held-out ones, float32 [N]."""
    floor: Mapping[str, Tensor]
    """Of each held-out image to the nearest training image, float32 [H]: real to real."""
    tau: Mapping[str, float]
    """In pixels and perception: below this distance a picture counts as the image itself (P-75)."""
    extracted: Tensor
    """Training images that were drawn: within tau in pixels and in perception, int64, each once."""


def pictures_compared(material: Material) -> int:
    """Return how many pictures are embedded: those drawn, both sets with their mirror images, and changed ones."""
    trained, held = len(material.trained), len(material.held)
    return material.strength.generated + 2 * (trained + held) + len(_MOVES) * trained


def measure_copies(material: Material) -> Iterator[tuple[int, Neighbours | None]]:
    """Draw pictures and measure how near they are to the images.

    Yields:
        The number of pictures done so far with nothing, and at the end with the result; of the last number
        see ``pictures_compared``.
    """
    trained, names = _embedded(material, material.trained), material.spaces.names
    held = _embedded(material, material.held) if len(material.held) else None
    count, others = len(material.trained), len(material.held)
    order = torch.randperm(count, generator=generator(material.seed, "audit-fellows"))[:others]
    fellows = torch.cat([order, order + count])
    tau = _thresholds(material, trained)
    rows: dict[str, dict[str, list[Tensor]]] = {
        name: {kind: [] for kind in ("trained", "which", "held", "fellows")} for name in names
    }
    extracted: set[int] = set()
    done = pictures_compared(material) - material.strength.generated
    yield done, None
    for part in chunks(material.strength.generated, _BATCH):
        vectors = material.spaces.embed(drawn(material, part))
        tables = {name: distances(vectors[name], trained[name]) for name in names}  # [B, T]
        near = torch.stack([tables[name] <= tau[name] for name in tau]).all(0)
        extracted |= {int(place) % count for place in near.any(0).nonzero()}
        for name, table in tables.items():
            best, which = table.min(1)
            rows[name]["trained"].append(best)
            rows[name]["which"].append(which % count)
            if held is not None:
                rows[name]["held"].append(distances(vectors[name], held[name]).min(1).values)
                rows[name]["fellows"].append(table[:, fellows].min(1).values)
        done += len(part)
        yield done, None

    def column(kind: str) -> dict[str, Tensor]:
        return {name: torch.cat(kinds[kind]) if kinds[kind] else torch.empty(0) for name, kinds in rows.items()}

    floor = {
        name: torch.empty(0) if held is None else distances(held[name][:others], trained[name]).min(1).values
        for name in names
    }
    yield done, Neighbours(
        to_trained=column("trained"), nearest=column("which"), to_held=column("held"), to_fellows=column("fellows"),
        floor=floor, tau=tau, extracted=torch.tensor(sorted(extracted), dtype=torch.long),
    )  # fmt: skip
