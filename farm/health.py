"""Whether a *worker* is well: never mixed with how its tasks end.

A worker is unhealthy when it dies; when it neither beats nor uses processor
time for `heartbeat_timeout`; or when three failures in a row were not the
task's own (no process, disk, memory or descriptors to be had). A task that fails
is only the task's business.

`WorkerHealthState` counts, `judge` decides what the supervisor does with one
slot, and `Health` is what a worker and its supervisor write about it in
`.farm/workers/<name>.json`.
"""

from enum import StrEnum
from typing import ClassVar

import msgspec

from farm import disk
from farm.backoff import exponential, uniform
from farm.project import Project


class WorkerHealthState:
    """The failures and recoveries of one worker, or of a supervisor's slot."""

    MAX_CONSECUTIVE_FAILURES: ClassVar[int] = 3
    MAX_RECOVERY_ATTEMPTS: ClassVar[int] = 5

    def __init__(
        self,
        worker_id: int | str,
        consecutive_failures: int = 0,
        total_recoveries: int = 0,
        last_error_type: str | None = None,
        recovery_attempts: int = 0,
    ) -> None:
        self.worker_id = worker_id
        self.consecutive_failures = consecutive_failures
        self.total_recoveries = total_recoveries
        self.last_error_type = last_error_type
        self.recovery_attempts = recovery_attempts

    def record_failure(self, error_type: str) -> None:
        """Something failed that was not a task's own fault."""
        self.consecutive_failures += 1
        self.last_error_type = error_type

    def record_success(self) -> None:
        """It did its work: earlier failures no longer count, recoveries still do."""
        self.consecutive_failures = 0
        self.last_error_type = None

    def forgive(self) -> None:
        """It did its work again after a recovery: those that were tried no longer count.

        Supervisors and sessions do this, so that no slot is given up for what it
        recovered from.
        """
        self.record_success()
        self.recovery_attempts = 0

    def record_recovery(self, success: bool) -> None:  # noqa: FBT001 - the pattern's call
        """It was started afresh, and that worked or not."""
        self.recovery_attempts += 1
        if success:
            self.total_recoveries += 1
            self.consecutive_failures = 0

    def should_attempt_recovery(self) -> bool:
        """Whether another start soon makes sense; if not, it rests first."""
        return self.recovery_attempts < self.MAX_RECOVERY_ATTEMPTS

    def is_healthy(self) -> bool:
        """Whether fewer than three failures came in a row."""
        return self.consecutive_failures < self.MAX_CONSECUTIVE_FAILURES


class Action(StrEnum):
    """What a supervisor does about a worker that runs."""

    KEEP = "keep"
    TERMINATE = "terminate"  #: ask it to end (SIGTERM), it is unhealthy
    KILL = "kill"  #: it did not end within the grace


class Vital(msgspec.Struct, frozen=True):
    """When a supervisor last saw a sign of life, in its own monotonic seconds."""

    counter: int = -1  #: of its heartbeat
    cpu_ticks: int = -1  #: processor time of the worker itself
    beat_at: float = 0.0
    busy_at: float = 0.0

    def later(self, seconds: float) -> "Vital":
        """The same, if so much time was nobody's: the whole machine stood still."""
        return Vital(
            self.counter, self.cpu_ticks, self.beat_at + seconds, self.busy_at + seconds
        )

    def seen(self, counter: int, cpu_ticks: int, now: float) -> "Vital":
        """The same, after one more look at `now`."""
        return Vital(
            counter,
            cpu_ticks,
            now if counter != self.counter else self.beat_at,
            now if cpu_ticks != self.cpu_ticks else self.busy_at,
        )


def judge(
    vital: Vital, now: float, *, patience: float, grace: float, asked_at: float | None
) -> Action:
    """What to do about a running worker; all times monotonic seconds.

    `asked_at` is when it was told to end because it is unhealthy. A worker that
    computes without beating (a callable in C code) is left to its deadline.
    """
    if asked_at is not None:
        return Action.KILL if now - asked_at >= grace else Action.KEEP
    silent = now - vital.beat_at >= patience
    idle = now - vital.busy_at >= patience
    return Action.TERMINATE if silent and idle else Action.KEEP


LONGEST_REST = 60.0  # seconds between two starts of a slot that keeps dying


def restart_delay(state: WorkerHealthState) -> float:
    """Seconds until a dead worker's slot starts the next one.

    The first restart is immediate; then delays grow, half of each at random; a slot
    that has used up its recoveries rests for the longest delay each time, so it
    never spins and never gives up for good.
    """
    if state.recovery_attempts == 0:
        return 0.0
    if not state.should_attempt_recovery():
        return LONGEST_REST
    longest = exponential(state.recovery_attempts - 1, 0.5, LONGEST_REST)
    return uniform(longest / 2, longest)  # never 0


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """`.farm/workers/<name>.json`: for people, and for who inherits its tasks."""

    task: str | None = None  #: what it works on, as of the last beat
    tasks_ended: int = 0
    consecutive_failures: int = 0
    last_error_type: str | None = None
    quiet_since: float = (
        0.0  #: POSIX seconds; that task has shown no sign of work since
    )
    last_said: str = ""  #: what it said last, while it is quiet
    died: str | None = None  #: written by the supervisor that reaped it


def write_health(project: Project, worker: str, health: Health, writer: str) -> None:
    """Put it there in one step; `writer` makes the temporary name its own."""
    aside = project.aside_path(writer, f"health-{worker}")
    disk.replace(project.health_path(worker), msgspec.json.encode(health), aside)


def read_health(project: Project, worker: str) -> Health | None:
    """What is written about a worker; None if nothing readable is."""
    try:
        raw = disk.read_file(project.health_path(worker), disk.SMALL)
        return msgspec.json.decode(raw, type=Health)
    except (OSError, *disk.NO_JSON):
        return None


def cause_of_death(project: Project, worker: str) -> str:
    """What is known of the end of a dead worker: "was killed by SIGKILL"."""
    health = read_health(project, worker)
    return health.died if health and health.died else "vanished"
