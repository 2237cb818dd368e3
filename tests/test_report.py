"""Counting and describing a project."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from farm import process, queue
from farm import report as module
from farm.crew import parse_progress
from farm.health import Health, write_health
from farm.ledger import Claimed, Ended, Ledger
from farm.life import Life
from farm.look import gist
from farm.process import Identity
from farm.project import Project
from farm.report import Report, Survey
from farm.states import Why
from tests.attempts import drop

NOW = 1_000_000.0  # POSIX seconds
DEAD = Identity("other-host", "other-boot", 1, 2, 3)


def end(project: Project, task_id: str, **result: object) -> None:
    drop(project, task_id)
    Path(project.result_path(task_id)).write_text(json.dumps(result))


def claim(project: Project, task_id: str, holder: str, *more: Ended) -> None:
    ledger = Ledger.open(project.ledger_path(task_id))
    assert ledger is not None
    sha256 = project.read_task(task_id).sha256
    who = DEAD if holder == "dead" else process.identify()
    ledger.append(Claimed(task_id, 1, "token", holder, who, NOW - 5.0, sha256))
    for line in more:
        ledger.append(line)
    ledger.let_go()


def look(project: Project) -> Report:
    return Survey(project).look(NOW, 50.0)


def test_an_empty_project_has_all_counts_and_all_are_zero(project: Project) -> None:
    report = look(project)

    assert set(report.counts.values()) == {0}
    assert (report.total, report.pending, report.all_succeeded) == (0, False, True)


def test_tasks_are_counted_by_where_they_are(project: Project, alive: Life) -> None:
    drop(project, "ready")
    drop(project, "waiting", needs=["nobody"])
    drop(project, "running")
    claim(project, "running", "ada")
    end(project, "good", status="succeeded")
    end(project, "bad", status="failed", exit_code=3)
    found = {word: n for word, n in look(project).counts.items() if n}

    assert found == {
        "ready": 1,
        "waiting": 1,
        "running": 1,
        "succeeded": 1,
        "failed": 1,
    }


def test_a_task_whose_owner_is_dead_is_ready_not_running(project: Project) -> None:
    drop(project, "a")
    claim(project, "a", "dead")

    assert look(project).counts["ready"] == 1


def test_a_running_task_tells_its_time_and_its_progress(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    claim(project, "a", "ada")
    Path(project.aside_path("ada", "progress")).write_text("0.1 start\n0.61 half way\n")
    (running,) = look(project).running

    assert (running.id, running.worker, running.elapsed_s) == ("a", "ada", 5.0)
    assert (running.progress, running.message) == (0.61, "half way")


def test_a_retry_that_has_its_time_is_pending(project: Project) -> None:
    drop(project, "a")
    later = Ended("token", 1, Why.FAILED, True, NOW, not_before=NOW + 60)
    claim(project, "a", "dead", later)
    report = look(project)

    assert [waits.until for waits in report.waiting] == ["1970-01-12T13:47:40.000Z"]
    assert report.pending


def test_a_delay_of_other_bytes_is_none(project: Project) -> None:
    drop(project, "a")
    later = Ended("token", 1, Why.FAILED, True, NOW, not_before=NOW + 60)
    claim(project, "a", "dead", later)
    drop(project, "a", labels=["edited"])

    assert look(project).counts["ready"] == 1


def test_what_nobody_may_ever_do_is_stuck_and_not_pending(project: Project) -> None:
    drop(project, "a", needs=["nobody"])
    report = look(project)

    assert [waits.why for waits in report.stuck] == ["needs nobody (not in tasks/)"]
    assert (report.pending, report.all_succeeded) == (False, False)


def test_the_most_recent_failure_comes_first_with_its_reason(project: Project) -> None:
    end(project, "old", status="failed", exit_code=3, finished="2026-01-01T00:00:00Z")
    end(
        project,
        "new",
        status="failed",
        signal="SIGSEGV",
        finished="2026-02-01T00:00:00Z",
    )
    found = [(f.id, f.reason) for f in look(project).failures]

    assert found == [("new", "killed by SIGSEGV"), ("old", "exit code 3")]


def test_failures_that_nobody_asks_for_are_counted_and_not_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(project, "bad", status="failed", exit_code=3)
    monkeypatch.delattr(module, "failure")
    found = Survey(project).look(NOW, 50.0, 0)

    assert (found.counts["failed"], found.failures) == (1, [])


def test_what_lies_beyond_the_look_ahead_is_said_to_be_unread(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOK_AHEAD", 2)
    for task_id in "abc":
        drop(project, task_id, needs=["nobody"])
    found = look(project)

    assert [waits.id for waits in found.waiting] == ["a", "b"]
    assert (found.counts["waiting"], found.counts["ready"], found.unread) == (2, 1, 1)


@pytest.mark.parametrize("glance", [False, True])
def test_a_small_project_is_read_whole(*, glance: bool, project: Project) -> None:
    for task_id in "abc":
        drop(project, task_id, needs=["nobody"])

    assert Survey(project, glance=glance).look(NOW, 50.0).unread == 0


@pytest.mark.parametrize(("tasks", "read"), [("abc", "abc"), ("abcd", "a")])
def test_at_a_glance_only_the_first_are_read_where_not_all_can_be(
    tasks: str, read: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOK_AHEAD", 3)
    monkeypatch.setattr(queue, "GLANCE", 1)
    for task_id in tasks:
        drop(project, task_id, needs=["nobody"])
    found = Survey(project, glance=True).look(NOW, 50.0)

    assert [waits.id for waits in found.waiting] == list(read)
    assert found.unread == found.counts["ready"] == len(tasks) - len(read)


def test_a_worker_that_holds_what_was_deleted_is_busy_and_its_task_is_gone(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    claim(project, "a", "ada")
    Path(project.task_path("a")).unlink()
    found = look(project)

    assert (found.total, found.running) == (0, [])
    assert [worker.task for worker in found.workers] == ["a"]


def test_a_folder_where_a_ledger_should_be_is_said(project: Project) -> None:
    drop(project, "a")
    Path(project.ledger_path("a")).mkdir()
    (waits,) = look(project).stuck

    assert "is not a regular file" in waits.why


def test_a_living_worker_is_well_and_a_dead_one_says_how_it_died(
    project: Project, alive: Life
) -> None:
    bob = Life.begin(project, "bob", now=NOW, heartbeat=2.0)
    bob.forget()
    write_health(project, "bob", Health(died="was killed by SIGKILL"), "test")
    os.utime(project.life_path("ada"), (NOW, NOW))
    found = {w.name: (w.alive, w.health) for w in look(project).workers}

    assert found == {
        "ada": (True, "well"),
        "bob": (False, "dead: was killed by SIGKILL"),
    }


def test_a_worker_that_does_not_beat_says_since_when(
    project: Project, alive: Life
) -> None:
    os.utime(project.life_path("ada"), (NOW - 12.0, NOW - 12.0))
    (worker,) = look(project).workers

    assert worker.health.endswith("for 12 s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, "")),
        ("0.5", (0.5, "")),
        ("0.1 a\n0.61 epoch 3\n", (0.61, "epoch 3")),
        ("no number", (None, "no number")),
        ("7 too much", (None, "too much")),
        ("nan x", (None, "x")),
    ],
)
def test_the_last_line_of_progress_counts(
    text: str, expected: tuple[float | None, str]
) -> None:
    assert parse_progress(text) == expected


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"run": ["make", "-j4"]}, "make -j4"),
        ({"run": "make &&\n  make install"}, "make && make install"),
        ({"run": "x" * 41}, "x" * 37 + "..."),
        ({"call": "render:tile"}, "render:tile"),
        ({"prompt": "Mend it."}, "Mend it."),
    ],
    ids=ascii,
)
def test_a_list_tells_the_first_words_of_what_a_task_does(
    project: Project, task: dict[str, Any], words: str
) -> None:
    Path(project.task_path("a")).write_text(json.dumps(task))

    assert gist(project, "a") == words


def test_a_task_that_cannot_be_read_does_nothing_that_could_be_told(
    project: Project,
) -> None:
    Path(project.task_path("bad")).write_text("{")

    assert (gist(project, "bad"), gist(project, "gone")) == ("", "")
