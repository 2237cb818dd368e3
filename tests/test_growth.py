"""Nothing is quadratic: four times the tasks cost four times as much, not more.

Costs are counted, never timed, so a slow or busy machine changes nothing: system
calls of whole processes by strace, and the steps of the Python interpreter inside the
modules that decide what is next. What a process costs without any task is taken off.
Loops inside C functions (a set made anew, a sort) are not seen by either count.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from farm import (
    crew,
    journal,
    listing,
    needs,
    pattern,
    queue,
    report,
    results,
    standing,
)
from farm.cli import status
from farm.journal import Entry
from farm.ledger import Claimed, Ended, Ledger
from farm.process import identify
from farm.project import Project
from farm.queue import Queue
from farm.report import Survey
from farm.standing import SETTLE, Ready
from farm.states import Status, Why
from tests.bench.limits import LIMITS, needing, write
from tests.driver import Farm
from tests.faults.tools import needs as wants

FEW, MANY = 500, 2_000
GROWTH = 1.2  # how much more one of many may cost than one of few
GROWTHS = {"gather": 1.35, "told": 1.35}  # its needs are asked log2(n) times
CROSSED = 0.2  # calls a task; what a look more or less, by the clock, may cost

#: calls that name a file, and readings of folders: the filter in the kernel lets all
#: others pass at full speed, and whoever looks too often looks by these
TRACED = ("-f", "--seccomp-bpf", "-e", "trace=%file,getdents64")

ENDS = (Status.SUCCEEDED, Status.FAILED)

Drop = Callable[[Path, int], object]


# -- what is dropped -------------------------------------------------------------------


def drop_calls(tasks: Path, size: int) -> None:
    for number in range(size):
        write(tasks, f"job-{number:06}")


def drop_commands(tasks: Path, size: int) -> None:
    for number in range(size):
        write(tasks, f"job-{number:06}", b'{"run": ["true"]}')


def drop_pairs(tasks: Path, size: int) -> None:
    """Each second task needs the one beside it."""
    for number in range(size // 2):
        write(tasks, f"job-{number:06}-a")
        write(tasks, f"job-{number:06}-b", needing(f"job-{number:06}-a"))


def drop_mixed(tasks: Path, size: int) -> None:
    """Tasks of all kinds: over, failed, ready, waiting, wrong."""
    for number in range(0, size, 5):
        for kind in ("succeeded", "failed"):
            write(tasks, f"{kind}-{number:06}")
            write(
                tasks, f"{kind}-{number:06}.result", b'{"status": "%b"}' % kind.encode()
            )
        write(tasks, f"ready-{number:06}")
        write(tasks, f"waits-{number:06}", needing(f"ready-{number:06}", "ready-*"))
        write(tasks, f"wrong-{number:06}", b'{"run": "')


def drop_own_globs(tasks: Path, size: int) -> None:
    """Each second task needs the one beside it, by a glob that no other has."""
    for number in range(size // 2):
        write(tasks, f"job-{number:06}-a")
        write(tasks, f"job-{number:06}-b", needing(f"job-{number:06}-[a]"))


def limit(name: str) -> Drop:
    return LIMITS[name].drop


# -- system calls ----------------------------------------------------------------------


def calls_of(farm: Farm, *args: str) -> int:
    """How many system calls a verb makes, with all its threads and children."""
    trace = farm.root / "trace"
    verb = [sys.executable, "-P", "-m", "farm", *args]
    subprocess.run(
        ["strace", "-c", *TRACED, "-o", str(trace), *verb],
        cwd=farm.root,
        env=farm.environ | {"FARM_HEARTBEAT": "15"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=55,
        check=False,
    )
    *_, total = trace.read_text().splitlines()
    return int(total.split()[3])


def calls_per_task(
    folder: Path, drop: Drop, *args: str, few: int = FEW
) -> tuple[float, float]:
    """System calls for each task, of few and of many; without those for none."""
    counts, many = {}, few * MANY // FEW
    for size in (0, few, many):
        farm = Farm(folder / str(size))
        farm.write("quick.py", "def nothing() -> None: ...\n")
        if size:
            drop(farm.tasks, size)
        counts[size] = calls_of(farm, *args)
    return (counts[few] - counts[0]) / few, (counts[many] - counts[0]) / many


WORK = {
    "calls": drop_calls,
    "commands": drop_commands,
    "pairs": drop_pairs,
    "fan": limit("tasks that need one"),
    "chain": limit("chain backwards"),
}
FEWER = {"commands": FEW // 5, "pairs": FEW // 2}  # tracing these takes long


@pytest.mark.processes
@wants("strace")
@pytest.mark.parametrize("kind", WORK)
def test_a_worker_asks_as_much_of_the_kernel_for_each_of_many_tasks(
    kind: str, tmp_path: Path
) -> None:
    size = FEWER.get(kind, FEW)
    work = ("worker", ".", "--until-done")
    few, many = calls_per_task(tmp_path, WORK[kind], *work, few=size)

    assert few > 1
    assert many <= GROWTH * few + CROSSED


@pytest.mark.processes
@wants("strace")
@pytest.mark.parametrize(
    "verb", [("status",), ("why", "waits-000000"), ("check",)], ids=lambda verb: verb[0]
)
def test_a_verb_asks_as_much_of_the_kernel_for_each_of_many_tasks(
    verb: tuple[str, ...], tmp_path: Path
) -> None:
    few, many = calls_per_task(tmp_path, drop_mixed, *verb)

    assert few > 1
    assert many <= GROWTH * few + CROSSED


# -- steps of the interpreter ------------------------------------------------------------


WORKING = (listing, needs, pattern, queue, results, standing)
LOOKING = (crew, journal, report, status)
DECIDING = {str(module.__file__) for module in (*WORKING, *LOOKING)}


class Steps:
    """Counts what the interpreter does inside the modules that decide."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Steps":
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in DECIDING:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        self.count += event == "opcode"
        return self._step


