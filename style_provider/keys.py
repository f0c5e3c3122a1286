"""Where the provider's keys are, and how their passphrases are asked for (B-32).

A key is two files side by side: ``<name>.pem`` (private; ``<name>.pem.age`` when
a passphrase protects it) and ``<name>.mdfykey`` (public, for clients). The key
folder is ``./keys`` where that exists, else ``keys`` in the user's configuration
folder; commands that need a key take the only one of that folder unless told.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from modify_fl.errors import ConfigError
from modify_fl.passphrase import Ask, known_passphrase
from protocol.errors import KeyFileError
from protocol.provider import ProviderKey, read_provider_key
from protocol.signing import PrivateKey, load_private_key, public_der
from protocol.trust import config_folder

__all__ = ["PUBLIC_SUFFIX", "KeyPair", "find_key", "key_folder", "load_pair", "slug"]

PUBLIC_SUFFIX = ".mdfykey"
"""Suffix of the public key file."""

_PRIVATE_SUFFIXES = (".pem", ".pem.age")


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A signing key with its public half."""

    private: PrivateKey
    """Signs bundles."""
    provider: ProviderKey
    """What clients pin."""


def slug(name: str) -> str:
    """Return ``name`` as a file name: ``"Studio X"`` becomes ``studio-x``.

    Raises:
        ConfigError: Nothing of the name can stand in a file name.
    """
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    if not short:
        raise ConfigError(f"the name {name!r} gives no file name", fix="use a name with letters a to z or digits")
    return short


def key_folder() -> Path:
    """Return the folder in which keys are looked for and made."""
    local = Path("keys")
    return local if local.is_dir() else config_folder() / "keys"


def find_key() -> Path:
    """Return the only private key of the key folder.

    Raises:
        ConfigError: There is none, or there are several.
    """
    folder = key_folder()
    found = sorted(path for suffix in _PRIVATE_SUFFIXES for path in folder.glob(f"*{suffix}"))
    if not found:
        why = f"there is none in {folder}"
        fix = 'name one with --key, or make one: run\nstyle-provider keygen --name "My Studio"'
        raise ConfigError("a bundle needs a signing key", why=why, fix=fix)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"there are several keys in {folder}", why=names, fix="name one with --key")
    return found[0]


def load_pair(path: Path, passphrase_file: Path | None, ask: Ask) -> KeyPair:
    """Read a private key and the public key beside it.

    Args:
        path: ``<name>.pem`` or ``<name>.pem.age``.
        passphrase_file: Holds the passphrase in its first line; without it
            ``MDFY_PASSPHRASE`` and then the terminal are asked.
        ask: Puts a question to the user and returns the hidden answer.

    Raises:
        KeyFileError: A file cannot be used, or the two do not belong together.
        StorageError: A file cannot be read.
    """
    private = load_private_key(path, lambda: known_passphrase(passphrase_file) or ask(f"passphrase of {path.name}"))
    public_path = path.with_name(path.name.removesuffix(".age").removesuffix(".pem") + PUBLIC_SUFFIX)
    provider = read_provider_key(public_path)
    if public_der(private.public_key()) != public_der(provider.public_key):
        raise KeyFileError(
            f"{path.name} and {public_path.name} do not belong together",
            why="the public key is not that of the private key", fix="put the two files of one keygen side by side",
            expected=provider.fingerprint,
        )  # fmt: skip
    return KeyPair(private=private, provider=provider)
