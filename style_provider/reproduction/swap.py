"""Phase B with and without L_swap, from one phase A (M-47, figure 3 of the paper).

Phase A is trained once for each seed, up to the switch; both arms begin with a
copy of its checkpoint, so nothing but lambda_swap differs. The clock enters
only once, before phase A (M-30).

Legend of shapes: B contents, S styles, N style images, K draws of z, R
resolution, xi style rows, W width of a row.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor

from modify_fl.config import Preset
from modify_fl.data import to_uint8
from modify_fl.errors import ConfigError
from modify_fl.metrics.distances import fid
from modify_fl.metrics.figures import Estimate, Measurement, interval_around, photo_weights
from modify_fl.networks.model import StyleModel
from modify_fl.streams import generator
from modify_fl.training import checkpoint
from modify_fl.training.encapsulation import Encapsulation, plan_images
from modify_fl.training.loop import train
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.schedule import Schedule
from style_provider.reproduction.measure import Yardstick
from style_provider.reproduction.task import Reproduction
from style_provider.reproduction.units import Figures, Units

__all__ = ["ARMS", "DRAWS", "SWAP_HEADINGS", "Swap"]

ARMS: Mapping[str, float] = {"with L_swap": 1.0, "without L_swap": 0.0}
"""lambda_swap of both arms."""

SWAP_HEADINGS: Mapping[str, str] = {
    "kid": "KID x 1000", "fid": "FID", "gap": "code gap", "code_distance": "Frechet distance of codes",
}  # fmt: skip
"""Names of the figures, as printed."""

DRAWS = 2048
"""K, draws of z whose codes stand for M."""

_CONTENTS = 50

_FILES: Mapping[str, str] = {"with L_swap": "on", "without L_swap": "off"}


class Swap:
    """Trains and measures both arms."""

    def __init__(self, task: Reproduction, units: Units) -> None:
        """Nothing is trained before it is asked for.

        Raises:
            ConfigError: The recipe has no phase B.
        """
        if not task.preset.encapsulation.parts[3]:
            raise ConfigError("the recipe has no phase B", fix="give the last of --set parts=... a share above 0")
        self.task, self.units = task, units

    def figures(self, arm: str, seed: int, yardstick: Yardstick) -> Figures:
        """Return KID and FID of y_z, and the distances of M's codes to those of the style images.

        Args:
            arm: A key of ``ARMS``.
            seed: Training seed.
            yardstick: Measures against the reference, which no arm has seen.
        """
        name = f"swap-{_FILES[arm]}-s{seed}"
        made = self.result(arm, seed)
        return self.units.figures(name, lambda: self._measure(made, yardstick))

    def result(self, arm: str, seed: int) -> dict[str, Tensor]:
        """Return what an arm made.

        Returns:
            ``pictures``, y_z of the first style images as contents, uint8
            [B, S, R, R, 3]; ``style``, w_h of all style images, float32
            [N, xi W]; ``drawn``, w_z, float32 [K, xi W].
        """
        name = f"swap-{_FILES[arm]}-s{seed}"
        made = self.units.tensors(f"{name}.made", lambda: self._train(arm, name, seed))
        for run in (name, _phase_a_name(seed)):
            self.units.spent(run)
        if all(self.units.path(f"swap-{file}-s{seed}.made.safetensors").is_file() for file in _FILES.values()):
            self.units.done(_phase_a_name(seed))
        return made

    def _measure(self, made: Mapping[str, Tensor], yardstick: Yardstick) -> Figures:
        found = yardstick.measure_pictures(made["pictures"].numpy())
        size, seed = len(made["style"]), yardstick.seed
        distance = fid(made["style"], made["drawn"], photos=size, seed=seed)
        note = f"{size} style images, {len(made['drawn'])} draws of z"
        for key, estimate in (("gap", _gap(made, seed)), ("code_distance", distance)):
            found[key] = Measurement.of(
                SWAP_HEADINGS[key], replace(estimate, note=note), n=size, reference=len(made["drawn"]),
                resolution=self.task.preset.network.resolution,
            )  # fmt: skip
        return found

    # Training -----------------------------------------------------------------

    def _train(self, arm: str, name: str, seed: int) -> Mapping[str, Tensor]:
        schedule, compute = self._phase_a(seed)
        begun = checkpoint.load(self.units.run(_phase_a_name(seed)))
        folder = self.units.run(name)
        if begun is not None and checkpoint.load(folder) is None:
            whole = {**begun.values, "schedule": asdict(schedule)}
            checkpoint.save(folder, replace(begun, values=whole))
        recipe = replace(self.task.preset.encapsulation, lambda_swap=ARMS[arm])
        trainer = self._trainer(replace(self.task.preset, encapsulation=recipe), schedule, seed, compute)
        with self.units.reports(name) as emit:
            self.units.spent(name, train(trainer, folder, emit) - self.units.seconds[_phase_a_name(seed)])
        made = self._use(trainer.average.to("cpu").to(memory_format=torch.contiguous_format))
        self.units.done(name)
        return made

    def _phase_a(self, seed: int) -> tuple[Schedule, Compute]:
        """Train phase A, or take it from its checkpoint; return the schedule of the whole run."""
        task, name = self.task, _phase_a_name(seed)

        def plan() -> Mapping[str, object]:
            compute = resolve(task.runtime)
            images = plan_images(
                task.budget, task.material.styles, preset=task.preset, seed=seed, compute=compute, nets=task.nets
            )
            return {"images": images, "bf16": compute.bf16}

        planned = self.units.values(f"{name}.plan", plan)
        schedule = Schedule.plan(task.preset.encapsulation, int(planned["images"]))
        compute = resolve(task.runtime, bf16=bool(planned["bf16"]))
        only_a = replace(schedule, total=schedule.remap_start)
        with self.units.reports(name) as emit:
            seconds = train(self._trainer(task.preset, only_a, seed, compute), self.units.run(name), emit)
        self.units.spent(name, seconds)
        return schedule, compute

    def _trainer(self, preset: Preset, schedule: Schedule, seed: int, compute: Compute) -> Encapsulation:
        return Encapsulation(
            self.task.material.styles, preset=preset, schedule=schedule, seed=seed, compute=compute,
            nets=self.task.nets, start=self.task.origin.load(preset.network),
        )  # fmt: skip

    @torch.no_grad()
    def _use(self, model: StyleModel) -> Mapping[str, Tensor]:
        """Paint style images in drawn styles and collect the codes of both."""
        styles, split, z_dim = self.task.material.styles, model.split, self.task.preset.network.z_dim
        codes = torch.cat([model.encode(styles.batch([index])) for index in range(len(styles))])  # [N, n, W]
        contents = codes[:_CONTENTS]  # [B, n, W]
        rows = []
        for number in self.task.styles:
            drawn = model.remap(torch.randn(1, z_dim, generator=generator(number, "style")))  # [1, xi, W]
            painted = [model.decode(model.fuse(code[None], drawn)) for code in contents]
            rows.append(torch.cat(painted))  # [B, 3, R, R]
        z = torch.randn(DRAWS, z_dim, generator=generator(0, "z-gap"))
        return {
            "pictures": torch.from_numpy(to_uint8(torch.stack(rows, 1))),
            "style": codes[:, split:].flatten(1), "drawn": model.remap(z).flatten(1),
        }  # fmt: skip


def _phase_a_name(seed: int) -> str:
    return f"swap-a-s{seed}"


def _gap(made: Mapping[str, Tensor], seed: int) -> Estimate:
    """Return the norm of (mean w_h - mean w_z), resampled over style images (M-47)."""
    style, drawn = made["style"].double(), made["drawn"].double().mean(0)
    weights = photo_weights(len(style), seed=seed) / len(style)  # [draws, N]
    draws = (weights @ style - drawn).norm(dim=1)
    return interval_around(float((style.mean(0) - drawn).norm()), draws, shift=True)