class Course:
    """One queue that is emptied as a worker does it, at a clock that stands still."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.queue = Queue(project)

    def empty(self) -> int:
        """Take everything to its end: how many."""
        self.look()
        ended = 0
        while item := self._next():
            assert isinstance(item, Ready)
            assert self.queue.still_ready(item.look)
            Path(self.project.result_path(item.look.id)).write_text(
                '{"status": "succeeded"}'
            )
            self.queue.ended(item.look.id, None, 1000.0, 50.0)
            ended += 1
        return ended

    def look(self) -> None:
        self.queue.refresh(1000.0, 50.0)

    def _next(self) -> object:
        item = self.queue.next()
        if item is None:
            self.look()
            item = self.queue.next()
        return item


def steps_per_task(
    folder: Path, drop: Drop, go: Callable[[Course, int], int]
) -> tuple[float, float]:
    """Steps for each task, of few and of many."""
    counts = []
    for size in (FEW // 5, FEW // 2, MANY // 2):  # Python 3.13 misses steps at first
        root = folder / str(size)
        root.mkdir()
        course = Course(Project.open(root))
        drop(Path(course.project.tasks), size)
        with Steps() as steps:
            done = go(course, size)
        assert done >= size
        counts.append(steps.count / size)
    return counts[1], counts[2]


def go_empty(course: Course, _size: int) -> int:
    return course.empty()


def go_touched(course: Course, size: int) -> int:
    """As many again, each told by an event of its own while the others are ready."""
    course.look()
    for number in range(size):
        write(Path(course.project.tasks), f"new-{number:06}")
        course.queue.touch([f"new-{number:06}"], 1000.0, 50.0)
    return len(course.queue)


def go_touched_at_once(course: Course, size: int) -> int:
    """Events about all that is there already, and ready."""
    course.look()
    course.queue.touch([f"job-{number:06}" for number in range(size)], 1000.0, 50.0)
    return len(course.queue)


def go_told(course: Course, size: int) -> int:
    """Another worker does it all, and an event tells of each result."""
    course.look()
    for number in range(size):
        path = Path(course.project.result_path(f"leaf-{number:06}"))
        path.write_text('{"status": "succeeded"}')
        course.queue.touch([f"leaf-{number:06}"], 1000.0, 50.0)
    assert course.queue.ready_ids() == ["all"]
    return size


def go_told_of_each(course: Course, size: int) -> int:
    """Another worker does the first of each pair, and an event tells of each result."""
    course.look()
    for number in range(size // 2):
        path = Path(course.project.result_path(f"job-{number:06}-a"))
        path.write_text('{"status": "succeeded"}')
        course.queue.touch([f"job-{number:06}-a"], 1000.0, 50.0)
    assert len(course.queue) == size // 2
    return size


def drop_circle(tasks: Path, size: int) -> None:
    """Each needs the next one, and the last the first."""
    for number in range(size):
        write(tasks, f"job-{number:06}", needing(f"job-{(number + 1) % size:06}"))


def go_settled(course: Course, _size: int) -> int:
    """Two looks, so that every fault is believed."""
    course.look()
    course.queue.refresh(1000.0 + 2 * SETTLE, 50.0 + 2 * SETTLE)
    assert course.queue.next() is None
    return len(course.queue.waiting)


COURSES = (
    {
        "circle": (drop_circle, go_settled),
    }
    | {kind: (drop, go_empty) for kind, drop in WORK.items() if kind != "commands"}
    | {
        "glob": (limit("tasks that need one by a glob"), go_empty),
        "own globs": (drop_own_globs, go_empty),
        "own globs told": (drop_own_globs, go_told_of_each),
        "gather": (limit("one that needs all"), go_empty),
        "told": (limit("one that needs all"), go_told),
        "touched": (drop_calls, go_touched),
        "touched at once": (drop_calls, go_touched_at_once),
    }
)


@pytest.mark.parametrize("kind", COURSES)
def test_a_queue_takes_as_many_steps_for_each_of_many_tasks(
    kind: str, tmp_path: Path
) -> None:
    few, many = steps_per_task(tmp_path, *COURSES[kind])

    assert few > 1
    assert many <= GROWTHS.get(kind, GROWTH) * few


def drop_told(tasks: Path, size: int) -> None:
    """The same as `drop_mixed`, with a journal, and a retry that waits for each ready one."""
    drop_mixed(tasks, size)
    project = Project(tasks.parent)
    ended = [(f"{s}-{n:06}", s) for s in ENDS for n in range(0, size, 5)]
    journal.note(project, "w", [Entry(i, 1.0, "w", status=s) for i, s in ended])
    for number in range(0, size, 5):
        refuse(project, f"ready-{number:06}")


def refuse(project: Project, task_id: str) -> None:
    """Somebody dead tried this task, and it has its time."""
    ledger = Ledger.open(project.ledger_path(task_id))
    assert ledger is not None
    sha256 = project.read_task(task_id).sha256
    ledger.append(Claimed(task_id, 1, "token", "w", identify(), 1.0, sha256))
    ledger.append(Ended("token", 1, Why.FAILED, True, 2.0, not_before=9999.0))
    ledger.let_go()


@pytest.mark.parametrize("looks", [1, 2], ids=["once", "again"])
def test_status_takes_as_many_steps_for_each_of_many_tasks(
    looks: int, tmp_path: Path
) -> None:
    def go(course: Course, size: int) -> int:
        survey = Survey(course.project)
        found = [survey.look(1000.0, 50.0, 10) for _ in range(looks)][-1]
        status.describe(found, 1000.0)
        assert found.counts["failed"] == found.counts["waiting"] / 3 == size / 5
        return size

    few, many = steps_per_task(tmp_path, drop_told, go)

    assert few > 1
    assert many <= GROWTH * few
