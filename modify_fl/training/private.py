"""Stage 2 with differential privacy: equation 7 by DP-SGD (design/privacy.md, sections 5 and 6).

Every step is charged to the ledger before it runs, and everything that the
trainer keeps (weights, their average, the optimiser's state) is a function of
charged sums, public settings and public faces: post-processing. Nothing else of
the photos is computed, kept or told: no loss, no norm, no count (P-27, P-28).

A run that stops goes on from its last step with fresh draws (P-19); a step that
was charged and lost stays charged (P-41).
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from modify_fl.artifacts import Adapted, LoadedStyle, TrainingSummary
from modify_fl.config import Runtime, StylizationConfig
from modify_fl.data import ImageSet
from modify_fl.errors import ConfigError, DataError, PrivacyBudgetError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.launch import Launch
from modify_fl.networks.paper_encoder import PaperEncoder
from modify_fl.perceptual import PerceptualNets
from modify_fl.privacy.engine import GradientEngine, build_engine
from modify_fl.privacy.mechanism import Charge, Mechanism
from modify_fl.privacy.preflight import Preflight, preflight
from modify_fl.privacy.recipe import PrivateConfig
from modify_fl.privacy.settings import DpSettings
from modify_fl.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from modify_fl.training.loop import run_lock, train
from modify_fl.training.private_loss import PhotoLoss
from modify_fl.training.ranks import Ranks
from modify_fl.training.runs import begin_run
from modify_fl.training.runtime import Compute
from modify_fl.training.subsets import adapter_tensors, open_subset
from modify_fl.training.views import PhotoUnits

__all__ = ["PrivateStylization", "PrivateTask", "adapt_private", "build_private_engine", "public_clip", "started"]

_NO_BOUND = 1e12
_PROBES = 32


@dataclass(frozen=True, kw_only=True)
class PrivateTask:
    """Everything about a run but the photos and where it computes; checked when built."""

    style: LoadedStyle
    """The verified bundle."""
    settings: DpSettings
    """The numbers that decide the guarantee."""
    recipe: PrivateConfig
    """How the noisy gradients are used."""
    config: StylizationConfig
    """Weights of equation 7, and the trainable subset."""
    seed: int = 0
    """Of public draws alone: views and styles (P-19)."""
    start: Mapping[str, Tensor] | None = None
    """Tensors of E' after adaptation to public faces; E where there are none (P-51)."""

    def __post_init__(self) -> None:
        """Refuse what the engine cannot do.

        Raises:
            ConfigError: The paper's encoder would be trained as a whole by hooks (P-51).
        """
        paper = isinstance(self.style.model.encoder, PaperEncoder)
        if paper and self.config.subset == "all" and self.settings.engine == "opacus":
            raise ConfigError(
                "the paper's encoder cannot be trained as a whole with Opacus",
                why="gradients of single photos would need about 1 GB each (P-51)",
                fix="use --subset lora, or the engine micro",
            )

    def loss_config(self) -> StylizationConfig:
        """Return the weights of equation 7 with the critic that the recipe allows (P-20)."""
        return self.config if self.recipe.critic == "frozen" else replace(self.config, lambda_adv_x=0.0)


def started(style: LoadedStyle, tensors: Mapping[str, Tensor] | None) -> nn.Module:
    """Return a copy of the bundle's encoder with ``tensors`` in place of its own, weights stored row by row (P-23)."""
    encoder = copy.deepcopy(style.model.encoder)
    encoder.load_state_dict({**encoder.state_dict(), **(tensors or {})})
    return encoder.to(memory_format=torch.contiguous_format)


def build_private_engine(
    task: PrivateTask, loss: PhotoLoss, compute: Compute
) -> tuple[nn.Module, tuple[str, ...], GradientEngine]:
    """Return E', the names of what an adapter would hold, and the engine of its gradients.

    Args:
        task: What would be trained.
        loss: What judges codes.
        compute: Device; E' itself is float32 (P-16).

    Raises:
        ConfigError: The encoder has no such subset.
    """
    encoder = started(task.style, task.start).to(compute.device)
    names = open_subset(encoder, task.config.subset, task.style.digest)
    engine = build_engine(
        task.settings.engine, encoder, loss, max_grad_norm=task.settings.max_grad_norm,
        offset=task.style.model.offset.w_avg.detach().to(compute.device),
    )  # fmt: skip
    return encoder, tuple(sorted({*names, *(task.start or {})})), engine


