"""Workers that die at every step, and what they leave behind.

A dying worker is a script of this file (`DYING`): it wraps one function of farm
so that the process kills itself right before, in the middle of or right after
it, and then runs `farm worker`. farm itself has no hooks for this.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from farm import process
from farm.locking import TaskLock
from farm.project import Project
from farm.report import survey
from tests.driver import Farm, ran, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def hidden(request: pytest.FixtureRequest) -> None:
    """Workers have a secret, as most have: then no ordinary user reads their /proc."""
    if "farm" in request.fixturenames:
        request.getfixturevalue("farm").environ["SOME_SECRET"] = "of no use to anybody"


DYING = '''
"""dying.py WHERE MODULE NAME [WORD] -- ARGUMENTS OF FARM

Wraps MODULE's NAME; with WORD only calls count whose arguments have it in their
repr. WHERE is before, after, or half (write half of the bytes, then die).
"""
import functools, importlib, os, signal, sys

split = sys.argv.index("--")
where, module, name, *word = sys.argv[1:split]
owner = importlib.import_module(module)
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
real = getattr(owner, last)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(*args, **kwargs):
    if word and word[0] not in repr(args):
        return real(*args, **kwargs)
    if where == "half":
        fd, data = args
        os.write(fd, bytes(data)[: len(data) // 2])
        die()
    if where == "before":
        die()
    returned = real(*args, **kwargs)
    die()
    return returned


setattr(owner, last, functools.wraps(real)(wrapped))
from farm.cli import run

sys.exit(run(sys.argv[split + 1:]))
'''

NOTED = "echo $FARM_ATTEMPT >> ran"
NOTING = """
import os

def note():
    with open("ran", "a") as ran:
        print(os.environ["FARM_ATTEMPT"], file=ran)
"""

LEDGER, DISK = "farm.ledger", "farm.disk"

#: where, module, function, a word in its arguments: nothing was begun
UNTOUCHED = [
    pytest.param(["before", "farm.claim", "hold"], id="before hold"),
    pytest.param(["after", "farm.claim", "hold"], id="after hold"),
    pytest.param(
        ["before", LEDGER, "Ledger.append", "Claimed("], id="before the claimed line"
    ),
    pytest.param(
        ["half", DISK, "write_all", '"line":"claimed"'], id="half the claimed line"
    ),
]

#: the attempt was open and is lost
LOST = [
    pytest.param(
        ["after", LEDGER, "Ledger.append", "Claimed("], id="after the claimed line"
    ),
    pytest.param(["before", "farm.runners", "run"], id="before the run"),
    pytest.param(["after", "farm.runners", "run"], id="after the run"),
    pytest.param(["before", "farm.commit", "finish"], id="before finish"),
    pytest.param(["before", "farm.register", "put"], id="before put"),
    pytest.param(["half", DISK, "write_all", '"version":1'], id="half the result"),
    pytest.param(
        ["before", DISK, "link_new", ".result.json"], id="before the result's link"
    ),
]

#: only a command has these steps
LOST_COMMAND = [
    pytest.param(["after", "farm.child", "Child.start"], id="after the start"),
    pytest.param(
        ["before", LEDGER, "Ledger.append", "Child("], id="before the child line"
    ),
    pytest.param(
        ["half", DISK, "write_all", '"line":"child"'], id="half the child line"
    ),
    pytest.param(
        ["after", LEDGER, "Ledger.append", "Child("], id="after the child line"
    ),
    pytest.param(["before", "farm.child", "Child.end"], id="before the group's end"),
    pytest.param(["after", "farm.child", "Child.end"], id="after the group's end"),
]

#: the result was there, so the task is not run again
DONE = [
    pytest.param(
        ["after", DISK, "link_new", ".result.json"], id="after the result's link"
    ),
    pytest.param(["after", "farm.register", "put"], id="after put"),
    pytest.param(["before", LEDGER, "Ledger.let_go"], id="before let_go"),
    pytest.param(["after", LEDGER, "Ledger.let_go"], id="after let_go"),
    pytest.param(["after", "farm.commit", "finish"], id="after finish"),
    pytest.param(["before", "farm.journal", "Journal.append"], id="before the journal"),
    pytest.param(["half", DISK, "write_all", '"at":'], id="half the journal's line"),
    pytest.param(["after", "farm.journal", "Journal.append"], id="after the journal"),
]


def die_at(farm: Farm, step: list[str]) -> None:
    """Run a worker that kills itself at this step."""
    script = farm.write("dying.py", DYING)
    popen = farm.start_python(
        str(script), *step, "--", "worker", str(farm.root), "--until-done"
    )
    popen.wait(30)

    assert popen.returncode == -signal.SIGKILL, farm.describe()


def drop_noted(farm: Farm, kind: str) -> None:
    """The task `job`, which adds its attempt's number to the file `ran`."""
    farm.write("noting.py", NOTING)
    if kind == "run":
        farm.drop("job", run=NOTED)
    else:
        farm.drop("job", call="noting:note")


