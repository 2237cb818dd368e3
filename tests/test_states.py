"""The life of a task: words that files hold, and the only legal moves."""

from itertools import product

import pytest

from farm.errors import IllegalMoveError
from farm.states import MOVES, State, Status, Why, check_move

ARROWS = {
    ("ready", "running"),
    ("ready", "waiting"),
    ("ready", "final"),
    ("running", "ready"),
    ("running", "waiting"),
    ("running", "final"),
    ("waiting", "ready"),
    ("waiting", "running"),
    ("waiting", "final"),
    ("final", "ready"),
    ("final", "waiting"),
}


@pytest.mark.parametrize(("old", "new"), sorted(ARROWS))
def test_a_move_along_an_arrow_is_legal(old: str, new: str) -> None:
    check_move(State(old), State(new))


@pytest.mark.parametrize(("old", "new"), sorted(set(product(State, State)) - ARROWS))
def test_a_move_without_an_arrow_is_refused(old: State, new: State) -> None:
    with pytest.raises(IllegalMoveError, match=f"cannot go from {old} to {new}"):
        check_move(old, new)


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


def test_the_final_statuses_are_those_that_result_files_may_hold() -> None:
    words = "succeeded failed timed_out cancelled skipped invalid lost"

    assert set(Status) == set(words.split())


def test_where_a_task_is_and_how_it_ended_share_no_word() -> None:
    assert not set(State) & set(Status)


def test_an_attempt_ends_with_a_word_of_a_result_or_is_given_back() -> None:
    assert set(Why) - set(Status) == {"drained", "fault", "released"}
