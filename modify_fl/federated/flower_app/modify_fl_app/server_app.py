"""The ServerApp."""

from modify_fl.federated.environment import set_environment

set_environment()

from modify_fl.federated.server_app import app  # noqa: E402

__all__ = ["app"]
