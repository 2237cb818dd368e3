"""File events that do not come: limits, overflow, folders that report nothing.

Events are only a doorbell. Whatever becomes of them, an idle worker looks by itself,
and every task that was dropped runs.
"""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from farm.bell import Bell
from farm.project import Project
from farm.watcher import Watcher
from tests.driver import Farm, said
from tests.faults.tools import needs
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def watches(pid: int) -> bool:
    """Whether a process waits for file events: it has an inotify instance."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:
            continue  # it was closed while we looked
    return "anon_inode:inotify" in names


# -- the system gives no more watches ----------------------------------------------------

#: in a user namespace of its own, so nobody else's limit is touched
LIMITED = 'echo "$2" > "/proc/sys/user/$1" && shift 2 && exec "$@"'


def start_limited(farm: Farm, limit: str, most: int) -> "subprocess.Popen[bytes]":
    """A worker in a user namespace with so many inotify instances or watches."""
    worker = [sys.executable, "-P", "-m", "farm", "worker", str(farm.root)]
    shell = ["sh", "-c", LIMITED, "sh", limit, str(most), *worker]
    words = ["unshare", "--user", "--map-root-user", *shell]
    text = f"import os; os.execvp('unshare', {words!r})"
    return farm.start_python("-c", text)


@pytest.mark.fault(39)
@needs("inotify limit")
@pytest.mark.parametrize(
    ("limit", "most"),
    [
        pytest.param("max_inotify_instances", 0, id="no instance"),
        pytest.param("max_inotify_watches", 0, id="no watch"),
        pytest.param("max_inotify_watches", 1, id="one watch of two"),
    ],
)
def test_without_file_events_a_worker_says_so_once_and_looks_by_itself(
    farm: Farm, limit: str, most: int
) -> None:
    farm.drop("t0", run="true")
    worker = start_limited(farm, limit, most)
    farm.wait_for("succeeded", "t0")
    for number in range(1, 4):
        farm.drop(f"t{number}", run="true")
        farm.wait_for("succeeded", f"t{number}")
    farm.signal(worker, signal.SIGTERM)
    code = worker.wait(30)

    assert code == 130
    assert said(farm).count("no file events") == 1
    assert "fs.inotify" in said(farm)
    assert "Traceback" not in said(farm)


@pytest.mark.fault(39)
@needs("inotify limit")
def test_folders_beyond_the_limit_are_looked_at_all_the_same(farm: Farm) -> None:
    worker = start_limited(farm, "max_inotify_watches", 2)  # tasks/ and control/
    wait_until(lambda: farm.worker_names() and watches(worker.pid))
    for name in ("sub/a", "sub/b"):
        farm.drop(name, run="true")
        farm.wait_for("succeeded", name)

    assert "Traceback" not in said(farm)


# -- more events than the system keeps ---------------------------------------------------

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
EVENTS_OF_A_DROP = 2  # at least: created, closed
MANY = 12_000


@pytest.mark.fault(38)
def test_after_12000_drops_while_its_worker_was_stopped_every_task_runs(
    farm: Farm,
) -> None:
    worker = farm.start_worker()
    wait_until(lambda: watches(worker.pid))
    farm.signal(worker, signal.SIGSTOP)
    for number in range(MANY):
        with (farm.tasks / f"t{number:05}.json").open("w") as task:
            task.write('{"call": "os:getpid"}')
    farm.drop("last", run="true", needs=["t*"])
    farm.signal(worker, signal.SIGCONT)
    farm.wait_for("succeeded", "last", timeout=50)
    counts = json.loads(farm.farm("status", "--json").stdout)["counts"]

    assert int(QUEUE.read_text()) < EVENTS_OF_A_DROP * MANY
    assert counts["succeeded"] == MANY + 1
    assert worker.poll() is None
    assert "Traceback" not in said(farm)


def test_of_folders_that_are_made_while_a_watch_begins_nothing_is_said(
    project: Project, recwarn: pytest.WarningsRecorder
) -> None:
    def make() -> None:
        for number in range(60):
            Path(project.tasks, f"{number}", "x").mkdir(parents=True)

    maker, bell = threading.Thread(target=make), Bell()
    maker.start()
    while maker.is_alive():
        watcher = Watcher(project, bell)
        watcher.start()
        watcher.stop()
    bell.close()

    assert recwarn.list == []


# -- a folder that reports nothing -------------------------------------------------------

#: as on a mount whose files change elsewhere
DEAF = 'patch("farm.watcher.Watcher._note", lambda self, event: None).start()'


@pytest.mark.fault(41)
def test_in_a_folder_without_events_a_worker_finds_what_changed(farm: Farm) -> None:
    farm.drop("sub/before", run="true")
    worker = farm.start_changed(DEAF)
    farm.wait_for("succeeded", "sub/before")
    wait_until(lambda: watches(worker.pid))
    farm.drop("a", run="true")
    farm.drop("sub/b", run="true", needs=["a"])
    farm.wait_for("succeeded", "a", "sub/b")

    assert "no file events" not in said(farm)  # it cannot know
