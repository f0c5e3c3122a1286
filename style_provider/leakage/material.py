"""What an audit attacks, and with what: bundle, pictures, strength (P-72, P-73).

Legend of shapes: B batch, R resolution.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from modify_fl.artifacts import LoadedStyle
from modify_fl.base.card import find_base
from modify_fl.base.start import Start, load_base
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError
from modify_fl.metrics.spaces import Spaces
from modify_fl.networks.discriminator import Discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.streams import generator
from style_provider.holdout import weights_digest

__all__ = ["ENOUGH", "Material", "Reference", "Strength", "chunks"]

ENOUGH = 10
"""Images of each side below which an attack that compares both is not tried: nothing could be told (P-78)."""

_VERSION = 3
"""Rises when an attack changes, so that earlier results are not taken for new ones."""


def chunks(count: int, size: int) -> Iterator[list[int]]:
    """Yield ``range(count)`` in parts of at most ``size``."""
    for start in range(0, count, size):
        yield list(range(start, min(start + size, count)))


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How hard the attacks try; the defaults are the standard form (P-74, P-76)."""

    generated: int = 2001
    """Pictures drawn by all routes together."""
    compared: int = 72
    """Images of each side that are completed and inverted; 0 leaves both attacks out."""
    starts: int = 8
    """Starts of a completion."""
    first_steps: int = 10
    """Steps of every start."""
    kept: int = 2
    """Starts that go on, those best on the visible half."""
    last_steps: int = 30
    """Further steps of these."""

    def __post_init__(self) -> None:
        """Check every field."""
        if self.generated < 1 or self.compared < 0 or not 1 <= self.kept <= self.starts:
            raise ConfigError("an audit draws pictures, and keeps some of its starts", got=str(asdict(self)))

    def scaled(self, share: float) -> Self:
        """Return an attack that draws, completes and inverts about ``share`` as much, never more (``--budget``)."""
        if share >= 1:
            return self
        generated, compared = max(30, int(self.generated * share)), int(self.compared * share)
        return replace(self, generated=generated, compared=compared if compared >= ENOUGH else 0)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model that never saw the style images alone: it says how easy a picture is for any model (P-77)."""

    name: str
    """Such as ``base-64``."""
    model: StyleModel
    """Its E, D and offset."""
    critic: Discriminator
    """Its Dis."""

    @classmethod
    def find(cls, style: LoadedStyle) -> Self | None:
        """Return the base that fits the networks of a style, where one came with the package."""
        card = find_base(style.network)
        if card is None:
            return None
        start: Start = load_base(card, style.network)
        model, critic = StyleModel.build(style.network, 0), Discriminator(style.network)
        start.apply(model, critic)
        for part in (model, critic):
            part.eval().requires_grad_(requires_grad=False)
        return cls(name=card.name, model=model, critic=critic)


@dataclass(frozen=True, kw_only=True)
class Material:
    """A checked request: the exported bundle as a reader has it, and the provider's pictures."""

    style: LoadedStyle
    """Came through the verifying loader (P-73)."""
    trained: ImageSet
    """Images that were trained on: copies are sought among all of them."""
    members: ImageSet
    """One of each work among them: compared with ``held``, as images of one work are no independent evidence (P-78)."""
    held: ImageSet
    """One image of each work that was set aside before training; may be none (P-72)."""
    photos: ImageSet
    """Public photos, as any reader has."""
    spaces: Spaces
    """Where distances are measured."""
    reference: Reference | None
    """Calibrates membership scores where there is one."""
    seed: int
    """Of everything that is drawn."""
    strength: Strength = field(default_factory=Strength)
    """How hard the attacks try."""

    @property
    def comparable(self) -> bool:
        """Whether both sides have images enough for attacks that compare them."""
        return min(len(self.members), len(self.held)) >= ENOUGH

    @cached_property
    def sample(self) -> tuple[ImageSet, ImageSet]:
        """Trained and held-out images for the expensive attacks, the same number of each where there are enough."""
        return (self._sample(self.members, "members"), self._sample(self.held, "held-out"))

    def _sample(self, images: ImageSet, stream: str) -> ImageSet:
        order = torch.randperm(len(images), generator=generator(self.seed, f"audit-{stream}")).tolist()
        return images.subset(sorted(order[: self.strength.compared]))

    @property
    def key(self) -> str:
        """SHA-256, hex, over all that decides the figures: earlier work with the same key is taken over."""
        parts = {
            "version": _VERSION, "weights": weights_digest(self.style.manifest), "trained": self.trained.digest,
            "held": self.held.digest, "photos": self.photos.digest, "spaces": self.spaces.names, "seed": self.seed,
            "reference": self.reference.name if self.reference else None, "strength": asdict(self.strength),
            "critic": self.style.discriminator is not None,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def public_codes(self) -> Tensor:
        """E of the public photos, float32 [P, n, W]; P at least 2."""
        with torch.no_grad():
            parts = [self.style.model.encode(self.photos.batch(part)) for part in chunks(len(self.photos), 32)]
        return torch.cat(parts)
