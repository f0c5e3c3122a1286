"""What a release is besides its weights: whom it is for, what it follows, when it was made.

Rules kept here: a signed audience closes forwarding (B-27); a new release of a
style keeps its id, rises in sequence and names what it replaces (B-42), and only
the provider's own bundles have successors; all of it is checked before training.
Nothing here imports torch.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from modify_fl.errors import ConfigError
from protocol.encryption import MAX_RECIPIENTS, check_recipient
from protocol.errors import KeyFileError, MalformedBundleError, PolicyError, UntrustedKeyError
from protocol.manifest import Usage
from protocol.provider import ProviderKey
from protocol.schema import Line, Text, decode, encode, format_time
from protocol.storage import read_file
from protocol.trust import TrustStore
from protocol.verify import Verification, inspect_bundle, verify_bundle
from style_provider.keys import PUBLIC_SUFFIX, provider_keys
from style_provider.standin import stand_in

__all__ = ["check_life", "check_texts", "read_earlier", "read_recipients", "release_date"]

if TYPE_CHECKING:
    from modify_fl.bundle import Release

_EPOCH = "SOURCE_DATE_EPOCH"
_LONGEST_LIST = 64 << 10


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """What a release says in words, by the name of its option, as the manifest bounds it (B-16)."""

    name: Line
    description: Text
    licence: Line
    data_licence: Line
    release: Line
    usage: Usage


def check_texts(release: "Release") -> None:
    """Find out before training which texts a manifest could not hold (B-16).

    Raises:
        ConfigError: A text is empty, too long, or holds a character that is not to be shown.
    """
    texts = _Texts(
        name=release.name, description=release.description, licence=release.model_licence,
        data_licence=release.dataset_licence, release=release.version, usage=release.usage,
    )  # fmt: skip
    try:
        decode(_Texts, encode(texts), member="the command")
    except MalformedBundleError as error:
        raise ConfigError(
            "a text of this release cannot stand in a bundle", why=error.what.rpartition(": ")[2],
            fix="change it; --help lists the options",
        ) from error  # fmt: skip


def read_recipients(given: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """Return the recipients that a command names, sorted, each once.

    Args:
        given: ``age1...`` keys.
        file: Holds one more a line; empty lines and ``#`` comments count for nothing.

    Raises:
        KeyFileError: E_KEYFILE, one is mistyped or of another kind.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        ConfigError: The file names nobody, or they are too many for one bundle.
        StorageError: The file cannot be read.
    """
    listed = list(_lines(file)) if file else []
    if file and not listed:
        raise ConfigError(f"{file} names no recipient", fix="write one age1... key a line")
    found = tuple(sorted({check_recipient(text) for text in (*given, *listed)}))
    if len(found) > MAX_RECIPIENTS:
        fix = "split them, and make one bundle for each part"
        raise ConfigError("too many recipients for one bundle", fix=fix, expected=f"{MAX_RECIPIENTS} at most",
                          got=str(len(found)))  # fmt: skip
    return found


def _lines(file: Path) -> Iterator[str]:
    for line in read_file(file, limit=_LONGEST_LIST).decode("utf-8", "replace").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield text


def release_date() -> datetime:
    """Return the moment that is written into a bundle: ``$SOURCE_DATE_EPOCH``, else now.

    Raises:
        ConfigError: The variable is no number of seconds.
    """
    text = os.environ.get(_EPOCH, "")
    if not text:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{_EPOCH} is not a time: {text!r}", fix="give whole seconds since 1970, or unset it"
        ) from error


def check_life(provider: ProviderKey, created: datetime) -> None:
    """Refuse to train for a bundle that the key could not sign.

    Raises:
        PolicyError: E_KEY_EXPIRED or E_NOT_YET_VALID.
    """
    if provider.not_before <= created <= provider.expires:
        return
    late = created > provider.expires
    raise PolicyError(
        "the signing key has expired" if late else "the signing key is not valid yet",
        code="E_KEY_EXPIRED" if late else "E_NOT_YET_VALID",
        why=f"it is valid from {format_time(provider.not_before)} to {format_time(provider.expires)}, "
        f"and the bundle would be dated {format_time(created)}",
        fix="make its successor with style-provider key rotate" if late else f"check the clock and {_EPOCH}",
    )


def read_earlier(path: Path, provider: ProviderKey, folder: Path) -> Verification:
    """Verify the release that a new one replaces.

    Any key of this provider may have signed it, also one that has expired by
    now: it is checked as of the day it was made.

    Args:
        path: The older bundle, not encrypted.
        provider: The key that will sign its successor.
        folder: Where older public keys of the provider are.

    Raises:
        ProtocolError: It does not verify.
        KeyFileError: E_NOT_RECIPIENT, it is encrypted.
        ConfigError: Somebody else signed it.
    """
    try:
        seen = inspect_bundle(path)
    except KeyFileError as error:
        raise KeyFileError(
            f"cannot read {path}: only its recipients can open it", code=error.code, step=error.step,
            why="a new release follows what the old one says", fix="decrypt it with age -d, and name the result; "
            "for that an age1... key of your own must be among its recipients",
        ) from error  # fmt: skip
    for key in dict.fromkeys((provider, *provider_keys(folder, provider.provider_id))):
        trust = TrustStore.of(key)
        reader = stand_in(path, trust)
        try:
            return verify_bundle(path, trust=trust, now=seen.manifest.bundle.created, identity=reader)
        except UntrustedKeyError as error:
            if error.code != "E_UNTRUSTED":
                raise
    raise ConfigError(
        f"{path} was not signed by this provider", why="only your own bundles have successors of yours",
        fix=f"put the {PUBLIC_SUFFIX} file of the key that signed it into {folder}", expected=provider.provider_id,
        got=seen.manifest.provider.id,
    )  # fmt: skip
