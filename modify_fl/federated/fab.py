"""The archive of the Flower app, and the digest by which everybody knows it (F-6 to F-8). Imports nothing of Flower."""

import hashlib
from pathlib import Path

from modify_fl.errors import FederationSetupError

__all__ = ["APP_FOLDER", "FAB_SHA256", "fab_bytes"]

APP_FOLDER = Path(__file__).parent / "flower_app"
"""The app as ``flwr run`` and ``flwr build`` take it."""

FAB_SHA256 = "a24b370bbe6ea32a9a0343450a6ecfbefbd95e9ce59e5134dd60c2a5f7447d9b"
"""SHA-256 of what ``flwr build`` makes of ``APP_FOLDER``; published in every signed style bundle."""


def fab_bytes() -> bytes:
    """Return the archive, built from the installed folder.

    Raises:
        FederationSetupError: It is not the one whose digest is published: a file of the folder was changed.
    """
    from modify_fl.federated.compat import build_fab  # noqa: PLC0415 - brings in Flower

    made = build_fab(APP_FOLDER)
    if (found := hashlib.sha256(made).hexdigest()) != FAB_SHA256:
        raise FederationSetupError(
            "the Flower app of this installation is not the published one", why=f"its digest is {found}",
            fix="install modify-fl again", expected=FAB_SHA256, got=found,
        )  # fmt: skip
    return made
