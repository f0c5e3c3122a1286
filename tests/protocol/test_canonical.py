"""Strict JSON (B-22)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import MAX_DEPTH, MAX_INTEGER, MAX_JSON, Json, dump_json, parse_json, pick, same_json
from protocol.errors import MalformedBundleError, ProtocolError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
)
KEYS = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@given(VALUES)
def test_what_is_written_reads_back(value: Json) -> None:
    assert same_json(parse_json(dump_json(value)), value)


def test_nothing_is_written_that_is_too_long_to_be_read_back() -> None:
    text = "x" * MAX_JSON
    with pytest.raises(MalformedBundleError, match="longer than"):
        dump_json(text)
    assert len(dump_json(text, limit=MAX_JSON + 2)) == MAX_JSON + 2


@given(st.dictionaries(KEYS, SCALARS, max_size=6))
def test_key_order_does_not_matter(value: dict[str, Json]) -> None:
    assert dump_json(dict(reversed(value.items()))) == dump_json(value)


@given(st.binary(max_size=64) | st.text('[]{}",:\\u09eE+-.truefalsn \t\n', max_size=64).map(str.encode))
def test_any_input_gives_a_value_or_a_refusal(data: bytes) -> None:
    try:
        parse_json(data)
    except ProtocolError as error:
        assert error.code == "E_JSON"  # noqa: PT017 - both outcomes are right, a third is not


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',  # one key, spelled twice
        b"[NaN]",
        b"[-Infinity]",
        b"[1e400]",
        b"[9007199254740992]",  # 2^53
        b"[-9007199254740992]",
        b"[" + b"1" * 5000 + b"]",
        b'"\\ud800"',
        b'{"\\udfff":0}',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\xed\xa0\x80"',  # a surrogate as raw UTF-8
        "{}".encode("utf-16"),
        b"",
        b"{}{}",
        b'"a\nb"',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    ],
)
def test_lax_json_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedBundleError) as caught:
        parse_json(text, member="x.json")
    assert caught.value.code == "E_JSON"
    assert "x.json" in caught.value.what


def test_limits_are_inclusive() -> None:
    assert parse_json(b"[9007199254740991,-9007199254740991]") == [MAX_INTEGER, -MAX_INTEGER]
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert dump_json(parse_json(deepest)) == deepest
    assert parse_json(b'["[[[[[[[[[[[[[[[[[[[[[[[["]')  # brackets in a string nest nothing
    assert parse_json(b"1" + b" " * (MAX_JSON - 1)) == 1
    with pytest.raises(MalformedBundleError, match="longer than"):
        parse_json(b"1" + b" " * MAX_JSON)


@pytest.mark.parametrize("fill", [b"[", b'"\\"', b'\\"', b'{"a":'])
def test_hostile_documents_of_full_length_are_quick(fill: bytes) -> None:
    # Linear in the length; a quadratic scan of 1 MiB would not end within the test run.
    with pytest.raises(MalformedBundleError):
        parse_json((fill * MAX_JSON)[:MAX_JSON])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", 1 << 60, ["x" * MAX_JSON]])
def test_what_has_no_strict_form_is_not_written(value: Json) -> None:
    with pytest.raises(MalformedBundleError):
        dump_json(value)


def test_values_of_other_type_differ() -> None:
    different: list[Json] = [1, 1.0, True, "1", [1], {"a": 1}, None, {}, []]
    for first in different:
        for second in different:
            assert same_json(first, second) == (first is second)
    assert not same_json({"a": 1}, {"a": True})
    assert not same_json([1, 2], [1])


def test_pick_follows_a_path() -> None:
    assert pick({"a": {"b": 2}}, "a", "b") == 2
    for value in ({"a": {}}, {"a": []}, {}, [], None):
        with pytest.raises(LookupError):
            pick(value, "a", "b")


def test_public_parsing_suite(shared_vectors: Path) -> None:
    # Section 12: 188 of 188 n_ refused, 93 of 95 y_ accepted, i_ never crash.
    folder = shared_vectors / "jsontestsuite" / "test_parsing"
    outcome: dict[str, list[str]] = {"n": [], "y": [], "i": []}
    refused: list[str] = []
    for path in sorted(folder.iterdir()):
        try:
            parse_json(path.read_bytes())
            outcome[path.name[0]].append(path.name)
        except MalformedBundleError:
            refused.append(path.name)
    assert not outcome["n"]
    assert len(outcome["y"]) == 93
    assert [name for name in refused if name.startswith("y_")] == [
        "y_object_duplicated_key.json",
        "y_object_duplicated_key_and_value.json",
    ]
    assert len(refused) + sum(map(len, outcome.values())) == 318
