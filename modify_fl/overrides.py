"""Single settings of a preset, changed by name (U-38)."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from modify_fl.config import NetworkConfig, Preset
from modify_fl.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["override", "override_part"]

_Part = TypeVar("_Part", bound="DataclassInstance")

_TWIN = "from_base"


def override(preset: Preset, changes: Sequence[str]) -> Preset:
    """Apply ``--set key=value`` to a preset (U-38).

    Args:
        preset: The preset as it stands in the code.
        changes: Texts such as ``encapsulation.batch=8``; leading parts of the
            name may be left out where the rest is unique. A setting of
            ``encapsulation`` changes in the recipe for a base model too, so that
            it reaches the one in force (ADR 6).

    Returns:
        The changed preset, checked like any other.

    Raises:
        ConfigError: A text is not ``key=value``, the key is not known or not
            unique, or the value does not fit.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"cannot read the setting {change!r}", fix="write it like encapsulation.batch=8")
        full = _locate(preset, name.strip())
        preset = _replaced(preset, full, text.strip())
        part, _, rest = full.partition(".")
        if part == "encapsulation" and preset.from_base is not None:
            preset = _replaced(preset, f"{_TWIN}.{rest}", text.strip())
    return preset


def override_part(part: _Part, changes: Sequence[str]) -> _Part:
    """Apply ``key=value`` texts to one settings object whose fields are plain values.

    Raises:
        ConfigError: A text is not ``key=value``, the key is not a field, or the value does not fit.
    """
    for change in changes:
        name, equals, text = (piece.strip() for piece in change.partition("="))
        if not equals:
            raise ConfigError(f"cannot read the setting {change!r}", fix="write it like learning_rate=1e-4")
        if name not in {item.name for item in dataclasses.fields(part)}:
            raise ConfigError(
                f"no setting is called {name}", fix=f"use {', '.join(item.name for item in dataclasses.fields(part))}"
            )
        part = _replaced(part, name, text)
    return part


def _names(part: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - any settings class
    """Yield the full names of all settings of a preset or of a part of one."""
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        if isinstance(part, Preset) and item.name == _TWIN:
            continue  # changes together with ``encapsulation``
        if dataclasses.is_dataclass(value):
            yield from _names(value, f"{prefix}{item.name}.")
        elif prefix:  # the preset's own name is none of its settings
            yield prefix + item.name


def _locate(preset: Preset, name: str) -> str:
    found = [full for full in _names(preset) if f".{full}".endswith(f".{name}")]
    if not found:
        raise ConfigError(f"no setting is called {name}", fix="see the names with --show-config")
    if len(found) > 1:
        raise ConfigError(f"the setting {name} is not unique", fix=f"write {' or '.join(found)}")
    return found[0]


def _replaced(part: _Part, name: str, text: str) -> _Part:
    head, _, rest = name.partition(".")
    old = getattr(part, head)
    changes: dict[str, Any] = {head: _replaced(old, rest, text) if rest else _value(old, name, text)}
    if isinstance(part, NetworkConfig) and head == "resolution":
        changes["xi"] = None  # follows the resolution unless it is set itself (M-24)
    return dataclasses.replace(part, **changes)


def _value(old: object, name: str, text: str) -> object:
    """Read ``text`` as the kind of value that ``old`` is."""
    try:
        new = text if isinstance(old, str) else json.loads(text)
    except ValueError:
        new = None
    if isinstance(old, tuple) and isinstance(new, list) and len(new) == len(old):
        numbers = all(type(item) in {int, float} for item in new)
        new = tuple(float(item) for item in new) if numbers else None
    if isinstance(old, float) and type(new) is int:
        new = float(new)
    if type(new) is not type(old):
        why = f"it is {old} now"
        raise ConfigError(f"the setting {name} cannot be {text}", why=why, fix="give a value of that kind")
    return new
