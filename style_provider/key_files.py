"""How the provider's keys are made, protected and replaced (B-32, B-36, B-41).

Rules kept here: a key never exists without its ready revocation of itself, and
the public file is written last (B-41); a key gets one successor only, since a
second one would be a fork (B-38), and the successor's public file beside it says
so, wherever the other files go; at no moment is there no file that holds a
private key that was there before (B-32).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modify_fl.errors import ConfigError
from protocol.errors import PolicyError, StorageError
from protocol.provider import rotate_provider_key, write_provider_key
from protocol.revocation import REVOCATION_SUFFIX, self_revocation, write_revocation
from protocol.signing import PrivateKey, generate_key, save_private_key
from protocol.storage import storage_errors
from style_provider.keys import (
    PRIVATE_SUFFIXES,
    PUBLIC_SUFFIX,
    KeyPair,
    base_stem,
    check_current,
    private_forms,
    public_path,
)

__all__ = [
    "KeyFiles",
    "change_passphrase",
    "check_free",
    "parse_life",
    "rotate_pair",
    "store_pair",
    "store_successor",
    "whole_seconds",
]

_DAYS = {"d": 1, "m": 30, "y": 365}
_REASON = "ended by its owner"


@dataclass(frozen=True, kw_only=True)
class KeyFiles:
    """The files of one key."""

    private: Path
    public: Path
    revocation: Path
    """The key's revocation of itself, ready for the day it is needed (B-41)."""

    @classmethod
    def of(cls, folder: Path, stem: str, *, protected: bool) -> "KeyFiles":
        """Return where the files of the key called ``stem`` belong."""
        return cls(
            private=folder / f"{stem}{PRIVATE_SUFFIXES[protected]}",
            public=folder / f"{stem}{PUBLIC_SUFFIX}",
            revocation=folder / f"{stem}.revoke{REVOCATION_SUFFIX}",
        )

    @classmethod
    def beside(cls, path: Path) -> "KeyFiles":
        """Return the files of a key of which one, of whatever kind, is named."""
        public = public_path(path)
        return cls.of(public.parent, public.name.removesuffix(PUBLIC_SUFFIX), protected=path.name.endswith(".age"))

    @property
    def all(self) -> tuple[Path, ...]:
        """All files, the private one in both its forms."""
        return (*private_forms(self.public), self.public, self.revocation)


def parse_life(text: str) -> timedelta:
    """Read a length of time such as ``2y``, ``6m`` or ``90d``.

    Raises:
        ConfigError: It is written otherwise.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([dmy])", text.strip().lower())
    if match is None:
        raise ConfigError(f"cannot read the life {text!r}", fix="write it like 2y, 6m or 90d")
    return timedelta(days=int(match[1]) * _DAYS[match[2]])


def whole_seconds() -> datetime:
    """Return the time as signed files state it."""
    return datetime.now(UTC).replace(microsecond=0)


def check_free(files: KeyFiles, *, overwrite: bool) -> None:
    """Refuse to replace a key silently.

    Raises:
        StorageError: One of the files exists.
    """
    existing = [path for path in files.all if path.exists()]
    if existing and not overwrite:
        fix = "choose another name or folder; --overwrite would destroy the old key for good"
        raise StorageError(f"{existing[0]} exists", why="a key is never replaced silently", fix=fix)


def store_pair(files: KeyFiles, pair: KeyPair, passphrase: str | None, *, overwrite: bool = False) -> None:
    """Write a new key, with its revocation of itself (B-41), the public file last.

    Raises:
        StorageError: A file exists or cannot be written.
        KeyFileError: What was written does not read back.
    """
    check_free(files, overwrite=overwrite)
    revocation = self_revocation(pair.private, pair.provider, reason=_REASON, issued=pair.provider.not_before)
    with storage_errors(files.private.parent):
        files.private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_private_key(files.private, pair.private, passphrase, overwrite=overwrite)
    write_revocation(files.revocation, revocation, overwrite=overwrite, private=True)
    write_provider_key(files.public, pair.provider, overwrite=overwrite)
    _remove_other_form(files.private)


def _remove_other_form(private: Path) -> None:
    for form in private_forms(private):
        if form != private:
            with storage_errors(form):
                form.unlink(missing_ok=True)


def rotate_pair(
    path: Path, pair: KeyPair, folder: Path, life: timedelta, *, protected: bool
) -> tuple[KeyFiles, KeyPair]:
    """Make the key after the current one; nothing is written yet (B-36).

    Args:
        path: A file of the current key.
        pair: The current key.
        folder: Where the new files will go.
        life: Of the new key.
        protected: Whether the new private key gets a passphrase.

    Raises:
        ConfigError: The key was replaced already; a second successor would be a
            fork, and no client would accept anything any more (B-38).
        PolicyError: E_KEY_EXPIRED, it is too late for this key to endorse another.
    """
    old, now = pair.provider, whole_seconds()
    check_current(path, old)
    check_current(folder / path.name, old)
    if not old.not_before <= now < old.expires:
        raise PolicyError(
            f"{path.name} cannot endorse a new key", code="E_KEY_EXPIRED",
            why=f"its life is from {old.not_before:%Y-%m-%d} to {old.expires:%Y-%m-%d}",
            fix="make a key with style-provider keygen, which your clients must accept like that of a new provider",
        )  # fmt: skip
    private = generate_key()
    provider = rotate_provider_key(pair.private, old, private, not_before=now, expires=now + life)
    files = KeyFiles.of(folder, f"{base_stem(path, old)}-{provider.serial}", protected=protected)
    return files, KeyPair(private=private, provider=provider)


def store_successor(
    path: Path, files: KeyFiles, pair: KeyPair, passphrase: str | None, *, overwrite: bool = False
) -> None:
    """Write the key after the current one, its public file beside that one too.

    That copy comes first: where it cannot be written there is no successor, and
    once it is there no second one is made. It goes again if the rest fails.

    Args:
        path: A file of the key before.
        files: Of the new key.
        pair: The new key.
        passphrase: Of the new private key; ``None`` leaves it unprotected.
        overwrite: Whether files in the way are replaced.

    Raises:
        StorageError: A file exists or cannot be written.
        KeyFileError: What was written does not read back.
    """
    notice = path.with_name(files.public.name)
    if notice.resolve() == files.public.resolve():
        store_pair(files, pair, passphrase, overwrite=overwrite)
        return
    write_provider_key(notice, pair.provider, overwrite=overwrite)
    try:
        store_pair(files, pair, passphrase, overwrite=overwrite)
    except BaseException:
        notice.unlink(missing_ok=True)
        raise


def change_passphrase(path: Path, key: PrivateKey, passphrase: str | None, *, overwrite: bool = False) -> Path:
    """Protect a private key anew; at no moment is there no file that holds it (B-32).

    Args:
        path: The private file.
        key: What it holds.
        passphrase: The new one; ``None`` removes the protection.
        overwrite: Whether a file in the way of a new suffix is replaced.

    Returns:
        The private file as it is called now.

    Raises:
        StorageError: A file is in the way, or cannot be written or removed.
        KeyFileError: What was written does not read back; the old file is still there.
    """
    target = private_forms(path)[passphrase is not None]
    save_private_key(target, key, passphrase, overwrite=overwrite or target == path)
    if target != path:
        with storage_errors(path):
            path.unlink()
    return target
