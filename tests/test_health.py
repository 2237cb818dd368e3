"""Whether a worker is well, and what its supervisor does about it."""

from pathlib import Path

import pytest

from farm import health
from farm.health import (
    LONGEST_REST,
    Action,
    Health,
    Vital,
    WorkerHealthState,
    cause_of_death,
    judge,
    read_health,
    restart_delay,
    write_health,
)
from farm.project import Project

# -- the pattern's class ------------------------------------------------------------


@pytest.fixture
def state() -> WorkerHealthState:
    return WorkerHealthState(worker_id=3)


def test_a_new_worker_is_healthy_and_may_recover(state: WorkerHealthState) -> None:
    assert (state.worker_id, state.last_error_type) == (3, None)
    assert (state.consecutive_failures, state.total_recoveries) == (0, 0)
    assert state.is_healthy()
    assert state.should_attempt_recovery()


def test_the_limits_are_those_of_the_pattern() -> None:
    assert WorkerHealthState.MAX_CONSECUTIVE_FAILURES == 3
    assert WorkerHealthState.MAX_RECOVERY_ATTEMPTS == 5


def test_its_fields_can_be_given_as_in_the_pattern() -> None:
    state = WorkerHealthState(1, 2, 3, "OSError", recovery_attempts=4)

    assert (state.consecutive_failures, state.total_recoveries) == (2, 3)
    assert (state.last_error_type, state.recovery_attempts) == ("OSError", 4)


def test_three_failures_in_a_row_are_unhealthy(state: WorkerHealthState) -> None:
    seen = []
    for _ in range(3):
        state.record_failure("OSError")
        seen.append(state.is_healthy())

    assert seen == [True, True, False]
    assert state.last_error_type == "OSError"


def test_a_success_forgives_failures(state: WorkerHealthState) -> None:
    for _ in range(3):
        state.record_failure("OSError")
    state.record_success()

    assert state.is_healthy()
    assert (state.consecutive_failures, state.last_error_type) == (0, None)


def test_recoveries_are_forgiven_only_when_that_is_asked_for(
    state: WorkerHealthState,
) -> None:
    for _ in range(5):
        state.record_recovery(success=True)
    spent = state.should_attempt_recovery()
    state.record_success()
    still_spent = state.should_attempt_recovery()
    state.forgive()

    assert (spent, still_spent) == (False, False)
    assert state.should_attempt_recovery()


@pytest.mark.parametrize(
    ("success", "failures", "recoveries"), [(True, 0, 1), (False, 3, 0)]
)
def test_only_a_recovery_that_worked_makes_healthy(
    state: WorkerHealthState, success: bool, failures: int, recoveries: int
) -> None:
    for _ in range(3):
        state.record_failure("OSError")
    state.record_recovery(success)

    assert state.recovery_attempts == 1
    assert (state.consecutive_failures, state.total_recoveries) == (
        failures,
        recoveries,
    )


def test_five_recoveries_are_enough(state: WorkerHealthState) -> None:
    seen = []
    for _ in range(5):
        state.record_recovery(success=False)
        seen.append(state.should_attempt_recovery())

    assert seen == [True, True, True, True, False]


# -- judging ------------------------------------------------------------------------

PATIENCE, GRACE = 60.0, 5.0


@pytest.mark.parametrize(
    ("beat", "busy", "asked", "expected"),
    [
        (0, 0, None, Action.KEEP),
        (59, 59, None, Action.KEEP),
        (60, 60, None, Action.TERMINATE),
        (600, 1, None, Action.KEEP),  # it computes without beating
        (1, 600, None, Action.KEEP),  # it waits for a command
        (600, 600, 0, Action.KEEP),
        (600, 600, 4, Action.KEEP),
        (600, 600, 5, Action.KILL),
        (0, 0, 5, Action.KILL),  # it was asked to end and works on
    ],
)
def test_a_worker_is_ended_when_it_neither_beats_nor_computes(
    beat: int, busy: int, asked: int | None, expected: Action
) -> None:
    now = 1000.0
    vital = Vital(1, 1, beat_at=now - beat, busy_at=now - busy)
    asked_at = None if asked is None else now - asked

    action = judge(vital, now, patience=PATIENCE, grace=GRACE, asked_at=asked_at)

    assert action is expected


def test_a_sign_of_life_is_a_change() -> None:
    vital = Vital().seen(1, 10, now=5.0).seen(1, 20, now=6.0).seen(2, 20, now=7.0)

    assert vital == Vital(counter=2, cpu_ticks=20, beat_at=7.0, busy_at=6.0)


def test_what_stands_still_is_no_sign_of_life() -> None:
    vital = Vital().seen(1, 10, now=5.0)

    assert vital.seen(1, 10, now=500.0) == vital


# -- restarts -----------------------------------------------------------------------


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "uniform", lambda low, high: high)


def after(recoveries: int) -> float:
    state = WorkerHealthState("slot-0")
    for _ in range(recoveries):
        state.record_recovery(success=True)
    return restart_delay(state)


def test_the_first_restart_is_at_once_and_then_delays_grow(longest: None) -> None:
    assert [after(n) for n in range(5)] == [0.0, 0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("recoveries", [5, 6, 1000])
def test_a_slot_that_used_up_its_recoveries_rests(recoveries: int) -> None:
    assert after(recoveries) == LONGEST_REST


def test_a_success_makes_the_next_restart_immediate() -> None:
    state = WorkerHealthState("slot-0")
    for _ in range(7):
        state.record_recovery(success=True)
    state.forgive()

    assert restart_delay(state) == 0.0


@pytest.mark.parametrize("recoveries", [1, 2, 3, 4])
def test_only_the_first_restart_is_never_delayed(
    recoveries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Full jitter may draw nothing; a slot that keeps dying must not spin.
    monkeypatch.setattr(health, "uniform", lambda low, high: low)

    assert after(recoveries) > 0.0


# -- what is written ----------------------------------------------------------------


def test_what_was_written_is_read(project: Project) -> None:
    said = Health("build", 7, 2, "OSError")
    write_health(project, "ada", said, "ada")

    assert read_health(project, "ada") == said
    assert list(Path(project.tmp).iterdir()) == []


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b"\xff", b'{"task": 1}'])
def test_what_cannot_be_read_says_nothing(project: Project, raw: bytes | None) -> None:
    if raw is not None:
        Path(project.health_path("ada")).write_bytes(raw)

    assert read_health(project, "ada") is None
    assert cause_of_death(project, "ada") == "vanished"


@pytest.mark.parametrize(
    ("died", "expected"), [("was killed by SIGKILL",) * 2, (None, "vanished")]
)
def test_a_death_has_the_cause_that_its_supervisor_saw(
    project: Project, died: str | None, expected: str
) -> None:
    health.write_health(project, "ada", Health(died=died), "supervisor")

    assert cause_of_death(project, "ada") == expected
