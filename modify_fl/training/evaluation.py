"""Figures on held-out pictures (M-44); the full protocols have an issue of their own."""

import math

import torch

from modify_fl import losses
from modify_fl.data import ImageSet
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets

__all__ = ["reconstruction_report"]

_BATCH = 16


@torch.no_grad()
def reconstruction_report(model: StyleModel, images: ImageSet, nets: PerceptualNets) -> dict[str, float | None]:
    """Measure how well D(E(y)) gives back pictures that were not trained on.

    Args:
        model: E, D and the offset, in evaluation mode.
        images: Held-out pictures, N of them.
        nets: LPIPS and the face network, where found.

    Returns:
        Means over the N pictures: ``l1`` and ``psnr`` (dB; both in [-1, 1]
        units, peak 2), ``lpips``, ``identity`` (cosine similarity), and
        ``count``. A figure whose network is missing is none, never 0 (M-43).
    """
    sums: dict[str, float] = {}
    for start in range(0, len(images), _BATCH):
        pictures = images.batch(list(range(start, min(start + _BATCH, len(images)))))
        output = model.decode(model.encode(pictures)).clamp(-1, 1)
        figures = {
            "l1": losses.absolute(pictures, output),
            "psnr": 10 * torch.log10(4 / losses.reconstruction(pictures, output).clamp_min(1e-12)),
        }
        if nets.lpips is not None:
            figures["lpips"] = nets.lpips(pictures, output)
        if nets.face is not None:
            figures["identity"] = 1 - losses.identity(nets.face(pictures), nets.face(output))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + float(value.sum())
    count = len(images)
    means = {name: sums[name] / count if name in sums else None for name in ("l1", "psnr", "lpips", "identity")}
    return {**means, "count": float(count) if count else math.nan}
