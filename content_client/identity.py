"""The client's own keys: one signs adapters, one opens what is encrypted to the client (B-27, B-32, B-37, P-6).

The key for adapters is made, and pinned for adapters only, at first use. It never
signs a style, and it lies in a folder of its own, where no command looks for a
provider's key. The age identity is made by ``content-client trust identity``,
which can also put both under a passphrase.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modify_fl.passphrase import Ask, known_passphrase
from protocol.encryption import Identity, generate_identity
from protocol.identity import LOCKED_SUFFIX, PLAIN_SUFFIX, load_identity, save_identity
from protocol.provider import ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.signing import PrivateKey, generate_key, load_private_key, public_der, save_private_key
from protocol.storage import exclusive_lock, storage_errors
from protocol.trust import TrustStore, config_folder

__all__ = [
    "OwnKeys",
    "adapter_identity",
    "adapter_key",
    "identity_folder",
    "own_identity",
    "own_keys",
    "sharing_advice",
]

_NAME = "this computer"
_LIFE = timedelta(days=730)
_IDENTITY = "client"
_QUESTION = "passphrase of your own key"


@dataclass(frozen=True, kw_only=True)
class OwnKeys:
    """The public halves of the client's keys."""

    recipient: str
    """The ``age1...`` line, for providers who encrypt to this client."""
    adapter: ProviderKey
    """What adapters are signed with."""
    made: tuple[str, ...]
    """Which of the two were made just now: ``identity``, ``adapter key``."""


def identity_folder() -> Path:
    """Return where every command looks for the client's own keys."""
    return config_folder() / "identity"


def adapter_identity(trust: TrustStore, ask: Ask | None = None) -> tuple[PrivateKey, ProviderKey]:
    """Return the key that signs adapters; make and pin it where there is none or it has run out.

    A key under a passphrase is followed by one under the same passphrase.

    Args:
        trust: The store in which it is pinned, as ``adapter`` only.
        ask: Asks for the passphrase, if the key has one and ``MDFY_PASSPHRASE``
            does not give it; ``None`` where nobody can be asked.

    Raises:
        KeyFileError: A key file is damaged or open to others, or its passphrase
            is wrong or not given.
        StorageError: A file cannot be read or written.
    """
    folder, answer = identity_folder(), _answer(None, ask)
    with _held(folder):
        provider = _adapter_key(folder)
        key = _load_adapter_key(folder, provider, answer) if provider else None
        if provider is None or key is None or datetime.now(UTC) >= provider.expires:
            key, provider = _make_adapter_key(folder, _earlier_passphrase(folder, answer))
    _pin(trust, provider)
    return key, provider


def adapter_key() -> ProviderKey | None:
    """Return the public half of the key that signs adapters; nothing where there is none yet.

    Raises:
        KeyFileError: A key file is damaged or open to others.
        StorageError: A file cannot be read.
    """
    return _adapter_key(identity_folder())


def sharing_advice(provider: ProviderKey, folder: Path | None = None) -> tuple[str, str, str]:
    """Return lines on what else whoever gets an adapter needs: the key file, its fingerprint, and what to do with them.

    Args:
        provider: The public half of the key that signs adapters.
        folder: Where it is; the folder of every command when omitted.
    """
    public = _places(folder or identity_folder())[2]
    return (
        f"public key   {public.absolute()}  (give this file along with an adapter)",
        f"fingerprint  {provider.fingerprint}  (tell it by another channel)",
        f"whoever gets an adapter runs: content-client trust add {public.name} --fingerprint {provider.fingerprint}",
    )


def own_identity(path: Path | None, passphrase_file: Path | None, ask: Ask | None) -> Identity | None:
    """Return the client's age identity; its passphrase is asked for when a file is really encrypted.

    Args:
        path: The file of the identity; the one in ``identity_folder`` when omitted.
        passphrase_file: Its first line is the passphrase; else ``MDFY_PASSPHRASE`` is looked up.
        ask: Asks for the passphrase where neither gives it.

    Returns:
        The identity; ``None`` where no file is named and none was ever made.

    Raises:
        KeyFileError: A file is damaged or open to others.
        StorageError: A file cannot be read, or the one that is named does not exist.
    """
    if path is None:
        path = identity_folder() / f"{_IDENTITY}{PLAIN_SUFFIX}"
        if not _has_identity(path.parent):
            return None
    return load_identity(path, lambda: _require(_answer(passphrase_file, ask)))


