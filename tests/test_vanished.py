"""How an attempt is said to have ended whose worker is dead."""

from pathlib import Path

import pytest

from farm import claim, control
from farm.claim import Claim
from farm.ledger import Past
from farm.life import Life
from farm.project import Project
from farm.states import Why
from tests.attempts import begin

NOW = 1_763_700_000.0
STACKS = "Thread 0x1 (most recent call first):\n"


@pytest.fixture
def taken(project: Project, alive: Life) -> Claim:
    """An attempt with a deadline."""
    Path(project.task_path("a")).write_text('{"run": "true", "timeout": 60}')
    return begin(project, "a", alive, NOW)


def why(project: Project, taken: Claim, stacks: str = "") -> Why:
    """What is said of it, if its worker left these stacks and died."""
    Path(project.aside_path("ada", "stacks")).write_text(stacks)
    return claim.vanished(project, Past(taken.opened, None), NOW).why


def test_without_a_word_it_is_lost(project: Project, taken: Claim) -> None:
    assert why(project, taken) is Why.LOST


def test_stacks_of_the_watchdog_say_that_it_timed_out(
    project: Project, taken: Claim
) -> None:
    assert why(project, taken, STACKS) is Why.TIMED_OUT


def test_stacks_left_under_its_token_say_that_it_was_cancelled(
    project: Project, taken: Claim
) -> None:
    token = taken.opened.token

    assert why(project, taken, f"cancelled in {token}\n{STACKS}") is Why.CANCELLED


def test_the_cancel_of_the_attempt_before_costs_the_next_one_nothing(
    project: Project, taken: Claim
) -> None:
    assert why(project, taken, f"cancelled in 0123456789abcdef\n{STACKS}") is Why.LOST


def test_an_order_that_names_its_token_still_holds(
    project: Project, taken: Claim
) -> None:
    control.give(project, control.cancel_name("a"), taken.opened.token)

    assert why(project, taken) is Why.CANCELLED
