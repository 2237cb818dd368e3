"""Disks, locks and limits that say no: the farm waits, tells, and goes on.

Nothing of this is the task's fault, so no task may end as failed for it, and none
may run once more unless its earlier attempt is told of as lost or as the machine's
fault.
"""

import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farm import life
from farm.locking import TaskLock
from farm.project import Project
from tests.driver import Farm, ran, whys
from tests.faults.tools import needs
from tests.faults.tracing import Stem, Strace, inject, work_traced
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("strace", "pid namespace")]

LINK = "?link,linkat"  # a machine has one of them or both
NOTED = "echo $FARM_ATTEMPT >> ran"
MACHINES = {"fault", "lost", "succeeded"}  # how attempts end that have no fault


def said(farm: Farm) -> str:
    """What all workers said so far."""
    logs = [*farm.logs, *(farm.state / "logs").glob("worker-*.log")]
    return "".join(log.read_text() for log in logs)


def wait_said(farm: Farm, words: str) -> None:
    """Until some worker said so."""
    wait_until(lambda: words in said(farm), on_timeout=farm.describe)


def is_free(farm: Farm) -> bool:
    """Whether somebody who passes by gets the lock of the task `job`."""
    lock = TaskLock(farm.root)
    free = lock.acquire("job")
    lock.release("job")
    return free


def supervised_worker(farm: Farm) -> int:
    """The process id of a worker whose place is taken by another if it ends."""
    farm.supervise("-j", "1")
    wait_said(farm, "works on")
    return farm.worker_pids()[0]


def working(farm: Farm) -> "subprocess.Popen[bytes]":
    """A worker that is not only born: all that it needs to begin, it has."""
    worker = farm.start_worker()
    wait_said(farm, "works on")
    return worker


def limit(pid: int, which: int, soft: int) -> None:
    """Set how much a process may have; as it was with -1."""
    hard = resource.prlimit(pid, which)[1]
    resource.prlimit(pid, which, (hard if soft < 0 else soft, hard))


# -- every call of the work fails once -----------------------------------------------

#: error, calls that fail with it
ONCE = [
    pytest.param("ENOSPC", ["openat", "write", "rename", "fsync", LINK], id="full"),
    pytest.param("EMFILE", ["openat", "pipe2", "pidfd_open"], id="no descriptors"),
    pytest.param("ENFILE", ["openat", "pipe2"], id="no files on this host"),
    pytest.param("EIO", ["read", "pread64", "close"], id="a disk that cannot be read"),
    pytest.param("EIO", ["write", "fsync", "unlink", LINK], id="nor written"),
    pytest.param("EINTR", ["openat", "write", "flock", "fsync"], id="interrupted"),
    pytest.param("EFBIG", ["write"], id="too big a file"),
    pytest.param("ENOLCK", ["flock"], id="no locks"),
]


TASKS: dict[str, dict[str, Any]] = {  # with nothing in them which could fail by itself
    "a call": {"call": "os:getpid"},
    "a command": {"run": NOTED},
    "a call that prints": {"call": "says:words"},
}
SAYS = "def words(): print('words')"


def fail_everywhere(
    farm: Farm, folder: Path, error: str, names: list[str], kind: str
) -> tuple[int, list[str]]:
    """Let each of these calls fail, one after the other; how often, what is wrong."""
    errors, wrong = 0, []
    with Stem(farm) as stem:
        for name in names:
            for count in itertools.count(1):
                project = Farm(folder / f"{name.strip('?')}-{count}")
                project.write("says.py", SAYS)
                project.drop("job", **TASKS[kind])
                stem.work(project, inject(name, f"error={error}:when={count}"))
                trace = (project.root / "trace").read_text().splitlines()
                failed = [line for line in trace if "(INJECTED)" in line]
                if not failed:
                    break
                errors += 1
                wrong += [
                    f"{fact}: {failed[0]}" for fact in wrong_in(project, stem, kind)
                ]
    print(f"{errors} times {error}")
    return errors, wrong


