"""The provider's list of what it takes back (B-40, B-41).

Rules kept here: the list lies beside the keys, as ``<name>.mdfyrev``, since the
next one must contain all of it; a copy goes wherever it is wanted. A bundle gets
onto it only if one of the provider's own keys signed it, whatever the date.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from modify_fl.console import Console
from modify_fl.errors import ConfigError
from protocol.errors import UntrustedKeyError, problem
from protocol.manifest import BundleInfo
from protocol.provider import ProviderKey
from protocol.revocation import (
    REVOCATION_SUFFIX,
    Revocation,
    extend_revocation,
    read_revocation,
    write_revocation,
)
from protocol.statement import Statement
from protocol.steps import (
    check_size,
    check_start,
    match_members,
    read_manifest,
    read_members,
    read_signature,
)
from protocol.storage import open_regular, storage_errors
from protocol.verify import DEFAULT_SIZE_LIMIT
from style_provider.key_files import whole_seconds
from style_provider.keys import KeyPair, base_stem, check_current, provider_keys

__all__ = ["Additions", "OwnBundle", "announce", "extend_list", "list_path", "own_bundle", "renew_list"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class OwnBundle:
    """A bundle that the provider made, as far as a list names it."""

    digest: str
    """Payload digest."""
    info: BundleInfo | None
    """What its manifest says; ``None`` where only the digest was given."""


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What a new list says besides all that the one before it said."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints and reasons."""
    bundles: Mapping[str, str] = field(default_factory=dict)
    """Payload digests and reasons."""
    min_sequence: Mapping[str, int] = field(default_factory=dict)
    """Bundle ids and the lowest sequence that may still be used."""


def own_bundle(named: str, keys: tuple[ProviderKey, ...]) -> OwnBundle:
    """Find out which bundle is meant.

    Args:
        named: Its payload digest, or a file that one of ``keys`` signed. Whether it
            may still be used is not asked: an expired one can be revoked too.
        keys: All keys of the provider.

    Raises:
        ConfigError: The file is encrypted.
        UntrustedKeyError: Somebody else signed it.
        ProtocolError: It is no bundle, or was changed.
    """
    if _DIGEST.fullmatch(named):
        return OwnBundle(digest=named, info=None)
    path = Path(named)
    with open_regular(path) as stream, storage_errors(path):
        check_size(stream, DEFAULT_SIZE_LIMIT)
        if check_start(stream):
            why = "it was made for its recipients, and you are none of them"
            raise ConfigError(f"{path} is encrypted", why=why, fix="give the bundle's digest instead of the file")
        members = read_members(stream)
        record = read_signature(stream, members)
        signer = next((key for key in keys if key.hint == record.hint), None)
        if signer is None:
            why = "none of your key files belongs to its signature"
            fix = "name one of your own bundles, and keep the .mdfykey files of all your keys beside the current one"
            raise UntrustedKeyError(f"{path} is not signed by you", why=why, fix=fix)
        statement = Statement.from_bytes(record.envelope.verify(signer.public_key))
        match_members(statement, members)
        manifest = read_manifest(stream, members, statement)
    if manifest.provider.id != signer.provider_id:
        raise problem("E_PROVIDER_MISMATCH", got=manifest.provider.id, expected=signer.provider_id)
    return OwnBundle(digest=record.payload_digest, info=manifest.bundle)


def list_path(path: Path, provider: ProviderKey) -> Path:
    """Return where the list of a provider is kept.

    Args:
        path: A file of one of its keys.
        provider: That key.
    """
    return path.with_name(base_stem(path, provider) + REVOCATION_SUFFIX)


