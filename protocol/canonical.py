"""Strict JSON in, canonical JSON out (B-22). Pure functions.

Rules kept here: UTF-8 without a byte order mark, no duplicate keys, no NaN or
Infinity (spelled out, or reached by overflow), no lone surrogates, integers
within 2^53 - 1, depth at most 16, at most 1 MiB. The limits on size and depth
are checked before the parser runs, so no input can exhaust it.
"""

import json
import math
import re
from typing import NoReturn, TypeAlias

from protocol.errors import problem

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "MAX_JSON", "Json", "dump_json", "parse_json", "pick", "same_json"]

Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
"""A JSON value as Python holds it."""

MAX_JSON = 1 << 20
"""Most bytes of one document."""
MAX_DEPTH = 16
"""Most nested objects and arrays."""
MAX_INTEGER = (1 << 53) - 1
"""Largest magnitude that every JSON implementation keeps exactly."""

_MAX_DIGITS = len(str(MAX_INTEGER)) + 1  # with its sign
# A string always matches here, terminated or not, so the scan is linear for every input.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class _NotStrictError(ValueError):
    """What is wrong, in words; becomes E_JSON at the door of this module."""


def _check_depth(text: str) -> None:
    depth = 0
    for match in _TOKEN.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                message = f"nested deeper than {MAX_DEPTH}"
                raise _NotStrictError(message)
        elif mark in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        message = "duplicate key"
        raise _NotStrictError(message)
    return result


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not a number"
    raise _NotStrictError(message)


def _exact_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or abs(int(digits)) > MAX_INTEGER:
        message = "integer beyond 2^53 - 1"
        raise _NotStrictError(message)
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        message = "number too large"
        raise _NotStrictError(message)
    return value


def _parse(data: bytes, limit: int) -> Json:
    if len(data) > limit:
        message = f"longer than {limit} bytes"
        raise _NotStrictError(message)
    text = data.decode("utf-8")
    _check_depth(text)
    value: Json = json.loads(
        text,
        object_pairs_hook=_unique,
        parse_constant=_no_constant,
        parse_int=_exact_integer,
        parse_float=_finite_float,
    )
    # Only an escape can make a lone surrogate, and only the encoder notices one.
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def parse_json(data: bytes, *, limit: int = MAX_JSON, member: str = "document") -> Json:
    """Parse one strict JSON document (B-22).

    Args:
        data: The document, UTF-8.
        limit: Most bytes to accept.
        member: Name of the document in error messages.

    Raises:
        MalformedBundleError: E_JSON, any rule of the module is broken.
    """
    try:
        return _parse(data, limit)
    except UnicodeError as error:
        raise problem("E_JSON", member=member, detail="not UTF-8 text") from error
    except json.JSONDecodeError as error:
        detail = f"{error.msg.lower()} at character {error.pos}"
        raise problem("E_JSON", member=member, detail=detail) from error
    except _NotStrictError as error:
        raise problem("E_JSON", member=member, detail=str(error)) from error


def dump_json(value: Json, *, limit: int = MAX_JSON) -> bytes:
    """Serialise ``value``: sorted keys, no white space, UTF-8; equal values, equal bytes.

    What is written can be read back: the result has passed ``parse_json``.

    Args:
        value: What to write.
        limit: Most bytes to make.

    Raises:
        MalformedBundleError: E_JSON, ``value`` has no strict form (NaN, a huge
            integer, too deep, too long).
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        data = text.encode("utf-8")
    except ValueError as error:
        raise problem("E_JSON", member="document", detail="has no JSON form") from error
    parse_json(data, limit=limit)
    return data


def pick(value: Json, *path: str) -> Json:
    """Return what stands at ``path`` inside nested objects.

    Raises:
        LookupError: there is nothing.
    """
    for key in path:
        if not isinstance(value, dict) or key not in value:
            message = f"no field {key!r}"
            raise LookupError(message)
        value = value[key]
    return value


def same_json(ours: Json, theirs: Json) -> bool:
    """Compare two values exactly, types included: ``true``, ``1`` and ``1.0`` all differ."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same_json(item, theirs[key]) for key, item in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_json, ours, theirs))
    return ours == theirs
