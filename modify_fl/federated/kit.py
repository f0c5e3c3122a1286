"""What a coordinator gives to every site before the first round, and what a site keeps of it.

::

    kit/kit.json             address, digests, whose style it is (this module)
    kit/plan.json            the public numbers of the run (``plan``)
    kit/ca.crt               vouches for the coordinator's certificate
    kit/coordinator.mdfykey  signs the result; an adapter key, and nothing else

A kit holds nothing secret, and nobody vouches for it: whoever gives it out tells
its digest by another channel, and ``enroll`` shows the same digest.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from modify_fl.errors import FederationSetupError
from modify_fl.federated.certificates import CA
from modify_fl.federated.plan import PLAN_FILE, FederationPlan, read_plan
from protocol.canonical import dump_json, parse_json
from protocol.errors import StorageError
from protocol.provider import ProviderKey, read_provider_key
from protocol.schema import Bound, Hex64, decode, encode
from protocol.storage import atomic_writer, read_file

__all__ = ["COORDINATOR_KEY", "KIT", "Kit", "KitFile", "read_kit", "write_kit_file"]

KIT = "kit.json"
COORDINATOR_KEY = "coordinator.mdfykey"

_SMALL = 1 << 16
_ADDRESS = r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"


@dataclass(frozen=True, kw_only=True)
class KitFile:
    """The fields of ``kit.json``."""

    version: Literal[1] = 1
    address: Annotated[str, Bound(pattern=_ADDRESS, longest=300)]
    """Host and port of the coordinator."""
    ca_sha256: Hex64
    plan_sha256: Hex64
    signer: Annotated[str, Bound(pattern=_FINGERPRINT)]
    """Fingerprint of the key that signed the style."""
    coordinator: Annotated[str, Bound(pattern=_FINGERPRINT)]
    """Fingerprint of the key that will sign the result."""

    def to_bytes(self) -> bytes:
        """Return ``kit.json``, canonical."""
        return dump_json(encode(self))

    @property
    def digest(self) -> str:
        """SHA-256 of ``kit.json``, which names all else: what two people compare."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Kit:
    """A kit that was read and is of one piece."""

    file: KitFile
    plan: FederationPlan
    key: ProviderKey
    """Signs the result."""
    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a kit; see ``read_kit``."""
        file = decode(KitFile, parse_json(read_file(folder / KIT, limit=_SMALL), member=KIT), member=KIT)
        plan, key = read_plan(folder / PLAN_FILE), read_provider_key(folder / COORDINATOR_KEY)
        authority = hashlib.sha256(read_file(folder / CA, limit=_SMALL)).hexdigest()
        parts = {
            CA: (authority, file.ca_sha256), PLAN_FILE: (plan.digest, file.plan_sha256),
            COORDINATOR_KEY: (key.fingerprint, file.coordinator),
        }  # fmt: skip
        for name, (got, expected) in parts.items():
            if got != expected:
                raise _broken(folder, f"{name} is not the one that {KIT} names")
        if key.roles != ("adapter",):
            raise _broken(folder, f"{COORDINATOR_KEY} may sign more than adapters")
        return cls(file=file, plan=plan, key=key, folder=folder)


def read_kit(folder: Path) -> Kit:
    """Read a kit and check that its parts belong together.

    Raises:
        FederationSetupError: A part is missing, or not the one that was planned.
        MalformedBundleError: A part is not what it should be.
    """
    try:
        return Kit.of(folder)
    except StorageError as error:
        raise _broken(folder, error.why or error.what) from error


def write_kit_file(folder: Path, file: KitFile, *, overwrite: bool = False) -> None:
    """Write ``kit.json``.

    Raises:
        StorageError: It exists or cannot be written.
    """
    with atomic_writer(folder / KIT, overwrite=overwrite) as stream:
        stream.write(file.to_bytes())


def _broken(folder: Path, why: str) -> FederationSetupError:
    return FederationSetupError(
        f"the kit in {folder} is not whole", why=why, fix="ask the coordinator for the kit again", code="E_FED_KIT"
    )
