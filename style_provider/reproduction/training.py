"""Everything that a reproduction trains: styles, adaptations, baselines (M-45, M-47).

Each is trained once for each seed, whichever experiment asks first. A style
goes through a bundle like any other, signed with a key that is made for it and
thrown away; nobody outside this folder is meant to trust it.

Legend of shapes: B photos of one batch, S styles, R resolution.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from modify_fl.artifacts import Encapsulated
from modify_fl.baselines.stargan import StarGan, StarGanSizes
from modify_fl.baselines.trainer import StarGanConfig
from modify_fl.baselines.training import train_stargan
from modify_fl.bundle import Release, write_style_bundle
from modify_fl.data import to_uint8
from modify_fl.style import Style, own_styles
from modify_fl.training.encapsulation import encapsulate
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.stylization import adapt, adapt_to_photo
from protocol.provider import issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import generate_key
from protocol.trust import TrustStore
from style_provider.reproduction.painters import PhotoPainter, StarGanPainter, StylePainter
from style_provider.reproduction.task import Reproduction
from style_provider.reproduction.units import Units

__all__ = ["Adaptation", "Trainings"]

Adaptation = Literal["none", "offline", "online", "unpaired"]

_KEY_LIFE = timedelta(days=365)


class Trainings:
    """Makes what is asked for, or takes it from the folder."""

    def __init__(self, task: Reproduction, units: Units) -> None:
        """Nothing is trained before it is asked for."""
        self.task, self.units = task, units
        self._styles: dict[str, Style] = {}
        self._photos: dict[str, dict[int, float]] = {}  # seconds of test-time training

    def style(self, seed: int, xi: int | None = None) -> Style:
        """Return the style of a training seed, packed, signed, verified and loaded.

        Args:
            seed: Training seed.
            xi: Another cut than the preset's (M-24).
        """
        name = _named("stage1", seed, xi)
        if name not in self._styles:
            self._styles[name] = self._load(name, seed, xi)
        return self._styles[name]

    def _load(self, name: str, seed: int, xi: int | None) -> Style:
        bundle = self.units.path(f"{name}.mdfy")
        if not bundle.is_file():
            made = self._encapsulate(name, seed, xi)
            self.units.spent(name, made.summary.seconds)
            self._sign(bundle, made)
        self.units.done(name)
        self.units.spent(name)
        provider = read_provider_key(bundle.with_suffix(".mdfykey"))
        return Style.load(bundle, trust=TrustStore.of(provider))

    def _encapsulate(self, name: str, seed: int, xi: int | None) -> Encapsulated:
        task, preset = self.task, self.task.preset_with(xi)
        with self.units.reports(name) as emit:
            return encapsulate(
                task.material.styles, preset=preset, budget=task.budget, seed=seed, runtime=task.runtime,
                nets=task.nets, folder=self.units.run(name), emit=emit, start=task.origin.load(preset.network),
            )  # fmt: skip

    def _sign(self, bundle: Path, made: Encapsulated) -> None:
        now, key = datetime.now(UTC).replace(microsecond=0), generate_key()
        provider = issue_provider_key(
            key, name="Reproduction", roles=("style",), not_before=now - timedelta(days=1), expires=now + _KEY_LIFE
        )
        write_provider_key(bundle.with_suffix(".mdfykey"), provider, overwrite=True)
        release = Release(
            name="Reproduction", description="made to be measured, not to be given away",
            images=len(self.task.material.styles), dataset_licence="not stated",
        )  # fmt: skip
        write_style_bundle(bundle, made, release=release, key=key, provider=provider, overwrite=True)

    def painter(self, seed: int, mode: Adaptation, *, xi: int | None = None) -> StylePainter:
        """Return a style whose encoder went through stage 2, or through nothing.

        Args:
            seed: Training seed, of both stages.
            mode: ``unpaired`` is ``offline`` with style images as real samples (M-45).
            xi: Another cut than the preset's (M-24).
        """
        style = self.style(seed, xi)
        if mode == "none":
            return StylePainter(task=self.task, style=style)
        name = _named(mode, seed, xi)
        trained = self.units.tensors(name, lambda: self._adapt(style, name, seed, mode))
        self.units.done(name)
        self.units.spent(name)
        encoder = copy.deepcopy(style.loaded.model.encoder)
        encoder.load_state_dict({**encoder.state_dict(), **trained})
        return StylePainter(task=self.task, style=style.with_encoder(encoder))

    def _adapt(self, style: Style, name: str, seed: int, mode: Adaptation) -> Mapping[str, Tensor]:
        task = self.task
        with self.units.reports(name) as emit:
            made = adapt(
                style.loaded, task.material.photos, mode="online" if mode == "online" else "offline",
                config=task.preset.stylization, budget=task.adapt_budget, seed=seed, runtime=task.runtime,
                nets=task.nets, folder=self.units.run(name), emit=emit,
                real=task.material.styles if mode == "unpaired" else None,
            )  # fmt: skip
        self.units.spent(name, made.summary.seconds)
        return made.tensors

    def test_time(self, seed: int) -> PhotoPainter:
        """Return a style whose encoder is adapted to each photo anew (M-34, M-35); each photo is a unit."""
        return PhotoPainter(photo=lambda index: self._photo(seed, index))

    def _photo(self, seed: int, index: int) -> Mapping[str, Tensor]:
        name = _named("test-time", seed, None)
        found = self.units.tensors(f"{name}/{index:05d}", lambda: self._adapt_to_photo(seed, index))
        times = self._photos.setdefault(name, {})
        times[index] = float(found["seconds"])
        self.units.seconds[name] = round(sum(times.values()), 1)
        return found

    def _adapt_to_photo(self, seed: int, index: int) -> Mapping[str, Tensor]:
        task, style, photo = self.task, self.style(seed), self.task.material.held_out.batch([index])
        done = adapt_to_photo(
            style.loaded, photo, config=task.preset.stylization, seed=seed, compute=self._compute(), nets=task.nets
        )
        adapted = style.with_encoder(done.encoder)
        painted = adapted.paint_each(photo, seeds=[own_styles(index, task.styles)])[0]
        found = {"painted": painted, "plain": adapted.reconstruct(photo)[0]}
        pictures = {name: torch.from_numpy(to_uint8(picture)) for name, picture in found.items()}
        return pictures | {"seconds": torch.tensor(done.adapted.summary.seconds)}

    def _compute(self) -> Compute:
        """Return the same precision for all photos, chosen once (M-50, M-52)."""
        chosen = self.units.values("test-time.precision", lambda: {"bf16": resolve(self.task.runtime).bf16})
        return resolve(self.task.runtime, bf16=bool(chosen["bf16"]))

    def stargan(self, seed: int) -> StarGanPainter:
        """Return the StarGAN v2 of a training seed, trained as long as both stages together (M-45)."""
        task, name = self.task, _named("stargan", seed, None)
        sizes = StarGanSizes.like(task.preset.network)
        state = self.units.tensors(name, lambda: self._stargan(name, seed, sizes))
        self.units.done(name)
        self.units.spent(name)
        net = StarGan.build(sizes, seed).eval().requires_grad_(requires_grad=False)
        net.load_state_dict(state)
        return StarGanPainter(task=task, net=net)

    def _stargan(self, name: str, seed: int, sizes: StarGanSizes) -> Mapping[str, Tensor]:
        task = self.task
        with self.units.reports(name) as emit:
            net, seconds = train_stargan(
                task.material.photos, task.material.styles, sizes=sizes, config=StarGanConfig(),
                budget=task.baseline_budget, seed=seed, runtime=task.runtime, folder=self.units.run(name), emit=emit,
            )  # fmt: skip
        self.units.spent(name, seconds)
        return net.state_dict()


def _named(what: str, seed: int, xi: int | None) -> str:
    return f"{what}-s{seed}" if xi is None else f"{what}-xi{xi}-s{seed}"
