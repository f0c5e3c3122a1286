"""Stage 2: adapt the encoder to photos (equation 7, M-33 to M-39).

Only E' moves. D, M, the offset and the first encoder E stay as the bundle
shipped them; the pseudo-real pictures are D(E(x)) of that frozen E. A critic
that trains here has seen private photos and never leaves this module (M-37).
"""

import copy
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from modify_fl.artifacts import Adapted, LoadedStyle, Mode, PhotoAdapted, TrainingSummary
from modify_fl.config import Budget, CriticConfig, Runtime, StylizationConfig
from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.errors import ConfigError, DataError
from modify_fl.events import Emit, TrainingEvent
from modify_fl.networks.discriminator import Discriminator
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.training.adversary import Adversary
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.estimate import RunEstimate, peak_memory
from modify_fl.training.loop import best_step, train
from modify_fl.training.portions import Portions
from modify_fl.training.ranks import Ranks
from modify_fl.training.runs import begin_run, joined_run
from modify_fl.training.runtime import Compute, resolve
from modify_fl.training.subsets import adapter_tensors, open_subset
from modify_fl.training.terms import ImageTerms

__all__ = ["Stylization", "adapt", "adapt_to_photo", "estimate", "photo_seed"]

Deliver = Callable[[int, Tensor], None]