def own_keys(
    trust: TrustStore, folder: Path, passphrase: Callable[[], str | None], ask: Ask | None, *, overwrite: bool
) -> OwnKeys:
    """Make the client's keys in ``folder`` as far as they are missing, and return their public halves.

    The key for adapters is pinned if ``folder`` is the one that every command looks at.

    Args:
        trust: The store in which it is pinned.
        folder: Where the keys are; made if need be.
        passphrase: Returns the passphrase of new keys, ``None`` for none; called
            at most once, and only if something is made.
        ask: Asks for the passphrase of an identity whose public file is gone.
        overwrite: Whether both are made anew. What was encrypted to the old
            identity cannot be opened any more.

    Raises:
        KeyFileError: A key file is damaged or open to others.
        StorageError: A file cannot be read or written.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
    """
    chosen, made = functools.cache(passphrase), []
    with _held(folder):
        path = folder / f"{_IDENTITY}{PLAIN_SUFFIX}"
        if overwrite or not _has_identity(folder):
            secret, recipient = generate_identity()
            save_identity(path, secret, chosen(), overwrite=overwrite)
            made.append("identity")
        else:
            recipient = load_identity(path, lambda: _require(_answer(None, ask))).recipient
        adapter = None if overwrite else _adapter_key(folder)
        if adapter is None:
            _, adapter = _make_adapter_key(folder, chosen())
            made.append("adapter key")
    if folder == identity_folder():
        _pin(trust, adapter)
    return OwnKeys(recipient=recipient, adapter=adapter, made=tuple(made))


def _answer(passphrase_file: Path | None, ask: Ask | None) -> Callable[[], str] | None:
    """Return what gives the passphrase, and puts the question once; ``None`` where nothing does."""
    known = known_passphrase(passphrase_file)
    if known is not None:
        return lambda: known
    return functools.cache(lambda: ask(_QUESTION)) if ask else None


def _require(answer: Callable[[], str] | None) -> str:
    return answer() if answer else ""  # an empty one opens nothing, and the error says so


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other programs from changing its keys for the length of a block."""
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive_lock(folder / "lock"):
        yield


def _has_identity(folder: Path) -> bool:
    return any((folder / f"{_IDENTITY}{suffix}").exists() for suffix in (PLAIN_SUFFIX, LOCKED_SUFFIX))


def _places(folder: Path) -> tuple[Path, Path, Path]:
    """Return where the adapter key is: without and with a passphrase, and its public half."""
    return folder / "adapter.pem", folder / "adapter.pem.age", folder / "adapter.mdfykey"


def _adapter_key(folder: Path) -> ProviderKey | None:
    """Return the public half of the adapter key, if the private one may be there too."""
    plain, locked, public = _places(folder)
    if not public.exists():
        return None
    provider = read_provider_key(public)
    return provider if locked.exists() or _load_plain(plain, provider) else None


def _load_adapter_key(folder: Path, provider: ProviderKey, answer: Callable[[], str] | None) -> PrivateKey | None:
    """Return the private half; ``None`` where the files are of two keys, as a run cut short leaves them."""
    plain, locked, _ = _places(folder)
    key = _load_plain(plain, provider)
    if key is None and locked.exists():
        key = load_private_key(locked, answer)
    return key if key and _belongs(key, provider) else None


def _load_plain(path: Path, provider: ProviderKey) -> PrivateKey | None:
    key = load_private_key(path) if path.exists() else None
    return key if key and _belongs(key, provider) else None


def _belongs(key: PrivateKey, provider: ProviderKey) -> bool:
    return public_der(key.public_key()) == public_der(provider.public_key)


def _earlier_passphrase(folder: Path, answer: Callable[[], str] | None) -> str | None:
    """Return what opens the key that is to be replaced, so that no new key is less protected."""
    _, locked, _ = _places(folder)
    if not locked.exists():
        return None
    load_private_key(locked, answer)  # refuses where nobody can be asked, or a wrong passphrase was given
    return _require(answer)


def _make_adapter_key(folder: Path, passphrase: str | None) -> tuple[PrivateKey, ProviderKey]:
    plain, locked, public = _places(folder)
    target, other = (plain, locked) if passphrase is None else (locked, plain)
    now = datetime.now(UTC).replace(microsecond=0)
    key = generate_key()
    provider = issue_provider_key(key, name=_NAME, roles=("adapter",), not_before=now, expires=now + _LIFE)
    save_private_key(target, key, passphrase, overwrite=True)
    write_provider_key(public, provider, overwrite=True)
    with storage_errors(other):
        other.unlink(missing_ok=True)
    return key, provider


def _pin(trust: TrustStore, provider: ProviderKey) -> None:
    if trust.find(provider.hint) is None:
        # A part of the fingerprint keeps a renewed key apart from the old one.
        trust.add(provider, label=f"{_NAME} ({provider.fingerprint[7:15]})", roles=("adapter",))
