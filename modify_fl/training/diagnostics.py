"""Sample pictures and signs of collapse during stage 1 (M-54)."""

from pathlib import Path

import torch
from torch import Tensor

from modify_fl.config import NetworkConfig
from modify_fl.data import ImageSet, to_uint8
from modify_fl.faces.decode import save_png
from modify_fl.networks.model import StyleModel
from modify_fl.streams import generator
from modify_fl.training.terms import ImageTerms

__all__ = ["SampleBoard", "style_spread"]

_EVERY_IMAGES = 2000
_PICTURES = 8
_STYLES = 4
_SPREAD_MIN = 0.2
_VARIANCE_MIN = 0.01


class SampleBoard:
    """Eight fixed style images and four fixed z, looked at every 2 kimg.

    A board reads the networks and draws from streams of its own, so looking
    never changes what the run computes.
    """

    def __init__(self, images: ImageSet, network: NetworkConfig, seed: int) -> None:
        """Choose the pictures: the first eight of the set."""
        count = min(_PICTURES, len(images))
        self.pictures = images.batch(list(range(count)))
        self.others = images.batch([(i + count) % len(images) for i in range(min(_STYLES, len(images)))])
        self.noise = torch.randn(_STYLES, network.z_dim, generator=generator(seed, "board"))
        self.split = network.split
        self.variance_best = 0.0

    @staticmethod
    def due(images_seen: int, batch: int, total: int) -> bool:
        """Return whether the last step crossed a multiple of 2 kimg, or ended the run."""
        return images_seen // _EVERY_IMAGES > (images_seen - batch) // _EVERY_IMAGES or images_seen >= total

    @torch.no_grad()
    def write(
        self, model: StyleModel, terms: ImageTerms, folder: Path, images_seen: int, *, remapped: bool
    ) -> tuple[str, ...]:
        """Write the grid as PNG and look for collapse.

        Args:
            model: The averaged networks.
            terms: Gives the perceptual distance.
            folder: Gets ``<images seen>.png``: pictures, reconstructions and, in
                phase B, one row per z.
            images_seen: Names the file.
            remapped: Whether M has been trained.

        Returns:
            Warnings, one sentence each (M-54).
        """
        device = next(model.parameters()).device
        with terms.compute.autocast():
            codes = model.encode(self.pictures.to(device))
            rows = [self.pictures.to(device), model.decode(codes).float()]
            styles = model.remap(self.noise.to(device))
            restyled = _restyle(model, codes, styles)
            rows += restyled.unbind() if remapped else []
            references = model.encode(self.others.to(device))[:, self.split :]
        folder.mkdir(parents=True, exist_ok=True)
        grid = torch.cat([torch.cat(row.unbind(), dim=-1) for row in rows], dim=-2)  # [3, rows * R, pictures * R]
        save_png(to_uint8(grid), folder / f"{images_seen:08d}.png")
        found = list(self._variance_warning(codes))
        if remapped:
            spread = style_spread(restyled, terms) / max(style_spread(_restyle(model, codes, references), terms), 1e-9)
            if spread < _SPREAD_MIN:
                found.append(f"styles drawn by M hardly differ: {spread:.2f} of the spread of the style images (M-54)")
        return tuple(found)

    def _variance_warning(self, codes: Tensor) -> tuple[str, ...]:
        variance = float(codes[:, self.split :].float().var(0).mean()) if len(codes) > 1 else 0.0
        self.variance_best = max(self.variance_best, variance)
        if variance >= _VARIANCE_MIN * self.variance_best:
            return ()
        return ("style codes of different pictures have become equal (M-54): double gamma or halve the rate",)


def _restyle(model: StyleModel, codes: Tensor, styles: Tensor) -> Tensor:
    """Decode every picture with every style, float32 [S, B, 3, R, R]."""
    pictures = [model.decode(model.fuse(codes, rows.expand(len(codes), -1, -1))).float() for rows in styles.unbind()]
    return torch.stack(pictures)


@torch.no_grad()
def style_spread(restyled: Tensor, terms: ImageTerms) -> float:
    """Return how much styles differ on the same content.

    Args:
        restyled: The same B pictures in S styles, float32 [S, B, 3, R, R].
        terms: Gives the perceptual distance.

    Returns:
        Mean perceptual distance over all pairs of styles and all pictures; 0 for one style.
    """
    pairs = [(i, j) for i in range(len(restyled)) for j in range(i)]
    if not pairs:
        return 0.0
    return float(torch.stack([terms.perceptual(restyled[i], restyled[j]).mean() for i, j in pairs]).mean())
