"""The mutation builds of P-62: each breaks the real code in one way, and names the test that must notice."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from modify_fl import losses
from modify_fl.networks.discriminator import Discriminator
from modify_fl.privacy import accounting, engine, mechanism, noise
from modify_fl.privacy.accounting import Segment
from modify_fl.privacy.engine import GradientEngine, MicroEngine
from modify_fl.privacy.ledger import Vault
from modify_fl.privacy.loss_nets import LossNets
from modify_fl.privacy.mechanism import Mechanism
from modify_fl.privacy.records import Ledger
from modify_fl.privacy.release import ReleaseGate, Reply
from modify_fl.privacy.sampler import PoissonSampler
from modify_fl.training import private_loss
from modify_fl.training.private import PrivateStylization
from modify_fl.training.private_loss import PhotoLoss

__all__ = ["MUTATIONS", "Mutation"]

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutation:
    """One broken build."""

    name: str
    """As in P-62."""
    test: str
    """Module and function, or module, function and case, of the test that fails."""
    apply: Callable[[Patch], None]
    """Breaks the code."""


# Couplings of photos ----------------------------------------------------------


def _face_in_training_mode(patch: Patch) -> None:
    patch.setattr(LossNets, "train", nn.Module.train)
    patch.setattr(LossNets, "require_frozen", lambda self: None)
    original = PhotoLoss.forward

    def forward(self: PhotoLoss, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        self.train()
        return original(self, photos, codes, step)

    patch.setattr(PhotoLoss, "forward", forward)


def _minibatch_std(patch: Patch) -> None:
    original = Discriminator.__init__

    def build(self: Discriminator, config: Any) -> None:
        original(self, SimpleNamespace(resolution=config.resolution, channels=config.channels, minibatch_std=8))  # type: ignore[arg-type]

    patch.setattr(Discriminator, "__init__", build)


def _norm_over_the_batch(patch: Patch) -> None:
    def reconstruction(target: Tensor, output: Tensor, **_: object) -> Tensor:
        return (target - output).norm().expand(len(target)) / len(target)

    patch.setattr(losses, "reconstruction", reconstruction)


def _relativistic(patch: Patch) -> None:
    original = losses.adversarial_generator
    patch.setattr(
        private_loss.losses, "adversarial_generator",
        lambda fake, kind: original(100 * (fake - fake.mean()), kind),
    )  # fmt: skip


def _private_critic_step(patch: Patch) -> None:
    original = PhotoLoss.forward

    def forward(self: PhotoLoss, photos: Tensor, codes: Tensor, step: int) -> Tensor:
        kept = copy.deepcopy(self.critic)
        assert self.critic is not None
        critic = self.critic.requires_grad_()
        with torch.enable_grad():
            (critic(self.model.decode(codes.detach())).mean() - critic(photos).mean()).backward()
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]
        self.critic = critic.requires_grad_(requires_grad=False)
        try:
            return original(self, photos, codes, step)
        finally:
            self.critic = kept

    patch.setattr(PhotoLoss, "forward", forward)


# Noise ------------------------------------------------------------------------


def _scaled_noise(factor: float) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        original = noise.standard_normal
        patch.setattr(noise, "standard_normal", lambda count: original(count) * factor)

    return apply


def _seeded_noise(patch: Patch) -> None:
    patch.setattr(noise, "standard_normal", lambda count: torch.randn(count, dtype=torch.float64))


# Clipping, sampling, dividing ---------------------------------------------------


def _no_clipping(patch: Patch) -> None:
    patch.setattr(engine, "clip", lambda gradient, bound: torch.nan_to_num(gradient.double(), 0.0, 0.0, 0.0))


def _clip_at_ten(patch: Patch) -> None:
    original = engine.clip
    patch.setattr(engine, "clip", lambda gradient, bound: original(gradient, 10 * bound))


def _divide_by_the_drawn(patch: Patch) -> None:
    def step(self: Mechanism, number: int) -> Tensor:
        drawn = self._sampler.draw(self._count)
        self._paid -= 1
        total = self._engine.clipped_sum((self._units(i, number) for i in drawn), number)
        settings = self._settings
        return mechanism.add_noise(
            total, noise_multiplier=settings.noise_multiplier, max_grad_norm=settings.max_grad_norm
        ) / max(1, len(drawn))

    patch.setattr(Mechanism, "step", step)


def _rate_from_the_photos(patch: Patch) -> None:
    original = Mechanism.__init__

    def build(self: Mechanism, settings: Any, *parts: Any, **named: Any) -> None:
        original(self, settings, *parts, **named)
        self._sampler = PoissonSampler(min(1.0, settings.batch / max(1, named["count"])))

    patch.setattr(Mechanism, "__init__", build)


def _fixed_size(patch: Patch) -> None:
    def draw(self: PoissonSampler, units: int) -> list[int]:
        size = round(self.sampling_rate * units)
        return sorted(np.random.default_rng().permutation(units)[:size].tolist())

    patch.setattr(PoissonSampler, "draw", draw)


def _shuffled(patch: Patch) -> None:
    state: dict[int, list[int]] = {}

    def draw(self: PoissonSampler, units: int) -> list[int]:
        size = round(self.sampling_rate * units)
        queue = state.setdefault(id(self), [])
        if len(queue) < size:
            queue[:] = np.random.default_rng().permutation(units).tolist()
        return sorted(queue.pop() for _ in range(size))

    patch.setattr(PoissonSampler, "draw", draw)


def _skip_empty_batches(patch: Patch) -> None:
    original = mechanism.add_noise
    patch.setattr(
        mechanism, "add_noise", lambda total, **sizes: original(total, **sizes) if total.any() else total
    )  # fmt: skip


def _skip_the_step_at_nan(patch: Patch) -> None:
    original = MicroEngine._gradients

    def clipped(self: MicroEngine, units: Any, step: int) -> Iterator[Tensor]:
        found = [g for views in units for g in original(self, [views], step)]
        broken = any(not math.isfinite(float(g.double().norm())) for g in found)
        return iter([torch.zeros_like(g).double() if broken else engine.clip(g, self.max_grad_norm) for g in found])

    patch.setattr(GradientEngine, "clipped", clipped)


def _views_after_clipping(patch: Patch) -> None:
    original = engine._chunks
    patch.setattr(engine, "_chunks", lambda units, size: original((v for views in units for v in views.split(1)), size))


# Checkpoints and charges --------------------------------------------------------


def _generator_in_the_checkpoint(patch: Patch) -> None:
    patch.setattr(PrivateStylization, "values", lambda self: {"generator": torch.get_rng_state()[:8].tolist()})


def _charge_after_the_step(patch: Patch) -> None:
    original = Mechanism.step

    def pay(self: Mechanism, steps: int) -> None:
        self._paid += steps

    def step(self: Mechanism, number: int) -> Tensor:
        update = original(self, number)
        self._charge(1)
        return update

    patch.setattr(Mechanism, "pay", pay)
    patch.setattr(Mechanism, "step", step)


# Ledger, accountant, release ------------------------------------------------------


def _ledger_begins_anew(patch: Patch) -> None:
    original = Vault.__init__

    def build(self: Vault, state: Any) -> None:
        original(self, state)
        self.ledger = Ledger.begin(state.ledger.opening)

    patch.setattr(Vault, "__init__", build)


def _gdp(patch: Patch) -> None:
    def spent(segment: Segment, delta: float, orders: object) -> float:
        mu = segment.sampling_rate * math.sqrt(segment.steps * math.expm1(segment.noise_multiplier**-2))

        def excess(epsilon: float) -> float:
            near, far = stats.norm.cdf(-epsilon / mu + mu / 2), stats.norm.cdf(-epsilon / mu - mu / 2)
            return float(near - math.exp(epsilon) * far) - delta

        return float(optimize.brentq(excess, 0.0, 300.0)) if excess(0.0) > 0 else 0.0

    patch.setattr(accounting, "_least_epsilon", spent)


def _noise_from_a_message(patch: Patch) -> None:
    original = Mechanism.__init__

    def build(self: Mechanism, settings: Any, *parts: Any, **named: Any) -> None:
        message = {"noise_multiplier": 0.1}  # what a coordinator sent
        original(self, replace(settings, **message), *parts, **named)

    patch.setattr(Mechanism, "__init__", build)


def _number_of_examples(patch: Patch) -> None:
    patch.setattr(Reply, "__post_init__", lambda self: None)


def _test_time_weights(patch: Patch) -> None:
    original = ReleaseGate._check
    patch.setattr(
        ReleaseGate, "_check", lambda self, adapted, run: original(self, replace(adapted, mode="offline"), run)
    )  # fmt: skip


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("R in training mode", "test_isolation.test_photos_do_not_meet_in_the_loss_of_the_real_trainer",
             _face_in_training_mode),
    Mutation("minibatch stddev", "test_isolation.test_photos_do_not_meet_in_the_loss_of_the_real_trainer",
             _minibatch_std),
    Mutation("batch norm of the loss", "test_isolation.test_photos_do_not_meet_in_the_loss_of_the_real_trainer",
             _norm_over_the_batch),
    Mutation("RaGAN", "test_isolation.test_photos_do_not_meet_in_the_loss_of_the_real_trainer", _relativistic),
    Mutation("private critic step", "test_isolation.test_photos_do_not_meet_in_the_loss_of_the_real_trainer",
             _private_critic_step),
    Mutation("no noise", "test_mechanism.test_an_empty_batch_is_noise_and_is_charged", _scaled_noise(0.0)),
    Mutation("noise/4", "test_mechanism.test_an_empty_batch_is_noise_and_is_charged", _scaled_noise(0.25)),
    Mutation("noise/sqrt 2", "test_auditing.test_two_worlds_are_apart_by_one_over_sigma", _scaled_noise(0.5**0.5)),
    Mutation("torch-seeded noise", "test_noise.test_no_seed_repeats_noise", _seeded_noise),
    Mutation("clip skipped", "test_engine.test_no_picture_exceeds_the_bound:micro", _no_clipping),
    Mutation("clip x10", "test_engine.test_removing_a_picture_moves_the_sum_by_at_most_the_bound:micro", _clip_at_ten),
    Mutation("divisor = actual batch size", "test_mechanism.test_the_divisor_is_public", _divide_by_the_drawn),
    Mutation("q from len(data)", "test_mechanism.test_one_photo_more_changes_no_public_number",
             _rate_from_the_photos),
    Mutation("fixed-size sampler", "test_sampler.test_units_are_drawn_independently:take", _fixed_size),
    Mutation("shuffled sampler", "test_sampler.test_steps_are_independent_of_each_other:take", _shuffled),
    Mutation("empty batch skipped", "test_mechanism.test_an_empty_batch_is_noise_and_is_charged",
             _skip_empty_batches),
    Mutation("NaN skips the step", "test_engine.test_no_picture_exceeds_the_bound:micro", _skip_the_step_at_nan),
    Mutation("augmentation after clipping", "test_engine.test_views_of_a_unit_count_once:micro",
             _views_after_clipping),
    Mutation("RNG in a checkpoint", "test_private.test_no_private_figure_is_told_or_stored:run",
             _generator_in_the_checkpoint),
    Mutation("charge after release", "test_mechanism.test_no_photo_is_read_before_the_charge",
             _charge_after_the_step),
    Mutation("num_examples = n", "test_release.test_the_number_of_examples_is_a_constant:desk", _number_of_examples),
    Mutation("ledger restart at 0", "test_ledger.test_two_styles_and_a_restart_compose:photos", _ledger_begins_anew),
    Mutation("GDP accountant", "test_accounting.test_noise_multiplier_is_that_of_the_table:table", _gdp),
    Mutation("server value overriding sigma", "test_mechanism.test_an_empty_batch_is_noise_and_is_charged",
             _noise_from_a_message),
    Mutation("test-time weights exported", "test_release.test_test_time_weights_do_not_leave:desk",
             _test_time_weights),
)  # fmt: skip
