"""The ClientApp."""

from modify_fl.federated.environment import set_environment

set_environment()

from modify_fl.federated.by_hand import client_app as app  # noqa: E402

__all__ = ["app"]