def wrong_in(project: Farm, stem: Stem, kind: str) -> list[str]:
    """Somebody else finishes: what is not as it should be then."""
    code = stem.finish(project)
    result = project.result("job")
    folders = [project.state / name for name in ("locks", "tmp", "workers")]
    printed = "words\n" if "prints" in kind else ""
    facts = {
        "the other worker ends badly": code != 0,
        f"its status is {result['status']}": result["status"] != "succeeded",
        f"it ended as {whys(result)}": not set(whys(result)) <= MACHINES,
        "a run is not told": len(ran(project)) > len(result["attempts"]),
        f"it printed {result['stdout']!r}": result["stdout"] != printed,
        "something is left over": any(path for f in folders for path in f.iterdir()),
    }
    return [fact for fact, holds in facts.items() if holds]


@pytest.mark.fault(25, 27, 28, 29, 30, 32)
@pytest.mark.parametrize("kind", ["a call", "a command"])
@pytest.mark.parametrize(("error", "names"), ONCE)
def test_no_call_of_ours_that_fails_is_held_against_the_task(
    farm: Farm, tmp_path: Path, error: str, names: list[str], kind: str
) -> None:
    errors, wrong = fail_everywhere(farm, tmp_path, error, names, kind)

    assert wrong == []
    assert errors > 0


#: what happens around a callable: its module is read, its output is kept
AROUND = [
    pytest.param("EMFILE", ["openat"], id="no descriptors"),
    pytest.param("EIO", ["read"], id="a broken disk"),
    pytest.param("ENOSPC", ["write", "rename"], id="full"),
]


@pytest.mark.fault(25, 27, 28)
@pytest.mark.parametrize(("error", "names"), AROUND)
def test_what_fails_around_a_callable_is_not_its_fault(
    farm: Farm, tmp_path: Path, error: str, names: list[str]
) -> None:
    errors, wrong = fail_everywhere(farm, tmp_path, error, names, "a call that prints")

    assert wrong == []
    assert errors > 0


@pytest.mark.fault(25)
@pytest.mark.parametrize("call", ["write", "rename"])
def test_output_that_a_full_disk_refuses_is_not_printed_by_the_next_task(
    farm: Farm, tmp_path: Path, call: str
) -> None:
    printed = []
    with Stem(farm) as stem:
        for count in range(1, 7):
            project = Farm(tmp_path / str(count))
            for task_id in ("a", "b"):
                project.drop(task_id, call="builtins:print", args=[task_id])
            stem.work(project, inject(call, f"error=ENOSPC:when={count}"))
            stem.finish(project)
            printed += [project.result(task_id)["stdout"] for task_id in ("a", "b")]

    assert printed == ["a\n", "b\n"] * 6


@pytest.mark.fault(28)
def test_no_room_for_a_process_is_not_the_commands_fault(
    farm: Farm, tmp_path: Path
) -> None:
    names = ["?vfork,clone"]
    errors, wrong = fail_everywhere(farm, tmp_path, "EAGAIN", names, "a command")

    assert wrong == []
    assert errors > 0


# -- the result cannot be written ------------------------------------------------------


@pytest.mark.fault(25, 27)
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("fsync", "EIO", "Input/output error"),
        (LINK, "ENOSPC", "No space left on device"),
    ],
    ids=["its sync fails", "its name has no room"],
)
def test_a_result_that_cannot_be_written_is_waited_for(
    farm: Farm, tmp_path: Path, call: str, error: str, words: str
) -> None:
    worker = farm.start_worker(FARM_DURABILITY="always")
    with Strace(worker.pid, tmp_path / "trace", inject(call, f"error={error}")):
        farm.drop("job", run=NOTED)
        wait_said(farm, f"cannot write the result of job: {words}; trying again")
        status, free = farm.status_of("job"), is_free(farm)
    result = farm.wait_for("succeeded", "job")

    assert (status, free) == (None, False)
    assert whys(result) == ["succeeded"]
    assert ran(farm) == ["1"]


