"""`TaskLock`: the pattern's calls, on the lock that farm's workers take."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import TaskLock
from farm.ledger import Ended, Ledger, peek
from farm.project import Project
from farm.states import Why

ROOT = Path(__file__).parent.parent

HOLDS = """
import sys
from farm import TaskLock
lock = TaskLock(sys.argv[1])
print(lock.acquire("build", "other", timeout=float(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lock(project: Project) -> TaskLock:
    return TaskLock(project.root)


class Other:
    """Another process that asks for the lock and keeps it."""

    def __init__(self, project: Project, timeout: float = 300) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, project.root, str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        self.acquired = self.process.stdout.readline() == b"True\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other(project: Project) -> Iterator[Other]:
    there = Other(project)
    yield there
    there.kill()


def test_the_calls_are_those_of_the_pattern() -> None:
    calls = {
        name: str(
            inspect.signature(getattr(TaskLock, name)).replace(return_annotation="")
        )
        for name in ("acquire", "release", "lock", "clean_all_stale_locks")
    }
    plain = {
        name: [p.split(":")[0] for p in text.split(", ")]
        for name, text in calls.items()
    }

    assert plain["acquire"] == ["(self", "task_id", "holder_id", "timeout"]
    assert plain["release"] == ["(self", "task_id", "holder_id"]
    assert plain["lock"] == ["(self", "task_id", "holder_id"]
    assert plain["clean_all_stale_locks"] == ["(self", "max_age_seconds"]


def test_the_defaults_are_those_of_the_pattern() -> None:
    acquire = inspect.signature(TaskLock.acquire).parameters
    clean = inspect.signature(TaskLock.clean_all_stale_locks).parameters

    assert (acquire["holder_id"].default, acquire["timeout"].default) == (
        "worker-0",
        300,
    )
    assert inspect.signature(TaskLock.release).parameters["holder_id"].default is None
    assert clean["max_age_seconds"].default == 3600


@pytest.mark.parametrize("task_id", ["build", "tiles/0-0", 17])
def test_a_lock_is_taken_and_given_back(
    lock: TaskLock, project: Project, task_id: str | int
) -> None:
    said = [
        lock.acquire(task_id, "me"),
        lock.release(task_id, "me"),
        lock.acquire(task_id, "me"),
        lock.release(task_id),
    ]

    assert said == [True] * 4
    assert list(Path(project.locks).iterdir()) == []


def test_a_lock_is_not_taken_twice(lock: TaskLock, project: Project) -> None:
    lock.acquire("build")

    assert not lock.acquire("build", "worker-1")
    assert not TaskLock(project.root).acquire("build", "worker-1")
    lock.release("build")


def test_two_tasks_are_held_at_once(lock: TaskLock) -> None:
    assert lock.acquire("a")
    assert lock.acquire("b")
    assert lock.release("a")
    assert lock.release("b")


def test_another_holder_cannot_release_it(lock: TaskLock, project: Project) -> None:
    lock.acquire("build", "me")

    assert not lock.release("build", "another")
    assert not TaskLock(project.root).acquire("build")
    assert lock.release("build", "me")


def test_what_is_not_held_here_cannot_be_released(lock: TaskLock) -> None:
    lock.acquire("build")
    lock.release("build")

    assert not lock.release("build")
    assert not lock.release("never")


def test_a_lock_of_another_process_is_refused(lock: TaskLock, other: Other) -> None:
    assert other.acquired
    assert not lock.acquire("build")
    assert not lock.release("build")


def test_one_of_two_processes_has_it(project: Project, lock: TaskLock) -> None:
    lock.acquire("build")
    there = Other(project)
    there.kill()

    assert not there.acquired
    lock.release("build")


def test_with_yields_whether_it_was_acquired(lock: TaskLock, project: Project) -> None:
    with lock.lock("build", "me") as first:
        with TaskLock(project.root).lock("build", "other") as second:
            pass

        assert (first, second) == (True, False)
        assert not TaskLock(project.root).acquire("build")
    assert lock.acquire("build")
    lock.release("build")


def test_with_gives_it_back_after_an_error(lock: TaskLock) -> None:
    with pytest.raises(RuntimeError), lock.lock("build"):
        raise RuntimeError

    assert lock.acquire("build")
    lock.release("build")


# -- stale ------------------------------------------------------------------------------


def test_a_killed_holders_lock_is_stale_and_counted_once(
    lock: TaskLock, other: Other
) -> None:
    living = lock.clean_all_stale_locks()
    other.kill()
    dead = [lock.clean_all_stale_locks() for _ in range(2)]

    assert (living, dead) == (0, [1, 0])


def test_a_killed_holders_lock_can_be_acquired_at_once(
    lock: TaskLock, other: Other, project: Project
) -> None:
    other.kill()

    assert lock.acquire("build")
    lines = peek(project.ledger_path("build"))
    assert [line.why for line in lines if isinstance(line, Ended)] == [Why.LOST]
    lock.release("build")


@pytest.mark.parametrize("timeout", [0.0, -1000.0])
def test_a_living_holder_is_never_broken_because_time_passed(
    project: Project, lock: TaskLock, timeout: float
) -> None:
    other = Other(project, timeout)
    said = [lock.acquire("build"), lock.clean_all_stale_locks(max_age_seconds=0)]
    ledger = Ledger.open(project.ledger_path("build"))
    other.kill()

    assert said == [False, 0]
    assert ledger is None


def test_our_own_locks_are_not_stale(lock: TaskLock) -> None:
    lock.acquire("build")

    assert lock.clean_all_stale_locks(max_age_seconds=0) == 0
    assert lock.release("build")


def test_a_stale_lock_of_an_existing_task_is_counted_too(
    project: Project, lock: TaskLock, other: Other
) -> None:
    Path(project.task_path("build")).write_text('{"run": "true"}')
    other.kill()

    assert lock.clean_all_stale_locks() == 1


def test_a_history_is_kept_when_the_lock_is_given_back(
    lock: TaskLock, other: Other, project: Project
) -> None:
    other.kill()
    lock.acquire("build")
    lock.release("build")

    ends = [x.why for x in peek(project.ledger_path("build")) if isinstance(x, Ended)]

    assert ends == [Why.LOST, Why.RELEASED]


def test_old_ledgers_of_tasks_that_are_gone_are_removed(
    lock: TaskLock, other: Other, project: Project
) -> None:
    other.kill()
    lock.acquire("build")
    lock.release("build")
    os.utime(project.ledger_path("build"), (1, 1))
    lock.clean_all_stale_locks(max_age_seconds=3600)

    assert list(Path(project.locks).iterdir()) == []


def test_a_ledger_whose_maker_was_killed_before_its_first_line_is_removed(
    lock: TaskLock, project: Project
) -> None:
    Path(project.task_path("build")).write_text('{"run": "true"}')
    Path(project.ledger_path("build")).touch()
    lock.clean_all_stale_locks()

    assert list(Path(project.locks).iterdir()) == []
