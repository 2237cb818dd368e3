"""How long to wait after a failure."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import backoff
from farm.backoff import AdaptiveBackoff, exponential, full_jitter

HUGE = 10**9


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0)]
)
def test_a_delay_doubles_up_to_its_ceiling(count: int, expected: float) -> None:
    assert exponential(count, base=0.5, ceiling=60.0) == expected


@given(st.integers(0, HUGE), st.floats(0, 1e9), st.floats(0, 1e9))
def test_no_delay_is_above_its_ceiling_at_any_count(
    count: int, base: float, ceiling: float
) -> None:
    assert 0.0 <= exponential(count, base, ceiling) <= ceiling


def test_full_jitter_asks_for_anything_between_nothing_and_the_delay() -> None:
    asked = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 7.0

    assert full_jitter(3, 1.0, 60.0, uniform) == 7.0
    assert asked == [(0.0, 8.0)]


# -- AdaptiveBackoff ----------------------------------------------------------------


def test_the_defaults_are_those_of_the_pattern() -> None:
    there = AdaptiveBackoff()

    assert (there.base_delay, there.max_delay, there.jitter_factor) == (1.0, 60.0, 0.1)
    assert there.consecutive_failures == 0


def test_delays_double_with_each_failure() -> None:
    there = AdaptiveBackoff(base_delay=1.0, max_delay=10.0, jitter_factor=0.0)
    delays = []
    for _ in range(6):
        delays.append(there.get_delay())
        there.record_failure()

    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@pytest.mark.parametrize("drawn", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_a_delay_is_changed_by_a_random_share_of_up_to_the_jitter_factor(
    monkeypatch: pytest.MonkeyPatch, factor: float, drawn: float
) -> None:
    there = AdaptiveBackoff(base_delay=8.0, jitter_factor=factor)
    asked = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return drawn

    monkeypatch.setattr(backoff, "uniform", uniform)

    assert there.get_delay() == 8.0 + 8.0 * factor * drawn
    assert asked == [(-1.0, 1.0)]


@pytest.mark.parametrize(("drawn", "delay"), [(-1.0, 0.0), (1.0, 8.0)])
def test_full_jitter_is_anything_from_nothing_to_what_doubles(
    monkeypatch: pytest.MonkeyPatch, drawn: float, delay: float
) -> None:
    monkeypatch.setattr(backoff, "uniform", lambda _low, _high: drawn)
    there = AdaptiveBackoff.full(1.0, 30.0)
    for _ in range(3):
        there.record_failure()

    assert there.get_delay() == delay
    there.consecutive_failures = HUGE
    assert there.get_delay() == (30.0 if delay else 0.0)


def test_a_success_starts_over() -> None:
    there = AdaptiveBackoff(jitter_factor=0.0)
    there.record_failure()
    there.record_failure()
    there.record_success()

    assert there.get_delay() == 1.0


def test_no_number_of_failures_overflows() -> None:
    there = AdaptiveBackoff()
    there.consecutive_failures = HUGE

    assert 0.0 <= there.get_delay() <= there.max_delay * (1 + there.jitter_factor)


def test_waiting_sleeps_for_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    there = AdaptiveBackoff(base_delay=3.0, jitter_factor=0.0)
    there.record_failure()

    asyncio.run(there.wait())

    assert slept == [6.0]
