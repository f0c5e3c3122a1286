"""Private keys under a passphrase, as ordinary age v1 files (B-32, B-33).

Rules kept here: no cryptography of our own, ``pyrage`` does it, imported late
(B-29); the header is checked before ``pyrage`` sees it, since the cost of a
passphrase file is chosen by whoever wrote it (B-33). Delivery of bundles to
recipients (B-27 to B-31) belongs here too, and is not built yet.
"""

import importlib
import re
import types
from typing import NoReturn

from protocol.errors import problem

__all__ = ["AGE_MAGIC", "is_age", "lock", "unlock"]

AGE_MAGIC = b"age-encryption.org/v1"
"""First bytes of every age file."""

_MAX_HEADER = 64 << 10
_MAX_LOG_N = 21
_SCRYPT = re.compile(rb"-> scrypt [A-Za-z0-9+/]{22} ([1-9][0-9]?)")


def _pyrage() -> types.ModuleType:
    try:
        return importlib.import_module("pyrage")  # late: most commands need no passphrase
    except ImportError as error:
        raise problem("E_NO_AGE") from error


def _fail(detail: str, *, fix: str = "check which file this is") -> NoReturn:
    raise problem("E_KEYFILE", detail=detail, fix=fix)


def is_age(data: bytes) -> bool:
    """Tell whether ``data`` begins like an age file."""
    return data.startswith(AGE_MAGIC)


def _check_header(data: bytes) -> None:
    """Allow one scrypt stanza of bounded cost, nothing else (B-33)."""
    header, mark, _ = data[:_MAX_HEADER].partition(b"\n---")
    lines = header.split(b"\n")
    stanzas = [line for line in lines if line.startswith(b"->")]
    if not mark or lines[0] != AGE_MAGIC:
        _fail("damaged age header")
    match = _SCRYPT.fullmatch(stanzas[0]) if len(stanzas) == 1 else None
    if match is None:
        _fail("not protected by exactly one passphrase")
    if int(match[1]) > _MAX_LOG_N:
        _fail(f"passphrase cost 2^{match[1].decode()} is above 2^{_MAX_LOG_N}")


def lock(data: bytes, passphrase: str) -> bytes:
    """Encrypt ``data`` under a passphrase; takes a second or two on purpose.

    Raises:
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        KeyFileError: E_KEYFILE, the passphrase is empty.
    """
    if not passphrase:
        _fail("empty passphrase", fix="give a passphrase, or type --no-passphrase")
    locked: bytes = _pyrage().passphrase.encrypt(data, passphrase)
    return locked


def unlock(data: bytes, passphrase: str) -> bytes:
    """Decrypt what ``lock`` made.

    Raises:
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        KeyFileError: E_KEYFILE, wrong passphrase, damaged, or not such a file.
    """
    _check_header(data)
    pyrage = _pyrage()
    try:
        opened: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except (pyrage.DecryptError, OSError, ValueError) as error:
        if "work parameter" in str(error):  # age measures the machine first, and a busy one looks too weak
            _fail("this machine is too busy to open it", fix="try again when less is running")
        raise problem("E_KEYFILE", detail="wrong passphrase, or damaged file", fix="try again") from error
    return opened
