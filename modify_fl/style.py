"""A style in use: verified bundle, optional adapter, photos in, painted photos out.

This is the Python interface (U-50): the caller always names what is trusted;
the library logs and raises, it never prints. ``stylize`` takes whole photos,
``paint`` and its kin take aligned faces as tensors.

Letters: B faces, S styles, R resolution, n rows of a code, xi style rows, W width of a row.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from modify_fl.artifacts import LoadedStyle
from modify_fl.bundle import load_adapter, load_style
from modify_fl.config import PRESETS, Budget, Runtime, StylizationConfig, preset
from modify_fl.data import load_images, to_uint8
from modify_fl.errors import ConfigError, ShapeError
from modify_fl.metrics.colour import reinhard
from modify_fl.perceptual import PerceptualNets
from modify_fl.photo import PhotoReader, PhotoSource, Stylized, faces_of
from modify_fl.ready import bundle_path
from modify_fl.styles import Controls, Seeded, StyleChoice, draw_rows, seeded
from modify_fl.training.runtime import resolve
from modify_fl.training.stylization import adapt, adapt_to_photo
from protocol.encryption import Identity
from protocol.trust import TrustStore
from protocol.verify import open_bundle

if TYPE_CHECKING:
    from modify_fl.data import ImageSet

__all__ = ["Refined", "Style", "own_styles"]

_PORTION_PIXELS = 8 * 64**2


def own_styles(index: int, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return as many styles as ``seeds``, counted on from there, that no other photo has (M-44).

    A set of pictures shows what a style can do only if its styles differ from
    photo to photo: ten styles for all photos would be ten palettes.
    """
    first = seeds[0] + index * len(seeds)
    return tuple(range(first, first + len(seeds)))


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A style whose encoder was adapted to one face (M-35)."""

    style: "Style"
    """Paints that face."""
    first_loss: float
    """Equation 7 without its adversarial term before the first step."""
    last_loss: float
    """The same after the last one."""


class Style:
    """A style provider's model, ready to paint photos."""

    def __init__(self, loaded: LoadedStyle, encoder: nn.Module | None = None, *, adapter: str | None = None) -> None:
        """Use ``load``; this takes what is already verified.

        Args:
            loaded: The bundle's networks.
            encoder: E' of an adapter; the bundle's own E unless given.
            adapter: Payload digest of that adapter's file, hex, where there is one.
        """
        self.loaded, self.adapter = loaded, adapter
        self._encoder = encoder

    @classmethod
    def load(
        cls, path: Path | str, *, trust: TrustStore, adapter: Path | str | None = None, identity: Identity | None = None
    ) -> Self:
        """Verify a bundle, and an adapter for it, and load them.

        Args:
            path: The ``.mdfy`` file, or the name of a style that came with the package.
            trust: The keys that are accepted; there is no default (U-50).
            adapter: An ``.mdfa`` file made for this bundle.
            identity: The user's own age identity, for files that are encrypted
                or addressed to certain recipients.

        Raises:
            ProtocolError: Verification failed; nothing was loaded (B-25).
        """
        now = datetime.now(UTC)
        with open_bundle(bundle_path(Path(path)), trust=trust, now=now, identity=identity) as bundle:
            loaded = load_style(bundle)
        if adapter is None:
            return cls(loaded)
        with open_bundle(Path(adapter), trust=trust, now=now, identity=identity) as bundle:
            return cls(loaded, load_adapter(bundle, loaded), adapter=bundle.facts().payload_digest)

    @property
    def resolution(self) -> int:
        """Side of the painted faces in pixels."""
        return self.loaded.network.resolution

    def with_encoder(self, encoder: nn.Module) -> "Style":
        """Return this style with another E', such as one adapted to a photo."""
        return Style(self.loaded, copy.deepcopy(encoder))

    def require_alignment(self) -> None:
        """Refuse to align faces for a style whose faces stand otherwise (U-62).

        Raises:
            ConfigError: The bundle names another template than this package's.
        """
        if not self.loaded.aligned_like_ours:
            raise ConfigError(
                "this style wants faces aligned in a way that this version does not know",
                why="its bundle names another template", fix="align them yourself and add --no-align",
            )  # fmt: skip

    # Whole photos -------------------------------------------------------------

    def stylize(
        self, image: PhotoSource, *, seed: int | Sequence[int] = 0, faces: str = "all", align: bool = True,
        strength: float = 1.0, xi: int | None = None, width: int = 0, truncation: float = 1.0,
        preserve_color: bool = False, refine: int = 0, styles: Sequence[StyleChoice] | None = None,
    ) -> Stylized:  # fmt: skip
        """Paint the faces of one photo and put them back.

        Args:
            image: A path, a PIL image, pixels uint8 [H, W, 3], or an aligned
                face float32 [1, 3, R, R] in [-1, 1] (U-51).
            seed: The style, or several.
            faces: ``all``, ``largest``, or numbers from left to right, such as ``1,3`` (U-63).
            align: Find and align the faces; without, the central square is the face.
            strength: Share of the style, 0 to 1 (M-26).
            xi: Rows that the style takes, at most the trained number (M-25).
            width: Rows over which the cut is blended.
            truncation: psi of M-26.
            preserve_color: Keep the colours of the photo (U-9).
            refine: Steps of test-time training on each face first (M-35).
            styles: Any choices of ``modify_fl.styles`` instead of ``seed``.

        Returns:
            One picture for each style, the faces, and what was left out.

        Raises:
            ConfigError: A setting makes no sense.
            DataError: The photo cannot be read, or holds no face of a usable size.
            ShapeError: ``image`` is an array or a tensor of another kind.
        """
        controls = Controls(xi=xi, strength=strength, width=width, truncation=truncation, preserve_color=preserve_color)
        chosen = styles or seeded([seed] if isinstance(seed, int) else seed)
        align = align and not isinstance(image, Tensor)
        if align:
            self.require_alignment()
        reader = PhotoReader(resolution=self.resolution, faces=faces, align=align)
        photo = reader.read(image)
        crops = faces_of([photo])  # [B, 3, R, R]
        painted, losses = self.paint(crops, chosen, controls), []
        if refine:
            each = [self.refined(crop[None], steps=refine) for crop in crops]
            losses = [(one.first_loss, one.last_loss) for one in each]
            fine = [one.style.paint(crop[None], chosen, controls) for one, crop in zip(each, crops, strict=True)]
            painted = torch.cat(fine, 1)
        pictures = to_uint8(painted)  # [S, B, R, R, 3]
        return Stylized(photo=photo, painted=pictures, styles=tuple(chosen), losses=tuple(losses))

    def adapt(
        self, photos: "ImageSet | Path | str", *, budget: str | None = None, folder: Path | None = None, seed: int = 0,
        runtime: Runtime | None = None, align: bool = True,
    ) -> "Style":  # fmt: skip
        """Return this style with an encoder adapted to photos (stage 2, offline mode, equation 7).

        The result lives in this process; ``content-client adapt`` makes a file.

        Args:
            photos: Faces at the style's resolution, or a folder or ZIP file of photos.
            budget: Length, such as ``5m`` or ``200steps``; that of the preset unless given.
            folder: Home of the run, so that it can go on after a stop; a temporary one unless given.
            seed: Of everything that is drawn.
            runtime: Device, threads, precision.
            align: Find and align the largest face of each photo in a folder.

        Raises:
            DataError: The photos cannot be used.
        """
        if isinstance(photos, Path | str):
            photos = load_images(photos, resolution=self.resolution, align=align)
        with tempfile.TemporaryDirectory() as temporary:
            adapted = adapt(
                self.loaded, photos, mode="offline", config=self.recipe(), seed=seed, runtime=runtime or Runtime(),
                budget=Budget.parse(budget) if budget else None, nets=PerceptualNets.find(),
                folder=folder or Path(temporary), emit=lambda _: None,
            )  # fmt: skip
        encoder = copy.deepcopy(self._encoder or self.loaded.model.encoder)
        encoder.load_state_dict({**encoder.state_dict(), **adapted.tensors})
        return Style(self.loaded, encoder)

    def recipe(self) -> StylizationConfig:
        """Return the recipe of stage 2 of the preset this style was made with; of the first preset if unknown."""
        name = self.loaded.manifest.provenance.training.preset
        return preset(name if name in PRESETS else next(iter(PRESETS))).stylization

    def refined(
        self, face: Tensor, *, steps: int = 50, seed: int = 0, nets: PerceptualNets | None = None,
        threads: int | None = None,
    ) -> Refined:  # fmt: skip
        """Adapt a copy of the encoder to one face (test-time mode, M-34, M-35).

        Args:
            face: float32 [1, 3, R, R] in [-1, 1].
            steps: Steps of training.
            seed: Of the run; the face's own seed follows from it and the pixels.
            nets: LPIPS and the face network; those on this machine unless given.
            threads: Compute threads.
        """
        if steps < 1:
            raise ConfigError(f"refining takes one step or more, got {steps}")
        compute = resolve(Runtime(device="cpu", threads=threads or torch.get_num_threads(), precision="fp32"))
        start = self.loaded
        if self._encoder is not None:
            start = replace(start, model=copy.deepcopy(start.model))
            start.model.encoder = self._encoder
        done = adapt_to_photo(
            start, face, config=replace(self.recipe(), test_time_steps=steps), seed=seed, compute=compute,
            nets=nets or PerceptualNets.find(),
        )  # fmt: skip
        style = Style(self.loaded, done.encoder)
        return Refined(style=style, first_loss=done.first_loss, last_loss=done.last_loss)

    # Aligned faces ------------------------------------------------------------

    def style_rows(self, seed: int, *, truncation: float = 1.0) -> Tensor:
        """Return M(z) for the style number ``seed``, float32 [1, xi, W]; see ``styles.draw_rows``."""
        return draw_rows(self.loaded.model, seed, truncation)

    def rows(self, styles: Sequence[StyleChoice], controls: Controls | None = None) -> Tensor:
        """Return the style rows of several choices, float32 [S, xi, W]."""
        psi = controls.truncation if controls else 1.0
        return torch.cat([style.rows(self.loaded.model, psi) for style in styles])

    @torch.no_grad()
    def paint(self, faces: Tensor, styles: Sequence[StyleChoice] | Tensor, controls: Controls | None = None) -> Tensor:
        """Paint aligned faces in one or several styles (M-25, M-26).

        Args:
            faces: float32 [B, 3, R, R] in [-1, 1].
            styles: S choices, or their ``rows``.
            controls: How the styles are applied.

        Returns:
            float32 [S, B, 3, R, R], clamped to [-1, 1].

        Raises:
            ShapeError: ``faces`` has another shape.
            ConfigError: ``controls`` asks for more rows than the style has.
        """
        controls = controls or Controls()
        controls.check(self.loaded.network.style_rows)
        rows = styles if isinstance(styles, Tensor) else self.rows(styles, controls)
        if not len(faces):
            return faces.new_empty(len(rows), *faces.shape)
        done = [self._paint_portion(part, rows, controls) for part in torch.split(faces, self.portion)]
        return torch.cat(done, 1)

    @property
    def portion(self) -> int:
        """Faces that go through the networks together, B'; always so many, so that a face gets the same bits alone."""
        return max(1, _PORTION_PIXELS // self.resolution**2)

    def _paint_portion(self, faces: Tensor, rows: Tensor, controls: Controls) -> Tensor:
        """Paint at most B' faces, float32 [S, b, 3, R, R]; the place of the missing ones is filled and thrown away."""
        model, count = self.loaded.model, len(faces)
        faces = torch.cat([faces, faces[-1:].expand(self.portion - count, -1, -1, -1)])  # [B', 3, R, R]
        codes, out = self._encode(faces), []
        for row in rows:
            own = row.expand(len(codes), -1, -1)  # [B', xi, W]
            code = model.blend(codes, own, xi=controls.xi, strength=controls.strength, width=controls.width)
            picture = model.decode(code).clamp(-1, 1)
            out.append(reinhard(picture, faces) if controls.preserve_color else picture)
        return torch.stack(out)[:, :count]  # [S, b, 3, R, R]

    @torch.no_grad()
    def paint_each(self, faces: Tensor, *, seeds: Sequence[Sequence[int]], xi: int | None = None) -> Tensor:
        """Paint every face in styles of its own.

        Args:
            faces: float32 [B, 3, R, R] in [-1, 1].
            seeds: S styles for each of the B faces; see ``own_styles``.
            xi: As in ``Controls``.

        Returns:
            float32 [B, S, 3, R, R], clamped to [-1, 1].
        """
        codes, out = self._encode(faces), []
        for column in zip(*seeds, strict=True):
            rows = self.rows([Seeded(seed) for seed in column])  # [B, xi, W]
            out.append(self.loaded.model.decode(self.loaded.model.blend(codes, rows, xi=xi)))
        return torch.stack(out, 1).clamp(-1, 1)

    @torch.no_grad()
    def reconstruct(self, faces: Tensor) -> Tensor:
        """Return D(E'(x)), the face in the style without M; float32 [B, 3, R, R] in [-1, 1].

        Raises:
            ShapeError: ``faces`` has another shape.
        """
        return self.loaded.model.decode(self._encode(faces)).clamp(-1, 1)

    def _encode(self, faces: Tensor) -> Tensor:
        side = self.resolution
        if faces.ndim != 4 or tuple(faces.shape[1:]) != (3, side, side):
            raise ShapeError(f"expected faces of shape [B, 3, {side}, {side}], got {list(faces.shape)}")
        return self.loaded.model.encode(faces, encoder=self._encoder)