def left_over(farm: Farm) -> list[str]:
    """Ledgers, temporary and life files that are still there after a sweep."""
    TaskLock(farm.root).clean_all_stale_locks()
    return [
        path.name
        for folder in ("locks", "tmp", "workers")
        for path in (farm.state / folder).iterdir()
    ]


# -- one death at each step --------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "call"])
@pytest.mark.parametrize("step", UNTOUCHED)
def test_a_death_before_the_claim_leaves_no_trace(
    farm: Farm, step: list[str], kind: str
) -> None:
    drop_noted(farm, kind)
    die_at(farm, step)
    code = farm.work()

    assert code == 0
    assert whys(farm.result("job")) == ["succeeded"]
    assert ran(farm) == ["1"]
    assert left_over(farm) == []


@pytest.mark.parametrize("kind", ["run", "call"])
@pytest.mark.parametrize("step", LOST)
def test_a_death_in_an_attempt_loses_only_that_attempt(
    farm: Farm, step: list[str], kind: str
) -> None:
    drop_noted(farm, kind)
    die_at(farm, step)
    code = farm.work()

    assert code == 0
    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert ran(farm)[-1] == "2"
    assert left_over(farm) == []


@pytest.mark.parametrize("step", LOST_COMMAND)
def test_a_death_around_a_command_loses_only_that_attempt(
    farm: Farm, step: list[str]
) -> None:
    drop_noted(farm, "run")
    die_at(farm, step)
    code = farm.work()

    assert code == 0
    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert ran(farm)[-1] == "2"
    assert left_over(farm) == []


@pytest.mark.parametrize("kind", ["run", "call"])
@pytest.mark.parametrize("step", DONE)
def test_a_death_after_the_result_changes_nothing(
    farm: Farm, step: list[str], kind: str
) -> None:
    drop_noted(farm, kind)
    die_at(farm, step)
    before = farm.result_path("job").read_bytes()
    code = farm.work()

    assert code == 0
    assert farm.result_path("job").read_bytes() == before
    assert ran(farm) == ["1"]
    assert survey(Project(farm.root)).counts["succeeded"] == 1
    assert left_over(farm) == []


def test_a_lost_attempt_does_not_count(farm: Farm) -> None:
    farm.drop("job", run="exit 1", retries={"max": 1, "base_delay": 0.01})
    die_at(farm, ["before", "farm.commit", "finish"])
    farm.work()
    result = farm.result("job")

    assert whys(result) == ["lost", "failed", "failed"]
    assert [a["counted"] for a in result["attempts"]] == [False, True, True]
    assert [a["attempt"] for a in result["attempts"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("before", ["lost", "failed", "failed"]),
        ("after", ["failed", "failed"]),
    ],
)
def test_a_failure_counts_once_it_is_noted(
    farm: Farm, where: str, expected: list[str]
) -> None:
    farm.drop("job", run="exit 1", retries={"max": 1, "base_delay": 0.01})
    die_at(farm, [where, LEDGER, "Ledger.append", "Ended("])
    farm.work()

    assert whys(farm.result("job")) == expected


