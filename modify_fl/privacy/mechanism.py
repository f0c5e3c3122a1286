"""One step of DP-SGD: charge, sample, clip, sum, add noise (design/privacy.md, section 5).

u_t = sum over S_t of g_i min(1, C / |g_i|) + N(0, sigma^2 C^2 I), S_t by Poisson(q).

Guarantees: nothing but u_t / B0 comes out; the ledger was charged before the
units were drawn (P-41); an empty S_t gives noise alone and was charged (P-13); B0
is public, never the size of S_t (P-12). The size of S_t is not kept.

Letters: d trained parameters.
"""

from collections.abc import Callable

from torch import Tensor

from modify_fl.privacy.engine import GradientEngine
from modify_fl.privacy.noise import add_noise
from modify_fl.privacy.sampler import PoissonSampler
from modify_fl.privacy.settings import DpSettings

__all__ = ["Charge", "Mechanism", "Units"]

Charge = Callable[[int], object]
"""Writes k steps into the ledger and returns when they are on the disk; raises where the budget does not allow them."""

Units = Callable[[int, int], Tensor]
"""Returns the views of the unit with an index at a step, float32 [v, 3, R, R] in [-1, 1]."""


class Mechanism:
    """The subsampled Gaussian mechanism over the photos of one client."""

    def __init__(
        self, settings: DpSettings, engine: GradientEngine, units: Units, *, count: int, charge: Charge
    ) -> None:
        """Keep the parts; nothing is drawn or charged.

        Args:
            settings: Public numbers.
            engine: Computes clipped gradients with the C of ``settings``.
            units: Reads a unit.
            count: Number of units there are; used for drawing alone, never shown.
            charge: The ledger.
        """
        self._settings, self._engine, self._units, self._count = settings, engine, units, count
        self._sampler, self._charge, self._paid = PoissonSampler(settings.sampling_rate), charge, 0

    def pay(self, steps: int) -> None:
        """Charge the next ``steps`` steps before any of them runs (P-41).

        What a crash leaves unused stays charged; what was paid earlier by this process is kept.

        Raises:
            PrivacyBudgetError: The ledger refuses; nothing was drawn.
        """
        self._charge(steps)
        self._paid += steps

    def step(self, number: int) -> Tensor:
        """Release u_t / B0, float64 [d]: the estimate of the mean gradient.

        Args:
            number: t, from 0; names the public draws of views and losses.

        Raises:
            RuntimeError: This step was not paid for.
        """
        if self._paid < 1:
            raise RuntimeError("a step of DP-SGD runs only after pay() has charged it")
        self._paid -= 1
        drawn = self._sampler.draw(self._count)
        total = self._engine.clipped_sum((self._units(index, number) for index in drawn), number)
        noisy = add_noise(
            total, noise_multiplier=self._settings.noise_multiplier, max_grad_norm=self._settings.max_grad_norm
        )
        return noisy / self._settings.batch
