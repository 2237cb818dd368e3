import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.locate import (
    NOWHERE,
    Path,
    broken_json,
    did_you_mean,
    key_place,
    place_of,
    repeated_key,
    shown,
    value_place,
    wide_integer,
)
from tests.waiting import within_processor_time

TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # JSON files are UTF-8
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
Written = dict[str, Any]  # how `json.dumps` is to write
WRITTEN = {
    "indent": st.none() | st.integers(0, 4) | st.sampled_from(["\t", "\r\n", "\n\n "]),
    "separators": st.sampled_from([(",", ":"), (" ,\t", " :\r\n"), (", ", ": ")]),
    "ensure_ascii": st.booleans(),
}


def offset_of(text: str, place: tuple[int, int]) -> int:
    """What `place_of` was given."""
    line, column = place
    return sum(len(part) + 1 for part in text.split("\n")[: line - 1]) + column - 1


def every_path(value: object) -> list[tuple[tuple[str | int, ...], object]]:
    found: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for step, inner in inside:
        found += [((step, *path), leaf) for path, leaf in every_path(inner)]
    return found


@given(st.dictionaries(TEXT, VALUES), st.fixed_dictionaries(WRITTEN))
def test_each_top_level_key_is_found(
    value: dict[str, object], written: Written
) -> None:
    text = json.dumps(value, **written)

    for key in value:
        quoted = json.dumps(key, ensure_ascii=written["ensure_ascii"])
        assert text.startswith(quoted, offset_of(text, key_place(text, (key,))))


@given(VALUES, st.fixed_dictionaries(WRITTEN))
def test_each_value_is_found_at_any_depth(value: object, written: Written) -> None:
    text = json.dumps(value, **written)

    for path, inner in every_path(value):
        place = value_place(text, path)
        found, _ = json.JSONDecoder().raw_decode(text, offset_of(text, place))
        assert found == inner


@given(TEXT, st.lists(TEXT | st.integers(0, 3), max_size=3))
def test_text_that_is_no_json_is_nowhere_and_raises_nothing(
    text: str, path: list[str | int]
) -> None:
    for place in (key_place(text, path), value_place(text, path)):
        assert place == NOWHERE or place.line >= 1


@given(VALUES, st.data())
def test_half_a_text_raises_nothing(value: object, data: st.DataObject) -> None:
    text = json.dumps({"a": value, "b": [value]})
    half = text[: data.draw(st.integers(0, len(text)))]

    assert value_place(half, ("b", 0, "c")) == NOWHERE


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ('{"a": 1}', ("a",), (1, 7)),
        ('{"a": {"b": {}, "c": 2}}', ("a", "c"), (1, 22)),
        ('{"needs": ["x", "y"]}', ("needs", 1), (1, 17)),
        ('{"a": "}{][,:", "b": 2}', ("b",), (1, 22)),
        ('{"a": "\\"}", "b": 2}', ("b",), (1, 19)),
        ('{"a": "\\\\", "b": 2}', ("b",), (1, 18)),
        ('{"é": "日本", "b": 2}', ("b",), (1, 18)),
        ('{"😀": "😀", "b": 2}', ("b",), (1, 17)),
        ('{\r\n  "a": 1,\r\n  "b": 2\r\n}', ("b",), (3, 8)),
        ('{\n\t"a":\t1}', ("a",), (2, 7)),
        ('{"\\u0061": 1}', ("a",), (1, 12)),
        ('{"a": 1, "a": 2}', ("a",), (1, 15)),
        (" [1]", (), (1, 2)),
    ],
)
def test_a_value_is_found(text: str, path: Path, place: tuple[int, int]) -> None:
    assert value_place(text, path) == place


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": 1}', ("b",)),
        ('{"a": 1}', ("a", "b")),
        ('{"a": [1]}', ("a", 1)),
        ('{"a": [1]}', ("a", "0")),
        ('{"0": 1}', (0,)),
        ('{"a": 1', ("a",)),
        ('{"a" 1}', ("a",)),
        ('{"a": }', ("a", "b")),
        ("", ("a",)),
    ],
)
def test_what_is_not_there_is_nowhere(text: str, path: Path) -> None:
    assert value_place(text, path) == key_place(text, path) == NOWHERE


