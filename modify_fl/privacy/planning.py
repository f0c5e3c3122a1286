"""What a DP run would cost and be worth, before anything is spent (P-53, P-54)."""

import math
from dataclasses import dataclass

from modify_fl.errors import ConfigError, PrivacyBudgetError
from modify_fl.privacy.accounting import Segment, epsilon_of, noise_multiplier_for, prv_epsilon, require_delta

__all__ = ["Plan", "plan", "signal_to_noise"]

_FEW_PHOTOS = 500
_TEST_TIME_PHOTOS = 50
_SNR_WARN, _SNR_STOP = 5.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A schedule in figures. Nothing in it was computed from photos."""

    n_public: int
    """Number of units, as stated."""
    batch: int
    """B0."""
    steps: int
    """T."""
    parameters: int
    """d, trained parameters."""
    delta: float
    """Of the claim."""
    noise_multiplier: float
    """sigma."""
    epsilon_rdp: float
    """Epsilon of record, at ``delta``."""
    epsilon_prv: float | None
    """The same by PRV; nothing where it was not asked for or did not return (P-32)."""
    sites: int = 1
    """Sites whose updates are averaged, each with noise of its own (P-53)."""

    @property
    def sampling_rate(self) -> float:
        """Probability of each unit to be in a step, q."""
        return self.batch / self.n_public

    @property
    def noise_norm(self) -> float:
        """Norm of the noise in the mean gradient of a step, in units of C: sigma sqrt(d) / B0."""
        return self.noise_multiplier * math.sqrt(self.parameters) / self.batch

    @property
    def snr(self) -> float:
        """Signal to noise over the run."""
        one = signal_to_noise(self.noise_multiplier, self.parameters, self.batch, self.steps)
        return one * math.sqrt(self.sites)

    @property
    def segment(self) -> Segment:
        """The mechanism."""
        return Segment(
            sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier, steps=self.steps
        )  # fmt: skip

    def warnings(self) -> tuple[str, ...]:
        """Return what is doubtful about the plan (P-54)."""
        found = []
        if self.n_public <= _TEST_TIME_PHOTOS:
            found.append(f"with {self.n_public} photos use --mode test-time, which needs no budget and sends nothing")
        elif self.n_public < _FEW_PHOTOS:
            found.append(f"{self.n_public} photos are few: below about {_FEW_PHOTOS} little signal is to be expected")
        if self.snr < _SNR_WARN:
            found.append(f"signal to noise is {self.snr:.2g} over the run; below {_SNR_WARN:g} little is learnt")
        return tuple(found)

    def require_useful(self) -> None:
        """Stop where the budget would be spent on noise (P-54).

        Raises:
            PrivacyBudgetError: Signal to noise is below 2.
        """
        if self.snr < _SNR_STOP:
            raise PrivacyBudgetError(
                f"these settings would spend the budget on noise: signal to noise is {self.snr:.2g} over the run",
                why=f"below {_SNR_STOP:g} nothing is learnt: sigma {self.noise_multiplier:.3g}, {self.parameters} "
                f"parameters, batch {self.batch}, {self.steps} steps (P-54)",
                fix="train a smaller part (--subset lora), use more photos or a larger batch, use --mode test-time, "
                "or add --accept-low-utility",
            )


def signal_to_noise(noise_multiplier: float, parameters: int, batch: int, steps: int) -> float:
    """Return sqrt(T) B0 / (sigma sqrt(d)): the run's signal to noise at best, gradients aligned and at C (P-53)."""
    return math.sqrt(steps) * batch / (noise_multiplier * math.sqrt(parameters))


def plan(
    *, n_public: int, batch: int, steps: int, epsilon: float, delta: float, parameters: int, prv: bool = False
) -> Plan:
    """Compute the noise that a schedule needs, and what it is worth.

    Args:
        n_public: Number of units, public, best rounded (P-12).
        batch: B0, at most ``n_public``.
        steps: T.
        epsilon: What may be spent.
        delta: Of the claim, below ``1 / n_public``.
        parameters: d.
        prv: Report PRV too; takes a child process up to a minute.

    Raises:
        ConfigError: A number is out of range.
        PrivacyBudgetError: Delta is too large, or no noise is enough.
    """
    if min(n_public, batch, steps, parameters) < 1 or not 0 < epsilon < math.inf:
        raise ConfigError("photos, batch, steps, parameters and epsilon must be above 0", fix="look at --help")
    if batch > n_public:
        raise ConfigError(
            f"the batch {batch} is larger than the number of photos {n_public}", fix="use a smaller --batch"
        )
    require_delta(delta, n_public)
    noise = noise_multiplier_for(epsilon, delta, batch / n_public, steps)
    part = Segment(sampling_rate=batch / n_public, noise_multiplier=noise, steps=steps)
    return Plan(
        n_public=n_public, batch=batch, steps=steps, parameters=parameters, delta=delta, noise_multiplier=noise,
        epsilon_rdp=epsilon_of([part], delta), epsilon_prv=prv_epsilon([part], delta) if prv else None,
    )  # fmt: skip
