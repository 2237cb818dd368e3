"""How fast calls may follow each other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.pace import Pace, begin, joined, limited, refused, reserved, step, succeeded

NOW = 1_000_000.0


def grants(pace: Pace, at: list[float]) -> list[float]:
    """When the calls begin that ask at these times, one after the other.

    As the keyring does it, nobody stands in a line of more than a minute.
    """
    found = []
    for now in at:
        if begin(pace, now) - now <= 60.0:
            found.append(begin(pace, now))
            pace = reserved(pace, now)
    return found


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(1 for t in times if first <= t < first + seconds) for first in times)


PAUSES = st.lists(st.floats(0, 3), min_size=1, max_size=80)


def moments(pauses: list[float]) -> list[float]:
    return [NOW + sum(pauses[:number]) for number in range(len(pauses))]


@given(
    per_minute=st.sampled_from([1, 30, 60, 90, 600, 3000]),
    pauses=PAUSES,
    seconds=st.sampled_from([1.0, 5.0, 60.0]),
)
def test_no_window_holds_more_than_the_limit_and_a_seconds_worth(
    per_minute: int, pauses: list[float], seconds: float
) -> None:
    times = grants(limited(Pace(), per_minute, NOW), moments(pauses))
    allowed = per_minute / 60 * (seconds + 1.0)
    assert most_within(times, seconds) <= allowed + 1


@given(pauses=PAUSES)
def test_a_limit_of_one_a_second_or_less_has_no_burst(pauses: list[float]) -> None:
    times = grants(limited(Pace(), 60, NOW), moments(pauses))
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


@given(pauses=PAUSES, jump=st.floats(-1e6, 1e6), at=st.integers(0, 80))
def test_a_clock_that_jumps_stops_nobody_for_longer_than_the_longest_line(
    pauses: list[float], jump: float, at: int
) -> None:
    pace = limited(Pace(), 600, NOW)
    for number, moment in enumerate(moments(pauses)):
        now = moment + jump if number >= at else moment
        assert now <= begin(pace, now) <= now + 300.0
        pace = reserved(pace, now)


def test_after_a_pause_nothing_is_made_up() -> None:
    pace = limited(Pace(), 600, NOW)
    times = grants(pace, [NOW] * 30 + [NOW + 3600.0] * 30)
    assert sum(1 for t in times if t == NOW) <= 11
    assert sum(1 for t in times if t == NOW + 3600.0) <= 11


def test_a_line_is_served_at_the_limit_with_a_little_left_over() -> None:
    times = grants(limited(Pace(), 600, NOW), [NOW] * 200)
    rate = 100 / (times[-1] - times[-101])
    assert rate == pytest.approx(9.7)


def test_who_knows_nothing_begins_with_two_and_doubles_within_seconds() -> None:
    times = grants(Pace(), [NOW] * 200)
    assert sum(1 for t in times if t == NOW) == 2
    assert 1.0 < times[15] - NOW < 2.0
    assert 3.0 < times[-1] - NOW < 5.0


def test_who_has_called_often_without_a_refusal_is_not_held_up() -> None:
    pace, now = Pace(), NOW
    for _ in range(400):
        start = begin(pace, now)
        pace = reserved(pace, now)
        now = start + 0.05
    assert begin(pace, now) == now


def test_a_header_that_says_no_limit_changes_nothing() -> None:
    assert limited(Pace(limit_step=0.5), 0.0, NOW) == Pace(limit_step=0.5)


@pytest.mark.parametrize("per_minute", [1e-9, 1e300])
def test_a_limit_that_nobody_means_stays_within_bounds(per_minute: float) -> None:
    assert 0.01 <= step(limited(Pace(), per_minute, NOW), NOW) <= 60.0


def test_the_first_header_gives_back_what_guessing_has_paid_too_much() -> None:
    pace = Pace()
    for _ in range(6):
        pace = reserved(pace, NOW)
    assert begin(pace, NOW) > NOW
    assert begin(limited(pace, 600, NOW), NOW) == NOW


def test_keys_that_turn_out_to_share_a_limit_have_used_it_together() -> None:
    one, other = limited(Pace(), 600, NOW), limited(Pace(), 600, NOW)
    for _ in range(8):
        one, other = reserved(one, NOW), reserved(other, NOW)
    assert begin(one, NOW) == begin(other, NOW) == NOW
    assert begin(joined(one, other, NOW), NOW) > NOW + 0.5
    assert step(joined(Pace(), one, NOW), NOW) == step(one, NOW)


def test_what_is_told_ends_what_was_guessed_before() -> None:
    guessed = refused(Pace(), NOW, NOW, NOW + 1, slower=False)
    assert step(guessed, NOW) > 0.3
    assert step(limited(guessed, 600, NOW), NOW) == pytest.approx(0.1 / 0.97)


# -- refusals ----------------------------------------------------------------------


def test_a_refusal_lets_nobody_begin_before_its_end() -> None:
    pace = refused(limited(Pace(), 600, NOW), NOW, NOW, NOW + 20, slower=False)
    times = grants(pace, [NOW + 1.0] * 20)
    assert times[0] >= NOW + 19.0
    assert most_within(times, 1.0) <= 11


def test_a_refusal_at_a_limit_that_is_known_cuts_a_little() -> None:
    pace = limited(Pace(), 600, NOW)
    after = refused(pace, NOW, NOW, NOW + 20, slower=False)
    assert step(after, NOW) == pytest.approx(step(pace, NOW) / 0.9)
    for _ in range(25):
        after = succeeded(after)
    assert step(after, NOW) == step(pace, NOW)


def test_a_growth_limit_cuts_also_where_the_limit_is_known() -> None:
    pace = limited(Pace(), 600, NOW)
    after = refused(pace, NOW, NOW, NOW + 20, slower=True)
    assert step(after, NOW) == pytest.approx(step(pace, NOW) / 0.7)
    assert step(limited(after, 600, NOW), NOW) == step(after, NOW)


def test_the_first_refusal_of_a_rate_that_doubles_cuts_most() -> None:
    pace = reserved(reserved(Pace(), NOW), NOW)
    first = refused(pace, NOW, NOW, NOW + 3, slower=False)
    assert step(first, NOW) == pytest.approx(step(pace, NOW) / 0.4)


def test_calls_that_went_together_cut_the_rate_once() -> None:
    pace = refused(Pace(), NOW, NOW + 1, NOW + 3, slower=False)
    again = refused(pace, NOW + 0.5, NOW + 9, NOW + 20, slower=False)
    assert step(again, NOW) == step(pace, NOW)


def test_a_call_that_began_after_a_cut_cuts_again() -> None:
    pace = refused(Pace(), NOW, NOW + 1, NOW + 3, slower=False)
    again = refused(pace, NOW + 5, NOW + 6, NOW + 9, slower=False)
    assert step(again, NOW) == pytest.approx(step(pace, NOW) / 0.7)


def test_a_cut_from_the_future_does_not_forbid_another() -> None:
    pace = refused(Pace(), NOW, NOW, NOW + 3, slower=False)
    again = refused(pace, NOW - 3600, NOW - 3600, NOW - 3590, slower=False)
    assert step(again, NOW) > step(pace, NOW)


def test_successes_let_the_rate_grow_until_the_guess_is_forgotten() -> None:
    pace = refused(Pace(), NOW, NOW, NOW + 3, slower=False)
    steps = []
    while pace.learned_step:
        steps.append(pace.learned_step)
        pace = succeeded(pace)
    assert steps == sorted(steps, reverse=True)
    assert len(steps) < 2000
    assert succeeded(pace) is pace


def test_refusals_without_end_stop_at_a_call_a_minute() -> None:
    pace = Pace()
    for number in range(100):
        at = NOW + 60 * number
        pace = refused(pace, at, at, at + 1, slower=False)
    assert step(pace, NOW) == 60.0
