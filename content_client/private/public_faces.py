"""Public faces beside a run with privacy: a start that costs nothing, C, and a comparison (P-30, P-51, P-55)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from content_client.adaptation import Adaptation
from content_client.private.request import PrivateRequest
from modify_fl.console import Console
from modify_fl.data import ImageSet, holdout_split, load_images
from modify_fl.options import run_folder
from modify_fl.privacy.settings import DpSettings
from modify_fl.training.private import PrivateStylization, PrivateTask, public_clip
from modify_fl.training.runtime import resolve
from modify_fl.training.stylization import adapt
from modify_fl.training.views import PhotoUnits

__all__ = ["PublicFaces"]

_HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class PublicFaces:
    """E' after public faces, and public faces that it has not seen."""

    start: Mapping[str, Tensor]
    """Trained tensors of E'."""
    held_out: ImageSet
    """A tenth of the public faces, at least one where there are two."""

    @classmethod
    def adapted_to(
        cls, task: Adaptation, request: PrivateRequest, *, fresh: bool, console: Console
    ) -> "PublicFaces | None":
        """Adapt to the public faces without privacy, or go on with that; nothing where there are none.

        Raises:
            DataError: The public faces cannot be read.
        """
        if request.public is None:
            return None
        faces = load_images(request.public, resolution=task.style.network.resolution, look="photo", align=request.align)
        kept, held_out = holdout_split(len(faces), _HELD_OUT, task.seed)
        console.say(f"adapting to {len(kept)} public faces first, which costs no budget")
        adapted = adapt(
            task.style, faces.subset(kept), mode="offline", config=replace(task.config, subset="all"),
            budget=request.public_budget, seed=task.seed, runtime=task.runtime, nets=task.nets(),
            folder=run_folder(task.out) / "public", emit=console.emit, fresh=fresh,
        )  # fmt: skip
        return cls(start=adapted.tensors, held_out=faces.subset(held_out))

    def clip(self, task: Adaptation, request: PrivateRequest) -> float:
        """Return the bound that the faces kept out suggest; see ``public_clip``."""
        loose = DpSettings(n_public=2, batch=1, steps=1, noise_multiplier=1.0)
        private = PrivateTask(
            style=task.style, settings=loose, recipe=request.recipe, config=task.config, seed=task.seed,
            start=self.start,
        )  # fmt: skip
        return public_clip(private, self.held_out, compute=resolve(task.runtime), nets=task.nets())

    def compare(self, task: Adaptation, private: PrivateTask, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return equation 7 on the faces kept out, after public faces alone and after the private photos too (P-55).

        Both are released or public weights on public faces, so nothing is charged (P-28).
        """
        found = {"public_only": self.start, "private": tensors}
        return {name: self._loss(task, replace(private, start=values)) for name, values in found.items()}

    @torch.no_grad()
    def _loss(self, task: Adaptation, private: PrivateTask) -> float:
        stage = _stage(task, private)
        parts = [self.held_out.batch([index]).to(stage.compute.device) for index in range(len(self.held_out))]
        return float(torch.stack([stage.loss(part, stage.engine.codes(part), 0)[0] for part in parts]).mean())


def _stage(task: Adaptation, private: PrivateTask) -> PrivateStylization:
    """Return networks and engine without a photo and without a ledger."""
    units = PhotoUnits(task.photos, [], seed=0, augmentations=1, per_person=1)
    return PrivateStylization(private, units, compute=resolve(task.runtime), nets=task.nets(), charge=_refuse)


def _refuse(steps: int) -> None:
    raise RuntimeError(f"public faces were about to be charged {steps} steps")