class PrivateStylization:
    """The trainer: state, one step, checkpoint; see ``Trainer``."""

    phase = "private"

    def __init__(
        self, task: PrivateTask, units: PhotoUnits, *, compute: Compute, nets: PerceptualNets, charge: Charge
    ) -> None:
        """Build networks and the mechanism; nothing is charged.

        Args:
            task: What to train.
            units: The photos.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            charge: Writes steps into the vault's ledger.
        """
        self.task, self.compute = task, compute
        self.loss = PhotoLoss(task.style, config=task.loss_config(), seed=task.seed, compute=compute, nets=nets)
        self.encoder, self.names, self.engine = build_private_engine(task, self.loss, compute)
        self.mechanism = Mechanism(task.settings, self.engine, units, count=len(units), charge=charge)
        self.parameters = {n: p for n, p in self.encoder.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = self._optimizer()
        self.step_count = 0
        self.images_seen = 0
        """Steps times B0: a public number; how many photos were drawn is not kept (P-13)."""
        self._ended = ""

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe = self.task.recipe
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(self.parameters.values(), lr=recipe.learning_rate)
        return torch.optim.Adam(self.parameters.values(), lr=recipe.learning_rate, betas=recipe.betas)

    @property
    def images_total(self) -> int:
        """The same number at the end of the run."""
        return self.images_seen if self._ended else self.task.settings.steps * self.task.settings.batch

    def check(self) -> Preflight:
        """Test the mechanism on random pictures before anything is charged (P-31).

        Raises:
            PrivacyBudgetError: A test failed (exit 11).
        """
        side, settings = self.task.style.network.resolution, self.task.settings
        views = settings.augmentations * (settings.per_person if settings.unit == "person" else 1)
        return preflight(self.engine, shape=(3, side, side), views=views)

    def step(self) -> dict[str, Tensor]:
        """Charge one step, take it, and tell nothing (P-28).

        Where the ledger refuses a step of a run that has taken some (after a
        crash their number no longer fits), the run ends there: what it made
        until then is charged, and the ledger says nothing about photos.

        Raises:
            PrivacyBudgetError: The ledger refuses the first step.
        """
        try:
            self.mechanism.pay(1)
        except PrivacyBudgetError as error:
            if not self.step_count:
                raise
            self._ended = f"ended after {self.step_count} of {self.task.settings.steps} steps: {error.what}"
            return {}
        update = self.mechanism.step(self.step_count)
        self._descend(update)
        self._at(self.step_count + 1)
        return {}

    def _descend(self, update: Tensor) -> None:
        """Move the weights by u_t / B0, and their average after them: post-processing."""
        start = 0
        for parameter in self.parameters.values():
            part = update[start : (start := start + parameter.numel())]
            parameter.grad = part.view_as(parameter).to(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        # Weights of the first steps are forgotten sooner, as in M-29.
        beta = min(self.task.recipe.ema, (1 + self.step_count) / (10 + self.step_count))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1 - beta)

    def _at(self, step: int) -> None:
        self.step_count, self.images_seen = step, step * self.task.settings.batch

    # Checkpoint and result ----------------------------------------------------

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """See ``Trainer``; no generator state, no count, no private figure (P-19)."""
        groups: dict[str, Mapping[str, Tensor]] = {"trained": self.parameters, "average": self.average}
        if moments := optimizer_tensors(self.optimizer):
            groups["optimizer"] = moments
        return groups

    def values(self) -> dict[str, object]:
        """See ``Trainer``."""
        return {}

    def restore(self, saved: Checkpoint) -> None:
        """See ``Trainer``; draws begin anew (P-19)."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved.tensors["trained"][name])
                self.average[name].copy_(saved.tensors["average"][name])
        restore_optimizer(self.optimizer, saved.tensors.get("optimizer", {}))
        self._at(saved.step)

    def snapshot(self, folder: Path) -> tuple[str, ...]:  # noqa: ARG002 - previews of photos are not written (P-38)
        """See ``Trainer``."""
        return (self._ended,) if self._ended else ()

    def at_pace(self, seconds: float) -> str:  # noqa: ARG002 - T is fixed (P-27)
        """See ``Trainer``."""
        return ""

    def result(self, seconds: float) -> Adapted:
        """Return E' with the averaged weights: what may leave, once the gate has seen the ledger."""
        encoder = copy.deepcopy(self.encoder)
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if name in self.average:
                    parameter.copy_(self.average[name])
        terms = self.loss.terms
        return Adapted(
            tensors=adapter_tensors(encoder, self.names), mode="offline", subset=self.task.config.subset,
            summary=TrainingSummary(
                images_seen=self.images_seen, steps=self.step_count, seconds=seconds, seed=self.task.seed,
                perceptual=terms.perceptual_record, identity=terms.nets.identity, compute=str(self.compute),
            ),
        )  # fmt: skip


def public_clip(task: PrivateTask, faces: ImageSet, *, compute: Compute, nets: PerceptualNets) -> float:
    """Return the median norm of the gradients of public faces, two digits: a C that no photo decided (P-16, P-30).

    Args:
        task: What will be trained; its own C is not used.
        faces: Public faces, at least one; the first 32 are looked at.
        compute: Device and precision.
        nets: LPIPS and the face network, where found.
    """
    loose = replace(task, settings=replace(task.settings, max_grad_norm=_NO_BOUND, engine="micro"))
    loss = PhotoLoss(task.style, config=task.loss_config(), seed=task.seed, compute=compute, nets=nets)
    _, _, engine = build_private_engine(loose, loss, compute)
    probes = (faces.batch([index]).to(compute.device) for index in range(min(len(faces), _PROBES)))
    norms = torch.stack([gradient.norm() for gradient in engine.clipped(probes, 0)])
    return float(f"{float(norms.median()):.1e}") or 1.0


def adapt_private(
    task: PrivateTask, photos: ImageSet, groups: list[list[int]], *, runtime: Runtime, nets: PerceptualNets,
    folder: Path, emit: Emit, charge: Charge, fresh: bool = False,
) -> Adapted:  # fmt: skip
    """Adapt the encoder to photos with differential privacy, or go on with the run in ``folder``.

    Source: Abadi et al. 2016 (DP-SGD) with Poisson sampling; equation 7 of the paper.

    Args:
        task: What to train, with which guarantee.
        photos: The photos at the bundle's resolution.
        groups: Indices of the photos of each unit of privacy.
        runtime: Device, threads, precision.
        nets: LPIPS and the face network, where found.
        folder: Home of the run, private to the photos' owner (P-38).
        emit: Takes every report; no report holds a private figure.
        charge: Writes steps into the vault's ledger.
        fresh: Throw away what is in ``folder`` and start anew; what it spent stays spent.

    Returns:
        The trained part of E', averaged.

    Raises:
        ConfigError: The run in ``folder`` had other settings, another process holds it, or
            several processes were started.
        DataError: There are no photos.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        PrivacyBudgetError: The preflight failed, or the budget does not allow the first step (exit 11).
    """
    if not groups:
        raise DataError("there is no photo to adapt to", fix="name a folder that holds pictures")
    units = PhotoUnits(
        photos, groups, seed=task.seed, augmentations=task.settings.augmentations, per_person=task.settings.per_person
    )
    if Launch.from_environment().size > 1:
        raise ConfigError("training with privacy is one process", fix="start without torchrun")
    with run_lock(folder):
        record = {
            "stage": "private stylization", "dp": asdict(task.settings), "recipe": asdict(task.recipe),
            "config": asdict(task.config), "seed": task.seed, "bundle": task.style.digest, "images": photos.digest,
            "public": task.start is not None, "perceptual": nets.perceptual.name, "identity": nets.identity.name,
        }  # fmt: skip

        def announce(compute: Compute) -> None:
            emit(TrainingEvent(kind="start", message=f"computing on {compute}"))
            for warning in nets.warnings:
                emit(TrainingEvent(kind="warning", message=warning))

        _, compute = begin_run(
            folder, record, runtime=runtime, fresh=fresh, ranks=Ranks(), announce=announce,
            plan=lambda _: task.settings.steps * task.settings.batch,
        )  # fmt: skip
        stage = PrivateStylization(task, units, compute=compute, nets=nets, charge=charge)
        found = stage.check()
        emit(
            TrainingEvent(
                kind="phase", phase="preflight",
                message=f"preflight passed: photos change each other's gradients by {found.isolation:.1g} C at most",
            )
        )  # fmt: skip
        return stage.result(train(stage, folder, emit, checkpoint_seconds=0.0))