def test_half_a_line_does_not_spoil_the_next(farm: Farm) -> None:
    farm.drop("job", run="exit 1", retries={"max": 1, "base_delay": 0.01})
    die_at(farm, ["half", DISK, "write_all", '"line":"ended"'])
    farm.work()

    assert whys(farm.result("job")) == ["lost", "failed", "failed"]


def test_a_worker_that_settles_a_dead_ones_task_may_die_too(farm: Farm) -> None:
    drop_noted(farm, "run")
    die_at(farm, ["after", LEDGER, "Ledger.append", "Claimed("])
    die_at(farm, ["after", LEDGER, "Ledger.append", "Ended("])
    die_at(farm, ["before", LEDGER, "Ledger.let_go"])
    farm.work()

    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert left_over(farm) == []


def test_a_supervisor_tidies_up_after_a_death(farm: Farm) -> None:
    drop_noted(farm, "run")
    die_at(farm, ["after", "farm.register", "put"])
    supervisor = farm.supervise("-j", "1", "--until-done")
    code = supervisor.wait(30)

    assert code == 0
    assert list((farm.state / "locks").iterdir()) == []


# -- what is no result ---------------------------------------------------------------


NO_RESULTS = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\0" * 100, id="zeros"),
    pytest.param(b'{"version":1,"id":"job","sta', id="torn"),
    pytest.param(b"[1]", id="no object"),
    pytest.param(b'{"status":"fine"}', id="no status of ours"),
]


def test_an_empty_result_is_run_again_while_all_is_well(farm: Farm) -> None:
    drop_noted(farm, "run")
    farm.work()
    farm.result_path("job").write_bytes(b"")
    farm.work()

    assert farm.status_of("job") == "succeeded"


@pytest.mark.fault(19, 35, 36)
@pytest.mark.parametrize("raw", NO_RESULTS)
@pytest.mark.parametrize("history", ["no history", "a journal"])
def test_what_is_no_result_is_run_again_after_an_unclean_end(
    farm: Farm, raw: bytes, history: str
) -> None:
    drop_noted(farm, "run")
    if history == "a journal":
        farm.work()
        leave_a_death_of_another_boot(farm)
    farm.result_path("job").write_bytes(raw)
    farm.work()

    assert farm.status_of("job") == "succeeded"


def leave_a_death_of_another_boot(farm: Farm) -> None:
    """The life file of a worker that died when the host lost its power."""
    who = {"host": "h", "boot": "another", "pidns": 1, "pid": 1, "ticks": 1}
    record = {"name": "dead", "who": who, "started": 0.0, "heartbeat": 0.1}
    text = f"{0:020d}\n{json.dumps(record)}\n"
    (farm.state / "workers" / "dead.lock").write_text(text)


# -- a command outlives its worker -----------------------------------------------------

ORPHAN = """
import fcntl, os, pathlib, sys, time

attempt = os.environ["FARM_ATTEMPT"]
inside = os.open("inside", os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    pathlib.Path("overlaps").touch()
with open("ran", "a") as ran:
    print(attempt, file=ran)
pathlib.Path(f"pid.{attempt}").write_text(str(os.getpid()))
while attempt == "1":
    time.sleep(0.02)
"""


def drop_orphan(farm: Farm) -> None:
    """A command that never ends in its first attempt and holds a lock of its own."""
    script = farm.write("orphan.py", ORPHAN)
    farm.drop("job", run=[sys.executable, str(script)])


def wait_pid(path: Path) -> int:
    """The process id in a file, once it is there."""
    return int(wait_until(lambda: path.exists() and path.read_text()))


