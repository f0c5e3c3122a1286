"""Frozen dataclasses from and to JSON objects, strictly (B-16).

The type hints of a dataclass are its schema. Rules kept here: no unknown and no
missing field; a field that may be ``None`` is left out instead of written as
``null``; no value is converted except a whole number where a float is asked
for; every string, list and table is bounded; strings hold no control and no
direction-changing characters, so that showing one can neither move the cursor
nor reorder what stands around it. Times are UTC, to the second.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, NoReturn, TypeVar, cast

from protocol.canonical import MAX_INTEGER, Json
from protocol.errors import problem

__all__ = [
    "Bound",
    "Count",
    "Hex64",
    "Line",
    "Positive",
    "Scalar",
    "Text",
    "decode",
    "encode",
    "format_time",
    "parse_time",
]

_Record = TypeVar("_Record")

_MAX_ITEMS = 4096
_MAX_TEXT = 4096
_MARK = "\0"  # between document and path of a place; stands in no file name
_TIME = "%Y-%m-%dT%H:%M:%SZ"
# C0, DEL, C1; line and paragraph separators; zero-width and direction marks; byte order mark.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a value must keep besides its type; used inside ``Annotated``."""

    pattern: str = ""
    """Regular expression that the whole string must match."""
    longest: int = _MAX_TEXT
    """Most characters of a string."""
    low: float = -MAX_INTEGER
    """Smallest number."""
    high: float = MAX_INTEGER
    """Largest number."""


_PLAIN = Bound()

Text = Annotated[str, Bound()]
"""Free text of one paragraph, at most 4096 characters, may be empty."""
Line = Annotated[str, Bound(pattern=r".+", longest=200)]
"""A name or short phrase, 1 to 200 characters."""
Hex64 = Annotated[str, Bound(pattern=r"[0-9a-f]{64}")]
"""A SHA-256 in lower-case hexadecimal."""
Count = Annotated[int, Bound(low=0)]
"""A whole number from 0."""
Positive = Annotated[int, Bound(low=1)]
"""A whole number from 1."""
Scalar = str | int | float | bool
"""A value of a flat table."""


def format_time(moment: datetime) -> str:
    """Write a moment as ``2026-01-31T23:59:59Z``.

    Raises:
        ValueError: ``moment`` has no time zone, or is not a whole second.
    """
    if moment.tzinfo is None or moment.microsecond:
        message = f"a moment needs a time zone and whole seconds, got {moment!r}"
        raise ValueError(message)
    return moment.astimezone(UTC).strftime(_TIME)


def parse_time(text: str) -> datetime:
    """Read what ``format_time`` wrote, and nothing else.

    Raises:
        ValueError: ``text`` has another form.
    """
    moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    if format_time(moment) != text:  # strptime takes one-digit months
        message = f"not in canonical form: {text}"
        raise ValueError(message)
    return moment


def _fail(where: str, rule: str) -> NoReturn:
    member, _, path = where.partition(_MARK)
    raise problem("E_MANIFEST", member=member, detail=f"the schema: {path or 'document'} {rule}")


@cache
def _hints(record: type) -> dict[str, Any]:
    return typing.get_type_hints(record, include_extras=True)


def _decode_record(record: type, value: Json, where: str) -> object:
    if not isinstance(value, dict):
        _fail(where, "must be an object")
    fields = {field.name: field for field in dataclasses.fields(record) if field.init}
    required = {name for name, field in fields.items() if not _optional(_hints(record)[name])}
    for name in sorted(value.keys() - fields.keys()):
        _fail(where, f"has the unknown field {name[:40]!r}")
    for name in sorted(required - value.keys()):
        _fail(where, f"lacks the field {name!r}")
    separator = "." if _MARK in where else _MARK
    decoded = {name: _decode(_hints(record)[name], item, f"{where}{separator}{name}") for name, item in value.items()}
    return record(**decoded)


def _optional(hint: Any) -> bool:  # noqa: ANN401 - a type hint has no type
    return types.NoneType in typing.get_args(hint)


