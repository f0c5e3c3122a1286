"""Files that hold an age identity: what opens bundles encrypted to its owner (B-28, B-32).

``NAME.agekey`` is the secret in plain text, ``NAME.agekey.age`` the same under a
passphrase; both have mode 0600, and there is only one of them. ``NAME.age1``
holds the public half, so that it can be shown, and compared with an audience,
without the passphrase. A file made by ``age-keygen`` is read too.
"""

import functools
from collections.abc import Callable
from pathlib import Path

from protocol.encryption import Identity, is_age, is_recipient, lock, recipient_of, unlock
from protocol.errors import ProtocolError, problem
from protocol.storage import PRIVATE, atomic_writer, read_file

__all__ = ["LOCKED_SUFFIX", "PLAIN_SUFFIX", "PUBLIC_SUFFIX", "load_identity", "public_file", "save_identity"]

PLAIN_SUFFIX = ".agekey"
"""Ends the name of a secret in plain text."""
LOCKED_SUFFIX = ".agekey.age"
"""Ends the name of a secret under a passphrase."""
PUBLIC_SUFFIX = ".age1"
"""Ends the name of the public half."""

_MAX_FILE = 64 << 10
_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - how every such key begins


def _stem(path: Path) -> str:
    return path.name.removesuffix(".age").removesuffix(PLAIN_SUFFIX)


def _locked(path: Path) -> Path:
    return path.with_name(_stem(path) + LOCKED_SUFFIX)


def public_file(path: Path) -> Path:
    """Return where the public half of the identity in ``path`` lies."""
    return path.with_name(_stem(path) + PUBLIC_SUFFIX)


def _unusable(path: Path, detail: str, fix: str = "check which file this is") -> ProtocolError:
    return problem("E_KEYFILE", detail=f"{path}: {detail}", fix=fix)


def save_identity(path: Path, secret: str, passphrase: str | None, *, overwrite: bool = False) -> Path:
    """Write an identity and its public half; the secret is read back before returning (B-32).

    Args:
        path: ``NAME.agekey`` in a folder that exists.
        secret: ``AGE-SECRET-KEY-1...``, as ``generate_identity`` makes it.
        passphrase: Protects the secret, in ``NAME.agekey.age`` then; ``None``
            must be the user's explicit wish.
        overwrite: Whether existing files are replaced. An identity that is
            replaced is gone, and with it what was encrypted to it.

    Returns:
        The private file.

    Raises:
        KeyFileError: E_KEYFILE, not a secret, the passphrase is empty, or what
            was written does not read back.
        StorageError: E_IO, cannot be written, or one of the files exists.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
    """
    recipient = recipient_of(secret)
    plain, locked = path.with_name(_stem(path) + PLAIN_SUFFIX), _locked(path)
    target, other = (plain, locked) if passphrase is None else (locked, plain)
    data = secret.encode("ascii") + b"\n"
    if passphrase is not None:
        data = lock(data, passphrase)
    if not overwrite and other.exists():
        raise problem("E_IO", detail=f"{other}: it exists", fix="choose another name, or add --overwrite")
    with (
        atomic_writer(public_file(path), overwrite=overwrite) as public,
        atomic_writer(target, mode=PRIVATE, overwrite=overwrite) as private,
    ):
        public.write(recipient.encode("ascii") + b"\n")
        private.write(data)
        private.flush()
        written = read_file(Path(private.name), limit=_MAX_FILE, private=True)
        if _parse(written, target, lambda: passphrase or "") != secret:
            raise _unusable(target, "does not read back")
    other.unlink(missing_ok=True)
    return target


def load_identity(path: Path, ask: Callable[[], str]) -> Identity:
    """Read an identity; a passphrase is asked for only when the secret is needed.

    Args:
        path: ``NAME.agekey`` or ``NAME.agekey.age``; where the first is named
            and only the second exists, that one.
        ask: Returns the passphrase; called at most once, if at all.

    Raises:
        KeyFileError: E_KEYFILE, open to others, or not an identity. The
            secret itself may raise it too: wrong passphrase, or the public
            file belongs to another key.
        StorageError: E_IO, cannot be read.
        EnvironmentMissingError: E_NO_AGE, there is no public file, and without
            ``pyrage`` it cannot be derived.
    """
    if not path.exists() and _locked(path).exists():
        path = _locked(path)
    data = read_file(path, limit=_MAX_FILE, private=True)
    if not is_age(data):
        _parse(data, path, ask)  # a wrong file is found now, and costs nothing

    @functools.cache
    def opened() -> str:
        return _parse(data, path, ask)

    public = public_file(path)
    if not public.exists():
        return Identity(recipient=recipient_of(opened()), secret=opened)
    recipient = read_file(public, limit=_MAX_FILE).decode("ascii", "replace").strip()
    if not is_recipient(recipient):
        raise _unusable(public, "not one age1... line")

    @functools.cache
    def checked() -> str:
        secret = opened()
        if recipient_of(secret) != recipient:
            raise _unusable(public, f"belongs to another key than {path.name}", fix=f"remove {public}")
        return secret

    return Identity(recipient=recipient, secret=checked)


def _parse(data: bytes, path: Path, ask: Callable[[], str]) -> str:
    """Return the one secret of a file; comments of ``age-keygen`` are passed over."""
    if is_age(data):
        data = unlock(data, ask())
    lines = data.decode("ascii", "replace").split()
    secrets = [line for line in lines if line.startswith(_SECRET)]
    if len(secrets) != 1:
        raise _unusable(path, "not an age identity")
    return secrets[0]
