"""Dataclasses from and to JSON, strictly (B-16)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal

import pytest

from protocol.canonical import Json
from protocol.errors import MalformedBundleError
from protocol.schema import Bound, Hex64, Line, Positive, Scalar, Text, decode, encode, format_time, parse_time


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Positive


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: Line
    text: Text
    kind: Literal["a", "b"]
    ratio: Annotated[float, Bound(low=0, high=1)]
    flag: bool
    when: datetime
    inner: Inner
    many: tuple[Inner, ...]
    table: Mapping[str, Scalar]
    digest: Hex64 | None = None


@dataclass(frozen=True, kw_only=True)
class Document:
    text: Annotated[str, Bound(longest=5000)]


GOOD: dict[str, Json] = {
    "name": "n",
    "text": "",
    "kind": "a",
    "ratio": 0.5,
    "flag": True,
    "when": "2026-01-31T23:59:59Z",
    "inner": {"size": 1},
    "many": [{"size": 2}],
    "table": {"i": 1, "f": 0.5, "b": False, "s": "x"},
}


def test_decode_and_encode_are_inverse() -> None:
    outer = decode(Outer, GOOD, member="m")
    assert outer.many == (Inner(size=2),)
    assert outer.when == datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert outer.digest is None
    assert encode(outer) == GOOD
    assert encode(decode(Outer, {**GOOD, "digest": "0" * 64}, member="m")) == {**GOOD, "digest": "0" * 64}


def test_own_bound_stands_in_place_of_the_plain_one() -> None:
    assert decode(Document, {"text": "x" * 5000}, member="m").text == "x" * 5000
    for text in ("x" * 5001, "a\x1b[2J", 1):
        with pytest.raises(MalformedBundleError):
            decode(Document, {"text": text}, member="m")


def test_whole_number_is_a_float_where_one_is_asked_for() -> None:
    assert type(decode(Outer, {**GOOD, "ratio": 1}, member="m").ratio) is float


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 1}, "name"),
        ({"name": "a\x1b[2J"}, "name"),  # would clear a terminal
        ({"name": "a\u202egpj"}, "name"),  # would read backwards
        ({"name": "a\nb"}, "name"),
        ({"text": "x" * 4097}, "text"),
        ({"kind": "c"}, "kind"),
        ({"kind": 1}, "kind"),
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": True}, "ratio"),
        ({"flag": 1}, "flag"),
        ({"when": "2026-1-31T23:59:59Z"}, "when"),
        ({"when": "2026-01-31"}, "when"),
        ({"when": 0}, "when"),
        ({"inner": []}, "inner"),
        ({"inner": {"size": 0}}, r"inner\.size"),
        ({"inner": {"size": True}}, r"inner\.size"),
        ({"inner": {}}, "inner"),
        ({"inner": {"size": 1, "more": 1}}, "inner"),
        ({"many": {}}, "many"),
        ({"many": [{"size": 1}] * 4097}, "many"),
        ({"many": [{"size": "1"}]}, r"many\[0\]\.size"),
        ({"table": []}, "table"),
        ({"table": {"": 1}}, "table"),
        ({"table": {"x": None}}, "table"),
        ({"table": {"x": []}}, "table"),
        ({"digest": "0" * 63}, "digest"),
        ({"digest": "A" * 64}, "digest"),
        ({"digest": None}, "digest"),  # left out, never null
        ({"unknown": 1}, "unknown"),
    ],
)
def test_anything_else_is_refused_and_named(change: dict[str, Json], where: str) -> None:
    with pytest.raises(MalformedBundleError, match=where) as caught:
        decode(Outer, {**GOOD, **change}, member="m.json")
    assert caught.value.code == "E_MANIFEST"
    assert caught.value.member == "m.json"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_missing_field_is_refused(name: str) -> None:
    with pytest.raises(MalformedBundleError, match=name):
        decode(Outer, {key: value for key, value in GOOD.items() if key != name}, member="m")


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_document_must_be_an_object(value: Json) -> None:
    with pytest.raises(MalformedBundleError, match="document"):
        decode(Outer, value, member="m")


def test_times_are_utc_to_the_second() -> None:
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(moment) == "2026-01-01T00:00:00Z"
    assert parse_time("2026-01-01T00:00:00Z") == moment
    for bad in (datetime(2026, 1, 1), moment.replace(microsecond=1)):  # noqa: DTZ001 - the point of the test
        with pytest.raises(ValueError, match="whole seconds"):
            format_time(bad)


def test_value_without_schema_is_a_defect() -> None:
    with pytest.raises(TypeError):
        encode(object())