def is_gone(pid: int) -> bool:
    """Whether no code of this process runs any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.fault(7)
def test_an_orphaned_command_is_ended_before_its_task_runs_again(farm: Farm) -> None:
    drop_orphan(farm)
    worker = farm.start_worker()
    orphan = wait_pid(farm.root / "pid.1")
    farm.kill(worker)
    began = time.monotonic()
    farm.work()
    print(f"again after {time.monotonic() - began:.2f} s, with the start of a worker")

    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert not (farm.root / "overlaps").exists()
    assert is_gone(orphan)


@pytest.mark.fault(7)
def test_idle_workers_rescue_an_orphaned_command_once(farm: Farm) -> None:
    drop_orphan(farm)
    worker = farm.start_worker()
    wait_pid(farm.root / "pid.1")
    for _ in range(3):
        farm.start_worker()
    farm.kill(worker)
    began = time.monotonic()
    result = farm.wait_for("succeeded", "job")
    print(f"again after {time.monotonic() - began:.2f} s, without a supervisor")

    assert whys(result) == ["lost", "succeeded"]
    assert ran(farm) == ["1", "2"]
    assert not (farm.root / "overlaps").exists()


@pytest.mark.fault(7)
def test_a_supervised_orphan_is_ended_and_its_task_runs_again(farm: Farm) -> None:
    drop_orphan(farm)
    supervisor = farm.supervise("-j", "1", "--until-done")
    orphan = wait_pid(farm.root / "pid.1")
    (worker,) = farm.worker_pids()
    farm.kill(worker)
    began = time.monotonic()
    result = farm.wait_for("succeeded", "job")
    print(f"again after {time.monotonic() - began:.2f} s, with a supervisor")

    assert whys(result) == ["lost", "succeeded"]
    assert result["attempts"][0]["error"]["message"].endswith("was killed by SIGKILL")
    assert not (farm.root / "overlaps").exists()
    assert is_gone(orphan)
    assert supervisor.wait(30) == 0


FORKS = """
import multiprocessing, os, pathlib, time


def hang(name):
    pathlib.Path(name).write_text(str(os.getpid()))
    while True:
        time.sleep(0.02)


def go():
    if os.environ["FARM_ATTEMPT"] != "1":
        return "done"
    multiprocessing.get_context("fork").Process(target=hang, args=("fork",)).start()
    while True:
        time.sleep(0.02)
"""


def test_what_a_callable_forked_is_ended_before_its_task_runs_again(farm: Farm) -> None:
    farm.write("forks.py", FORKS)
    farm.drop("job", call="forks:go")
    worker = farm.start_worker()
    fork = wait_pid(farm.root / "fork")
    farm.kill(worker)
    alive_without_its_worker = not is_gone(fork)
    farm.work()

    assert alive_without_its_worker
    assert is_gone(fork)
    assert whys(farm.result("job")) == ["lost", "succeeded"]


ALIVE = """case "$(cut -d' ' -f3 /proc/$(cat pid)/stat 2>/dev/null)" in
    ""|Z|X) ;; *) : > overlaps;; esac"""


@pytest.mark.fault(8)
@pytest.mark.parametrize("group", ["", "setsid"], ids=["own group", "own session"])
def test_what_a_failed_command_left_behind_is_ended_before_the_retry(
    farm: Farm, group: str
) -> None:
    left = f"{group} sh -c 'echo $$ > pid; exec sleep 1000' &"
    wait = "while [ ! -s pid ]; do sleep 0.02; done; exit 1"
    command = f"if [ -e pid ]; then {ALIVE}; exit 0; fi\n{left}\n{wait}"
    farm.drop("job", run=command, retries={"max": 1, "base_delay": 0.01})
    farm.work()

    assert whys(farm.result("job")) == ["failed", "succeeded"]
    assert not (farm.root / "overlaps").exists()


def test_what_a_successful_command_left_in_its_group_is_ended(farm: Farm) -> None:
    farm.drop("job", run="sleep 1000 & echo $! > pid")
    farm.work()

    assert farm.status_of("job") == "succeeded"
    assert is_gone(wait_pid(farm.root / "pid"))


@pytest.mark.fault(8)
def test_a_daemon_of_its_own_session_is_left_alone_after_success(farm: Farm) -> None:
    daemon = "setsid sh -c 'echo $$ > pid; exec sleep 1000' >/dev/null 2>&1 &"
    farm.drop(
        "job", run=f"{daemon}\nwhile [ ! -s pid ]; do sleep 0.02; done; rm -f nothing"
    )
    farm.work()
    pid = wait_pid(farm.root / "pid")
    lives = not is_gone(pid)
    farm.drop("later", run="true")
    code = farm.work()
    os.kill(pid, signal.SIGKILL)

    assert lives
    assert code == 0
    assert list((farm.state / "locks").iterdir()) == []


# -- tasks that take their worker with them --------------------------------------------


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "killer",
    [
        {"run": "kill -9 $PPID; sleep 1000"},
        {"call": "killer:kill"},
    ],
    ids=["run", "call"],
)
def test_a_task_that_kills_its_worker_each_time_ends_lost(
    farm: Farm, killer: dict[str, str]
) -> None:
    text = "import os, signal\n\ndef kill():\n    os.kill(os.getpid(), 9)\n"
    farm.write("killer.py", text)
    farm.drop("a-killer", **killer)
    others = [farm.drop(f"b{number}", run="true") for number in range(5)]
    supervisor = farm.supervise("-j", "2", "--until-done")
    code = supervisor.wait(50)
    result = farm.result("a-killer")

    assert code == 1
    assert result["status"] == "lost"
    assert whys(result) == ["lost", "lost", "lost"]
    assert {farm.status_of(i) for i in others} == {"succeeded"}


STUCK = """
import ctypes, signal


