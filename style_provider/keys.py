"""Where the provider's keys are, and how their passphrases are asked for (B-32).

A key is three files side by side: ``<name>.pem`` (private; ``<name>.pem.age``
when a passphrase protects it), ``<name>.mdfykey`` (public, for clients) and
``<name>.revoke.mdfyrev``, by which the key can be ended for good (to be kept
elsewhere). The key after it is called ``<name>-2``. The key folder is ``./keys``
where that exists, else ``keys`` in the user's configuration folder; commands that
need a key take the newest one of that folder unless told.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from modify_fl.errors import ConfigError
from modify_fl.passphrase import Ask, known_passphrase
from protocol.errors import KeyFileError, ProtocolError
from protocol.provider import ProviderKey, read_provider_key
from protocol.signing import PrivateKey, load_private_key, public_der
from protocol.trust import config_folder

__all__ = [
    "PRIVATE_SUFFIXES",
    "PUBLIC_SUFFIX",
    "KeyPair",
    "base_stem",
    "check_current",
    "find_key",
    "key_folder",
    "load_pair",
    "load_private",
    "private_forms",
    "provider_keys",
    "public_path",
    "slug",
]

PRIVATE_SUFFIXES = (".pem", ".pem.age")
"""Suffixes of a private key file: bare, and under a passphrase."""
PUBLIC_SUFFIX = ".mdfykey"
"""Suffix of the public key file."""


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


def _stem(path: Path) -> str:
    return path.name.removesuffix(PUBLIC_SUFFIX).removesuffix(".age").removesuffix(".pem")


def public_path(path: Path) -> Path:
    """Return the public key file that belongs to a key, whichever of its files is named."""
    return path.with_name(_stem(path) + PUBLIC_SUFFIX)


def private_forms(path: Path) -> tuple[Path, ...]:
    """Return the names that the private file may have, whichever file of the key is named."""
    return tuple(path.with_name(_stem(path) + suffix) for suffix in PRIVATE_SUFFIXES)


def base_stem(path: Path, provider: ProviderKey) -> str:
    """Return the name that all keys of a provider begin with: ``studio`` for ``studio-2.pem``."""
    return _stem(path).removesuffix(f"-{provider.serial}") if provider.serial > 1 else _stem(path)


def _readable(paths: list[Path]) -> dict[Path, ProviderKey]:
    found = {}
    for path in paths:
        try:
            found[path] = read_provider_key(path)
        except ProtocolError:
            continue  # a file that is no key says nothing about the keys beside it
    return found


def provider_keys(folder: Path, provider_id: str) -> tuple[ProviderKey, ...]:
    """Return the public keys of one provider in a folder, oldest first."""
    found = _readable(sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))).values()
    return tuple(sorted((key for key in found if key.provider_id == provider_id), key=lambda key: key.serial))


def check_current(path: Path, provider: ProviderKey) -> None:
    """Refuse to speak for a provider with a key that was replaced.

    Raises:
        ConfigError: A newer key of the same provider lies in the same folder.
    """
    newest = provider_keys(path.parent, provider.provider_id)[-1:]
    if newest and newest[0].serial > provider.serial:
        raise ConfigError(
            f"{path.name} is not your current key", why=f"key {newest[0].serial} has replaced it", fix="name that key"
        )


def find_key() -> Path:
    """Return the private key of the key folder: the newest one, all being of one provider.

    Raises:
        ConfigError: There is none, or there are keys of several providers.
    """
    folder = key_folder()
    found = sorted(path for suffix in PRIVATE_SUFFIXES for path in folder.glob(f"*{suffix}"))
    if not found:
        why = f"there is none in {folder}"
        fix = 'name one with --key, or make one: run\nstyle-provider keygen --name "My Studio"'
        raise ConfigError("a bundle needs a signing key", why=why, fix=fix)
    public = _readable([public_path(path) for path in found])
    newest: dict[str, tuple[int, Path]] = {}
    for path in found:  # the protected form of a key comes after the bare one
        key = public.get(public_path(path))
        provider, serial = (key.provider_id, key.serial) if key else (str(path), 1)
        newest[provider] = max(newest.get(provider, (0, path)), (serial, path))
    if len(newest) > 1:
        names = ", ".join(path.name for _, path in sorted(newest.values(), key=lambda item: item[1]))
        raise ConfigError(f"there are several keys in {folder}", why=names, fix="name one with --key")
    return next(iter(newest.values()))[1]


def load_private(path: Path, passphrase_file: Path | None, ask: Ask) -> tuple[Path, PrivateKey]:
    """Read a private key.

    Args:
        path: ``<name>.pem`` or ``<name>.pem.age``, or the public file beside it.
        passphrase_file: Holds the passphrase in its first line; without it
            ``MDFY_PASSPHRASE`` and then the terminal are asked.
        ask: Puts a question to the user and returns the hidden answer.

    Returns:
        The private file, and the key.

    Raises:
        ConfigError: Only the public file is there.
        KeyFileError: The file cannot be used.
        StorageError: The file cannot be read.
    """
    if path.name.endswith(PUBLIC_SUFFIX):
        found = [form for form in private_forms(path) if form.exists()]
        if not found:
            raise ConfigError(f"there is no private key beside {path}", fix="name the .pem or .pem.age file")
        path = found[-1]
    return path, load_private_key(path, lambda: known_passphrase(passphrase_file) or ask(f"passphrase of {path.name}"))


def load_pair(path: Path, passphrase_file: Path | None, ask: Ask) -> KeyPair:
    """Read a private key and the public key beside it; arguments as for ``load_private``.

    Raises:
        ConfigError: Only the public file is there.
        KeyFileError: A file cannot be used, or the two do not belong together.
        StorageError: A file cannot be read.
    """
    path, private = load_private(path, passphrase_file, ask)
    provider = read_provider_key(public_path(path))
    if public_der(private.public_key()) != public_der(provider.public_key):
        raise KeyFileError(
            f"{path.name} and {public_path(path).name} do not belong together",
            why="the public key is not that of the private key", fix="put the two files of one keygen side by side",
            expected=provider.fingerprint,
        )  # fmt: skip
    return KeyPair(private=private, provider=provider)