def extend_list(
    path: Path, pair: KeyPair, additions: Additions, *, out: Path | None = None, next_update: timedelta | None = None
) -> tuple[Revocation, Path]:
    """Issue the provider's next list.

    Args:
        path: A file of the current key.
        pair: The current key, which signs.
        additions: What is new.
        out: Where a copy goes; what is there must be an earlier list.
        next_update: How long until there will be another list at the latest.

    Returns:
        The list, and the file to give to clients.

    Raises:
        ConfigError: The key is not the current one, or what lies there is no list
            of this provider or another than the one beside the key.
        KeyFileError: A list cannot be used, or would become too long.
        StorageError: A file cannot be read or written.
    """
    check_current(path, pair.provider)
    home = list_path(path, pair.provider)
    places = (home,) if out is None or out.absolute() == home.absolute() else (home, out)
    earlier = _newest([_read(place, path.parent, pair.provider) for place in places if place.exists()])
    now = whole_seconds()
    revocation = extend_revocation(
        pair.private, pair.provider, earlier, issued=now, next_update=now + next_update if next_update else None,
        keys=additions.keys, bundles=additions.bundles, min_sequence=additions.min_sequence,
    )  # fmt: skip
    for place in places:
        write_revocation(place, revocation, overwrite=True)
    return revocation, places[-1]


def renew_list(path: Path, pair: KeyPair, public: Path) -> tuple[Revocation | None, Path]:
    """Let a new key say again what was listed before it: clients heed the newest key only (B-40).

    Nothing is written yet.

    Args:
        path: A file of the key before.
        pair: The new key.
        public: Where its public file will be.

    Returns:
        The list, ``None`` where there was none, and where it belongs.

    Raises:
        ConfigError: What lies there is no list of this provider, or another than
            the one beside ``path``.
        KeyFileError: A list cannot be used, or would become too long.
        StorageError: A file cannot be read.
    """
    home = list_path(public, pair.provider)
    places = (path.with_name(home.name), home)
    earlier = _newest([_read(place, path.parent, pair.provider) for place in places if place.exists()])
    if earlier is None:
        return None, home
    now = whole_seconds()
    promise = earlier.next_update if earlier.next_update and earlier.next_update > now else None
    return extend_revocation(pair.private, pair.provider, earlier, issued=now, next_update=promise), home


def _read(path: Path, folder: Path, provider: ProviderKey) -> Revocation:
    signed = read_revocation(path)
    if signed.provider_id != provider.provider_id:
        raise ConfigError(f"{path} belongs to another provider", fix="choose another --out")
    revocation = signed.open(provider_keys(folder, provider.provider_id))
    if revocation.number == 0:
        why = "it ends one key and can say nothing else"
        raise ConfigError(f"{path} is no list of revocations", why=why, fix="choose another --out")
    return revocation


def _newest(lists: list[Revocation]) -> Revocation | None:
    """Return the newest list; clients would refuse one that does not contain all the others."""
    newest = max(lists, key=lambda item: item.number, default=None)
    if newest and not all(newest.contains(item) for item in lists):
        raise ConfigError(
            "your two revocation lists contradict each other",
            why="neither the one beside the key nor the one at --out contains the other",
            fix="name the one that your clients have, and move the other away",
        )
    return newest


def announce(console: Console, revocation: Revocation, path: Path) -> Mapping[str, object]:
    """Say what a revocation takes back and what clients do with it; the end of every command that makes one."""
    line = f"content-client trust update {shlex.quote(path.name)}"
    number = f"list number {revocation.number}" if revocation.number else "the key revokes itself"
    console.say(f"revocation   {path}  ({number}; give this file to your clients)")
    for what, entries in (("key", revocation.keys), ("bundle", revocation.bundles)):
        for name, reason in entries.items():
            console.say(f"{what:<13}{name}  {reason}")
    for bundle, floor in revocation.min_sequence.items():
        console.say(f"{'bundle id':<13}{bundle}  from sequence {floor} on")
    if revocation.next_update:
        console.say(f"next list    {revocation.next_update:%Y-%m-%d} at the latest")
    console.say()
    console.say("Clients run:")
    console.say(f"  {line}")
    if revocation.number and revocation.signer.serial > 1:
        console.say(f"Those who lack your key {revocation.signer.serial} need its .mdfykey file before that.")
    return {
        "revocation": path, "number": revocation.number, "fingerprint": revocation.signer.fingerprint,
        "keys": revocation.keys, "bundles": revocation.bundles, "min_sequence": revocation.min_sequence,
        "next_update": revocation.next_update and revocation.next_update.isoformat(), "update_command": line,
    }  # fmt: skip
