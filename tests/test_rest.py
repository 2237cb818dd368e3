"""What rests, why, and until when."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.rest import (
    ALL,
    Level,
    Rest,
    Scope,
    cleared,
    ended,
    free_at,
    is_news,
    merged,
    probing,
    rest_of,
    rested,
    until,
    words,
    worst,
)
from farm.trouble import DAY, HOUR, LONGEST, Kind, Trouble

NOW = 1_000_000_000.0

MOMENTS = st.integers(-5000, 5000).map(lambda seconds: NOW + seconds)
RESTS = st.builds(
    Rest,
    level=st.sampled_from([Level.COOLING, Level.EXHAUSTED, Level.DISABLED]),
    reason=st.sampled_from(list(Kind)),
    since=MOMENTS,
    until=st.none() | MOMENTS | st.just(NOW + 2 * LONGEST),
    probe_at=st.none() | MOMENTS,
    probe_every=st.sampled_from([HOUR, DAY]),
    said=st.sampled_from(["", "a", "b"]),
)


def cooling(seconds: float, since: float = NOW, **told: object) -> Rest:
    rest = Rest(Level.COOLING, Kind.RATE, since=since, until=since + seconds)
    return msgspec.structs.replace(rest, **told)


def spent(since: float = NOW, end: float | None = None) -> Rest:
    found = rest_of(Trouble(Kind.SPENT, "spent", until=end), since)
    assert found is not None
    return found


def effect(rest: Rest) -> object:
    """All that a rest does; one that is over does nothing."""
    return None if ended(rest, NOW) else rest


@given(rests=st.lists(RESTS, min_size=1, max_size=4))
def test_the_order_in_which_refusals_are_told_does_not_matter(
    rests: list[Rest],
) -> None:
    effects = set()
    for order in itertools.permutations(rests):
        found: Rest | None = None
        for rest in order:
            found = merged(found, rest, NOW)
        assert found is not None
        effects.add(msgspec.json.encode(effect(found)))
    assert len(effects) == 1


@given(one=RESTS, two=RESTS, three=RESTS)
def test_what_was_merged_may_be_merged(one: Rest, two: Rest, three: Rest) -> None:
    left = merged(merged(one, two, NOW), three, NOW)
    right = merged(one, merged(two, three, NOW), NOW)
    assert effect(left) == effect(right)


@given(one=RESTS, two=RESTS)
def test_to_hear_the_same_twice_changes_nothing(one: Rest, two: Rest) -> None:
    both = merged(one, two, NOW)
    assert effect(merged(both, two, NOW)) == effect(both)
    assert effect(merged(one, one, NOW)) == effect(one)


def test_the_later_end_holds() -> None:
    assert merged(cooling(50), cooling(20), NOW).until == NOW + 50


def test_the_worse_level_holds_and_one_that_is_over_does_not() -> None:
    assert merged(cooling(50), spent(), NOW).level is Level.EXHAUSTED
    assert merged(spent(), cooling(50), NOW).level is Level.EXHAUSTED
    over = spent(NOW - DAY, NOW - 1)
    assert merged(cooling(50), over, NOW).level is Level.COOLING
    assert merged(over, cooling(50), NOW).level is Level.COOLING


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (Kind.RATE, Level.COOLING),
        (Kind.SPENT, Level.EXHAUSTED),
        (Kind.HELD, Level.DISABLED),
        (Kind.DEAD, Level.DISABLED),
        (Kind.FORBIDDEN, Level.DISABLED),
        (Kind.NO_MODEL, Level.DISABLED),
        (Kind.OVERLOAD, None),
        (Kind.AGAIN, None),
        (Kind.BAD, None),
    ],
)
def test_each_kind_of_trouble_has_its_level(kind: Kind, level: Level | None) -> None:
    found = rest_of(Trouble(kind, "no"), NOW)
    assert (found and found.level) == level


# -- times -------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0.0, 10.0, HOUR - 1])
def test_an_end_that_nobody_can_mean_is_an_hour_after_its_begin(later: float) -> None:
    rest = cooling(10 * LONGEST)
    assert until(rest, NOW + later) == NOW + HOUR
    assert ended(rest, NOW + HOUR)


def test_a_rest_from_the_future_is_none_but_hosts_clocks_may_differ() -> None:
    rest = cooling(50, since=NOW)
    assert ended(rest, NOW - 61)
    assert not ended(rest, NOW - 59)
    assert free_at({ALL: rest}, "m", NOW - 3600) == NOW - 3600


@given(rest=RESTS, now=st.floats(0, 4e9))
def test_a_key_that_ends_by_itself_is_free_within_the_longest_rest(
    rest: Rest, now: float
) -> None:
    free = free_at({ALL: rest}, None, now)
    assert free >= now
    assert math.isinf(free) or free <= now + LONGEST + 120
    assert words(rest, now)


def test_a_long_cool_down_is_probed_each_hour() -> None:
    found = rest_of(Trouble(Kind.RATE, "", until=NOW + 20 * DAY), NOW)
    assert found is not None
    assert free_at({ALL: found}, None, NOW) == NOW + HOUR
    short = rest_of(Trouble(Kind.RATE, "", until=NOW + 20), NOW)
    assert short is not None
    assert short.probe_at is None


def test_a_disabled_key_is_never_free_by_itself() -> None:
    rest = rest_of(Trouble(Kind.DEAD, ""), NOW)
    assert rest is not None
    assert math.isinf(free_at({ALL: rest}, None, NOW + 1000 * DAY))


def test_a_rest_for_one_model_keeps_no_other_away() -> None:
    rests = {"big": cooling(50)}
    assert free_at(rests, "big", NOW) == NOW + 50
    assert free_at(rests, "small", NOW) == NOW
    assert worst(rests, "small", NOW) is None


def test_who_names_no_model_rests_with_any_but_one_that_is_not_to_be_had() -> None:
    disabled = Rest(Level.DISABLED, Kind.FORBIDDEN, since=NOW)

    assert free_at({"big": cooling(50)}, None, NOW) == NOW + 50
    assert free_at({"big": disabled}, None, NOW) == NOW


def test_the_longest_of_several_is_the_one_to_tell() -> None:
    rests = {ALL: cooling(10), "big": cooling(50)}
    assert worst(rests, "big", NOW) is rests["big"]
    assert free_at(rests, "big", NOW) == NOW + 50


# -- scopes ------------------------------------------------------------------------


def test_who_probes_is_alone_until_the_next_probe() -> None:
    scope = Scope(rests={ALL: spent()})
    then = NOW + HOUR
    assert free_at(scope.rests, "m", then) == then
    probed = probing(scope, "m", then)
    assert free_at(probed.rests, "m", then) == then + HOUR
    assert probing(Scope(), "m", then) == Scope()


def test_a_success_clears_what_was_known_before_it_began_and_nothing_newer() -> None:
    scope = Scope(rests={ALL: cooling(50), "big": cooling(50), "small": cooling(50)})
    assert set(cleared(scope, "big", NOW + 1).rests) == {"small"}
    assert cleared(scope, "big", NOW - 1) is scope


def test_a_refusal_is_kept_with_its_words_and_what_is_over_is_dropped() -> None:
    old = Scope(rests={"big": cooling(5, since=NOW - 100)})
    after = rested(old, None, cooling(9, said="slow down"), NOW)
    assert set(after.rests) == {ALL}
    assert (after.last_error, after.last_error_at) == ("slow down", NOW)


def test_only_a_rest_that_began_since_is_news() -> None:
    rests = {"big": cooling(50)}
    assert is_news(rests, "big", NOW - 1)
    assert not is_news(rests, "big", NOW + 1)
    assert not is_news(rests, "small", NOW - 1)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (None, "is ok"),
        (cooling(50), "cools down until "),
        (spent(), "has spent what it may until nobody knows when, tried again at "),
        (Rest(Level.DISABLED, Kind.DEAD, NOW), "is not accepted: "),
        (Rest(Level.DISABLED, Kind.FORBIDDEN, NOW), "has no permission "),
        (Rest(Level.DISABLED, Kind.HELD, NOW), "is on hold: "),
        (Rest(Level.DISABLED, Kind.NO_MODEL, NOW), "does not know this model"),
        (Rest(Level.DISABLED, Kind.BAD, NOW), "is disabled"),
    ],
    ids=str,
)
def test_a_rest_has_words_for_people(rest: Rest | None, expected: str) -> None:
    assert words(rest, NOW).startswith(expected)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e18])
@pytest.mark.parametrize("field", ["since", "until", "probe_at"])
def test_a_record_with_impossible_times_still_has_words(
    field: str, value: float
) -> None:
    rest = msgspec.structs.replace(spent(), **{field: value})
    assert words(rest, NOW)
    assert free_at({ALL: rest}, None, NOW) <= NOW + HOUR
