"""When a supervisor wakes up and when it looks: the folder's size decides."""

import pytest

from farm.cadence import REST, TICK, Looks, nap

NOW = 1000.0  # monotonic seconds


def test_it_sleeps_until_the_first_thing_is_due() -> None:
    assert nap(NOW, [NOW + 2.0, float("inf"), NOW + 0.7]) == pytest.approx(0.7)


@pytest.mark.parametrize("due", [NOW, NOW - 100.0])
def test_what_was_due_in_vain_does_not_keep_it_awake(due: float) -> None:
    assert nap(NOW, [NOW + 2.0, due]) == TICK


def looks(took: float, least: float = 0.5, *, live: bool = False) -> Looks:
    """After a look that was over at NOW."""
    return Looks.after(NOW - took, NOW, least, live=live)


@pytest.mark.parametrize(
    ("took", "least", "pause"),
    [(0.001, 0.5, 0.5), (0.001, 5.0, 5.0), (1.0, 0.5, 100.0), (8.0, 0.5, 800.0)],
)
def test_looks_are_as_rare_as_they_are_long(
    took: float, least: float, pause: float
) -> None:
    after = looks(took, least)

    assert not after.due(NOW + pause - 0.01, moved=True)
    assert after.due(NOW + pause + 0.01, moved=True)


def test_where_somebody_watches_they_are_more_frequent() -> None:
    watched = looks(1.0, live=True)

    assert watched.soonest == pytest.approx(NOW + 50.0)


@pytest.mark.parametrize(("took", "rest"), [(0.001, REST), (0.2, 1000.0)])
def test_while_nothing_moves_they_are_rarer_by_far(took: float, rest: float) -> None:
    after = looks(took)

    assert not after.due(NOW + rest - 0.01, moved=False)
    assert after.due(NOW + rest + 0.01, moved=False)


def test_whether_something_moved_is_asked_only_when_that_matters() -> None:
    after = looks(1.0)

    assert after.soonest == pytest.approx(NOW + 100.0)
