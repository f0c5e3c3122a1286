"""What must be in the environment before Flower or Ray is imported (F-4). Imports neither."""

import os
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["FLOWER_ENVIRONMENT", "missing_from_environment", "set_environment"]

FLOWER_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
)
"""Switches telemetry, update checks and installations off."""


def set_environment() -> None:
    """Set ``FLOWER_ENVIRONMENT`` for this process and its children; before the first import of ``compat``."""
    os.environ.update(FLOWER_ENVIRONMENT)


def missing_from_environment() -> tuple[str, ...]:
    """Return the names that are not set as they must be."""
    return tuple(name for name, value in FLOWER_ENVIRONMENT.items() if os.environ.get(name) != value)
