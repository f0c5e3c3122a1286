"""Pinned keys: whose signature counts, and for what (B-34, B-37, B-43).

Rules kept here: nothing is trusted because it was seen first (B-34); a pin names
the roles it is for, never more than the key itself declares (B-37); the store is
one file with mode 0600, replaced atomically under a lock; an unknown field or a
damaged file refuses everything (B-43).

Rotation, revocation and the last-seen sequence (B-38 to B-42) will be kept in
this folder and asked for by step 10 of the verifier. They are not built yet.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protocol.canonical import MAX_JSON, dump_json, parse_json
from protocol.errors import MalformedBundleError, ProtocolError, UntrustedKeyError, problem
from protocol.provider import ProviderKey, Role
from protocol.schema import Bound, Line, decode, encode
from protocol.signing import PublicKey
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, read_file, storage_errors

__all__ = ["PinnedKey", "TrustStore", "config_folder"]

_PINS = "pins.json"
_LOCK = "lock"
_APPLICATION = "modify-fl"


def config_folder() -> Path:
    """Return the folder for settings: ``$MODIFY_CONFIG``, or the system's own place."""
    chosen = os.environ.get("MODIFY_CONFIG")
    if chosen:
        return Path(chosen)
    import platformdirs  # noqa: PLC0415 - only when nothing was chosen

    return platformdirs.user_config_path(_APPLICATION)


