"""Images from the bundle's codes: reconstruction, completion, inversion (P-76), and what its critic says (P-77).

Every attack gives one number per image, larger where the image looks more like
one that was trained on.

Legend of shapes: B images, S starts, k content rows, n rows, W width, Z width of the noise, R resolution.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from modify_fl import losses
from modify_fl.data import ImageSet
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import Lpips
from modify_fl.streams import generator
from style_provider.leakage.material import Material, Strength, chunks

__all__ = [
    "COMPLETED_TOGETHER",
    "blur_errors",
    "complete",
    "critic_scores",
    "invert",
    "reconstruction_scores",
    "seek_codes",
    "seeking_steps",
]

COMPLETED_TOGETHER = 6
"""Images whose codes are sought together."""

_BATCH = 32
_RATE = 0.1
_INVERSION_STARTS = 2


@torch.no_grad()
def reconstruction_scores(model: StyleModel, images: ImageSet, lpips: Lpips | None) -> dict[str, Tensor]:
    """Return minus the error of D(E(y)) by kind, float32 [N] each (P-76 a)."""
    found: dict[str, list[Tensor]] = {}
    for part in chunks(len(images), _BATCH):
        target = images.batch(part)
        output = model.decode(model.encode(target)).clamp(-1, 1)
        found.setdefault("reconstruction, L1", []).append(-losses.absolute(target, output))
        if lpips is not None:
            found.setdefault("reconstruction, LPIPS", []).append(-lpips(target, output))
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def blur_errors(images: ImageSet) -> Tensor:
    """Return how far each image is from its own blur, float32 [N]: how difficult it is for any model (P-77).

    The blur has a quarter of the side; it stands in for a reference model where no base fits.
    """
    found = []
    for part in chunks(len(images), _BATCH):
        target = images.batch(part)
        coarse = functional.interpolate(target, size=target.shape[-1] // 4, mode="area")
        blurred = functional.interpolate(coarse, size=target.shape[-1], mode="bilinear", align_corners=False)
        found.append(losses.absolute(target, blurred))
    return torch.cat(found)


@torch.no_grad()
def critic_scores(critic: Discriminator, images: ImageSet) -> Tensor:
    """Return Dis(y), mean of an image and its mirror image, float32 [N]: real is what it was trained on (P-77)."""
    parts = []
    for part in chunks(len(images), _BATCH):
        pictures = images.batch(part)
        parts.append((critic(pictures) + critic(pictures.flip(-1))).flatten() / 2)
    return torch.cat(parts)


def complete(material: Material, images: ImageSet, part: list[int], stream: str) -> tuple[Tensor, Tensor]:
    """Seek the hidden lower half of images by codes that fit the upper half (P-76 b).

    Content codes begin at draws from those of public photos, styles at M(z); both
    move by Adam on the mean absolute error of the visible half. After the first
    steps the best starts go on, and the one that fits the visible half best is
    the completion.

    Args:
        material: The bundle and how hard to try.
        images: Where the images are.
        part: Which of them, B.
        stream: Name of the draws, other for other sets.

    Returns:
        Mean absolute error over the hidden half, float32 [B], and the completed pictures, float32 [B, 3, R, R].
    """
    model, split = material.style.model, material.style.model.split
    mean, spread = material.public_codes.mean(0)[:split], material.public_codes.std(0)[:split]  # [k, W]
    target, plan = images.batch(part), material.strength
    visible = torch.zeros(target.shape[-1])
    visible[: target.shape[-1] // 2] = 1
    sizes = ((*mean.shape,), (material.style.network.z_dim,))

    def paint(values: tuple[Tensor, Tensor]) -> Tensor:
        content = mean + spread * values[0]  # [B S, k, W]
        return model.decode(model.fuse(_padded(content, model), model.remap(values[1])))

    pictures = _seek(
        paint, target, visible[:, None],
        _draws(material, part, f"{stream}-completion", plan.starts, sizes),
        steps=(plan.first_steps, plan.last_steps), kept=plan.kept,
    )  # fmt: skip
    hidden = (pictures - target).abs() * (1 - visible[:, None])
    return hidden.sum((1, 2, 3)) / ((1 - visible).sum() * 3 * target.shape[-1]), pictures


def invert(material: Material, images: ImageSet, part: list[int], stream: str) -> tuple[Tensor, Tensor]:
    """Seek codes of whole images from random starts, all rows free (P-76 c).

    Arguments and result as in ``complete``, with the error over the whole image.
    """
    model, plan = material.style.model, material.strength
    mean, spread = material.public_codes.mean(0), material.public_codes.std(0)  # [n, W]
    target = images.batch(part)

    def paint(values: tuple[Tensor, ...]) -> Tensor:
        return model.decode(mean + spread * values[0])

    starts = min(_INVERSION_STARTS, plan.starts)
    pictures = _seek(
        paint, target, torch.ones(target.shape[-1], 1),
        _draws(material, part, f"{stream}-inversion", starts, ((*mean.shape,),)),
        steps=(plan.first_steps, plan.last_steps), kept=1,
    )  # fmt: skip
    return losses.absolute(pictures, target), pictures


def seek_codes(material: Material, images: ImageSet, part: list[int], stream: str) -> dict[str, Tensor]:
    """Complete and invert images; arguments as in ``complete``.

    Returns:
        Errors of ``"completion"`` and ``"inversion"``, float32 [B], and each completed ``"picture"``, [B, 3, R, R].
    """
    hidden, pictures = complete(material, images, part, stream)
    whole, _ = invert(material, images, part, stream)
    return {"completion": hidden, "inversion": whole, "picture": pictures}


def seeking_steps(strength: Strength) -> int:
    """Return steps that ``seek_codes`` takes for one image, over all its starts."""
    starts = strength.starts + min(_INVERSION_STARTS, strength.starts)
    return starts * strength.first_steps + (strength.kept + 1) * strength.last_steps


def _padded(content: Tensor, model: StyleModel) -> Tensor:
    """Return codes whose style rows are yet to be replaced, [N, n, W]."""
    rows = content.new_zeros(len(content), model.n_styles - model.split, content.shape[-1])
    return torch.cat([content, rows], 1)


def _draws(
    material: Material, part: list[int], stream: str, starts: int, sizes: tuple[tuple[int, ...], ...]
) -> list[Tensor]:
    """Return standard normal starts, [B S, ...] for each size; those of an image depend on its number alone."""
    found: list[list[Tensor]] = [[] for _ in sizes]
    for index in part:
        source = generator(material.seed, f"audit-{stream}", index)
        for place, size in enumerate(sizes):
            found[place].append(torch.randn(starts, *size, generator=source))
    return [torch.cat(draws) for draws in found]


def _seek(
    paint: Callable[..., Tensor], target: Tensor, visible: Tensor, values: list[Tensor], *, steps: tuple[int, int],
    kept: int,
) -> Tensor:  # fmt: skip
    """Return for each target the picture of the start that came nearest on what is visible, clamped, [B, 3, R, R]."""
    count = len(target)
    error = torch.empty(0)
    for length, keep in zip(steps, (kept, 1), strict=True):
        starts = len(values[0]) // count
        many = target.repeat_interleave(starts, 0)  # [B S, 3, R, R]
        values, error = _descend(paint, many, visible, values, length)
        best = error.view(count, starts).argsort(stable=True, dim=1)[:, :keep]  # [B, keep]
        rows = (best + torch.arange(count)[:, None] * starts).flatten()
        values = [value[rows] for value in values]
    with torch.no_grad():
        return paint(tuple(values)).clamp(-1, 1)


def _descend(
    paint: Callable[..., Tensor], target: Tensor, visible: Tensor, values: list[Tensor], steps: int
) -> tuple[list[Tensor], Tensor]:
    free = [value.detach().clone().requires_grad_() for value in values]
    optimizer = torch.optim.Adam(free, lr=_RATE)
    share = visible.mean()

    def errors() -> Tensor:
        return ((paint(tuple(free)) - target).abs() * visible).mean((1, 2, 3)) / share  # [B S]

    for _ in range(steps):
        optimizer.zero_grad()
        errors().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return [value.detach() for value in free], errors()
