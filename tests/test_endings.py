"""What ended is told once, and in order."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from farm import endings
from farm.endings import Endings
from farm.journal import REBUILT, Entry
from farm.states import Status, Why

OK = Status.SUCCEEDED


def ended(task_id: str, at: float, worker: str = "ada", file: int = 7) -> Entry:
    return Entry(
        task_id, at, worker, why=Why.SUCCEEDED, status=OK, attempt=1, file=file
    )


def again(task_id: str, at: float, attempt: int = 1) -> Entry:
    return Entry(task_id, at, "ada", why=Why.FAILED, attempt=attempt)


def rebuilt(task_id: str, at: float, file: int = 7) -> Entry:
    return Entry(task_id, at, REBUILT, status=OK, file=file)


def told(heard: list[list[Entry]], since: float = 0.0) -> list[list[Entry]]:
    """What is told in each round, and at last."""
    there, rounds = Endings(since), []
    for entries in heard:
        there.add(entries)
        rounds.append(there.take())
    return [*rounds, there.take(last=True)]


def test_what_is_heard_is_told_one_round_later() -> None:
    one = ended("a", 5.0)

    assert told([[one], []]) == [[], [one], []]


def test_what_is_left_is_told_at_last() -> None:
    one = ended("a", 5.0)

    assert told([[one]]) == [[], [one]]


def test_workers_are_told_in_the_order_of_time() -> None:
    late, early = ended("merge", 6.0, "ada"), ended("check", 5.0, "bob")

    assert told([[late, early], []])[1] == [early, late]


def test_a_line_that_came_late_is_told_before_what_it_let_run() -> None:
    merge, check = ended("merge", 6.0), ended("check", 5.9)

    assert told([[merge], [check]]) == [[], [check, merge], []]


def test_what_is_later_waits_for_its_own_round() -> None:
    one, two = ended("a", 5.0), ended("b", 6.0)

    assert told([[one], [two], []]) == [[], [one], [two], []]


def test_attempts_of_one_task_are_told_one_after_the_other() -> None:
    first, second, end = again("a", 5.0), again("a", 6.0, 2), ended("a", 7.0)

    assert told([[end, second, first]])[-1] == [first, second, end]


def test_an_ending_that_two_tell_is_told_once_in_the_workers_words() -> None:
    ours, theirs = ended("a", 5.0), rebuilt("a", 5.0)

    for order in itertools.permutations((ours, theirs)):
        assert told([list(order)]) == [[], [ours]]


def test_what_was_told_is_not_told_again_by_another() -> None:
    ours, theirs = ended("a", 5.0), rebuilt("a", 5.0)

    assert told([[theirs], [], [ours]]) == [[], [theirs], [], []]


def test_a_task_that_ran_again_is_told_again() -> None:
    first, second = ended("a", 5.0, file=7), ended("a", 6.0, file=8)

    assert told([[first, second]])[-1] == [first, second]


def test_results_from_before_we_listened_are_no_news() -> None:
    assert told([[rebuilt("a", 5.0)]], since=6.0) == [[], []]


def test_a_result_that_only_a_look_told_of_is_news() -> None:
    one = rebuilt("a", 7.0)

    assert told([[one]], since=6.0) == [[], [one]]


def test_what_was_told_long_ago_is_forgotten() -> None:
    there = Endings(0.0)
    for number in range(endings.MOST_KEPT + 5):
        there.add([ended(f"t{number}", float(number))])
        there.take(last=True)
    there.add([ended("t0", 0.0), ended("t9", 9.0)])

    assert [entry.id for entry in there.take(last=True)] == ["t0"]


entries = st.builds(ended, st.text("abc", min_size=1, max_size=2), st.floats(0, 10))


@given(st.lists(st.lists(entries, max_size=5), max_size=6))
def test_each_is_told_exactly_once(heard: list[list[Entry]]) -> None:
    rounds = told(heard)
    ids = [entry.id for entries in rounds for entry in entries]

    assert sorted(ids) == sorted({entry.id for entries in heard for entry in entries})
    assert all(round_ == sorted(round_, key=lambda e: e.at) for round_ in rounds)
