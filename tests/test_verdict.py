"""What the record of a storm proves: every broken promise is seen."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.storm.verdict import Note, Record, parsed, percentile, rescues, violations


def note(word: str, token: str = "t1", at: float = 1.0, pid: int = 7) -> Note:
    return Note(1, token, at, pid, word)


def result(**said: Any) -> bytes:
    return json.dumps({"status": "succeeded", "token": "t1"} | said).encode()


def told(record: Record) -> Record:
    """The same, and `farm status` says what the results say."""
    ended = map(parsed, record.results.values())
    return record._replace(counts=Counter(r["status"] for r in ended if r))


GOOD = Record(
    dropped=frozenset({"a"}),
    notes={"a": [note("begin"), note("done")]},
    results={"a": result()},
    cancelled=frozenset(),
    seen=[],
    broken=[],
    left=[],
    counts={"succeeded": 1},
)


def test_a_task_that_ran_once_to_its_end_breaks_nothing() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"results": {}}, "a was lost"),
        ({"results": {"a": b""}}, "a was lost"),
        ({"results": {"a": b'{"status": "odd"}'}}, "a was lost"),
        ({"results": {"a": result(), "b": result()}}, "b has a result, and nobody"),
        ({"notes": {"a": [note("begin")]}}, "without having come to its end"),
        ({"notes": {}}, "without having come to its end"),
        ({"results": {"a": result(token="t2")}}, "without having come to its end"),
        ({"notes": {"a": [note("begin"), *GOOD.notes["a"]]}}, "one attempt ran twice"),
        ({"results": {"a": result(status="lost")}}, "a ended lost"),
        ({"results": {"a": result(status="cancelled")}}, "a ended cancelled"),
        ({"seen": ["a ran twice at once"]}, "a ran twice at once"),
        ({"broken": ["the result of a vanished"]}, "the result of a vanished"),
        ({"left": ["worker 7"]}, "left behind: worker 7"),
    ],
    ids=str,
)
def test_a_broken_promise_is_seen(change: dict[str, Any], said: str) -> None:
    (found,) = violations(told(GOOD._replace(**change)))

    assert said in found


def test_a_status_that_says_other_than_the_results_is_seen() -> None:
    assert violations(GOOD._replace(counts={"succeeded": 2, "failed": 1})) == [
        "farm status says 1 failed, and 0 results do",
        "farm status says 2 succeeded, and 1 results do",
    ]


def test_what_was_cancelled_need_not_succeed() -> None:
    record = GOOD._replace(
        results={"a": result(status="cancelled")}, cancelled=frozenset({"a"})
    )

    assert violations(told(record)) == []


def test_a_rescue_takes_from_the_kill_to_the_next_beginning() -> None:
    lines = [note("begin", "t1", 1.0, 7), note("begin", "t2", 3.5, 8)]

    assert rescues({"a": lines}, {7: 2.0}) == [1.5]


def test_who_was_killed_after_the_end_left_nothing_to_rescue() -> None:
    lines = [note("begin", "t1", 1.0, 7), note("fail", "t1", 1.5, 7)]

    assert rescues({"a": lines}, {7: 2.0}) == []


@pytest.mark.parametrize(("share", "value"), [(0.5, 3.0), (0.99, 4.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == value


def test_of_nothing_every_percentile_is_nothing() -> None:
    assert percentile([], 0.5) == 0.0
