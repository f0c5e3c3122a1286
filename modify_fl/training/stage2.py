"""The trainer of stage 2: networks, one step of equation 7, checkpoint (M-33, M-36 to M-38).

Only E' moves. D, M, the offset and the first encoder E stay as the bundle
shipped them; the pseudo-real pictures are D(E(x)) of that frozen E. A critic
that trains here has seen private photos and never leaves this module (M-37).
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from modify_fl.artifacts import Adapted, LoadedStyle, Mode, TrainingSummary
from modify_fl.config import CriticConfig, StylizationConfig
from modify_fl.data import ImageSet, shuffled_indices
from modify_fl.networks.discriminator import Discriminator
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.training.adversary import Adversary
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.portions import Portions
from modify_fl.training.ranks import Ranks
from modify_fl.training.runtime import Compute
from modify_fl.training.subsets import adapter_tensors, open_subset
from modify_fl.training.terms import ImageTerms

__all__ = ["Deliver", "Stylization"]

Deliver = Callable[[int, Tensor], None]
"""Takes the index of a photo and D(E'(x)), float32 [1, 3, R, R]."""


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
