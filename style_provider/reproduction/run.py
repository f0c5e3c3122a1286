"""The comparisons of the paper, done again on any pictures (M-45, M-47)."""

from collections.abc import Sequence

from style_provider.reproduction.experiments import Outcome, experiment
from style_provider.reproduction.report import write_outcome
from style_provider.reproduction.task import Experiment, Reproduction
from style_provider.reproduction.training import Trainings
from style_provider.reproduction.units import Units

__all__ = ["reproduce"]


def reproduce(names: Sequence[Experiment], task: Reproduction, *, fresh: bool = False) -> dict[Experiment, Outcome]:
    """Carry out experiments and write what each found into the folder of ``task``.

    Stopped at any moment, the same call goes on. Experiments share what they
    can: styles, adaptations and figures that two of them want are made once.

    Args:
        names: Which ones.
        task: Pictures, settings and folder.
        fresh: Throw away what the folder holds.

    Returns:
        Outcomes by name, in that order.

    Raises:
        ConfigError: The folder has results of other settings, or another process holds it.
        DataError: A set of pictures is too small, or pictures that are measured are trained on.
        InterruptedRunError: A signal asked for a stop.
        TrainingDivergedError: A training became unstable (M-53).
    """
    task.material.check()
    found: dict[Experiment, Outcome] = {}
    with Units.open(task.folder, task.settings(), task.console, fresh=fresh) as units:
        for name in names:
            units.seconds.clear()
            found[name] = experiment(name, task, Trainings(task, units), units)
            write_outcome(found[name], task, units.seconds)
    return found
