"""The pattern's questions: which task is next, and where is that one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.ledger import Claimed, Ended, Ledger
from farm.life import Life
from farm.manager import TaskStateManager
from farm.process import Identity
from farm.project import Project
from farm.states import State, Status, Why

NOW = 1_000_000.0  # POSIX seconds


def write(project: Project, task_id: str, text: str) -> None:
    Path(project.task_path(task_id)).write_text(text)


def drop(project: Project, task_id: str, **task: Any) -> None:
    write(project, task_id, json.dumps({"run": "make"} | task))


def result(project: Project, task_id: str, status: str) -> None:
    Path(project.result_path(task_id)).write_text(json.dumps({"status": status}))


@pytest.fixture
def manager(project: Project) -> TaskStateManager:
    return TaskStateManager(project.root)


@pytest.fixture
def running(project: Project) -> Iterator[Ledger]:
    """The task `a`, run by a living worker."""
    drop(project, "a")
    life = Life.begin(project, "ada", NOW, 2.0)
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "ada", life.record.who, NOW))
    yield ledger
    ledger.let_go()
    life.end()


def test_the_next_pending_task_is_what_its_file_says_and_where_it_is(
    project: Project, manager: TaskStateManager
) -> None:
    drop(project, "a", priority=3)

    assert manager.get_next_pending_task() == {
        "run": "make",
        "priority": 3,
        "id": "a",
        "state": State.READY,
        "status": None,
        "is_started": False,
        "is_complete": False,
        "attempts": 0,
        "error_message": None,
    }


def test_nothing_is_pending_in_an_empty_folder(manager: TaskStateManager) -> None:
    assert manager.get_next_pending_task() is None
    assert manager.get_task("a") is None


def state_of(manager: TaskStateManager, task_id: str) -> tuple[object, ...]:
    task = manager.get_task(task_id)
    assert task is not None
    return task["state"], task["status"], task["is_started"], task["is_complete"]


def test_a_finished_task_is_complete(
    project: Project, manager: TaskStateManager
) -> None:
    drop(project, "a")
    result(project, "a", "failed")

    assert state_of(manager, "a") == (State.FINAL, Status.FAILED, True, True)
    assert manager.get_next_pending_task() is None


def test_a_running_task_is_started_and_not_pending(
    running: Ledger, manager: TaskStateManager
) -> None:
    assert state_of(manager, "a") == (State.RUNNING, None, True, False)
    assert manager.get_next_pending_task() is None


def test_a_task_with_unmet_needs_waits(
    project: Project, manager: TaskStateManager
) -> None:
    drop(project, "a", needs=["b"])

    assert state_of(manager, "a") == (State.WAITING, None, False, False)
    assert manager.get_next_pending_task() is None


def test_a_task_whose_retry_has_its_time_waits(
    project: Project, manager: TaskStateManager
) -> None:
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    who = Identity("h", "b", 1, 2, 3)
    sha256 = project.read_task("a").sha256
    ledger.append(Claimed("a", 1, "token", "ada", who, NOW, sha256))
    ledger.append(Ended("token", 1, Why.FAILED, True, NOW, not_before=1e11))
    ledger.let_go()

    assert state_of(manager, "a")[0] is State.WAITING


def test_asking_for_a_task_with_a_bad_file_is_no_error(
    project: Project, manager: TaskStateManager
) -> None:
    write(project, "a", "no JSON")

    assert state_of(manager, "a") == (State.WAITING, None, False, False)