def _decode_list(hint: Any, value: Json, where: str) -> tuple[object, ...]:  # noqa: ANN401
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        _fail(where, f"must be a list of at most {_MAX_ITEMS}")
    kind = typing.get_args(hint)[0]
    return tuple(_decode(kind, item, f"{where}[{index}]") for index, item in enumerate(value))


def _decode_table(hint: Any, value: Json, where: str) -> dict[str, object]:  # noqa: ANN401
    if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
        _fail(where, f"must be an object of at most {_MAX_ITEMS} fields")
    kind = typing.get_args(hint)[1]
    return {
        cast("str", _decode(Line, key, where)): _decode(kind, item, f"{where}[{key[:40]!r}]")
        for key, item in value.items()
    }


def _decode_union(hint: Any, value: Json, where: str) -> object:  # noqa: ANN401
    members = [member for member in typing.get_args(hint) if member is not types.NoneType]
    if len(members) == 1:
        return _decode(members[0], value, where)
    kind = next((member for member in members if member is type(value)), None)
    if kind is None:
        _fail(where, "must be a text, a number or a truth value")
    return _decode(kind, value, where)


def _decode_plain(kind: Any, value: Json, where: str) -> object:  # noqa: ANN401
    if kind is datetime and isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            _fail(where, "must be a time such as 2026-01-31T23:59:59Z")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:  # isinstance would take true for 1
        _fail(where, f"must be of type {kind.__name__}")
    return value


def _check_bound(bound: Bound, value: object, where: str) -> None:
    if isinstance(value, str):
        if len(value) > bound.longest:
            _fail(where, f"is longer than {bound.longest} characters")
        if bound.pattern and not re.fullmatch(bound.pattern, value):
            _fail(where, f"must match {bound.pattern}")
    elif isinstance(value, int | float) and not bound.low <= value <= bound.high:
        _fail(where, f"must be from {bound.low:g} to {bound.high:g}")


def _decode_bounded(hint: Any, value: Json, where: str) -> object:  # noqa: ANN401
    plain, bound = typing.get_args(hint)
    # Its own bound stands in place of the plain one, which may be the narrower of the two.
    decoded = _decode_plain(plain, value, where) if plain is str else _decode(plain, value, where)
    _check_bound(bound, decoded, where)
    return decoded


def _decode_choice(hint: Any, value: Json, where: str) -> object:  # noqa: ANN401
    choices = typing.get_args(hint)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        _fail(where, f"must be one of {', '.join(map(repr, choices))}")
    return value


_BY_ORIGIN: dict[object, Callable[[Any, Json, str], object]] = {
    Annotated: _decode_bounded,
    Literal: _decode_choice,
    Mapping: _decode_table,
    tuple: _decode_list,
    types.UnionType: _decode_union,
    typing.Union: _decode_union,
}


def _decode(hint: Any, value: Json, where: str) -> object:  # noqa: ANN401
    if isinstance(value, str) and _UNSAFE.search(value):
        _fail(where, "holds a control or direction character")
    compound = _BY_ORIGIN.get(typing.get_origin(hint))
    if compound:
        return compound(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return _decode_record(cast("type", hint), value, where)
    decoded = _decode_plain(hint, value, where)
    _check_bound(_PLAIN, decoded, where)
    return decoded


def decode(record: type[_Record], value: Json, *, member: str) -> _Record:
    """Build the dataclass ``record`` from a parsed JSON object.

    Args:
        record: A dataclass whose fields are dataclasses, ``str``, ``int``,
            ``float``, ``bool``, ``datetime``, literals, ``tuple[X, ...]``,
            ``Mapping[str, X]``, ``X | None``, or any of these with a ``Bound``.
        value: The JSON object.
        member: Name of the document in error messages.

    Raises:
        MalformedBundleError: E_MANIFEST, a rule of the module is broken; the
            sentence names the field.
    """
    return cast("_Record", _decode(record, value, member))


def encode(value: object) -> Json:
    """Turn a dataclass, or a part of one, into JSON; the inverse of ``decode``.

    Raises:
        TypeError: a part has a type that no schema knows (a defect of the caller).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: encode(item) for name, item in items if item is not None}
    if isinstance(value, str | int | float):  # bool is an int
        return value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [encode(item) for item in value]
    message = f"no schema for {type(value).__name__}"
    raise TypeError(message)
