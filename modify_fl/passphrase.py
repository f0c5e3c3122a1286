"""Where a passphrase comes from: a file, the environment or the terminal, never the command line (B-32)."""

import os
from collections.abc import Callable
from pathlib import Path

from modify_fl.errors import ConfigError
from protocol.storage import read_file

__all__ = ["Ask", "known_passphrase", "new_passphrase"]

_VARIABLE = "MDFY_PASSPHRASE"
_LIMIT = 4096

Ask = Callable[[str], str]
"""Puts a question to the user and returns the hidden answer."""


def new_passphrase(
    passphrase_file: Path | None, ask: Ask, *, question: str = "passphrase for the new key", environment: bool = True
) -> str:
    """Return the passphrase for a new key, typed twice where a person types it (B-32).

    Args:
        passphrase_file: Its first line is the passphrase.
        ask: Puts a question to the user and returns the hidden answer.
        question: What a person is asked.
        environment: Whether ``MDFY_PASSPHRASE`` may hold it; not where that is the old one.

    Raises:
        ConfigError: The two differ, or it is empty.
        StorageError: The file cannot be read.
    """
    known = known_passphrase(passphrase_file) if passphrase_file or environment else None
    if known is not None:
        return known
    first = ask(question)
    if not first:
        raise ConfigError("the passphrase is empty", fix="choose one, or type --no-passphrase")
    if ask("the same passphrase again") != first:
        raise ConfigError("the two passphrases differ", fix="run the command again")
    return first


def known_passphrase(passphrase_file: Path | None) -> str | None:
    """Return the passphrase that was given without a question, if one was.

    Args:
        passphrase_file: Its first line is the passphrase; without it ``MDFY_PASSPHRASE`` is looked up.

    Raises:
        ConfigError: The file is empty.
        StorageError: The file cannot be read.
    """
    if passphrase_file is None:
        return os.environ.get(_VARIABLE)
    lines = read_file(passphrase_file, limit=_LIMIT).decode("utf-8", "replace").splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"{passphrase_file} holds no passphrase", why="its first line is empty")
    return lines[0]
