"""The archive of the Flower app, and the digest by which everybody knows it (F-6 to F-8). Imports nothing of Flower."""

import hashlib
from pathlib import Path

from modify_fl.errors import FederationSetupError

__all__ = ["APP_FOLDER", "FAB_SHA256", "fab_bytes"]

APP_FOLDER = Path(__file__).parent / "flower_app"
"""The app as ``flwr run`` and ``flwr build`` take it."""

FAB_SHA256 = "dcec2b1945c54a5e86830c67f5e1170023c37d33259d4aadf0202741f3ecf290"
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