def imported():
    pass


def stuck():
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    finally:  # the machine may have stood still, and the alarm have come before that
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock all the time
"""


def test_a_callable_stuck_in_c_code_times_out(farm: Farm) -> None:
    farm.write("stuck_in_c.py", STUCK)
    farm.drop("first", call="stuck_in_c:imported")  # may take longer than `job` has
    farm.drop("job", call="stuck_in_c:stuck", timeout=0.3)
    farm.drop("other", run="true")
    supervisor = farm.supervise("-j", "1", "--until-done", FARM_GRACE="0.5")
    code = supervisor.wait(50)
    result = farm.result("job")

    assert code == 1
    assert result["status"] == "timed_out"
    assert result["attempts"][0]["counted"] is True
    assert "stuck_in_c.py" in result["error"]["traceback"]
    assert farm.status_of("other") == "succeeded"
    assert "ended with a callable that did not yield; another starts at once" in (
        farm.describe()
    )


def test_a_worker_alone_that_was_stuck_in_c_code_leaves_a_timeout(farm: Farm) -> None:
    farm.write("stuck_in_c.py", STUCK)
    farm.drop("job", call="stuck_in_c:stuck", timeout=0.3)
    farm.work(FARM_GRACE="0.5")
    farm.work()

    assert farm.status_of("job") == "timed_out"


# -- kill -9 in the middle of everything ------------------------------------------------

LOCKED = """
import fcntl, os, sys, time


