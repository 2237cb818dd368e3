"""A thread tells when the time of an attempt is over."""

import threading
from queue import SimpleQueue

import pytest

from farm import deadline
from farm.deadline import Deadline

SOON, LATE = 0.02, 1000.0  # seconds


class Told:
    """A deadline, and what it has told."""

    def __init__(self) -> None:
        self.deadline = Deadline(self._told)
        self._tokens: SimpleQueue[str] = SimpleQueue()

    def _told(self, token: str) -> None:
        self._tokens.put(token)

    def next(self) -> str:
        return self._tokens.get(timeout=30)

    @property
    def nothing(self) -> bool:
        return self._tokens.empty()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(deadline, "REPEAT", SOON)
    return Told()


def test_it_is_told_again_until_it_is_cleared(told: Told) -> None:
    told.deadline.set("a", SOON)

    assert [told.next() for _ in range(3)] == ["a"] * 3


def test_no_thread_is_started_before_the_first() -> None:
    before = threading.active_count()
    Deadline(print).clear()

    assert threading.active_count() == before


def test_one_that_was_cleared_is_not_told(told: Told) -> None:
    told.deadline.set("a", LATE)
    told.deadline.clear()
    told.deadline.set("b", SOON)

    assert {told.next() for _ in range(3)} == {"b"}


def test_an_earlier_one_is_told_although_the_thread_sleeps_until_a_later_one(
    told: Told,
) -> None:
    told.deadline.set("late", LATE)
    told.deadline.clear()
    told.deadline.set("soon", SOON)

    assert told.next() == "soon"


def test_one_after_another_is_told_without_waiting_for_the_repeat(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "REPEAT", LATE)
    told.deadline.set("a", SOON)
    first = told.next()
    told.deadline.clear()
    told.deadline.set("b", SOON)

    assert (first, told.next()) == ("a", "b")
    assert told.nothing
