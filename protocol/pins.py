"""Providers that the user accepted, with their chains of keys: the file ``pins.json`` (B-36, B-37, B-43).

Rules kept here: the keys of one provider follow each other without a gap, each
endorsed by the one before (B-36); nobody is accepted for more than the key
declares (B-37); two providers share neither label nor key. A file that breaks one
of these, or has an unknown field, is refused as a whole (B-43).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal

from protocol.canonical import MAX_JSON, dump_json, parse_json
from protocol.errors import MalformedBundleError, UntrustedKeyError, problem
from protocol.provider import ProviderKey, Role
from protocol.schema import Bound, Line, decode, encode
from protocol.signing import PublicKey

__all__ = ["MAX_PINS", "PinnedKey", "Provider", "check_distinct", "dump_pins", "parse_pins"]

MAX_PINS = MAX_JSON
"""Most bytes of ``pins.json``."""

_NAME = "pins.json"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider that the user accepted, with all of its keys that are known.

    Raises:
        KeyFileError: E_KEYFILE, there is no key.
        UntrustedKeyError: E_KEY_CHAIN, a key does not follow the one before it;
            E_KEY_ROLE, more roles than the keys declare, or none.
    """

    label: str
    """The user's name for the provider; it wins over the name in any file."""
    roles: tuple[Role, ...]
    """What the user accepts from it, sorted."""
    keys: tuple[ProviderKey, ...]
    """At least one, by serial, without a gap; the first need not have serial 1 (B-34)."""
    disputed: bool = False
    """Whether two genuine keys with one serial were seen (B-38)."""

    def __post_init__(self) -> None:
        """Check what a file could get wrong."""
        if not self.keys:
            raise problem("E_KEYFILE", detail=f"{self.label} has no key")
        for previous, key in pairwise(self.keys):
            key.check_endorsement(previous)
        object.__setattr__(self, "roles", tuple(sorted(set(self.roles))))
        if not self.roles or not set(self.roles) <= set(self.newest.roles):
            raise problem(
                "E_KEY_ROLE",
                why="a pin may not allow more than the key declares, and not nothing",
                expected=", ".join(self.newest.roles),
                got=", ".join(self.roles),
            )

    @property
    def provider_id(self) -> str:
        """Identity of the provider; the same for all its keys."""
        return self.newest.provider_id

    @property
    def newest(self) -> ProviderKey:
        """The current key."""
        return self.keys[-1]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Fingerprints of all keys, by serial."""
        return tuple(key.fingerprint for key in self.keys)

    def with_serial(self, serial: int) -> ProviderKey | None:
        """Return the key with this serial, if it is known."""
        return next((key for key in self.keys if key.serial == serial), None)

    def pins(self, revoked: Mapping[str, str]) -> "tuple[PinnedKey, ...]":
        """Return how each key stands, by serial.

        Args:
            revoked: Fingerprints of revoked keys, with reasons.
        """
        return tuple(
            PinnedKey(
                key=key,
                label=self.label,
                roles=self.roles,
                retired_from=successor.not_before if successor else None,
                revoked=revoked.get(key.fingerprint),
                disputed=self.disputed,
            )
            for key, successor in zip(self.keys, (*self.keys[1:], None), strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class PinnedKey:
    """One key of a provider that the user accepted, and how it stands."""

    key: ProviderKey
    label: str
    """The user's name for the provider; it wins over the name in any file."""
    roles: tuple[Role, ...]
    """What the user accepts from the provider, sorted."""
    retired_from: datetime | None = None
    """From when on the key after it signs in its place (B-39)."""
    revoked: str | None = None
    """Why the provider revoked it, if it did (B-41)."""
    disputed: bool = False
    """Whether nothing of the provider is accepted (B-38)."""

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


def check_distinct(providers: Sequence[Provider]) -> None:
    """Refuse providers that share an identity, a label or a key.

    Raises:
        UntrustedKeyError: E_PROVIDER_MISMATCH.
    """
    names: set[str] = set()
    for provider in providers:
        if provider.label in names:
            raise UntrustedKeyError(
                f"another key is already pinned as {provider.label}",
                code="E_PROVIDER_MISMATCH",
                why="two providers may have one name, and so may an impostor",
                fix="if both are genuine, pin this one with --label TEXT",
            )
        own = {provider.provider_id, *provider.fingerprints}
        if own & names:
            raise UntrustedKeyError(
                f"a key of {provider.label} is already pinned for another provider",
                code="E_PROVIDER_MISMATCH",
                why="one key cannot speak for two providers",
                fix="ask the provider by another channel",
            )
        names |= {provider.label, *own}


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One provider of ``pins.json``."""

    label: Line
    roles: tuple[Role, ...]
    keys: tuple[Annotated[str, Bound(longest=16384)], ...]
    """``.mdfykey`` documents; their signatures are checked whenever they are read."""
    disputed: bool


@dataclass(frozen=True, kw_only=True)
class _PinFile:
    """Contents of ``pins.json``."""

    providers: tuple[_Entry, ...]
    format: Literal["mdfy-pins/1"] = "mdfy-pins/1"


def parse_pins(data: bytes) -> tuple[Provider, ...]:
    """Read what ``dump_pins`` wrote.

    Raises:
        ProtocolError: It is damaged in any way; the class tells how.
    """
    file = decode(_PinFile, parse_json(data, limit=MAX_PINS, member=_NAME), member=_NAME)
    providers = tuple(
        Provider(
            label=entry.label,
            roles=entry.roles,
            keys=tuple(map(_parse_key, entry.keys)),
            disputed=entry.disputed,
        )
        for entry in file.providers
    )
    check_distinct(providers)
    return providers


def _parse_key(document: str) -> ProviderKey:
    return ProviderKey.from_json(parse_json(document.encode("utf-8"), member=_NAME), source=_NAME)


def dump_pins(providers: Sequence[Provider]) -> bytes:
    """Return the contents of ``pins.json``.

    Raises:
        KeyFileError: E_KEYFILE, they could not be read back: a label holds what no
            text may hold, or there is too much of them.
    """
    entries = tuple(
        _Entry(
            label=provider.label,
            roles=provider.roles,
            keys=tuple(dump_json(key.envelope.to_json()).decode("utf-8") for key in provider.keys),
            disputed=provider.disputed,
        )
        for provider in providers
    )
    try:
        data = dump_json(encode(_PinFile(providers=entries)), limit=MAX_PINS)
        parse_pins(data)  # what could not be read back would lock the store
    except MalformedBundleError as error:
        detail = f"no pin can look like this: {error}"
        raise problem("E_KEYFILE", detail=detail, fix="choose another label, or remove a provider") from error
    return data
