"""`farm workers`."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.cli.workers import describe
from farm.crew import SupervisorView, WorkerView
from farm.life import Life
from farm.project import Project
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.lives import FOREIGN, lay_life_file
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

NOW = 1_000_000.0


USUAL = WorkerView(
    name="ada",
    host="here",
    pid=41,
    started=NOW - 90.0,
    alive=True,
    health="well",
    task=None,
    tasks_ended=3,
)


def view(**fields: Any) -> WorkerView:
    """A worker that is well and idle, but for these fields."""
    return msgspec.structs.replace(USUAL, **fields)


def row(worker: WorkerView) -> list[str]:
    """The words of its line."""
    return describe([worker], [], NOW)[1].split()


# -- lines -----------------------------------------------------------------------------


def test_nobody_is_no_line() -> None:
    assert describe([], [], NOW) == []


def test_a_worker_is_a_line_under_a_heading() -> None:
    heading, line = describe([view(task="tiles/0")], [], NOW)

    assert " ".join(heading.split()) == "NAME HOST PID UP ENDED HEALTH TASK"
    assert " ".join(line.split()) == "ada here 41 1 min 30 s 3 well tiles/0"


@pytest.mark.parametrize(
    ("worker", "last"),
    [
        (view(), "idle"),
        (view(task="a"), "a"),
        (view(alive=False, health="dead: was killed by SIGKILL"), "SIGKILL"),
    ],
    ids=["idle", "busy", "dead"],
)
def test_the_last_word_is_what_it_does(worker: WorkerView, last: str) -> None:
    assert row(worker)[-1] == last


def test_a_clock_that_is_behind_shows_no_negative_time() -> None:
    assert "0 ms" in describe([view(started=NOW + 60.0)], [], NOW)[1]


def test_what_a_task_is_called_steers_no_terminal() -> None:
    line = describe([view(task="a\x1b[31mb", host="h\x1b]0;x\x07")], [], NOW)[1]

    assert "\x1b" not in line
    assert "ab" in line


def test_supervisors_follow() -> None:
    lines = describe([view()], [SupervisorView("here", "7")], NOW)

    assert lines[-1] == "supervisor on here, process 7"
    assert len(lines) == 3


# -- typed -----------------------------------------------------------------------------


def test_nobody_is_said_with_what_to_do(run: Run, project: Project) -> None:
    code, out, err = run("workers", "-C", project.root)

    assert (code, out) == (0, "")
    assert "farm supervise" in err


def test_those_of_other_hosts_and_the_dead_are_shown_too(
    run: Run, project: Project, alive: Life
) -> None:
    lay_life_file(project, "far", FOREIGN)
    _, out, _ = run("workers", "-C", project.root, "--json")
    found = {worker["name"]: worker for worker in json.loads(out)["workers"]}

    assert (found["far"]["host"], found["far"]["alive"]) == (FOREIGN.host, False)
    assert (found["ada"]["pid"], found["ada"]["alive"]) == (os.getpid(), True)


def test_a_supervisor_without_workers_is_shown(run: Run, project: Project) -> None:
    path = Path(project.supervisor_path("build-7"))
    path.write_text("41\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _, out, err = run("workers", "-C", project.root)

    assert out == "supervisor on build-7, process 41\n"
    assert "no worker" in err


def test_a_life_file_that_cannot_be_read_is_passed_over(
    run: Run, project: Project
) -> None:
    Path(project.life_path("torn")).write_bytes(b"\xff\n{")
    code, out, _ = run("workers", "-C", project.root)

    assert (code, out) == (0, "")


def test_it_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    code, _, _ = run("workers", "-C", tmp_path)

    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


def test_no_project_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    code, _, err = run("workers", "-C", tmp_path)

    assert (code, "has no tasks/ folder" in err) == (2, True)


def test_who_works_on_what_is_shown(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("busy", run=gate.command)
    farm.drop("before", run="true", priority=1)
    supervisor = farm.supervise("-j", "2")
    gate.wait_reached()

    def shown() -> dict[str, Any] | None:
        """What it shows once both are there, and one has told what it ended."""
        found: dict[str, Any] = json.loads(farm.farm("workers", "--json").stdout)
        ended = sum(worker["tasks_ended"] for worker in found["workers"])
        return found if (len(found["workers"]), ended) == (2, 1) else None

    found = wait_until(shown, on_timeout=farm.describe) or {}
    said = farm.farm("workers")
    tasks = [worker["task"] for worker in found["workers"]]

    assert sorted(tasks, key=str) == [None, "busy"]
    assert [s["pid"] for s in found["supervisors"]] == [str(supervisor.pid)]
    assert len(said.stdout.splitlines()) == 4
    assert "\x1b" not in said.stdout
