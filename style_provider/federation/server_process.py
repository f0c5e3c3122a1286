"""What Flower starts in place of ``flwr-serverapp``: the installed ServerApp, on the coordinator's own folder.

As on a site, the archive that came with the run is never unpacked: who managed to
start a run could otherwise run code here (F-25).
"""

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modify_fl.errors import FederationPolicyError
from modify_fl.federated.coordinator_folder import COORDINATOR_VARIABLE, CoordinatorFolder
from modify_fl.federated.environment import set_environment
from modify_fl.federated.journal import append
from protocol.provider import read_provider_key

if TYPE_CHECKING:
    from modify_fl.federated.compat import ServerApp
    from modify_fl.federated.coordinator import Coordinator
    from modify_fl.federated.guard import RoundRecord

__all__ = ["main", "record_round"]

_log = logging.getLogger(__name__)


def main() -> None:
    """Run the rounds: ``server_process`` and the words that Flower gives to ``flwr-serverapp``."""
    sys.argv[0] = "flwr-serverapp"
    set_environment()
    folder = CoordinatorFolder(Path(os.environ[COORDINATOR_VARIABLE]))
    from modify_fl.federated import compat  # noqa: PLC0415 - after the environment (F-4)

    compat.guard_serverapp(lambda archive: _check(folder, archive), lambda: _app(folder))
    compat.flwr_serverapp()


def _check(folder: CoordinatorFolder, archive: bytes) -> None:
    digest = hashlib.sha256(archive).hexdigest()
    if digest != folder.kit().plan.fab_sha256:
        append(folder.journal, "refused", fab_sha256=digest)
        raise FederationPolicyError("the run is of another app than planned", why=f"its digest is {digest}")


def _app(folder: CoordinatorFolder) -> "ServerApp":
    """Return the installed app; torch comes in here, when Flower's heartbeat runs already."""
    from modify_fl.federated.coordinator import make_server_app  # noqa: PLC0415

    return make_server_app(lambda _: _coordinator(folder))


def _coordinator(folder: CoordinatorFolder) -> "Coordinator":
    from modify_fl.federated.coordinator import Coordinator  # noqa: PLC0415
    from style_provider.federation.planning import load_planned  # noqa: PLC0415 - brings in torch

    settings = folder.settings()
    style, _ = load_planned(Path(settings.bundle), read_provider_key(Path(settings.provider)))
    return Coordinator(
        plan=folder.kit().plan, style=style, folder=folder.rounds, nodes=folder.nodes(),
        tell=lambda record: record_round(folder, record),
    )  # fmt: skip


def record_round(folder: CoordinatorFolder, record: "RoundRecord") -> None:
    """Put what became of a round into the audit log (F-13)."""
    names = folder.nodes()
    rejected = {names.get(int(node), node): word for node, word in record.rejected.items()}
    append(
        folder.journal, "round", round=record.round, asked=record.asked, accepted=record.accepted,
        skipped=record.skipped, norm_largest=max(record.norms, default=0.0),
        rejected=", ".join(f"{name}: {word}" for name, word in sorted(rejected.items())),
    )  # fmt: skip


if __name__ == "__main__":
    main()