@dataclass(frozen=True, kw_only=True)
class PinnedKey:
    """A provider key that the user accepted."""

    key: ProviderKey
    label: str
    """The user's name for the provider; it wins over the name in any file."""
    roles: tuple[Role, ...]
    """What the user accepts from this key, sorted."""

    @property
    def provider_id(self) -> str:
        """Identity of the provider."""
        return self.key.provider_id

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the key."""
        return self.key.fingerprint

    @property
    def public_key(self) -> PublicKey:
        """The key itself, P-256."""
        return self.key.public_key


@dataclass(frozen=True, kw_only=True)
class _PinEntry:
    """One entry of ``pins.json``."""

    label: Line
    roles: tuple[Role, ...]
    key: Annotated[str, Bound(longest=16384)]
    """The ``.mdfykey`` document; its own signature is checked whenever it is read."""


@dataclass(frozen=True, kw_only=True)
class _PinFile:
    """Contents of ``pins.json``."""

    pins: tuple[_PinEntry, ...]
    format: Literal["mdfy-pins/1"] = "mdfy-pins/1"


def _parse_pins(data: bytes) -> tuple[PinnedKey, ...]:
    file = decode(_PinFile, parse_json(data, member=_PINS), member=_PINS)
    return tuple(_pin(_parse_key(entry.key), entry.label, entry.roles) for entry in file.pins)


def _parse_key(document: str) -> ProviderKey:
    return ProviderKey.from_json(parse_json(document.encode("utf-8"), member=_PINS), source=_PINS)


def _dump_pins(pins: Sequence[PinnedKey]) -> bytes:
    entries = tuple(
        _PinEntry(
            label=pin.label,
            roles=pin.roles,
            key=dump_json(pin.key.envelope.to_json()).decode("utf-8"),
        )
        for pin in pins
    )
    data = dump_json(encode(_PinFile(pins=entries)))
    try:
        _parse_pins(data)  # a label that could not be read back must not lock the store
    except MalformedBundleError as error:
        raise problem("E_KEYFILE", detail=f"no pin can look like this: {error}", fix="choose another label") from error
    return data


def _pin(key: ProviderKey, label: str | None, roles: Sequence[Role] | None) -> PinnedKey:
    accepted = tuple(sorted(set(key.roles if roles is None else roles)))
    if not accepted or not set(accepted) <= set(key.roles):
        raise problem(
            "E_KEY_ROLE",
            why="a pin may not allow more than the key declares, and not nothing",
            expected=", ".join(key.roles),
            got=", ".join(accepted),
        )
    return PinnedKey(key=key, label=label or key.name, roles=accepted)


class TrustStore:
    """The keys that are accepted, in one folder.

    Every question reads the file again, so a pin removed by another program
    is gone at once.
    """

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; it need not exist, and is made when a key is added.

        Args:
            folder: Where ``pins.json`` is.
        """
        self._folder = folder

    @classmethod
    def default(cls) -> "TrustStore":
        """Return the user's own store: the folder ``trust`` in ``config_folder()``."""
        return cls(config_folder() / "trust")

    @classmethod
    def of(cls, *keys: ProviderKey) -> "TrustStore":
        """Return a store in memory that accepts exactly ``keys``, each for all its roles."""
        return _MemoryStore(tuple(_pin(key, None, None) for key in keys))

    def list(self) -> tuple[PinnedKey, ...]:
        """Return all pinned keys, sorted by label.

        Raises:
            KeyFileError: E_KEYFILE, the store is damaged or open to others.
            StorageError: E_IO, the store cannot be read.
        """
        return tuple(sorted(self._read(), key=lambda pin: (pin.label, pin.fingerprint)))

    def find(self, hint: str) -> PinnedKey | None:
        """Return the pinned key that a signature's hint names, if there is one.

        Args:
            hint: Hex SHA-256 of the key's PEM text (B-9).

        Raises:
            KeyFileError: E_KEYFILE, the store is damaged or open to others.
            StorageError: E_IO, the store cannot be read.
        """
        return next((pin for pin in self._read() if pin.key.hint == hint), None)

    def add(self, key: ProviderKey, *, label: str | None = None, roles: Sequence[Role] | None = None) -> PinnedKey:
        """Pin a key. Who calls this has compared its fingerprint (B-34).

        Pinning the same key again replaces its label and roles.

        Args:
            key: The provider's key.
            label: The user's name for it; the provider's own when omitted.
            roles: What to accept from it; all that it declares when omitted.

        Raises:
            UntrustedKeyError: E_KEY_ROLE, more roles than the key declares;
                E_PROVIDER_MISMATCH, another key has this label.
            KeyFileError: E_KEYFILE, the store is damaged or open to others.
            StorageError: E_IO, the store cannot be written.
        """
        pin = _pin(key, label, roles)

        def change(pins: tuple[PinnedKey, ...]) -> tuple[PinnedKey, ...]:
            others = tuple(old for old in pins if old.fingerprint != pin.fingerprint)
            if any(old.label == pin.label for old in others):
                raise UntrustedKeyError(
                    f"another key is already pinned as {pin.label}",
                    code="E_PROVIDER_MISMATCH",
                    why="two providers may have one name, and so may an impostor",
                    fix="if both are genuine, pin this one with --label TEXT",
                )
            return (*others, pin)

        self._change(change)
        return pin

    def remove(self, name: str) -> PinnedKey:
        """Forget a key.

        Args:
            name: Its label, or its whole fingerprint.

        Returns:
            What was removed.

        Raises:
            UntrustedKeyError: E_UNTRUSTED, no key has this name.
            KeyFileError: E_KEYFILE, the store is damaged or open to others.
            StorageError: E_IO, the store cannot be written.
        """
        removed: list[PinnedKey] = []

        def change(pins: tuple[PinnedKey, ...]) -> tuple[PinnedKey, ...]:
            removed.extend(pin for pin in pins if name in {pin.label, pin.fingerprint})
            return tuple(pin for pin in pins if pin not in removed)

        self._change(change)
        if not removed:
            raise UntrustedKeyError(f"no pinned key is called {name}", fix="content-client trust list")
        return removed[0]

    def _read(self) -> tuple[PinnedKey, ...]:
        path = self._folder / _PINS
        if not path.exists():
            return ()
        data = read_file(path, limit=MAX_JSON, private=True)
        try:
            return _parse_pins(data)
        except ProtocolError as error:
            raise problem(
                "E_KEYFILE",
                detail=f"{path} is damaged: {error}",
                fix="move the file away and pin the keys again",
            ) from error

    def _change(self, change: Callable[[tuple[PinnedKey, ...]], tuple[PinnedKey, ...]]) -> None:
        with storage_errors(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive_lock(self._folder / _LOCK):
            data = _dump_pins(change(self._read()))
            with atomic_writer(self._folder / _PINS, mode=PRIVATE, overwrite=True) as stream:
                stream.write(data)


class _MemoryStore(TrustStore):
    """A store without a folder."""

    def __init__(self, pins: tuple[PinnedKey, ...]) -> None:
        self._pins = pins

    def _read(self) -> tuple[PinnedKey, ...]:
        return self._pins

    def _change(self, change: Callable[[tuple[PinnedKey, ...]], tuple[PinnedKey, ...]]) -> None:
        self._pins = change(self._pins)
