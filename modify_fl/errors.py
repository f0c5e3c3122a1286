"""The training branch of the error tree.

::

    protocol.errors.Error
    └── ModifyError            exit 1   a defect, or a call the library cannot serve
        ├── ConfigError        exit 2   a setting, or a combination of settings, makes no sense
        ├── ShapeError         exit 1   an array or tensor has the wrong shape, type or range
        ├── DataError          exit 10  photos or a data set cannot be used
        ├── MemoryShortError   exit 12  the memory of this machine or device is not enough
        ├── MissingPackageError exit 12 an optional package that was asked for is not installed
        ├── MissingWeightsError exit 12 a pretrained network that was demanded is not there
        ├── PrivacyBudgetError exit 11  the privacy budget, its ledger or the preflight says no
        │   └── VaultBusyError exit 11  another process holds the vault (P-44)
        ├── TrainingDivergedError exit 1  training became unstable (M-53)
        ├── FederationPolicyError exit 6  a site's policy does not allow it (F-12)
        ├── FederationSetupError exit 12  the parts of a federation cannot start or reach each other
        ├── FederationError    exit 14  a federated run failed (F-26)
        └── InterruptedRunError exit 130 stopped by a signal; a checkpoint was saved (U-48)

Every class owns its exit code (U-43) and a hint that is used where the raiser
has no better advice; messages are lower case, without a full stop (U-44).
"""

from protocol.errors import Error

__all__ = [
    "ConfigError",
    "DataError",
    "FederationError",
    "FederationPolicyError",
    "FederationSetupError",
    "InterruptedRunError",
    "MemoryShortError",
    "MissingPackageError",
    "MissingWeightsError",
    "ModifyError",
    "PrivacyBudgetError",
    "ShapeError",
    "TrainingDivergedError",
    "VaultBusyError",
]


class ModifyError(Error):
    """Base class of everything ``modify_fl`` raises on purpose."""

    code = "E_MODIFY"
    exit_code = 1
    hint = "run again with --debug and report what it prints"


class ConfigError(ModifyError):
    """A setting, or a combination of settings, makes no sense."""

    code = "E_CONFIG"
    exit_code = 2
    hint = "run the command with --help to see what is accepted"


class ShapeError(ModifyError):
    """An array or tensor has the wrong shape, type or range."""

    code = "E_SHAPE"
    exit_code = 1
    hint = "pass what the docstring asks for"


class DataError(ModifyError):
    """Photos or a data set cannot be used."""

    code = "E_DATA"
    exit_code = 10
    hint = "check the folder or file that is named"


class MemoryShortError(ModifyError):
    """The memory of this machine or device is not enough (U-10)."""

    code = "E_MEMORY"
    exit_code = 12
    hint = "use a smaller preset or batch, or end other programs"


class MissingPackageError(ModifyError):
    """An optional package that was asked for is not installed."""

    code = "E_PACKAGE"
    exit_code = 12
    hint = "install the extra that the documentation names"


class MissingWeightsError(ModifyError):
    """A pretrained network that was demanded is not on this machine (M-43)."""

    code = "E_WEIGHTS"
    exit_code = 12
    hint = "set TORCH_HOME to the folder that holds the weights, or run style-provider weights fetch"


class PrivacyBudgetError(ModifyError):
    """The privacy budget of a vault, its ledger or the preflight forbids what was asked (P-31, P-43, P-45)."""

    code = "E_PRIVACY"
    exit_code = 11
    hint = "run content-client privacy status to see what was spent"


class VaultBusyError(PrivacyBudgetError):
    """Another process holds the vault of these photos (P-44)."""


class TrainingDivergedError(ModifyError):
    """Training became unstable and stopped at the last good checkpoint (M-53)."""

    code = "E_DIVERGED"
    exit_code = 1
    hint = "double gamma or halve the learning rate"


class FederationPolicyError(ModifyError):
    """A site's policy does not allow what a coordinator asks for (F-12)."""

    code = "E_FED_POLICY"
    exit_code = 6
    hint = "change policy.json only if you agree to what is asked for"


class FederationSetupError(ModifyError):
    """The parts of a federation cannot be started, or do not reach or accept each other (F-3, F-26)."""

    code = "E_FED_SETUP"
    exit_code = 12
    hint = "read the log that is named"


class FederationError(ModifyError):
    """A federated run did not end as completed (F-26)."""

    code = "E_FEDERATION"
    exit_code = 14
    hint = "run style-provider federate serve with --resume to go on after the last checkpoint"


class InterruptedRunError(ModifyError):
    """A signal stopped the run after a checkpoint was saved (U-48)."""

    code = "E_INTERRUPTED"
    exit_code = 130
    hint = "run the same command again to go on"
