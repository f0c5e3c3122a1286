"""What the archive of the Flower app names: the ServerApp that ``flwr run`` starts by hand, by the run's own settings.

``style-provider federate serve`` makes one of its own, of the coordinator's folder.
"""

from modify_fl.federated.by_hand import coordinator_by_hand
from modify_fl.federated.coordinator import make_server_app

__all__ = ["app"]

app = make_server_app(coordinator_by_hand)
"""The ServerApp of the Flower app."""
