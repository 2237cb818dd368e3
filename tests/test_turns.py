"""What an attempt does for a key, and what a refusal makes of it."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from farm import turns
from farm.bell import Bell
from farm.job import Job
from farm.keyring import Later
from farm.keys import Key
from farm.result import Outcome
from farm.scopes import Turn, Want
from farm.states import Why
from farm.trouble import ERROR_KINDS, Kind, Trouble

WANT = Want(provider="anthropic")


class Ring:
    """Answers as it is told, one after the other; keeps what it hears."""

    def __init__(self, *answers: Turn | Later, later: Later | None = None) -> None:
        self.answers = list(answers)
        self.is_later = later
        self.blamed: Trouble | None = None
        self.heard: list[Kind] = []

    def ask(self, _want: Want, _now: float) -> Turn | Later:
        return self.answers.pop(0)

    def later(self, _want: Want, _now: float) -> Later | None:
        return self.is_later

    def blame(self, _turn: Turn, trouble: Trouble) -> Trouble:
        return self.blamed or trouble

    def refused(self, _turn: Turn, trouble: Trouble, _now: float) -> None:
        self.heard.append(trouble.kind)


def job_with(ring: Ring, timeout: float | None = None, **told: Any) -> Job:
    """As much of a job as one needs who waits for a key."""
    stop = SimpleNamespace(bell=Bell(), soon=told.get("soon", False), reason="SIGTERM")
    opened = SimpleNamespace(timeout=timeout)
    job = SimpleNamespace(
        keys=ring,
        stop=stop,
        claim=SimpleNamespace(opened=opened),
        cancelled=told.get("cancelled", False),
    )
    return cast("Job", job)


def turn(at: float = 0.0, secret: str = "made-up") -> Turn:
    """Leave to call at a time."""
    return Turn(Key("anthropic-1", "anthropic", secret), None, "", at, "pool", "end")


def soon(seconds: float) -> Later:
    return Later(time.time() + seconds, "it rests")


def test_a_turn_whose_time_has_come_is_taken() -> None:
    mine = turn()

    assert turns.take(job_with(Ring(mine)), WANT) is mine


def test_a_turn_that_comes_soon_is_waited_for() -> None:
    at = time.time() + 0.05
    taken = turns.take(job_with(Ring(soon(0.05), turn(at))), WANT)

    assert isinstance(taken, Turn)
    assert time.time() >= at


@pytest.mark.parametrize(("seconds", "timeout"), [(3600.0, None), (30.0, 5.0)])
def test_for_a_later_turn_the_task_is_given_back(
    seconds: float, timeout: float | None
) -> None:
    later = soon(seconds)
    outcome = turns.take(job_with(Ring(later), timeout), WANT)

    assert isinstance(outcome, Outcome)
    assert (outcome.why, outcome.not_before) == (Why.THROTTLED, later.until)
    assert not outcome.counted
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.message) == ("rate_limited", "it rests")


def test_where_only_people_can_help_the_task_is_given_back_too() -> None:
    outcome = turns.take(job_with(Ring(Later(None, "no key"))), WANT)

    assert isinstance(outcome, Outcome)
    assert (outcome.why, outcome.not_before) == (Why.THROTTLED, 0.0)


@pytest.mark.parametrize(
    ("told", "why"), [("cancelled", Why.CANCELLED), ("soon", Why.DRAINED)]
)
@pytest.mark.parametrize("has_turn", [True, False])
def test_who_waits_for_a_key_hears_that_it_is_to_end(
    told: str, why: Why, has_turn: bool
) -> None:
    answer = turn(time.time() + 50) if has_turn else soon(50)
    outcome = turns.take(job_with(Ring(answer), **{told: True}), WANT)

    assert isinstance(outcome, Outcome)
    assert outcome.why is why


@pytest.mark.parametrize(
    "kind", [Kind.RATE, Kind.SPENT, Kind.HELD, Kind.DEAD, Kind.OVERLOAD, Kind.AGAIN]
)
def test_a_refused_attempt_is_put_off_until_a_key_is_free(kind: Kind) -> None:
    ring = Ring(later=Later(5000.0, "it rests"))
    outcome = turns.refused(job_with(ring), WANT, turn(), Trouble(kind, "No."))

    assert (outcome.why, outcome.not_before) == (Why.THROTTLED, 5000.0)
    assert ring.heard == [kind]


def test_with_another_key_free_it_is_put_off_to_no_time() -> None:
    outcome = turns.refused(job_with(Ring()), WANT, turn(), Trouble(Kind.RATE, "No."))

    assert (outcome.why, outcome.not_before) == (Why.THROTTLED, 0.0)


@pytest.mark.parametrize(
    ("blamed", "why"),
    [(Kind.BAD, Why.FAILED), (Kind.NO_MODEL, Why.THROTTLED)],
)
def test_what_the_task_is_to_blame_for_fails(blamed: Kind, why: Why) -> None:
    ring, unknown = Ring(), Trouble(Kind.NO_MODEL, "No.")
    ring.blamed = Trouble(blamed, "No.")
    outcome = turns.refused(job_with(ring), WANT, turn(), unknown)

    assert (outcome.why, ring.heard) == (why, [blamed])
    assert outcome.error is not None
    assert outcome.error.kind == "no_model"


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.FORBIDDEN, Kind.NO_MODEL])
def test_a_login_that_is_not_ours_is_not_marked_as_dead(kind: Kind) -> None:
    ring = Ring()
    outcome = turns.refused(
        job_with(ring), WANT, turn(secret=""), Trouble(kind, "Log in.")
    )

    assert (outcome.why, ring.heard) == (Why.FAILED, [])


def test_every_refusal_has_a_kind_of_error() -> None:
    assert set(ERROR_KINDS) == set(Kind)