class Stylization:
    """The trainer of stage 2: state, one step, checkpoint."""

    def __init__(
        self, style: LoadedStyle, photos: ImageSet, *, mode: Mode, config: StylizationConfig, total: int, seed: int,
        compute: Compute, nets: PerceptualNets, deliver: Deliver | None = None, real: ImageSet | None = None,
        ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        """Copy E to E' and Dis to a critic of our own.

        Args:
            style: The verified bundle; not changed.
            photos: The photos at the bundle's resolution.
            mode: Offline, online or test-time.
            config: Weights, rates, subset.
            total: Images at the end of the run.
            seed: Of order, noise and augmentation.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            deliver: Gets the index of a photo and D(E'(x)), float32 [1, 3, R, R],
                after its step (online mode).
            real: Style images that the critic sees instead of pseudo-real ones: the
                unpaired baseline of M-45, possible only where photos and style
                images are in one place. Nothing in the method itself.
            ranks: The processes that share every batch; this one alone when omitted (M-55).

        Raises:
            ConfigError: The batch does not divide by the number of processes.
        """
        self.photos, self.mode, self.config, self.seed, self.compute = photos, mode, config, seed, compute
        self.batch = config.batch if mode == "offline" else 1
        self.total, self.deliver, self.real = total, deliver, real
        self.portions, self.ranks = Portions(self.batch, ranks), ranks or Ranks()
        self.step_count = self.images_seen = 0
        self.model = compute.place(copy.deepcopy(style.model)).eval().requires_grad_(requires_grad=False)
        self.encoder = copy.deepcopy(self.model.encoder)
        self.trained = open_subset(self.encoder, config.subset, style.digest)
        self.split, self.z_dim = style.network.split, style.network.z_dim
        self.optimizers = {"encoder": self._adam([p for p in self.encoder.parameters() if p.requires_grad])}
        critic = style.discriminator
        self.adversary = self._adversary(critic, style.critic) if critic and config.lambda_adv_x else None
        frozen = None if nets.lpips or critic is None else compute.place(copy.deepcopy(critic))
        self.terms = ImageTerms(
            nets=nets, features=frozen, compute=compute, lambda_r=config.lambda_r,
            lambda_l1=0.0, lambda_lp=config.lambda_lp, lambda_id=config.lambda_id, luma=config.luma,
        )  # fmt: skip

    def _adam(self, parameters: list[nn.Parameter]) -> torch.optim.Adam:
        fused = self.compute.device.type in {"cpu", "cuda"}
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=self.config.betas, fused=fused)

    def _adversary(self, shipped: Discriminator, config: CriticConfig) -> Adversary:
        """Return a trainable copy of the bundle's critic with the bundle's form of loss (M-33)."""
        critic = self.compute.place(copy.deepcopy(shipped))
        self.optimizers["discriminator"] = self._adam(list(critic.requires_grad_().parameters()))
        return Adversary(
            discriminator=critic, optimizer=self.optimizers["discriminator"], config=config,
            seed=self.seed, compute=self.compute, portions=self.portions,
        )  # fmt: skip

    @property
    def images_total(self) -> int:
        """Images at the end of the run."""
        return self.total

    @property
    def phase(self) -> str:
        """The mode; stage 2 has one phase."""
        return self.mode

    # One step -----------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Take one step of equation 7; see ``Trainer``."""
        indices = self._indices()
        photos = self.photos.batch(indices)  # [B, 3, R, R], on the CPU
        done = self.portions.each(
            lambda part: self._adapt_part(photos, part), begin=self.optimizers["encoder"].zero_grad
        )
        figures, output = self.portions.mean([f for f, _ in done]), self.portions.join([x for _, x in done])
        self._descend()
        if self.adversary is not None:
            figures |= self.adversary.train_step(lambda part: self._real(photos, part), output, self.step_count)
        if self.config.lambda_r:
            figures["r"] = figures["r"] / self.config.lambda_r
        self.step_count += 1
        self.images_seen += len(indices)
        if self.deliver is not None:
            with torch.no_grad():
                self.deliver(indices[0], self.stylize(self._on_device(photos)).cpu())
        return figures

    def _adapt_part(self, photos: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradients of one portion; return its figures and its pictures."""
        own = self._on_device(photos[part])
        with self.compute.autocast():
            codes = self.model.encode(own, encoder=self.encoder)
            output = self.model.decode(codes).float()
            judged = self._in_style(codes, output, part)
        terms = self.terms(own, output) | self.terms.likeness(own, judged)
        figures = {name: value.mean() for name, value in terms.items()}
        total = torch.stack(list(figures.values())).sum()
        figures["image_terms"] = total
        if self.adversary is not None:
            figures["adv"] = self.adversary.generator_loss(output, self.step_count, part).mean()
            total = total + self.config.lambda_adv_x * figures["adv"]
        (total * self.portions.weight(part)).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in figures.items()}, output.detach()

    def _in_style(self, codes: Tensor, output: Tensor, part: slice) -> Tensor:
        """Return ``output``, a share of it as it will be shown: D({E'_l(x), M(z)}) (ADR 9).

        Args:
            codes: E'(x), [b, n, W].
            output: D(E'(x)), float32 [b, 3, R, R].
            part: Place of these photos in the global batch.
        """
        share, seen = self.config.painted, self.images_seen
        chosen = [at for at in range(part.start, part.stop) if int((seen + at + 1) * share) > int((seen + at) * share)]
        if not chosen:
            return output
        z = torch.randn(self.batch, self.z_dim, generator=generator(self.seed, "z-likeness", self.step_count))[chosen]
        here = torch.tensor(chosen, device=output.device) - part.start
        styled = self.model.decode(self.model.fuse(codes[here], self.model.remap(z.to(output.device)))).float()
        return output.index_copy(0, here, styled)

    def _on_device(self, photos: Tensor) -> Tensor:
        return photos.to(device=self.compute.device, memory_format=torch.channels_last)

    def _indices(self) -> list[int]:
        """Return the photos of this step: shuffled, or in the order of arrival (M-34)."""
        if self.mode == "offline":
            return shuffled_indices(len(self.photos), self.seed, self.images_seen, self.batch)
        return [self.images_seen % len(self.photos)]

    def stylize(self, photos: Tensor) -> Tensor:
        """Return x' = D(E'(x)), float32 [B, 3, R, R]."""
        with self.compute.autocast():
            painted: Tensor = self.model.decode(self.model.encode(photos, encoder=self.encoder))
        return painted.float()

    def _real(self, photos: Tensor, part: slice) -> Tensor:
        """Return the real samples of a portion, float32 [b, 3, R, R]: pseudo-real, or style images (M-45)."""
        if self.real is None:
            return self.pseudo_real(self._on_device(photos[part]), part)
        indices = shuffled_indices(len(self.real), self.seed, self.images_seen, len(photos))
        return self._on_device(self.real.batch(indices[part]))

    @torch.no_grad()
    def pseudo_real(self, photos: Tensor, part: slice | None = None) -> Tensor:
        """Return what the critic takes for real: pictures of the frozen networks (M-36).

        Args:
            photos: A portion of the batch, float32 [b, 3, R, R].
            part: Its place in the global batch; the whole batch when omitted.

        Returns:
            D(E(x)), D({E_l(x), M(z)}), or the one for the first half of the
            batch and the other for the rest; float32 [b, 3, R, R].
        """
        part = slice(0, len(photos)) if part is None else part
        batch = max(self.batch, part.stop)
        with self.compute.autocast():
            codes = self.model.encode(photos)
            if self.config.pseudo_real != "e":
                z = torch.randn(batch, self.z_dim, generator=generator(self.seed, "z", self.step_count))[part]
                drawn = self.model.fuse(codes, self.model.remap(z.to(photos.device)))
                half = batch // 2 if self.config.pseudo_real == "mix" else 0
                plain = min(max(0, half - part.start), len(photos))
                codes = torch.cat([codes[:plain], drawn[plain:]])
            pictures: Tensor = self.model.decode(codes)
        return pictures.float()

    def _descend(self) -> None:
        gradients = [p.grad for p in self.encoder.parameters() if p.grad is not None]
        self.ranks.add(gradients)
        if torch.nn.utils.get_total_norm(gradients).isfinite():  # a broken step is skipped (M-53)
            self.optimizers["encoder"].step()

    # Checkpoint and result ----------------------------------------------------

    def _modules(self) -> dict[str, nn.Module]:
        critic = {} if self.adversary is None else {"critic": self.adversary.discriminator}
        return {"encoder": self.encoder, **critic}

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """See ``Trainer``."""
        optimizers = {f"adam-{name}": optimizer_tensors(o) for name, o in self.optimizers.items()}
        return module_tensors(self._modules()) | {k: v for k, v in optimizers.items() if v}

    def values(self) -> dict[str, object]:
        """See ``Trainer``."""
        return {"micro": self.portions.cut}

    def restore(self, saved: Checkpoint) -> None:
        """See ``Trainer``."""
        for name, module in self._modules().items():
            module.load_state_dict(dict(saved.tensors[name]))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, saved.tensors.get(f"adam-{name}", {}))
        self.step_count, self.images_seen = saved.step, int(str(saved.values["images_seen"]))
        self.portions.restore(saved.values.get("micro"))

    def snapshot(self, folder: Path) -> tuple[str, ...]:  # noqa: ARG002 - previews of photos are not written (P-38)
        """See ``Trainer``."""
        return self.portions.notices()

    def at_pace(self, seconds: float) -> str:  # noqa: ARG002 - a constant schedule has nothing to adapt
        """See ``Trainer``."""
        return ""

    def result(self, seconds: float) -> Adapted:
        """Return the trained part of E'."""
        return Adapted(
            tensors=adapter_tensors(self.encoder, self.trained), mode=self.mode, subset=self.config.subset,
            summary=TrainingSummary(
                images_seen=self.images_seen, steps=self.step_count, seconds=seconds, seed=self.seed,
                perceptual=self.terms.perceptual_record, identity=self.terms.nets.identity, compute=str(self.compute),
            ),
        )  # fmt: skip


def _plan(
    trainer: Callable[[], Stylization], budget: Budget | None, *, mode: Mode, config: StylizationConfig,
    ranks: Ranks,
) -> int:  # fmt: skip
    """Turn a budget, or the preset's number of steps, into images (M-30)."""
    batch = config.batch if mode == "offline" else 1
    if budget is None:
        return batch * (config.steps if mode == "offline" else config.online_steps)
    if budget.kind != "seconds":
        return max(1, round(budget.amount * (batch if budget.kind == "steps" else 1)))
    start = time.monotonic()
    per_step = best_step(trainer().step, ranks)
    left = max(budget.amount - (time.monotonic() - start), budget.amount / 2)
    return max(1, round(left / per_step)) * batch


def adapt(
    style: LoadedStyle, photos: ImageSet, *, mode: Literal["offline", "online"], config: StylizationConfig,
    budget: Budget | None, seed: int, runtime: Runtime, nets: PerceptualNets, folder: Path, emit: Emit,
    fresh: bool = False, deliver: Deliver | None = None, real: ImageSet | None = None,
) -> Adapted:  # fmt: skip
    """Adapt the encoder to a set of photos, or go on with the run in ``folder``.

    Source: equation 7 of the paper; M-33 to M-38.

    Args:
        style: The verified bundle; its networks are proved unchanged at the end.
        photos: The photos at the bundle's resolution.
        mode: ``"offline"`` shuffles; ``"online"`` takes one photo per step in order of arrival.
        config: Weights, rates, subset.
        budget: Length of the run; the preset's number of steps where none is given.
        seed: Of everything that is drawn.
        runtime: Device, threads, precision.
        nets: LPIPS and the face network, where found.
        folder: Home of the run, private to the photos' owner (P-38).
        emit: Takes every report.
        fresh: Throw away what is in ``folder`` and start anew.
        deliver: As in ``Stylization``; online mode only.
        real: As in ``Stylization``; nothing but the unpaired baseline has any (M-45).

    Returns:
        The trained part of E'.

    Raises:
        ConfigError: The run in ``folder`` had other settings, or another process holds it.
        DataError: There are no photos.
        InterruptedRunError: A signal asked for a stop; the same call goes on.
        TrainingDivergedError: The run became unstable (M-53).
    """
    if not len(photos):
        raise DataError("there is no photo to adapt to", fix="name a folder that holds pictures")
    with joined_run(folder, emit) as (ranks, emit):  # noqa: PLR1704 - from here on the first process speaks alone
        if ranks.size > 1 and mode != "offline":
            raise ConfigError("the online mode is one process", why="it takes one photo after another (M-56)")
        settings = {
            "stage": "stylization", "mode": mode, "config": asdict(config), "budget": str(budget), "seed": seed,
            "bundle": style.digest, "images": photos.digest, "perceptual": nets.perceptual.name,
            "identity": nets.identity.name, **({} if real is None else {"real": real.digest}),
        }  # fmt: skip

        def trainer(compute: Compute, total: int = 1, deliver: Deliver | None = None) -> Stylization:
            return Stylization(
                style, photos, mode=mode, config=config, total=total, seed=seed, compute=compute, nets=nets,
                deliver=deliver, real=real, ranks=ranks,
            )  # fmt: skip

        def announce(compute: Compute) -> None:
            crew = f" in each of {ranks.size} processes" if ranks.size > 1 else ""
            emit(TrainingEvent(kind="start", message=f"computing on {compute}{crew}"))
            for warning in nets.warnings:
                emit(TrainingEvent(kind="warning", message=warning))

        total, compute = begin_run(
            folder, settings, runtime=runtime, fresh=fresh, ranks=ranks, announce=announce,
            plan=lambda compute: _plan(lambda: trainer(compute), budget, mode=mode, config=config, ranks=ranks),
        )  # fmt: skip
        stage = trainer(compute, total, deliver)
        seconds = train(stage, folder, emit, ranks)
        return stage.result(seconds)


def estimate(
    style: LoadedStyle, photos: ImageSet, *, mode: Mode, config: StylizationConfig, budget: Budget | None, seed: int,
    runtime: Runtime, nets: PerceptualNets,
) -> RunEstimate:  # fmt: skip
    """Measure what ``adapt``, or ``adapt_to_photo`` for every photo, would take; nothing is written (U-34).

    Arguments as in ``adapt``. In test-time mode the budget has no meaning.
    """
    compute = resolve(runtime)
    used = replace(config, subset="all") if mode == "test-time" else config
    stage = Stylization(style, photos, mode=mode, config=used, total=1, seed=seed, compute=compute, nets=nets)
    per_step = best_step(stage.step)
    if mode == "test-time":
        images = len(photos) * config.test_time_steps
    elif budget is not None and budget.kind == "seconds":
        images = max(1, round(budget.amount / per_step)) * stage.batch
    else:
        images = _plan(lambda: stage, budget, mode=mode, config=config, ranks=stage.ranks)
    steps = -(-images // stage.batch)
    host, device = peak_memory(compute.device)
    return RunEstimate(
        images=images, steps=steps, seconds=steps * per_step, host_bytes=host, device_bytes=device,
        micro=stage.portions.cut, compute=str(compute),
    )  # fmt: skip


def photo_seed(seed: int, photo: Tensor) -> int:
    """Return the seed of a photo's own run, from the run's seed and the pixels (M-35)."""
    pixels = hashlib.sha256(photo.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()
    return int(hashlib.sha256(f"{seed}/{pixels}".encode()).hexdigest()[:12], 16)


def adapt_to_photo(
    style: LoadedStyle, photo: Tensor, *, config: StylizationConfig, seed: int, compute: Compute, nets: PerceptualNets
) -> PhotoAdapted:  # fmt: skip
    """Adapt the encoder to one photo with fresh optimisers (M-34, M-35).

    Source: equation 7 of the paper, "test-time training".

    Args:
        style: The verified bundle; every photo starts from it.
        photo: float32 [1, 3, R, R] in [-1, 1].
        config: Weights and rates; ``test_time_steps`` steps over the whole encoder.
        seed: The run's seed; the photo's own follows from it and the pixels, so
            the result does not depend on the photos that came before.
        compute: Device and precision.
        nets: LPIPS and the face network, where found.

    Returns:
        E' for this photo, with its loss before and after.

    Raises:
        DataError: ``photo`` is not one picture.
    """
    if photo.ndim != 4 or len(photo) != 1:
        raise DataError(f"expected one picture of shape [1, 3, R, R], got {tuple(photo.shape)}")
    single = _OnePhoto(photo)
    stage = Stylization(
        style, single, mode="test-time", config=replace(config, subset="all"),  # type: ignore[arg-type]
        total=config.test_time_steps, seed=photo_seed(seed, photo), compute=compute, nets=nets,
    )  # fmt: skip
    start = time.monotonic()
    first = _image_loss(stage, photo)
    for _ in range(config.test_time_steps):
        stage.step()
    last = _image_loss(stage, photo)
    encoder = stage.encoder.to("cpu").to(memory_format=torch.contiguous_format)
    return PhotoAdapted(
        adapted=stage.result(time.monotonic() - start), encoder=encoder.eval().requires_grad_(requires_grad=False),
        first_loss=first, last_loss=last,
    )  # fmt: skip


class _OnePhoto:
    """The part of ``ImageSet`` that the trainer reads, for one photo in memory."""

    def __init__(self, photo: Tensor) -> None:
        self.photo = photo

    def __len__(self) -> int:
        return 1

    def batch(self, indices: list[int]) -> Tensor:
        return self.photo.expand(len(indices), -1, -1, -1)


@torch.no_grad()
def _image_loss(stage: Stylization, photo: Tensor) -> float:
    photo = photo.to(stage.compute.device)
    output = stage.stylize(photo)
    return float(
        torch.stack([*stage.terms(photo, output).values(), *stage.terms.likeness(photo, output).values()]).sum()
    )