@pytest.mark.fault(27)
def test_a_result_whose_name_is_not_synced_is_not_told(
    farm: Farm, tmp_path: Path
) -> None:
    worker = farm.start_worker(FARM_DURABILITY="always")
    fault = inject("fsync", "error=EIO:when=2+")  # the first is that of its bytes
    with Strace(worker.pid, tmp_path / "trace", fault):
        farm.drop("job", run=NOTED)
        wait_said(farm, "cannot write the result of job: Input/output error")
        free, told = is_free(farm), list((farm.state / "journal").iterdir())
    wait_until(lambda: is_free(farm))
    wait_until(lambda: list((farm.state / "journal").iterdir()))

    assert (free, told) == (False, [])
    assert whys(farm.result("job")) == ["succeeded"]
    assert ran(farm) == ["1"]


@pytest.mark.fault(25)
def test_a_claim_that_cannot_be_written_is_none(farm: Farm, tmp_path: Path) -> None:
    pid = supervised_worker(farm)
    ledger = farm.state / "locks" / "task-job.lock"
    fault = [*inject("write", "error=ENOSPC"), "-P", str(ledger)]
    with Strace(pid, tmp_path / "trace", fault):
        farm.drop("job", run=NOTED)
        wait_said(farm, "job: No space left on device")
        early = ran(farm)
    result = farm.wait_for("succeeded", "job")

    assert early == []
    assert whys(result) == ["succeeded"]
    assert ran(farm) == ["1"]


# -- no descriptors, no locks ----------------------------------------------------------


@pytest.mark.fault(28)
def test_a_worker_without_descriptors_fails_no_task(farm: Farm) -> None:
    worker = working(farm)
    limit(worker.pid, resource.RLIMIT_NOFILE, 3)
    farm.drop("job", run=NOTED)
    wait_said(farm, "Too many open files")
    early = ran(farm)
    limit(worker.pid, resource.RLIMIT_NOFILE, -1)
    farm.start_worker()  # it may have given up in the meantime: a supervisor's job
    result = farm.wait_for("succeeded", "job")

    assert early == []
    assert set(whys(result)) <= MACHINES
    assert ran(farm) == ["1"]


