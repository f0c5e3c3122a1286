"""Ordinary age v1 files: private keys under a passphrase, bundles for recipients (B-27 to B-33).

Rules kept here: no cryptography of our own, ``pyrage`` does it, imported late
(B-29); the header is checked before ``pyrage`` sees it, since the cost of a
passphrase file is chosen by whoever wrote it (B-33); recipients are X25519 keys
only (B-28); bundles go from stream to stream, so that memory does not grow with
them (B-30). What ``decrypt_stream`` writes is nothing before the bundle in it is
verified (B-31).
"""

import importlib
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from protocol.errors import ProtocolError, problem

__all__ = [
    "AGE_MAGIC",
    "MAX_RECIPIENTS",
    "Identity",
    "check_recipient",
    "decrypt_stream",
    "encrypt_stream",
    "generate_identity",
    "is_age",
    "is_recipient",
    "lock",
    "recipient_of",
    "unlock",
]

AGE_MAGIC = b"age-encryption.org/v1"
"""First bytes of every age file."""

_MAX_HEADER = 64 << 10
_MAX_LOG_N = 21
_MAX_STANZAS = 32
MAX_RECIPIENTS = _MAX_STANZAS - 1
"""Most recipients of one file; age may add a stanza that means nothing, to keep readers tolerant."""
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
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


def _stanzas(data: bytes) -> list[bytes] | None:
    """Return the first lines of the header's stanzas; ``None`` where there is no header of bounded length."""
    header, mark, _ = data[:_MAX_HEADER].partition(b"\n---")
    lines = header.split(b"\n")
    if not mark or lines[0] != AGE_MAGIC:
        return None
    return [line for line in lines if line.startswith(b"->")]


# --- under a passphrase ---------------------------------------------------------------------


def _check_passphrase_header(data: bytes) -> None:
    """Allow one scrypt stanza of bounded cost, nothing else (B-33)."""
    stanzas = _stanzas(data)
    if stanzas is None:
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
    _check_passphrase_header(data)
    pyrage = _pyrage()
    try:
        opened: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except (pyrage.DecryptError, OSError, ValueError) as error:
        if "work parameter" in str(error):  # age measures the machine first, and a busy one looks too weak
            _fail("this machine is too busy to open it", fix="try again when less is running")
        raise problem("E_KEYFILE", detail="wrong passphrase, or damaged file", fix="try again") from error
    return opened


# --- to recipients --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody's own age key: what others encrypt to, and what opens it."""

    recipient: str
    """The public half, ``age1...``."""
    secret: Callable[[], str] = field(repr=False)
    """Returns ``AGE-SECRET-KEY-1...``; called only for a file that is encrypted, since it may ask for a passphrase."""


def is_recipient(text: str) -> bool:
    """Tell whether ``text`` has the form of an X25519 recipient; needs no ``pyrage``, so looks at no checksum."""
    return _RECIPIENT.fullmatch(text) is not None


def check_recipient(text: str) -> str:
    """Return an X25519 recipient without spaces around it.

    Raises:
        KeyFileError: E_KEYFILE, mistyped, or a key of another kind.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
    """
    recipient = text.strip()
    _parse_recipient(recipient)
    return recipient


def _parse_recipient(recipient: str) -> Any:  # noqa: ANN401 - pyrage is imported late
    advice = "ask for the line that begins with age1; content-client trust identity prints it"
    pyrage = _pyrage()
    if not is_recipient(recipient):
        _fail(f"{ascii(recipient)[:80]} is not an X25519 recipient", fix=advice)
    try:
        return pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise problem("E_KEYFILE", detail=f"{recipient} is mistyped", fix=advice) from error


def generate_identity() -> tuple[str, str]:
    """Make a new age identity.

    Returns:
        The secret ``AGE-SECRET-KEY-1...`` and its recipient ``age1...``.

    Raises:
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
    """
    made = _pyrage().x25519.Identity.generate()
    return str(made), str(made.to_public())


def recipient_of(secret: str) -> str:
    """Return the recipient that belongs to ``AGE-SECRET-KEY-1...``.

    Raises:
        KeyFileError: E_KEYFILE, not such a secret.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
    """
    return str(_parse_secret(secret).to_public())


def _parse_secret(secret: str) -> Any:  # noqa: ANN401 - pyrage is imported late
    pyrage = _pyrage()
    try:
        return pyrage.x25519.Identity.from_str(secret)
    except pyrage.IdentityError as error:
        raise problem("E_KEYFILE", detail="not an age identity", fix="check which file this is") from error


def encrypt_stream(reader: BinaryIO, writer: BinaryIO, recipients: Sequence[str]) -> None:
    """Encrypt what is left of ``reader`` to recipients (B-27, B-28).

    Args:
        reader: Read from its position to its end.
        writer: Receives an age v1 file; on an error it holds nothing of use.
        recipients: 1 to ``MAX_RECIPIENTS`` different ``age1...`` keys; who is
            among them cannot be read off the file.

    Raises:
        KeyFileError: E_KEYFILE, a recipient is mistyped or of another kind, or
            there are none or too many.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        OSError: A stream cannot be read or written.
    """
    different = sorted({check_recipient(text) for text in recipients})
    if not 1 <= len(different) <= MAX_RECIPIENTS:
        _fail(f"{len(different)} recipients, not 1 to {MAX_RECIPIENTS}", fix="write several files")
    _pyrage().encrypt_io(reader, writer, [_parse_recipient(text) for text in different])


def decrypt_stream(reader: BinaryIO, writer: BinaryIO, identity: Identity) -> None:
    """Decrypt a whole age file that was encrypted to ``identity`` (B-30, B-31).

    Args:
        reader: Seekable, at the start of the age file.
        writer: Receives the plain text; on an error it holds nothing of use.
        identity: Asked for its secret only when the header is acceptable.

    Raises:
        KeyFileError: E_NOT_RECIPIENT, encrypted to somebody else; E_DECRYPT,
            damaged, truncated or extended, or its header is above the limits
            of B-33; E_KEYFILE, the identity cannot be used.
        EnvironmentMissingError: E_NO_AGE, ``pyrage`` is not installed.
        OSError: A stream cannot be read or written.
    """
    start = reader.tell()
    stanzas = _stanzas(reader.read(_MAX_HEADER))
    reader.seek(start)
    if stanzas is None or len(stanzas) > _MAX_STANZAS:
        raise problem("E_DECRYPT", why="its header is damaged, or above 64 KiB or 32 recipients (B-33)")
    if any(line.startswith(b"-> scrypt ") for line in stanzas):
        raise problem("E_NOT_RECIPIENT", why="it is protected by a passphrase, not encrypted to recipients")
    pyrage = _pyrage()
    key = _parse_secret(identity.secret())
    try:
        pyrage.decrypt_io(reader, writer, [key])
    except pyrage.DecryptError as error:
        raise _undecryptable(str(error), identity) from error
    except OSError as error:
        if error.errno is not None:  # of a stream, not of the contents
            raise
        raise problem("E_DECRYPT", why=str(error)) from error


def _undecryptable(reason: str, identity: Identity) -> ProtocolError:
    if "No matching keys" in reason:
        return problem("E_NOT_RECIPIENT", why=f"your key is {identity.recipient}", expected=identity.recipient)
    return problem("E_DECRYPT", why=reason[:1].lower() + reason[1:])
