"""How long it will take: from the pace at which tasks end, and how far each has come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.estimate import (
    ENOUGH,
    RECENT,
    WINDOW,
    Ended,
    Pace,
    Run,
    by_shape,
    left,
    remaining,
    shape,
)

NOW = 1_000_000.0  # POSIX seconds
SECONDS = st.floats(0.001, 1e6)


def flow(every: float, took: float, count: int) -> list[Ended]:
    """So many that ended, one each `every` seconds, the last one now."""
    return [Ended(NOW - every * n, took, f"t{n}") for n in range(count)]


# -- shapes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tiles/0-3", "tiles/12-40"),
        ("train-1", "train-2"),
        ("7", "2026"),
        ("a1b22", "a333b4"),
        ("run/007", "run/7"),
    ],
)
def test_ids_that_differ_only_in_numbers_are_alike(one: str, other: str) -> None:
    assert shape(one) == shape(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "b"), ("a1", "a"), ("a1/2", "a1-2"), ("tiles/1", "tile/1"), ("a1b", "a1B")],
)
def test_other_ids_are_not(one: str, other: str) -> None:
    assert shape(one) != shape(other)


def test_only_the_shapes_that_are_asked_for_are_kept() -> None:
    ended = [Ended(NOW, 1.0, "a1"), Ended(NOW, 2.0, "b1"), Ended(NOW, 3.0, "a2")]

    assert by_shape(ended, {"a#", "c#"}) == {"a#": [1.0, 3.0], "c#": []}


# -- the pace --------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(ENOUGH))
def test_before_enough_have_ended_nobody_knows_the_pace(count: int) -> None:
    assert Pace.of(flow(1.0, 1.0, count), NOW, 2) == Pace()


def test_without_a_worker_there_is_no_pace() -> None:
    assert Pace.of(flow(1.0, 1.0, 9), NOW, 0) == Pace()


def test_quick_tasks_are_counted_with_what_happens_between_them() -> None:
    """A task of 0.2 ms costs 2 ms of a worker: their sum is ten times too little."""
    pace = Pace.of(flow(0.002, 0.0002, 900), NOW, 2)

    assert pace.rate == pytest.approx(500, rel=0.01)


def test_of_very_many_those_that_are_known_tell_the_pace() -> None:
    assert Pace.of(flow(0.002, 0.0002, RECENT), NOW, 2).rate == pytest.approx(
        500, rel=0.01
    )


def test_in_the_first_second_the_pace_is_that_of_this_second() -> None:
    assert Pace.of(flow(0.01, 0.01, 50), NOW, 1).rate == pytest.approx(100, rel=0.05)


def test_tasks_that_end_together_have_run_before() -> None:
    together = [Ended(NOW - 0.001 * n, 2.0, f"t{n}") for n in range(8)]

    assert Pace.of(together, NOW, 8).rate == pytest.approx(4, rel=0.01)


def test_of_long_tasks_it_counts_how_long_they_take() -> None:
    hours = flow(2000.0, 3600.0, 9)

    assert Pace.of(hours, NOW + 90_000, 4) == Pace(4 / 3600.0, 3600.0)


def test_what_ended_long_ago_is_not_counted_into_the_rate_of_now() -> None:
    night = [Ended(NOW - 40_000 - n, 1.0, f"t{n}") for n in range(500)]

    assert Pace.of(night, NOW, 2) == Pace(2.0, 1.0)


@given(st.lists(st.tuples(st.floats(0, 100), SECONDS), max_size=60), st.integers(0, 50))
def test_a_pace_is_never_below_nothing(
    ended: list[tuple[float, float]], hands: int
) -> None:
    recent = [Ended(NOW - ago, took, "a") for ago, took in sorted(ended)]
    pace = Pace.of(recent, NOW, hands)

    assert pace.rate >= 0.0
    assert pace.took >= 0.0


# -- what runs -------------------------------------------------------------------------


def test_what_a_task_says_of_its_progress_goes_first() -> None:
    assert remaining(30.0, 0.75, [1.0] * 9) == pytest.approx(10.0)


@pytest.mark.parametrize("share", [None, 0.0, 0.001])
def test_without_progress_it_runs_as_long_as_its_like(share: float | None) -> None:
    assert remaining(0.0, share, [8.0, 9.0, 10.0, 11.0, 12.0]) == 10.0


def test_it_is_likely_one_of_those_that_took_longer_than_it_has_run() -> None:
    assert remaining(10.0, None, [1.0, 1.0, 1.0, 1.0, 20.0, 30.0]) == 15.0


@pytest.mark.parametrize("likes", [[], [50.0] * (ENOUGH - 1), [5.0] * 9])
def test_of_what_has_no_like_nobody_knows(likes: list[float]) -> None:
    assert remaining(6.0, None, likes) is None


# -- all together ----------------------------------------------------------------------


def test_a_queue_goes_at_the_pace() -> None:
    assert left(4000, [Run(0.1, None)] * 2, Pace(500.0, 0.002)) == pytest.approx(
        8.0, rel=0.01
    )


def test_a_running_task_may_take_longer_than_the_whole_queue() -> None:
    assert left(10, [Run(5.0, 300.0)], Pace(10.0, 0.1)) == 300.0


def test_the_last_task_takes_its_time_however_many_workers_there_are() -> None:
    assert left(1, [], Pace(8.0, 10.0)) == 10.0


def test_what_runs_and_is_not_known_is_not_guessed() -> None:
    """`sleep 60` beside tasks of some milliseconds."""
    assert left(0, [Run(34.0, None)], Pace(200.0, 0.005)) is None
    assert left(1, [Run(34.0, None)], Pace(200.0, 0.005)) is None


def test_beside_a_long_queue_what_is_not_known_matters_little() -> None:
    assert left(1000, [Run(3.0, None)], Pace(1.0, 1.0)) == 1000.5


@pytest.mark.parametrize("pace", [Pace(), Pace(0.0, 5.0)])
def test_a_queue_without_a_pace_is_not_guessed(pace: Pace) -> None:
    assert left(5, [Run(1.0, 3.0)], pace) is None


def test_when_nothing_is_left_there_is_nothing_to_say() -> None:
    assert left(0, [], Pace(5.0, 1.0)) is None


def test_the_last_ones_end_with_the_slowest() -> None:
    assert left(0, [Run(1.0, 3.0), Run(1.0, 9.0)], Pace()) == 9.0


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.floats(0.01, 1e4))
def test_more_work_never_takes_less(queued: int, more: int, rate: float) -> None:
    pace = Pace(rate, 0.1)
    less, all_of_it = left(queued, [], pace), left(queued + more, [], pace)

    assert less is not None
    assert all_of_it is not None
    assert all_of_it >= less


def test_the_window_is_longer_than_what_counts_as_a_quick_task() -> None:
    assert WINDOW >= 10 * 3.0
