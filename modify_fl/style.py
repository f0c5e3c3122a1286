"""A style in use: verified bundle, optional adapter, photos in, stylized photos out.

This is the Python interface (U-50): the caller always names what is trusted;
the library logs and raises, it never prints.
"""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_adapter, load_style
from modify_fl.errors import ShapeError
from modify_fl.networks.model import truncate
from modify_fl.streams import generator
from protocol.encryption import Identity
from protocol.trust import TrustStore
from protocol.verify import open_bundle

__all__ = ["Style", "own_styles"]


def own_styles(index: int, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return as many styles as ``seeds``, counted on from there, that no other photo has (M-44).

    A set of pictures shows what a style can do only if its styles differ from
    photo to photo: ten styles for all photos would be ten palettes.
    """
    first = seeds[0] + index * len(seeds)
    return tuple(range(first, first + len(seeds)))


class Style:
    """A style provider's model, ready to paint photos."""

    def __init__(self, loaded: LoadedStyle, encoder: nn.Module | None = None) -> None:
        """Use ``load``; this takes what is already verified.

        Args:
            loaded: The bundle's networks.
            encoder: E' of an adapter; the bundle's own E unless given.
        """
        self.loaded = loaded
        self._encoder = encoder

    @classmethod
    def load(
        cls, path: Path | str, *, trust: TrustStore, adapter: Path | str | None = None, identity: Identity | None = None
    ) -> Self:
        """Verify a bundle, and an adapter for it, and load them.

        Args:
            path: The ``.mdfy`` file.
            trust: The keys that are accepted; there is no default (U-50).
            adapter: An ``.mdfa`` file made for this bundle.
            identity: The user's own age identity, for files that are encrypted
                or addressed to certain recipients.

        Raises:
            ProtocolError: Verification failed; nothing was loaded (B-25).
        """
        now = datetime.now(UTC)
        with open_bundle(Path(path), trust=trust, now=now, identity=identity) as bundle:
            loaded = load_style(bundle)
        if adapter is None:
            return cls(loaded)
        with open_bundle(Path(adapter), trust=trust, now=now, identity=identity) as bundle:
            return cls(loaded, load_adapter(bundle, loaded))

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return self.loaded.network.resolution

    def with_encoder(self, encoder: nn.Module) -> "Style":
        """Return this style with another E', such as one adapted to a photo."""
        return Style(self.loaded, copy.deepcopy(encoder))

    def style_rows(self, seed: int, *, truncation_psi: float = 1.0) -> Tensor:
        """Return M(z) for the style number ``seed``, float32 [1, xi, W].

        Args:
            seed: Names the style; the same number is the same style for every photo.
            truncation_psi: 1 keeps M(z), 0 gives M's offset, which every style shares.
        """
        z = torch.randn(1, self.loaded.network.z_dim, generator=generator(seed, "style"))
        with torch.no_grad():
            mean: Tensor = self.loaded.model.remapping.offset
            return truncate(self.loaded.model.remap(z), mean, truncation_psi)

    @torch.no_grad()
    def stylize(
        self, photos: Tensor, *, seeds: Sequence[int], xi: int | None = None, strength: float = 1.0,
        width: int = 0, truncation_psi: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """Paint photos in one or several styles (M-25, M-26).

        Args:
            photos: Aligned photos, float32 [B, 3, R, R] in [-1, 1].
            seeds: One style each, S of them.
            xi: Style rows to use, 0 to the trained number; that number unless given.
            strength: Share of M(z) in the style rows, 0 to 1.
            width: Rows over which the cut is blended; 0 is a hard cut.
            truncation_psi: As in ``style_rows``.

        Returns:
            float32 [S, B, 3, R, R], clamped to [-1, 1].

        Raises:
            ShapeError: ``photos`` has another shape.
            ConfigError: ``xi``, ``strength`` or ``width`` is out of range.
        """
        codes = self._encode(photos)
        model, xi = self.loaded.model, self.loaded.network.style_rows if xi is None else xi
        out = []
        for seed in seeds:
            rows = self.style_rows(seed, truncation_psi=truncation_psi).expand(len(codes), -1, -1)
            out.append(model.decode(model.blend(codes, rows, xi=xi, strength=strength, width=width)))
        return torch.stack(out).clamp(-1, 1)  # [S, B, 3, R, R]

    @torch.no_grad()
    def stylize_each(self, photos: Tensor, *, seeds: Sequence[Sequence[int]], xi: int | None = None) -> Tensor:
        """Paint every photo in styles of its own.

        Args:
            photos: Aligned photos, float32 [B, 3, R, R] in [-1, 1].
            seeds: S styles for each of the B photos; see ``own_styles``.
            xi: As in ``stylize``.

        Returns:
            float32 [B, S, 3, R, R], clamped to [-1, 1].
        """
        codes, out = self._encode(photos), []
        for column in zip(*seeds, strict=True):
            rows = torch.cat([self.style_rows(seed) for seed in column])  # [B, xi, W]
            out.append(self.loaded.model.decode(self.loaded.model.blend(codes, rows, xi=xi)))
        return torch.stack(out, 1).clamp(-1, 1)

    @torch.no_grad()
    def reconstruct(self, photos: Tensor) -> Tensor:
        """Return D(E'(x)), the photo in the style without M; float32 [B, 3, R, R] in [-1, 1].

        Raises:
            ShapeError: ``photos`` has another shape.
        """
        return self.loaded.model.decode(self._encode(photos)).clamp(-1, 1)

    def _encode(self, photos: Tensor) -> Tensor:
        side = self.resolution
        if photos.ndim != 4 or tuple(photos.shape[1:]) != (3, side, side):
            raise ShapeError(f"expected photos of shape [B, 3, {side}, {side}], got {list(photos.shape)}")
        return self.loaded.model.encode(photos, encoder=self._encoder)
