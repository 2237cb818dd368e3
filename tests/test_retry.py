"""Whether and when a task runs again."""

import pytest

from farm.ledger import Ended
from farm.result import COUNTED
from farm.retry import (
    MAX_ATTEMPTS,
    Finish,
    Policy,
    Run,
    Wait,
    next_step,
    put_off_for,
    retry_at,
)
from farm.states import Status, Why

NOW = 1_000_000.0


def ends(text: str, not_before: float = 0.0) -> list[Ended]:
    """`F` failed, `T` timed out, `L` lost, `D` drained, `X` fault, `P` put off, `S`, `C`."""
    words = {
        "F": Why.FAILED,
        "T": Why.TIMED_OUT,
        "L": Why.LOST,
        "D": Why.DRAINED,
        "X": Why.FAULT,
        "R": Why.RELEASED,
        "P": Why.THROTTLED,
        "S": Why.SUCCEEDED,
        "C": Why.CANCELLED,
    }
    return [
        Ended(
            token=f"token-{number}",
            attempt=number,
            why=words[letter],
            counted=words[letter] in COUNTED,
            finished=NOW,
            not_before=not_before,
        )
        for number, letter in enumerate(text, 1)
    ]


@pytest.mark.parametrize(
    ("attempts", "retries", "expected"),
    [
        ("", 0, Run()),
        ("S", 0, Finish(Status.SUCCEEDED)),
        ("S", 9, Finish(Status.SUCCEEDED)),
        ("C", 9, Finish(Status.CANCELLED)),
        ("F", 0, Finish(Status.FAILED)),
        ("T", 0, Finish(Status.TIMED_OUT)),
        ("F", 1, Run()),
        ("FF", 1, Finish(Status.FAILED)),
        ("FT", 1, Finish(Status.TIMED_OUT)),
        ("TF", 1, Finish(Status.FAILED)),
        ("FFS", 2, Finish(Status.SUCCEEDED)),
    ],
)
def test_failures_and_time_outs_use_up_the_retries(
    attempts: str, retries: int, expected: object
) -> None:
    assert next_step(ends(attempts), Policy(retries=retries), NOW) == expected


@pytest.mark.parametrize("attempts", ["L", "LL", "D", "DDDDD", "X", "R", "LDXR"])
def test_what_is_not_the_tasks_fault_uses_up_nothing(attempts: str) -> None:
    assert next_step(ends(attempts), Policy(retries=0), NOW) == Run()


def test_a_loss_after_a_failure_leaves_the_retry() -> None:
    assert next_step(ends("FL"), Policy(retries=1), NOW) == Run()


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [("LL", Run()), ("LLL", Finish(Status.LOST)), ("LDLDL", Finish(Status.LOST))],
)
def test_a_task_that_loses_three_workers_is_lost(
    attempts: str, expected: object
) -> None:
    assert next_step(ends(attempts), Policy(), NOW) == expected


def test_a_task_that_was_failing_before_it_is_lost_says_lost() -> None:
    assert next_step(ends("FLLL"), Policy(retries=5), NOW) == Finish(Status.LOST)


def test_a_success_after_losses_is_a_success() -> None:
    assert next_step(ends("LLS"), Policy(), NOW) == Finish(Status.SUCCEEDED)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(MAX_ATTEMPTS - 1, Run()), (MAX_ATTEMPTS, Finish(Status.LOST))],
)
def test_no_task_runs_more_than_a_thousand_times(count: int, expected: object) -> None:
    assert next_step(ends("D" * count), Policy(), NOW) == expected


@pytest.mark.parametrize(
    ("until", "expected"),
    [(NOW + 1, Wait(NOW + 1)), (NOW, Run()), (NOW - 1, Run()), (0.0, Run())],
)
def test_a_retry_waits_for_its_time(until: float, expected: object) -> None:
    assert next_step(ends("F", until), Policy(retries=1), NOW) == expected


def test_only_the_last_attempts_delay_counts() -> None:
    attempts = ends("F", NOW + 100) + ends("FL")[1:]

    assert next_step(attempts, Policy(retries=1), NOW) == Run()


# -- when ---------------------------------------------------------------------------


def longest(low: float, high: float) -> float:
    return high


@pytest.mark.parametrize(
    ("before", "delay"), [("", 1.0), ("F", 2.0), ("FF", 4.0), ("F" * 50, 60.0)]
)
def test_each_failure_may_wait_twice_as_long(before: str, delay: float) -> None:
    at = retry_at(ends(before), Why.FAILED, Policy(), NOW, longest)

    assert at == NOW + delay


def test_jitter_may_shorten_a_delay_to_nothing() -> None:
    at = retry_at(ends("FF"), Why.FAILED, Policy(), NOW, lambda low, high: low)

    assert at == NOW


def test_the_policy_bounds_the_delay() -> None:
    policy = Policy(base_delay=10.0, max_delay=15.0)

    assert retry_at(ends("F"), Why.FAILED, policy, NOW, longest) == NOW + 15.0


@pytest.mark.parametrize("why", [Why.LOST, Why.DRAINED, Why.RELEASED])
def test_what_was_taken_from_a_task_is_given_back_at_once(why: Why) -> None:
    assert retry_at(ends("FFLL"), why, Policy(), NOW, longest) == 0.0


@pytest.mark.parametrize("before", ["LL", "TT", "DX"])
def test_only_failures_of_the_same_kind_lengthen_the_delay(before: str) -> None:
    assert retry_at(ends(before), Why.FAILED, Policy(), NOW, longest) == NOW + 1.0


def test_a_fault_of_the_machine_waits_too() -> None:
    assert retry_at(ends("X"), Why.FAULT, Policy(), NOW, longest) == NOW + 2.0


# -- put off by a provider -----------------------------------------------------------


def test_what_was_put_off_uses_up_no_retry_and_is_not_lost() -> None:
    assert next_step(ends("P" * 1200), Policy(retries=0), NOW) == Run()


def test_what_was_only_put_off_ends_after_its_time() -> None:
    policy = Policy(max_wait=60.0)
    put_off = ends("PLDP", not_before=NOW + 3600.0)

    assert next_step(put_off, policy, NOW + 60.0) == Wait(NOW + 3600.0)
    assert next_step(put_off, policy, NOW + 61.0) == Finish(Status.FAILED)


def test_the_time_begins_anew_when_it_was_answered_in_between() -> None:
    assert put_off_for(ends("P"), NOW + 70.0) == 70.0
    assert put_off_for(ends("PF"), NOW + 70.0) == 0.0
    assert put_off_for([], NOW) == 0.0


def test_an_attempt_that_was_put_off_waits_as_long_as_its_provider_says() -> None:
    waits = ends("P", not_before=NOW + 5.0)

    assert next_step(waits, Policy(), NOW) == Wait(NOW + 5.0)
    assert next_step(waits, Policy(), NOW + 5.0) == Run()
