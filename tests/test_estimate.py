"""How long it will take: from the median of like tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.estimate import ENOUGH, shape, time_left

SECONDS = st.floats(0.0, 1e6)
TOOK = st.lists(SECONDS, min_size=ENOUGH, max_size=20)


def ended(prefix: str, *seconds: float) -> dict[str, float]:
    """Tasks of one shape that took so long."""
    return {f"{prefix}{number}": took for number, took in enumerate(seconds)}


def names(prefix: str, count: int) -> list[str]:
    """Open tasks of one shape."""
    return [f"{prefix}{number}" for number in range(100, 100 + count)]


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


# -- when nobody can know --------------------------------------------------------------


@pytest.mark.parametrize("count", range(ENOUGH))
def test_nothing_is_said_before_enough_have_ended(count: int) -> None:
    assert time_left(["a9"], {}, ended("a", *[1.0] * count), 1) is None


def test_when_enough_have_ended_it_is_their_median() -> None:
    assert time_left(["a9"], {}, ended("a", 1, 2, 3, 4, 100), 1) == 3.0


def test_without_a_worker_nobody_knows() -> None:
    assert time_left(["a9"], {}, ended("a", *[1.0] * 9), 0) is None


# -- how long --------------------------------------------------------------------------


def test_nothing_open_takes_no_time() -> None:
    assert time_left([], {}, ended("a", *[1.0] * 9), 1) == 0.0


def test_each_open_task_takes_as_long_as_its_like() -> None:
    took = ended("quick", *[1.0] * 9) | ended("slow", *[60.0] * 5)

    assert time_left(["quick77", "slow77"], {}, took, 1) == 61.0


@pytest.mark.parametrize("likes", range(ENOUGH))
def test_a_task_without_enough_of_its_like_takes_the_median_of_all(likes: int) -> None:
    took = ended("usual", *[2.0] * 9) | ended("rare", *[60.0] * likes)

    assert time_left(["rare77"], {}, took, 1) == 2.0


def test_what_has_run_already_is_subtracted() -> None:
    took = ended("a", *[10.0] * 5)

    assert time_left(["a77", "a78"], {"a77": 4.0}, took, 1) == 16.0


def test_one_that_is_over_its_time_takes_none_and_gives_none_to_others() -> None:
    took = ended("a", *[10.0] * 5)

    assert time_left(["a77", "a78"], {"a77": 500.0}, took, 1) == 10.0


def test_several_hands_share_the_work() -> None:
    took = ended("a", *[10.0] * 5)

    assert time_left(names("a", 8), {}, took, 4) == 20.0


def test_no_number_of_hands_makes_one_task_quicker() -> None:
    took = ended("a", *[10.0] * 5)

    assert time_left(["a77"], {}, took, 64) == 10.0


def test_the_longest_one_bounds_it() -> None:
    took = ended("a", *[1.0] * 9) | ended("slow", *[60.0] * 5)

    assert time_left([*names("a", 10), "slow77"], {}, took, 10) == 60.0


@given(TOOK, st.integers(0, 30), st.integers(1, 64), SECONDS)
def test_it_is_never_negative_and_more_hands_never_take_longer(
    took: list[float], count: int, hands: int, elapsed: float
) -> None:
    ends, left = ended("a", *took), names("a", count)
    running = dict.fromkeys(left[:hands], elapsed)
    one = time_left(left, running, ends, hands)
    more = time_left(left, running, ends, hands + 1)

    assert one is not None
    assert more is not None
    assert 0.0 <= more <= one
