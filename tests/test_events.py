"""Events come out of a stream as they went in, however a network cuts it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import events
from farm.events import EventError, Events
from tests.waiting import within_processor_time

JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
OBJECTS = st.lists(st.dictionaries(JSON_TEXT, JSON_TEXT, max_size=3), max_size=6)
ENDS = st.sampled_from(["\n", "\r\n"])


def written(objects: list[dict[str, Any]], end: str) -> bytes:
    """As a server writes them: names, comments and the last word around the data."""
    said = [": hello", "", "event: ping", ""]
    for number, one in enumerate(objects):
        lines = json.dumps(one, ensure_ascii=False, indent=number % 2 or None)
        said += [f"event: e{number}", f"id: {number}"]
        said += [f"data: {line}" for line in lines.split("\n")]
        said += ["", ": still here"]
    said += ["data: [DONE]", "", ""]
    return end.join(said).encode()


def read(*chunks: bytes) -> list[dict[str, Any]]:
    there = Events()
    return [event for chunk in chunks for event in there.feed(chunk)]


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(raw) + 1) for place in places)
    return [raw[a:b] for a, b in zip([0, *ends], [*ends, len(raw)], strict=True)]


@given(OBJECTS, ENDS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cut_of_the_bytes_gives_the_same_events(
    objects: list[dict[str, Any]], end: str, places: list[int]
) -> None:
    raw = written(objects, end)
    assert read(raw) == objects
    assert read(*cut(raw, places)) == objects


@given(OBJECTS)
def test_byte_for_byte_gives_the_same_events(objects: list[dict[str, Any]]) -> None:
    raw = written(objects, "\r\n")
    assert read(*(bytes([one]) for one in raw)) == objects


def test_an_event_is_there_when_its_empty_line_is() -> None:
    there = Events()
    assert list(there.feed(b'data: {"a": 1}\n')) == []
    assert list(there.feed(b"\n")) == [{"a": 1}]


def test_data_without_a_space_and_empty_data_are_read() -> None:
    assert read(b'data:{"a": 1}\n\ndata:\n\ndata: \n\n') == [{"a": 1}]


@pytest.mark.parametrize(
    "data",
    [
        b"not JSON",
        b"1",
        b'["a"]',
        b'{"a": "\xff"}',
        b'{"a": "\\ud83d"}',
        b"[" * 100_000,
    ],
)
def test_data_that_is_no_object_is_an_error_and_no_hole(data: bytes) -> None:
    there = Events()
    assert list(there.feed(b'data: {"a": 1}\n\n')) == [{"a": 1}]
    with pytest.raises(EventError):
        list(there.feed(b"data: " + data + b"\n\n"))


@pytest.mark.parametrize("part", [b"data: x", b"data: x\n", b": x"])
def test_an_event_without_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(events, "LONGEST", 1000)
    with pytest.raises(EventError, match="more than 1000 bytes"):
        read(*[part] * 1000)


@pytest.mark.parametrize("small", [b'data: {"a": 1}\n\n', b": still here\n"])
def test_many_short_events_are_no_long_one(
    monkeypatch: pytest.MonkeyPatch, small: bytes
) -> None:
    monkeypatch.setattr(events, "LONGEST", 1000)
    there = Events()
    for _ in range(1000):
        list(there.feed(small))


def test_a_line_of_ten_megabytes_is_read_in_small_pieces() -> None:
    raw = written([{"text": "x" * 10_000_000}], "\n")
    pieces = [raw[at : at + 4096] for at in range(0, len(raw), 4096)]
    (event,) = read(*pieces)
    assert len(event["text"]) == 10_000_000


def test_lines_without_an_end_cost_no_more_the_more_there_are() -> None:
    there = Events()
    with within_processor_time(5):
        for _ in range(80_000):
            assert list(there.feed(b"data:\n")) == []


def test_lines_without_an_end_are_refused_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "LONGEST", 1000)
    there = Events()
    refused = [_refuses(there, b"data:\n") for _ in range(1001)]
    assert refused.index(True) in range(990, 1001)


def _refuses(there: Events, chunk: bytes) -> bool:
    try:
        return bool(list(there.feed(chunk)))
    except EventError:
        return True
