"""Whether an endpoint is worth a call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.circuit import (
    IN_A_ROW,
    LEASE,
    Circuit,
    failed,
    free_at,
    leased,
    succeeded,
)

NOW = 1_000_000.0


def longest(low: float, high: float) -> float:
    return high


def fails(circuit: Circuit, count: int, now: float = NOW) -> Circuit:
    for _ in range(count):
        circuit = failed(circuit, now, now, None, longest)
    return circuit


OPEN = fails(Circuit(), IN_A_ROW)  # until NOW + 5


def test_four_failures_in_a_row_do_not_open_it_and_the_fifth_does() -> None:
    assert free_at(fails(Circuit(), IN_A_ROW - 1), NOW) == NOW
    assert free_at(OPEN, NOW) == NOW + 5


def test_a_success_between_them_begins_the_count_anew() -> None:
    circuit = succeeded(fails(Circuit(), IN_A_ROW - 1), NOW, NOW)
    assert free_at(fails(circuit, IN_A_ROW - 1), NOW) == NOW


def test_half_of_ten_calls_within_a_minute_open_it() -> None:
    circuit = fails(Circuit(), 1)
    for _ in range(4):
        circuit = fails(succeeded(circuit, NOW, NOW), 1)
    assert circuit.calls == 9
    assert free_at(circuit, NOW) == NOW
    assert free_at(fails(circuit, 1), NOW) > NOW


def test_what_failed_more_than_a_minute_ago_is_not_counted() -> None:
    circuit = Circuit()
    for number in range(20):
        at = NOW + 61 * number
        circuit = succeeded(failed(circuit, at, at, None, longest), at, at)
    assert free_at(circuit, NOW + 61 * 20) == NOW + 61 * 20


def test_it_opens_at_once_for_as_long_as_the_endpoint_asks_for() -> None:
    assert free_at(failed(Circuit(), NOW, NOW, NOW + 42), NOW) == NOW + 42


def test_an_endpoint_that_asks_for_weeks_is_asked_again_after_an_hour() -> None:
    circuit = failed(Circuit(), NOW, NOW, NOW + 1e6)
    assert free_at(circuit, NOW) == NOW + 3600
    assert free_at(circuit, NOW + 1800) == NOW + 3600
    assert free_at(circuit, NOW + 3600) == NOW + 3600


def test_each_opening_is_longer_up_to_five_minutes() -> None:
    circuit, now, rests = OPEN, NOW, [5.0]
    for _ in range(8):
        now = circuit.until
        circuit = failed(circuit, now, now, None, longest)
        rests.append(circuit.until - now)
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_calls_that_went_before_it_opened_are_no_news() -> None:
    assert failed(OPEN, NOW - 1, NOW + 1, None) is OPEN
    assert succeeded(OPEN, NOW - 1, NOW + 1) is OPEN


def test_half_open_it_has_one_prober_and_everybody_else_looks_again_soon() -> None:
    then = NOW + 5
    assert free_at(OPEN, then) == then
    probed = leased(OPEN, then)
    assert free_at(probed, then) == then + 1
    assert free_at(probed, then + LEASE - 0.5) == then + LEASE


def test_a_prober_that_never_comes_back_is_followed_by_another() -> None:
    probed = leased(OPEN, NOW + 5)
    assert free_at(probed, NOW + 5 + LEASE) == NOW + 5 + LEASE


def test_a_success_of_the_prober_closes_it() -> None:
    circuit = succeeded(leased(OPEN, NOW + 5), NOW + 5, NOW + 6)
    assert circuit == Circuit()
    assert circuit.is_calm


def test_a_failure_of_the_prober_opens_it_for_longer() -> None:
    circuit = failed(leased(OPEN, NOW + 5), NOW + 5, NOW + 6, None, longest)
    assert free_at(circuit, NOW + 6) == NOW + 16


def test_a_closed_circuit_gives_no_lease() -> None:
    assert leased(Circuit(), NOW) == Circuit()


@given(
    back=st.floats(61, 1e9),
    retry=st.none() | st.floats(1, 1e9),
    probed=st.booleans(),
)
def test_a_clock_that_is_set_back_keeps_nobody_away(
    back: float, retry: float | None, probed: bool
) -> None:
    asked = None if retry is None else NOW + retry
    circuit = failed(OPEN, NOW, NOW, asked, longest)
    if probed:
        circuit = leased(circuit, circuit.until)
    now = NOW - back
    assert free_at(circuit, now) == now
    assert succeeded(circuit, now, now) == Circuit()


def test_after_a_clock_was_set_back_failures_open_it_anew() -> None:
    now = NOW - 3600
    assert free_at(failed(OPEN, now, now, None, longest), now) > now


def test_a_lease_from_the_future_binds_nobody() -> None:
    circuit = Circuit(opened=1, since=NOW, until=NOW + 5, leased=NOW + 86_400)
    assert free_at(circuit, NOW + 10) == NOW + 10


@pytest.mark.parametrize("retry_at", [NOW - 1e9, 0.0, NOW])
def test_an_end_that_is_past_is_a_second_away(retry_at: float) -> None:
    circuit = fails(Circuit(), IN_A_ROW - 1)
    after = failed(circuit, NOW, NOW, retry_at, longest)
    assert NOW < free_at(after, NOW) <= NOW + 5