def work(name):
    inside = os.open(f"inside/{name}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        open("overlaps", "w").close()
    time.sleep(0.01)
    os.close(inside)


if __name__ == "__main__":
    work(sys.argv[1])
"""


def test_killing_workers_in_the_middle_changes_nothing_but_the_time(farm: Farm) -> None:
    script = farm.write("locked.py", LOCKED)
    (farm.root / "inside").mkdir()
    ids = [f"t{number}" for number in range(100)]
    for number, name in enumerate(ids):
        if number % 5:
            farm.drop(name, call="locked:work", args=[name])
        else:
            farm.drop(name, run=[sys.executable, str(script), name])
    gate = farm.gate()
    body = gate.python.replace("\n", "\n    ")
    farm.write("waits.py", f"def go():\n    {body}\n")
    farm.drop("held", call="waits:go", priority=1)  # so none is done before the end
    # All four kills may meet one task: the first one in order is taken up at once.
    supervisor = farm.supervise("-j", "4", "--until-done", FARM_MAX_LOST="5")
    (holder,) = gate.wait_reached()
    for done in (5, 20, 35, 50):
        wait_until(lambda n=done: results(farm) >= n, 40, farm.describe)  # type: ignore[misc]  # bound here
        kill_a_worker(farm, holder)
    gate.open()
    code = supervisor.wait(50)

    assert code == 0, farm.describe()
    assert {farm.status_of(i) for i in ids} == {"succeeded"}
    assert not (farm.root / "overlaps").exists()
    assert left_over(farm) == []


def results(farm: Farm) -> int:
    """How many results there are."""
    return len(list(farm.tasks.glob("*.result.json")))


def kill_a_worker(farm: Farm, spared: int) -> None:
    """SIGKILL one living worker but this one; none may be there for a moment."""

    def others() -> list[int]:
        return [p for p in farm.worker_pids() if p != spared and not is_gone(p)]

    farm.kill(wait_until(others)[0])


def test_what_a_killed_worker_had_printed_is_kept(farm: Farm) -> None:
    gate = farm.gate()
    farm.write(
        "says.py", f"def go():\n    print('last words', flush=True)\n{gate.python}"
    )
    farm.drop("job", run=f"echo last words; {gate.command}")
    worker = farm.start_worker()
    gate.wait_reached()
    farm.kill(worker)
    gate.open()
    farm.work()
    lost = farm.result("job")["attempts"][0]

    assert (farm.root / lost["stdout_path"]).read_text() == "last words\n"


def test_a_stopped_process_is_no_dead_one(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    farm.signal(worker, signal.SIGSTOP)
    refused = subprocess.run(
        [sys.executable, "-P", "-c", LOOK, str(farm.root)],
        env=farm.environ,
        check=True,
        capture_output=True,
        text=True,
    )
    farm.signal(worker, signal.SIGCONT)
    gate.open()
    farm.wait_for("succeeded", "job")

    assert refused.stdout == "False 0\n"
    assert len(gate.reached()) == 1


LOOK = """
import sys
from farm.locking import TaskLock

lock = TaskLock(sys.argv[1])
print(lock.acquire("job"), lock.clean_all_stale_locks(0))
"""


# -- what tasks do to the worker itself ---------------------------------------------


def test_a_forked_child_that_falls_out_of_its_function_is_no_second_worker(
    farm: Farm,
) -> None:
    farm.write(
        "forks.py",
        "import os\n"
        "def go():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        return 'child'\n"
        "    os.waitpid(child, 0)\n"
        "    return 'parent'\n",
    )
    farm.drop("job", call="forks:go")
    farm.drop("later", run="true")
    code = farm.work()

    assert code == 0
    assert farm.result("job")["value"] == "parent"
    assert len(farm.result("job")["attempts"]) == 1
    assert farm.left_behind() == []


def test_what_a_failed_callable_forked_is_ended_before_the_retry(farm: Farm) -> None:
    gate = farm.gate()
    farm.write(
        "forks.py",
        "import os, time\n"
        f"reached = {str(gate.folder)!r}\n"
        "def go():\n"
        "    if os.environ['FARM_ATTEMPT'] == '1':\n"
        "        if os.fork() == 0:\n"
        "            open(f'{reached}/reached.{os.getpid()}', 'w').close()\n"
        "            time.sleep(600)\n"
        "        while not os.listdir(reached): pass\n"
        "        raise ValueError\n"
        "    pid = os.listdir(reached)[0].split('.')[1]\n"
        "    return os.path.exists(f'/proc/{pid}/fd/0')\n",
    )
    farm.drop("job", call="forks:go", retries={"max": 1, "base_delay": 0})
    farm.work()

    assert farm.result("job").get("value") is False, farm.result("job")


def test_children_that_ignore_their_ends_do_not_ruin_later_commands(farm: Farm) -> None:
    farm.write(
        "ignores.py",
        "import signal\ndef go():\n    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    )
    farm.drop("a", call="ignores:go")
    farm.drop("b", run="exit 3")
    farm.work()

    assert farm.result("b")["exit_code"] == 3


def test_a_worker_started_with_child_ends_ignored_runs_commands(farm: Farm) -> None:
    farm.drop("a", run="exit 3")
    farm.start_python(
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        " os.execv(sys.executable, [sys.executable, '-P', '-m', 'farm', 'worker',"
        f" {str(farm.root)!r}, '--until-done'])",
    )
    result = farm.wait_for("failed", "a")

    assert result["exit_code"] == 3


def test_one_odd_file_does_not_stop_the_look_after_an_unclean_end(farm: Farm) -> None:
    drop_noted(farm, "run")
    farm.drop("odd", run="true")
    farm.work()
    leave_a_death_of_another_boot(farm)
    farm.result_path("job").write_bytes(b"")
    farm.result_path("odd").write_bytes(b"torn")
    (farm.state / "locks" / "task-odd.lock").mkdir()
    farm.work()

    assert farm.status_of("job") == "succeeded"


@pytest.mark.fault(22)
def test_a_folder_where_a_ledger_should_be_is_named_and_holds_nobody(
    farm: Farm,
) -> None:
    farm.work()
    (farm.state / "locks" / "task-odd.lock").mkdir()
    farm.drop("odd", run="true")
    farm.drop("even", run="true")
    done = farm.farm("supervise", str(farm.root), "--until-done", "-j1")

    assert done.returncode == 1
    assert "odd waits: " in done.stdout
    assert "task-odd.lock is not a regular file" in done.stdout
    assert farm.status_of("even") == "succeeded"


def test_a_ledger_left_behind_by_a_finished_task_is_swept(farm: Farm) -> None:
    farm.drop("a", run="exit 3", retries={"max": 1, "base_delay": 0})
    ledger = farm.state / "locks" / "task-a.lock"
    farm.work()
    tidy = not ledger.exists()
    line = {"line": "claimed", "task": "a", "attempt": 1, "token": "t", "holder": "h"}
    who = {"host": "h", "boot": "b", "pidns": 1, "pid": 1, "ticks": 1}
    over = {"line": "ended", "token": "t", "attempt": 1, "why": "failed"}
    ledger.write_text(
        json.dumps(line | {"who": who, "acquired_at": 1.0})
        + "\n"
        + json.dumps(over | {"counted": True, "finished": 2.0})
        + "\n"
    )
    TaskLock(farm.root).clean_all_stale_locks()

    assert tidy
    assert not ledger.exists()


@pytest.mark.fault(7, 8)
def test_a_command_that_hides_from_everything_but_its_group_is_ended(
    farm: Farm,
) -> None:
    gate = farm.gate()
    hidden = f"import os, time; os.closerange(0, 99); {gate.mark}; time.sleep(600)"
    farm.write("hidden.py", hidden.replace("; ", "\n"))
    farm.drop(
        "job",
        run=f"[ $FARM_ATTEMPT = 1 ] || exit 0; exec env -i {sys.executable} hidden.py",
    )
    worker = farm.start_worker()
    (hiding,) = gate.wait_reached()
    ledger = farm.state / "locks" / "task-job.lock"
    wait_until(lambda: '"line":"child"' in ledger.read_text())  # it names the group
    farm.kill(worker)
    farm.work()

    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert process.stat(hiding) is None


def test_what_was_a_dead_workers_part_comes_in_its_turn(farm: Farm) -> None:
    for worker in [farm.start_worker() for _ in range(3)]:
        farm.kill(worker)
        worker.wait()
    ids = [f"t{number:02}" for number in range(20)]
    for task_id in ids:
        farm.drop(task_id, run="true")
    farm.work()
    (journal,) = (farm.state / "journal").iterdir()
    ended = [json.loads(line)["id"] for line in journal.read_text().splitlines()]

    assert ended == ids
