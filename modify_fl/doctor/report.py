"""Runs checks and says what they found.

Rules kept here: a check that breaks is a check that failed, and hides no other;
all that is said is free of host and user names, and as JSON of paths too, so that
it can be sent to others; whether anything asked the network is watched, not
promised.
"""

import getpass
import importlib
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modify_fl.console import Console, ItemsFailedError
from protocol.errors import Error

__all__ = ["INSTALL_ANEW", "Check", "Look", "State", "UnhealthyError", "examine", "late"]

INSTALL_ANEW = "install the package anew: pip install . in the folder that it came in"
"""What to do where packages are broken or old; this one is on no index."""

State = Literal["ok", "warn", "fail"]
"""How a thing stands."""

_NETWORK = frozenset(
    f"socket.{call}"
    for call in ("connect", "getaddrinfo", "gethostbyaddr", "gethostbyname", "getnameinfo", "sendmsg", "sendto")
)
_ABSOLUTE = re.compile(r"(?<![\w.~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:'\"]+[/\\])*([^\s/\\:'\"]*)")
_NAME_WIDTH = 22
_NAME_LEAST = 3


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found out about one thing."""

    name: str
    """What was looked at, such as ``trust store``."""
    state: State
    """``fail`` prevents the main job, ``warn`` something besides it."""
    found: str
    """One phrase."""
    fix: str = ""
    """What to do, where ``state`` is not ``ok``."""
    place: Path | None = None
    """A folder of the user's own; shown to people, left out of JSON."""


Look = Callable[[], Iterable[Check]]
"""Looks at one thing, or several that belong together."""


class UnhealthyError(ItemsFailedError):
    """Something that the main job needs is missing or broken."""

    code = "E_DOCTOR"
    exit_code = 12
    hint = "do what stands after fix, and run the command again"


class _Watch:
    """Hears of every call to the network that Python code makes while it is on."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._on = True
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if self._on and event in _NETWORK:
            self.calls.append(event)

    def close(self) -> Check:
        self._on = False  # a hook stays for the life of the process
        name = "offline"
        if self.calls:
            what = f"the checks above called {', '.join(sorted(set(self.calls)))}"
            return Check(name=name, state="fail", found=what, fix="report this: nothing here needs the network")
        return Check(
            name=name, state="ok", found="the checks above looked up no name and opened no connection; none is needed"
        )


def examine(console: Console, looks: Mapping[str, Look]) -> Mapping[str, object]:
    """Look at everything, say each line as it is found, and return the result of the command.

    Args:
        console: Says the lines.
        looks: What to look at, by the name that stands for a look which breaks.

    Raises:
        UnhealthyError: Something failed; the result says the rest.
    """
    watch, checks = _Watch(), list[Check]()
    for name, look in looks.items():
        for check in _carefully(name, look):
            _show(console, check)
            checks.append(check)
    checks.append(watch.close())
    _show(console, checks[-1])
    counts = {state: sum(check.state == state for check in checks) for state in ("ok", "warn", "fail")}
    result = {"checks": [_record(check) for check in checks], **counts}
    failed = [check for check in checks if check.state == "fail"]
    if failed:
        raise UnhealthyError(
            f"{len(failed)} of {len(checks)} checks failed", result=result,
            why="; ".join(_pathless(f"{check.name}: {check.found}") for check in failed),
        )  # fmt: skip
    console.say(f"{counts['ok']} ok, {counts['warn']} to look at")
    return result


def late(module: str) -> Look:
    """Return a look at the ``LOOKS`` of a module that is imported only then, and may fail to be."""

    def look() -> Iterable[Check]:
        looks: Mapping[str, Look] = importlib.import_module(module).LOOKS
        for name, inner in looks.items():
            yield from _carefully(name, inner)

    return look


def _carefully(name: str, look: Look) -> Sequence[Check]:
    try:
        return tuple(look())
    except Error as error:
        why = f"{error.what} ({error.why})" if error.why else error.what
        return (Check(name=name, state="fail", found=why, fix=error.fix),)
    except Exception as error:  # noqa: BLE001 - whatever is broken here is what the user wants to hear of
        sentence = f"{type(error).__name__}: {error}".split("\n")[0]
        return (Check(name=name, state="fail", found=sentence, fix=INSTALL_ANEW),)


def _show(console: Console, check: Check) -> None:
    place = f" ({check.place})" if check.place else ""
    console.say(f"{check.state:<6}{check.name:<{_NAME_WIDTH}}{_nameless(check.found + place)}")
    if check.fix:
        console.say(f"{'':<6}{'':<{_NAME_WIDTH}}fix: {_nameless(check.fix).replace(chr(10), ' ')}")


def _record(check: Check) -> dict[str, str]:
    return {
        "name": check.name, "state": check.state, "found": _pathless(check.found), "fix": _pathless(check.fix),
    }  # fmt: skip


def _nameless(text: str) -> str:
    """Say where the user is at home as ``~``, and leave out names of the user and of this computer."""
    text = text.replace(str(Path.home()), "~")
    for name in (platform.node(), _user()):
        if len(name) >= _NAME_LEAST:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "...", text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return ""


def _pathless(text: str) -> str:
    """Keep of every path its last part."""
    return _nameless(_ABSOLUTE.sub(r"\1", text))
