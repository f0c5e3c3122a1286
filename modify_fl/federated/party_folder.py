"""What the folders of both parties of a federation have in common."""

from dataclasses import dataclass
from pathlib import Path

from modify_fl.federated.journal import JOURNAL
from modify_fl.federated.kit import Kit, read_kit

__all__ = ["PartyFolder"]


@dataclass(frozen=True)
class PartyFolder:
    """The parts of a folder by name."""

    path: Path

    @property
    def journal(self) -> Path:
        """The audit log."""
        return self.path / JOURNAL

    @property
    def home(self) -> Path:
        """Flower's home, 0700 (F-5)."""
        return self.path / "flower"

    @property
    def programs(self) -> Path:
        """What stands alone on Flower's ``PATH``."""
        return self.path / "bin"

    def kit(self) -> Kit:
        """Read the kit: the coordinator's, or the one that a site accepted.

        Raises:
            FederationSetupError: It is not whole.
        """
        return read_kit(self.path / "kit")
