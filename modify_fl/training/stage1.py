"""The trainer of stage 1: networks, one step, checkpoint (M-27 to M-29).

Phase A trains E, D, the offset and Dis; phase B freezes them, all but Dis, and
trains M. In presets with an average, only averaged weights leave stage 1.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from modify_fl import losses
from modify_fl.augment import flip, jitter
from modify_fl.base.start import Start
from modify_fl.config import Preset
from modify_fl.data import ImageSet, other_indices, shuffled_indices
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel
from modify_fl.perceptual import PerceptualNets
from modify_fl.streams import generator
from modify_fl.training.adversary import Adversary
from modify_fl.training.checkpoint import Checkpoint, module_tensors, optimizer_tensors, restore_optimizer
from modify_fl.training.diagnostics import SampleBoard
from modify_fl.training.early_end import EarlyEnd
from modify_fl.training.ema import ema_decay, update_ema
from modify_fl.training.feature_critic import FeatureCritic
from modify_fl.training.guests import Guests
from modify_fl.training.portions import Portions
from modify_fl.training.ranks import Ranks
from modify_fl.training.runtime import Compute
from modify_fl.training.schedule import Schedule
from modify_fl.training.terms import ImageTerms

__all__ = ["Encapsulation"]

_FEATURE_HALF_LIFE = 1000
_MOMENT_DRAWS = 4096
_RIGHT_STEPS = 200
_GAP_IMAGES = 64
_RIGHT_MAX = 0.98


class Encapsulation:
    """The trainer of stage 1: state, one step, checkpoint."""

    def __init__(
        self, images: ImageSet, *, preset: Preset, schedule: Schedule, seed: int, compute: Compute,
        nets: PerceptualNets, deadline: float | None = None, start: Start | None = None, ranks: Ranks | None = None,
        unseen: ImageSet | None = None,
    ) -> None:  # fmt: skip
        """Build networks from the seed, or from ``start``, and fresh optimisers.

        Args:
            images: The style set at the preset's resolution.
            preset: All settings.
            schedule: Image counts of the parts.
            seed: Of weights, order, noise and augmentation.
            compute: Device and precision.
            nets: LPIPS and the face network, where found.
            deadline: Seconds that the whole run may take; none without a time budget.
            start: Weights to begin with, of the preset's sizes.
            ranks: The processes that share every batch; this one alone when omitted (M-55).
            unseen: Held-out images, looked at only where ``stop_gap`` asks for it (P-82).

        Raises:
            ConfigError: The batch does not divide by the number of processes.
        """
        self.images, self.preset, self.config = images, preset, preset.encapsulation
        self.schedule, self.seed, self.compute = schedule, seed, compute
        self.early_end = EarlyEnd(deadline=deadline, gap=self.config.stop_gap, images=images, unseen=unseen)
        self.portions, self.ranks = Portions(self.config.batch, ranks), ranks or Ranks()
        self.step_count = self.images_seen = 0
        self.dis_right = 0.5  # share of pictures that Dis told right, over about 200 steps (M-54)
        model, critic = StyleModel.build(preset.network, seed), build_discriminator(preset.network, seed)
        people = None
        if start is not None:
            start.apply(model, critic)
            people = start.people(model.generator, self.config.people, seed)
        self.guests = Guests(
            people=people, batch=self.config.batch, share=self.config.mix, spread=self.config.mix_spread,
            network=preset.network, seed=seed,
        )  # fmt: skip
        critic.freeze(self.config.freeze_d)
        self.model, self.discriminator = compute.place(model), compute.place(critic)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        self.features = None if nets.lpips else copy.deepcopy(self.discriminator).requires_grad_(requires_grad=False)
        self.style_mean = torch.zeros_like(self.model.remapping.offset)
        self.style_std = torch.ones_like(self.style_mean)
        self._build_optimizers(nets)
        self.board = SampleBoard(images, preset.network, seed)

    def _build_optimizers(self, nets: PerceptualNets) -> None:
        config, betas = self.config, self.config.adversarial_betas
        content = [
            *self.model.encoder.parameters(),
            *self.model.generator.parameters(),
            *self.model.offset.parameters(),
        ]
        critic = [value for value in self.discriminator.parameters() if value.requires_grad]
        fused = self.compute.device.type in {"cpu", "cuda"}
        self.optimizers = {
            "content": torch.optim.Adam(content, lr=config.learning_rate, betas=config.betas, fused=fused),
            "remapping": torch.optim.Adam(
                self.model.remapping.parameters(), lr=config.remap_learning_rate, betas=betas, fused=fused
            ),
            "discriminator": torch.optim.Adam(critic, lr=config.learning_rate, betas=betas, fused=fused),
        }
        self.feature_critic = None
        if nets.lpips and config.lambda_adv_f:
            self.feature_critic = FeatureCritic(
                nets.lpips, learning_rate=config.feature_learning_rate, seed=self.seed, compute=self.compute,
                portions=self.portions,
            )  # fmt: skip
            self.optimizers["features"] = self.feature_critic.optimizer
        self.adversary = Adversary(
            discriminator=self.discriminator, optimizer=self.optimizers["discriminator"], config=config.critic,
            seed=self.seed, compute=self.compute, portions=self.portions,
        )  # fmt: skip
        self.terms = ImageTerms(
            nets=nets, features=self.features, compute=self.compute, lambda_r=config.lambda_r,
            lambda_l1=config.lambda_l1, lambda_lp=config.lambda_lp, lambda_id=config.lambda_id,
        )  # fmt: skip

    @property
    def images_total(self) -> int:
        """Images at the end of the run."""
        return self.schedule.total

    @property
    def phase(self) -> str:
        """Part of the schedule that the next step belongs to."""
        return self.schedule.phase(self.images_seen)

    # One step -----------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Take one step of phase A or B; see ``Trainer``."""
        if self.images_seen == self.schedule.remap_start:
            self._enter_remap()
        self._set_rates()
        indices = shuffled_indices(len(self.images), self.seed, self.images_seen, self.config.batch)
        others = other_indices(indices, len(self.images), self.seed, self.step_count)
        pictures, real = self._batch(indices, "flip"), self._batch(others, "flip-other")
        figures = self._remap(pictures, real) if self.phase == "remap" else self._reconstruct(pictures, real)
        self.step_count += 1
        self.images_seen += self.config.batch
        return figures

    def _batch(self, indices: list[int], stream: str) -> Tensor:
        """Return the pictures of the global batch, still on the CPU, float32 [B, 3, R, R]."""
        pictures = flip(self.images.batch(indices), generator(self.seed, stream, self.step_count))
        return jitter(pictures, self.config.jitter, generator(self.seed, f"{stream}-jitter", self.step_count))

    def _on_device(self, pictures: Tensor) -> Tensor:
        return pictures.to(device=self.compute.device, memory_format=torch.channels_last)

    def _set_rates(self) -> None:
        factor = self.schedule.rate(self.images_seen) if self.config.cosine else 1.0
        base = {"remapping": self.config.remap_learning_rate, "features": self.config.feature_learning_rate}
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = factor * base.get(name, self.config.learning_rate)

    def _reconstruct(self, pictures: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Phase A: equations 1 and 2 for E, D and the offset, then the critics."""
        due = self.schedule.identity(self.images_seen) and self.step_count % self.config.identity_every == 0
        share = self.schedule.adversary(self.images_seen)
        scale, guests = self.config.identity_every if due else 0, self.guests.invite(pictures, self.step_count)
        done = self.portions.each(
            lambda part: self._reconstruct_part(pictures, guests, part, identity_scale=scale, share=share),
            begin=self.optimizers["content"].zero_grad,
        )
        figures, judged = self.portions.mean([f for f, _ in done]), self.portions.join([j for _, j in done])
        self._descend("content")
        self._share_statistics()
        self._average("encoder", "generator", "offset")
        if self.features is not None or self.images_seen >= self.schedule.discriminator_start:
            figures |= self._train_critics(real, judged)
        if self.features is not None:
            beta = ema_decay(self.step_count, batch=self.config.batch, half_life=_FEATURE_HALF_LIFE)
            update_ema(self.features, self.discriminator, beta)
        figures["r"] = figures["r"] / self.config.lambda_r if self.config.lambda_r else figures["r"]
        return figures

    def _reconstruct_part(
        self, pictures: Tensor, guests: Tensor, part: slice, *, identity_scale: float, share: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradients of one portion; return its figures and what the critics are to judge."""
        target = self._on_device(pictures[part])
        painted = self.guests.count(part) if identity_scale or share else 0
        with self.compute.autocast():
            codes = self.model.encode(target)
            output = judged = self.model.decode(codes).float()
            faces = target
            if painted:
                invited = self._on_device(guests[part][-painted:])
                judged = torch.cat([output[:-painted], self._paint(invited, codes[-painted:])])
                faces = torch.cat([target[:-painted], invited])
        terms = self.terms(target, output)
        terms |= self.terms.likeness(faces, judged, identity_scale)
        figures = {name: value.mean() for name, value in terms.items()}
        total = torch.stack(list(figures.values())).sum()
        if share:
            found = self._adversaries(judged, part, self.config.lambda_adv_r)
            total = total + share * found.pop("total")
            figures |= found
        (total * self.portions.weight(part)).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in figures.items()}, judged.detach()

    def _paint(self, guests: Tensor, codes: Tensor) -> Tensor:
        """Return guests with the style rows of other pictures, float32 [g, 3, R, R] (ADR 7).

        Args:
            guests: float32 [g, 3, R, R].
            codes: E(y) of those pictures, [g, n, W].
        """
        cut = self.guests.cut(self.step_count)
        fused = torch.cat([self.model.encode(guests)[:, :cut], codes[:, cut:]], 1)  # [g, n, W]
        return self.model.decode(fused).float()

    def _adversaries(self, fake: Tensor, part: slice, weight: float) -> dict[str, Tensor]:
        """Return ``adv`` and ``adv_f``, unweighted, and ``total``, their weighted sum; float32 [] each."""
        figures = {"adv": self.adversary.generator_loss(fake, self.step_count, part).mean()}
        total = weight * figures["adv"]
        if self.feature_critic is not None:
            figures["adv_f"] = self.feature_critic.generator_loss(fake, self.step_count, part).mean()
            total = total + self.config.lambda_adv_f * figures["adv_f"]
        return figures | {"total": total}

    def _remap(self, pictures: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Phase B: equations 3 to 5 for M, then Dis; E and D carry gradient but do not move.

        M sees the noise of the global batch in every process, so that the moment
        term has the statistics of the whole batch; gradients are gathered at its
        output, portion by portion, and go through M once.
        """
        size = (self.config.batch, self.preset.network.z_dim)
        noise = torch.randn(size, generator=generator(self.seed, "z", self.step_count))
        with self.compute.autocast():
            drawn = self.model.remap(noise.to(self.compute.device))  # [B, xi, W]
        rows = drawn.detach().requires_grad_()
        pictures = self.guests.mixed(pictures, self.step_count)

        def begin() -> None:
            rows.grad = None

        done = self.portions.each(lambda part: self._remap_part(pictures, rows, part), begin=begin)
        figures, restyled = self.portions.mean([f for f, _ in done]), self.portions.join([r for _, r in done])
        self.optimizers["remapping"].zero_grad()
        torch.autograd.backward(drawn, rows.grad)
        self._descend("remapping")
        self._average("remapping")
        figures |= self._train_critics(real, restyled)
        return figures

    def _remap_part(self, pictures: Tensor, rows: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradients of one portion to those of M's output; return its figures and its pictures."""
        config, split = self.config, self.preset.network.split
        style_rows = rows if len(rows) == part.stop - part.start else rows[part]  # a cut would change a sum's order
        with self.compute.autocast():
            with torch.no_grad():
                content = self.model.encode(self._on_device(pictures[part]))
            restyled = self.model.decode(self.model.fuse(content, style_rows)).float()
            recovered = self.model.encode(restyled)[:, split:]  # [b, xi, W]
        found = self._adversaries(restyled, part, config.lambda_adv_z)
        total = found.pop("total")
        figures = {"swap": losses.swap(style_rows, recovered).mean(), "adv_z": found.pop("adv"), **found}
        total = (total + config.lambda_swap * figures["swap"]) * self.portions.weight(part)
        if config.lambda_mom:  # of the whole batch; counts once over all portions and processes
            figures["mom"] = losses.moments(rows, self.style_mean, self.style_std)
            total = total + config.lambda_mom * figures["mom"] if part.start == 0 else total
        total.backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in figures.items()}, restyled.detach()

    def _train_critics(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        def portion(part: slice) -> Tensor:
            return self._on_device(real[part])

        figures = self.adversary.train_step(portion, fake, self.step_count)
        self.dis_right += (float(figures["dis_right"]) - self.dis_right) / _RIGHT_STEPS
        if self.feature_critic is not None:
            figures |= self.feature_critic.train_step(portion, fake, self.step_count)
        return figures

    def _descend(self, name: str) -> None:
        optimizer = self.optimizers[name]
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.ranks.add(gradients)
        if torch.nn.utils.get_total_norm(gradients).isfinite():  # a broken step is skipped (M-53)
            optimizer.step()

    def _share_statistics(self) -> None:
        """Average over processes what BatchNorm of the paper's encoder has seen (M-20, M-56)."""
        if self.ranks.size == 1:
            return
        norms = [m for m in self.model.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        found = [value for m in norms for value in (m.running_mean, m.running_var) if value is not None]
        self.ranks.add(found)
        for value in found:
            value.div_(self.ranks.size)

    def _average(self, *parts: str) -> None:
        half_life = self.config.ema_half_life
        beta = ema_decay(self.step_count, batch=self.config.batch, half_life=half_life) if half_life else 0.0
        for part in parts:
            update_ema(getattr(self.average, part), getattr(self.model, part), beta)

    # Phase B begins -----------------------------------------------------------

    @torch.no_grad()
    def _enter_remap(self) -> None:
        """Put averaged weights in force, measure the style set, start M with its moments (M-28, ADR 5)."""
        self.model.load_state_dict(self.average.state_dict())
        self._freeze_content()
        rows = self.portions.retry(self._style_rows)  # [N, xi, W]
        rows = torch.lerp(rows.mean(0, keepdim=True), rows, self.config.style_spread)
        self.style_mean, self.style_std = rows.mean(0), rows.std(0) if len(rows) > 1 else torch.zeros_like(rows[0])
        z = torch.randn(_MOMENT_DRAWS, self.preset.network.z_dim, generator=generator(self.seed, "z-moments"))
        self.model.remapping.match(z.to(self.compute.device), rows)
        # Portions may differ between processes, and sums with them by a rounding.
        self.ranks.spread([*self.model.remapping.state_dict().values(), self.style_mean, self.style_std])
        update_ema(self.average.remapping, self.model.remapping, 0.0)

    def _freeze_content(self) -> None:
        """Freeze E, D and the offset; statistics of the paper's encoder stop moving too (M-20, M-27)."""
        for part in (self.model.encoder, self.model.generator, self.model.offset):
            part.eval().requires_grad_(requires_grad=False)

    def _style_rows(self) -> Tensor:
        """Return the style rows of the whole set, float32 [N, xi, W]."""
        size, count = self.portions.micro, len(self.images)
        return torch.cat([self._style_codes(range(at, min(at + size, count))) for at in range(0, count, size)])

    def _style_codes(self, indices: range) -> Tensor:
        pictures = self.images.batch(indices).to(self.compute.device)
        with self.compute.autocast():
            return self.model.encode(pictures)[:, self.preset.network.split :].float()

    # Checkpoint and reports ---------------------------------------------------

    def _modules(self) -> dict[str, torch.nn.Module]:
        found = {"model": self.model, "average": self.average, "discriminator": self.discriminator}
        if self.feature_critic is not None:
            found["feature-heads"] = self.feature_critic.heads
        return found | ({"features": self.features} if self.features is not None else {})

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """See ``Trainer``."""
        optimizers = {f"adam-{name}": optimizer_tensors(o) for name, o in self.optimizers.items()}
        style = {"mean": self.style_mean, "std": self.style_std}
        return module_tensors(self._modules()) | {k: v for k, v in optimizers.items() if v} | {"style": style}

    def values(self) -> dict[str, object]:
        """See ``Trainer``."""
        return {"schedule": asdict(self.schedule), "micro": self.portions.cut}

    def restore(self, saved: Checkpoint) -> None:
        """See ``Trainer``."""
        for name, module in self._modules().items():
            module.load_state_dict(dict(saved.tensors[name]))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, saved.tensors.get(f"adam-{name}", {}))
        self.style_mean, self.style_std = (saved.tensors["style"][k].to(self.compute.device) for k in ("mean", "std"))
        self.step_count, self.images_seen = saved.step, int(str(saved.values["images_seen"]))
        self.schedule = Schedule(**saved.values["schedule"])  # type: ignore[arg-type]
        self.portions.restore(saved.values.get("micro"))
        if self.images_seen > self.schedule.remap_start:
            self._freeze_content()

    def snapshot(self, folder: Path) -> tuple[str, ...]:
        """See ``Trainer``."""
        told = self.portions.notices()
        if not self.board.due(self.images_seen, self.config.batch, self.images_total):
            return told
        warnings = told + self.board.write(
            self.average, self.terms, folder, self.images_seen, remapped=self.phase == "remap"
        )
        if self.dis_right > _RIGHT_MAX:
            warnings += (
                f"Dis tells {self.dis_right:.0%} of the pictures right (M-54): double gamma or halve the rate",
            )
        return warnings

    def at_pace(self, seconds: float) -> str:
        """Jump to phase B once where time runs out (M-30), or the images are learnt by heart (P-82)."""
        if self.phase == "remap":
            return ""
        reason = self.early_end.late(self.schedule, self.images_seen, seconds)
        reason = reason or self.early_end.learnt(self.step_count, self._error)
        if reason:
            self.schedule = self.schedule.jump_to_remap(self.images_seen)
        return reason

    @torch.no_grad()
    def _error(self, images: ImageSet) -> float:
        """Return the mean absolute error of the averaged model over the first images of a set."""
        count = min(len(images), _GAP_IMAGES)
        total = 0.0
        for at in range(0, count, self.portions.micro):
            pictures = self._on_device(images.batch(range(at, min(at + self.portions.micro, count))))
            with self.compute.autocast():
                output = self.average.decode(self.average.encode(pictures)).float()
            total += float(losses.absolute(pictures, output).sum())
        return total / count