def test_deep_nesting_is_walked_without_recursion() -> None:
    text = '{"a": ' + "[" * 100_000 + "]" * 100_000 + ', "b": 1}'

    assert key_place(text, ("b",)) == (1, 200_009)


def test_lines_and_columns_count_from_1() -> None:
    assert [place_of("a\nb", offset) for offset in range(4)] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]


def test_a_repeated_key_is_found_at_its_second_place() -> None:
    text = '{"a": {"b": 1}, "b": 2,\n "\\u0061": 3}'

    assert repeated_key(text) == ("a", (2, 2))


@pytest.mark.parametrize("text", ['{"a": {"b": 1, "b": 2}, "b": 3}', "[1, 1]", "{", ""])
def test_a_text_without_repeated_outer_keys_has_none(text: str) -> None:
    assert repeated_key(text) is None


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64, 10**40, "-" + "9" * 5000])
def test_an_integer_of_more_than_64_bits_is_found(number: int | str) -> None:
    text = f'{{"a": "{2**70}", "b": [1,\n {number}]}}'

    assert wide_integer(text) == (2, 2)


@pytest.mark.parametrize(
    "number", [-(2**63), 2**64 - 1, "1.23456789012345678901", "1e99"]
)
def test_a_number_that_fits_is_let_be(number: object) -> None:
    assert wide_integer(f"[{number}]") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        ("a\n", '"a\\n"'),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        ([], "an empty list"),
        ({}, "an empty object"),
        (float("nan"), "nan"),
        (2**70, str(2**70)),
        ("x" * 100, '"' + "x" * 59 + "..."),
    ],
)
def test_a_refused_value_is_shown_in_a_few_words(value: object, words: str) -> None:
    assert shown(value) == words


def test_a_slip_is_answered_with_the_likely_word() -> None:
    assert did_you_mean("retrys", ["run", "retries"]) == ", did you mean `retries`?"


def test_a_word_that_is_like_none_gets_no_guess() -> None:
    assert did_you_mean("zzz", ["run", "retries"]) == ""


def refused(raw: bytes) -> orjson.JSONDecodeError:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(raw)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "place", "words"),
    [
        (b"", (1, 1), "empty"),
        (b" \n", (1, 1), "empty"),
        (b'{"a": 1', (1, 8), "ends in the middle"),
        (b'{"a": [1,\n', (2, 1), "ends in the middle"),
        (b'{"a": "x', (1, 9), "ends in the middle"),
        (b'{"a": tru', (1, 10), "ends in the middle"),
        (b'{"a": "\xc3', (1, 8), "ends in the middle"),
        (b"\xef\xbb\xbf{}", (1, 1), "byte order mark"),
        (b"\xff\xfe{\x00}\x00", (1, 1), "UTF-16"),
        (b'{"a":\n "\xc3\xa9\xff"}', (2, 4), "0xff"),
        (b'{"a": 1,}', (1, 8), "remove the comma"),
        (b"{'a': 1}", (1, 2), "double quotes"),
        (b'{"a": 1} // b', (1, 10), "no comments"),
        (b'{"a": NaN}', (1, 7), "NaN"),
        (b'{"a": -Infinity}', (1, 8), "Infinity"),
        (b'{"a": True}', (1, 7), "small letters"),
        (b'{"a": 1e999}', (1, 7), "too large"),
        (b'{"a": "b\nc"}', (1, 9), "line break"),
        (b"[" * 5000 + b"]" * 5000, (1, 1026), "nested too deep"),
        (b'{"a": 1}\n{"b": 2}', (2, 1), "not JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_text_that_is_no_json_is_explained_at_its_place(
    raw: bytes, place: tuple[int, int], words: str
) -> None:
    error = broken_json(raw, refused(raw))

    assert words in error.message
    assert (error.line, error.column) == place


@given(st.binary())
def test_any_bytes_that_are_no_json_have_a_place(raw: bytes) -> None:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        fault = broken_json(raw, error)
        assert fault.line >= 1
        assert fault.column >= 1


def test_of_many_long_words_only_some_are_compared() -> None:
    word, known = "a" * 198 + "b", ["a" * 198 + "c"] * 20_000
    with within_processor_time(10):
        assert "did you mean" in did_you_mean(word, known)


def test_a_word_that_is_longer_than_all_is_like_none() -> None:
    with within_processor_time(10):
        assert did_you_mean("x" * 5_000_000, ["retries", "timeout"]) == ""
