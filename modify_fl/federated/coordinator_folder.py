"""The folder of a coordinator, made by ``plan`` and used by ``serve`` and the app that it starts.

::

    plan/kit/             what every site gets (``kit``)
    plan/private/, 0700   the authority and its key, the server's key, the key that signs the result, secrets
    plan/settings.json    bundle, whose it is, and where keys of sites are put (this module)
    plan/nodes.json       names of sites by Flower's ids, as registered
    plan/rounds/          checkpoints (``rounds``)
    plan/journal.jsonl    the audit log (``journal``)
    plan/flower/, bin/    Flower's own files, and the only programs it finds
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modify_fl.errors import ConfigError
from modify_fl.federated.party_folder import PartyFolder
from protocol.canonical import dump_json, parse_json
from protocol.errors import ProtocolError
from protocol.schema import Text, decode, encode
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["COORDINATOR_VARIABLE", "CoordinatorFolder", "CoordinatorSettings"]

COORDINATOR_VARIABLE = "MODIFY_COORDINATOR"
"""Names the coordinator's folder to the app that runs there."""

_SETTINGS, _NODES = "settings.json", "nodes.json"
_SMALL = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CoordinatorSettings:
    """What ``plan`` was told that no site needs to know."""

    bundle: Text
    """Path of the style."""
    provider: Text
    """Path of the public key that the style is signed by."""
    sites: Text
    """Folder in which the public keys of sites are put."""


@dataclass(frozen=True)
class CoordinatorFolder(PartyFolder):
    """The parts of the folder by name."""

    @property
    def private(self) -> Path:
        """Keys and secrets, 0700."""
        return self.path / "private"

    @property
    def rounds(self) -> Path:
        """Checkpoints."""
        return self.path / "rounds"

    def settings(self) -> CoordinatorSettings:
        """Read what ``plan`` was told.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            data = read_file(self.path / _SETTINGS, limit=_SMALL)
            return decode(CoordinatorSettings, parse_json(data, member=_SETTINGS), member=_SETTINGS)
        except ProtocolError as error:
            raise ConfigError(f"{self.path} holds no plan", why=error.why or error.what,
                              fix="run style-provider federate plan") from error  # fmt: skip

    def write_settings(self, settings: CoordinatorSettings, *, overwrite: bool = False) -> None:
        """Keep what ``plan`` was told.

        Raises:
            StorageError: It cannot be written, or exists.
        """
        with atomic_writer(self.path / _SETTINGS, mode=PRIVATE, overwrite=overwrite) as stream:
            stream.write(dump_json(encode(settings)))

    def nodes(self) -> dict[int, str]:
        """Return the names of sites by Flower's ids; none before sites were registered."""
        path = self.path / _NODES
        if not path.exists():
            return {}
        value = parse_json(read_file(path, limit=_SMALL), member=_NODES)
        return {int(node): str(name) for node, name in value.items()} if isinstance(value, dict) else {}

    def write_nodes(self, nodes: Mapping[int, str]) -> None:
        """Keep the names of sites.

        Raises:
            StorageError: It cannot be written.
        """
        with atomic_writer(self.path / _NODES, mode=PRIVATE, overwrite=True) as stream:
            stream.write(dump_json({str(node): name for node, name in nodes.items()}))
