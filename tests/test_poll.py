"""Looking again and again, by a clock that only the waits move."""

from types import SimpleNamespace

import pytest

from farm import poll


class Clock:
    """Time that passes when somebody waits, or when a look takes some."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    there = Clock()
    monkeypatch.setattr(poll, "time", SimpleNamespace(monotonic=there.monotonic))
    event = SimpleNamespace(wait=there.wait)
    monkeypatch.setattr(poll, "threading", SimpleNamespace(Event=lambda: event))
    return there


@pytest.mark.parametrize("fact", [True, False, 0, "", "here"])
def test_anything_but_none_is_found(clock: Clock, fact: object) -> None:
    assert poll.until(lambda: fact) is fact
    assert clock.waits == []


def test_it_looks_until_something_is_found(clock: Clock) -> None:
    looks = iter([None, None, "here"])

    assert poll.until(lambda: next(looks)) == "here"
    assert len(clock.waits) == 2


def test_no_time_at_all_is_one_look(clock: Clock) -> None:
    looks = iter([None])

    assert poll.until(lambda: next(looks), 0.0) is None


def test_what_is_there_at_once_is_found_in_no_time(clock: Clock) -> None:
    assert poll.until(lambda: "here", 0.0) == "here"


def test_when_the_time_is_up_nothing_is_found(clock: Clock) -> None:
    assert poll.until(lambda: None, 3.0) is None
    assert clock.now == pytest.approx(3.0)


def test_the_last_look_is_when_the_time_is_up(clock: Clock) -> None:
    found = poll.until(lambda: "late" if clock.now >= 3.0 else None, 3.0)

    assert found == "late"


def test_pauses_grow_up_to_half_a_second(clock: Clock) -> None:
    poll.until(lambda: None, 10.0)
    before_the_last = clock.waits[:-1]

    assert before_the_last == sorted(before_the_last)
    assert (before_the_last[0], before_the_last[-1]) == (0.02, 0.5)


def test_a_slow_look_is_not_repeated_for_five_times_as_long(clock: Clock) -> None:
    def slow() -> bool | None:
        clock.now += 2.0
        return True if len(clock.waits) == 3 else None

    poll.until(slow)

    assert clock.waits == [10.0, 10.0, 10.0]


def test_an_error_of_the_look_ends_it(clock: Clock) -> None:
    def broken() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        poll.until(broken)