@pytest.mark.fault(28)
@needs("prlimit")
@pytest.mark.parametrize("most", [5, 6, 8, 12])
def test_a_worker_that_never_has_enough_descriptors_says_so_and_ends(
    farm: Farm, most: int
) -> None:
    farm.drop("job", run=NOTED)
    worker = [sys.executable, "-P", "-m", "farm", "worker", str(farm.root)]
    ended = subprocess.run(
        ["prlimit", f"--nofile={most}", *worker, "--until-done"],
        cwd=farm.root,
        env=farm.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode in (1, 75)
    assert "Too many open files" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "flock" not in ended.stderr, "that is not what is missing"
    assert farm.status_of("job") is None


NO_LOCKS = [
    ("ENOLCK", "No locks available"),
    ("ENOSYS", "Function not implemented"),
    ("EOPNOTSUPP", "Operation not supported"),
]


@pytest.mark.fault(29)
@pytest.mark.parametrize(("error", "words"), NO_LOCKS)
def test_a_worker_refuses_a_folder_without_locks(
    farm: Farm, tmp_path: Path, error: str, words: str
) -> None:
    farm.drop("job", run=NOTED)
    fault = inject("flock", f"error={error}")
    ended = work_traced(farm, tmp_path / "trace", fault)

    assert ended.returncode == 1
    assert f"{words}. farm needs flock" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (farm.status_of("job"), ran(farm)) == (None, [])
    assert farm.worker_names() == []


@pytest.mark.fault(29)
@pytest.mark.parametrize(("error", "words"), NO_LOCKS)
def test_a_worker_whose_folder_loses_its_locks_runs_nothing_more(
    farm: Farm, tmp_path: Path, error: str, words: str
) -> None:
    worker = working(farm)
    fault = inject("flock", f"error={error}")
    with Strace(worker.pid, tmp_path / "trace", fault):
        farm.drop("job", run=NOTED)
        code = worker.wait(30)
    early = ran(farm)
    farm.work()

    assert code == 1
    assert f"task-job.lock: {words}; farm needs a file system with" in said(farm)
    assert "Traceback" not in said(farm)
    assert early == []
    assert whys(farm.result("job")) == ["succeeded"]


@pytest.mark.fault(29)
def test_a_result_is_not_committed_without_asking_for_the_lock_again(
    farm: Farm, tmp_path: Path
) -> None:
    farm.drop("job", run=NOTED)
    ledger = farm.state / "locks" / "task-job.lock"
    after_the_claim = inject("flock", "error=ENOLCK:when=2+")
    fault = [*after_the_claim, "-P", str(ledger)]
    ended = work_traced(farm, tmp_path / "trace", fault)
    early, status = ran(farm), farm.status_of("job")
    farm.work()

    assert ended.returncode == 1
    assert "task-job.lock: No locks available" in ended.stderr
    assert (early, status) == (["1"], None)
    assert whys(farm.result("job")) == ["lost", "succeeded"]


# -- half of it, or slowly -------------------------------------------------------------

#: Every write takes one byte, as it may.
MEAN = """
import os, sys

real = os.write
os.write = lambda fd, data: real(fd, bytes(data)[:1])
from farm.cli import run

sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.fault(30)
def test_writes_that_take_one_byte_each_lose_none(farm: Farm) -> None:
    script = farm.write("mean.py", MEAN)
    fails_once = "[ $FARM_ATTEMPT = 2 ]"
    farm.drop("job", run=fails_once, retries={"max": 1, "base_delay": 0})
    worker = farm.start_python(str(script), "worker", str(farm.root), "--until-done")
    code = worker.wait(30)
    (journal,) = (farm.state / "journal").iterdir()
    told = [json.loads(line)["why"] for line in journal.read_text().splitlines()]

    assert code == 0, farm.describe()
    assert whys(farm.result("job")) == ["failed", "succeeded"]
    assert told == ["failed", "succeeded"]


@pytest.mark.fault(31)
@pytest.mark.parametrize("call", ["fsync", LINK], ids=["fsync", "link"])
def test_nobody_takes_over_from_a_worker_whose_disk_is_slow(
    farm: Farm, tmp_path: Path, call: str
) -> None:
    worker = farm.start_worker("--name", "slow", FARM_DURABILITY="always")
    forever = inject(call, "delay_enter=50000000")  # as long as it is traced
    with Strace(worker.pid, tmp_path / "trace", forever):
        farm.drop("job", run=NOTED)
        wait_until(lambda: list((farm.state / "tmp").glob("slow.result")))
        farm.start_worker("--name", "other")
        before = beats(farm, "slow")
        wait_until(lambda: beats(farm, "slow") > before and beats(farm, "other") > 2)
        stale = TaskLock(farm.root).clean_all_stale_locks(0)
        free, status = is_free(farm), farm.status_of("job")
    result = farm.wait_for("succeeded", "job")

    assert (stale, free, status) == (0, False, None)
    assert (result["worker"], whys(result)) == ("slow", ["succeeded"])
    assert ran(farm) == ["1"]


def beats(farm: Farm, worker: str) -> int:
    """How often a worker's heart has beaten."""
    seen = life.read(Project.open(farm.root), worker)
    return seen[0] if seen else 0


# -- files that may not grow -----------------------------------------------------------


@pytest.mark.fault(32)
def test_a_task_that_writes_more_than_it_may_fails_by_itself(farm: Farm) -> None:
    worker = farm.start_worker()
    limit(worker.pid, resource.RLIMIT_FSIZE, 100_000)
    farm.drop("big", run="exec head -c 1000000 /dev/zero")
    result = farm.wait_for("failed", "big")
    farm.drop("job", run=NOTED)
    farm.wait_for("succeeded", "job")

    assert result["signal"] == "SIGXFSZ"
    assert (farm.root / result["stdout_path"]).stat().st_size == 100_000


@pytest.mark.fault(32)
def test_a_result_that_is_larger_than_files_may_be_is_waited_for(farm: Farm) -> None:
    farm.write("grows.py", "def big():\n    return 'x' * 5000\n")
    worker = farm.start_worker()
    limit(worker.pid, resource.RLIMIT_FSIZE, 3000)
    farm.drop("job", call="grows:big")
    wait_said(farm, "cannot write the result of job: File too large; trying again")
    status = farm.status_of("job")
    limit(worker.pid, resource.RLIMIT_FSIZE, -1)
    result = farm.wait_for("succeeded", "job")

    assert status is None
    assert whys(result) == ["succeeded"]
