"""Commands and callables that fight: nothing of them outlives its attempt.

A command may outlive its worker, hide, unlock, multiply, print without end or wait
where no signal reaches it; a task may take its worker with it each time. None of
that runs twice at once, and none of it disturbs other tasks.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm import process
from farm.locking import TaskLock
from tests.driver import Farm, Gate, whys
from tests.faults.tools import needs
from tests.faults.tracing import inject, work_traced
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def drop_script(farm: Farm, text: str, *args: str, **task: Any) -> Gate:
    """The task `job` runs this Python text; its arguments are a gate and these."""
    script, gate = farm.write("script.py", text), farm.gate()
    command = [sys.executable, str(script), str(gate.folder), *args]
    farm.drop("job", run=command, **task)
    return gate


# -- what clings to its task -----------------------------------------------------------

CLINGS = """
import fcntl, os, signal, sys, time

gate, trick = sys.argv[1:]
inside = os.open("inside", os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open("overlaps", "w").close()
if os.environ["FARM_ATTEMPT"] != "1":
    sys.exit()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if trick == "daemon":
    if os.fork():
        time.sleep(1000)
    os.setsid()
    if os.fork():
        os._exit(0)
else:
    inherited = [int(name) for name in os.listdir("/proc/self/fd")]
    for fd in inherited:
        if fd > 2 and fd != inside and os.path.exists(f"/proc/self/fd/{fd}"):
            fcntl.flock(fd, getattr(fcntl, trick))
open(f"{gate}/reached.{os.getpid()}", "w").close()
while not os.path.exists(f"{gate}/open"):
    time.sleep(0.02)
"""
LOCKS = ["LOCK_UN", "LOCK_SH", "LOCK_EX"]


@pytest.mark.fault(7, 8, 9)
@pytest.mark.parametrize("trick", ["daemon", *LOCKS])
def test_what_clings_to_a_dead_workers_task_is_ended_before_the_task_runs_again(
    farm: Farm, trick: str
) -> None:
    gate = drop_script(farm, CLINGS, trick)
    worker = farm.start_worker()
    (clings,) = gate.wait_reached()
    farm.kill(worker)
    lives_on = psutil.pid_exists(clings)
    told = json.loads(farm.farm("status", "--json").stdout)
    farm.work()

    assert lives_on
    assert [w["health"] for w in told["workers"]] == ["dead"]
    assert told["counts"]["running"] == 0
    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert not (farm.root / "overlaps").exists()
    assert farm.left_behind() == []


@pytest.mark.fault(8)
@pytest.mark.parametrize("trick", LOCKS)
def test_what_a_command_does_to_the_lock_it_inherited_lets_nobody_in(
    farm: Farm, trick: str
) -> None:
    gate = drop_script(farm, CLINGS, trick)
    farm.start_worker()
    gate.wait_reached()
    taken = TaskLock(farm.root).acquire("job")
    gate.open()
    result = farm.wait_for("succeeded", "job")

    assert taken is False
    assert whys(result) == ["succeeded"]
    assert not (farm.root / "overlaps").exists()


# -- what a task that succeeded leaves behind -----------------------------------------------

OWN_GROUP = """
import subprocess

left = subprocess.Popen(["sleep", "600"], env={}, process_group=0)
print(left.pid, file=open("left", "w"))
"""
LEAVES = {
    "a job of a shell": ["bash", "-c", "set -m; sleep 600 & echo $! > left"],
    "a pipeline of it": [
        "bash",
        "-c",
        "set -m; sleep 600 | sleep 600 & echo $! > left",
    ],
    "a group without our environment and descriptors": [
        sys.executable,
        "-c",
        OWN_GROUP,
    ],
    "a group below a group": [
        "bash",
        "-c",
        "set -m; timeout 600 sleep 600 & echo $! > left",
    ],
}
OLD = 'patch("farm.child._YOUNG", -1.0).start()'


@pytest.mark.fault(8)
@pytest.mark.parametrize("change", ["", OLD], ids=["quick", "long"])
@pytest.mark.parametrize("command", LEAVES.values(), ids=LEAVES)
def test_what_runs_in_a_group_of_its_own_ends_with_its_task(
    farm: Farm, command: list[str], change: str
) -> None:
    farm.drop("job", run=command)
    farm.start_changed(change, "--until-done").wait(30)
    left = int((farm.root / "left").read_text())

    assert whys(farm.result("job")) == ["succeeded"]
    assert process.stat(left) is None
    assert [p for p in psutil.process_iter() if is_sleep(p, left)] == []


def is_sleep(found: psutil.Process, group: int) -> bool:
    """Whether it is one of a group that a test left behind, and runs."""
    try:
        return os.getpgid(found.pid) == group and process.stat(found.pid) is not None
    except ProcessLookupError:
        return False


@pytest.mark.fault(8)
def test_a_daemon_in_a_session_of_its_own_outlives_a_task_that_succeeded(
    farm: Farm,
) -> None:
    farm.drop(
        "job",
        run="setsid sh -c 'echo $$ > left; exec sleep 600' &"
        " while [ ! -s left ]; do sleep 0.02; done",
    )
    farm.work()
    left = int((farm.root / "left").read_text())
    lives = process.stat(left) is not None
    os.kill(left, signal.SIGKILL)

    assert whys(farm.result("job")) == ["succeeded"]
    assert lives


# -- what multiplies -------------------------------------------------------------------

BOMB = """
import os, signal, sys, time

gate, end = sys.argv[1:]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
leader = os.getpid()
for depth in range(6):
    if os.fork() == 0 and depth % 2:
        os.setsid()
open(f"{gate}/reached.{os.getpid()}", "w").close()
while os.getpid() != leader or end == "never" or len(os.listdir(gate)) < 64:
    time.sleep(0.05)
sys.exit(1)
"""
MEMBERS = 64


@pytest.mark.fault(12)
def test_a_failed_command_of_64_processes_in_many_sessions_is_ended_completely(
    farm: Farm,
) -> None:
    gate = drop_script(farm, BOMB, "when all are there")
    farm.drop("other", run="true")
    farm.work()

    assert len(gate.reached()) == MEMBERS
    assert farm.status_of("job") == "failed"
    assert farm.status_of("other") == "succeeded"
    assert farm.left_behind() == []


@pytest.mark.fault(7, 12)
def test_64_processes_whose_worker_died_are_ended_completely(farm: Farm) -> None:
    gate = drop_script(farm, BOMB, "never")
    worker = farm.start_worker()
    gate.wait_reached(MEMBERS)
    farm.kill(worker)
    farm.drop("job", run="true")  # other bytes: the bomb is not tried again
    code = farm.work()

    assert code == 0
    assert farm.left_behind() == []


# -- what prints without end -----------------------------------------------------------

MUCH = 200 * 2**20  # bytes
MOST_MEMORY = 100 * 1024  # KiB of a worker; half of what it has to pass on
PRINTS = f"""
import sys


def go():
    for _ in range({MUCH // 2**20}):
        sys.stdout.write("x" * 2**20)


if __name__ == "__main__":
    go()
"""


@pytest.mark.fault(9)
@pytest.mark.parametrize("kind", ["run", "call"])
def test_200_megabytes_of_output_are_all_there_and_cost_a_worker_no_memory(
    farm: Farm, kind: str
) -> None:
    script = farm.write("prints.py", PRINTS)
    calls = {"call": "prints:go"}
    farm.drop(
        "job", **(calls if kind == "call" else {"run": [sys.executable, str(script)]})
    )
    worker = farm.start_worker()
    result = farm.wait_for("succeeded", "job")
    status = Path(f"/proc/{worker.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)

    assert (farm.root / result["stdout_path"]).stat().st_size == MUCH
    assert farm.result_path("job").stat().st_size < 2**16
    assert peak is not None
    assert int(peak[1]) < MOST_MEMORY


# -- what no signal reaches ------------------------------------------------------------

VFORK = """
import ctypes, os, sys, time

gate = sys.argv[1]
if ctypes.PyDLL(None).vfork() == 0:  # the parent waits, uninterruptibly, for our end
    open(f"{gate}/reached.{os.getppid()}", "w").close()
    time.sleep(1000)
"""


@pytest.mark.fault(10)
def test_a_command_in_an_uninterruptible_wait_is_shown_and_ended_at_its_deadline(
    farm: Farm,
) -> None:
    gate = drop_script(farm, VFORK, timeout=2)
    farm.start_worker(FARM_GRACE="0.5")
    result = farm.wait_for("timed_out", "job")
    ended = gate.reached()
    farm.drop("other", run="true")
    farm.wait_for("succeeded", "other")
    gate = drop_script(farm, VFORK)  # other bytes
    farm.result_path("job").unlink()
    (waits,) = set(gate.wait_reached(len(ended) + 1)) - set(ended)
    wait_until(lambda: psutil.Process(waits).status() == psutil.STATUS_DISK_SLEEP)
    told = json.loads(farm.farm("status", "--json").stdout)

    assert whys(result) == ["timed_out"]
    assert not any(map(psutil.pid_exists, ended))
    assert [run["id"] for run in told["running"]] == ["job"]


# -- what runs out of memory -----------------------------------------------------------


@pytest.mark.fault(11)
@needs("prlimit")
def test_a_command_without_memory_fails_and_says_so(farm: Farm) -> None:
    takes = [sys.executable, "-c", "bytearray(10**9)"]
    farm.drop("job", run=["prlimit", "--as=500000000", *takes])
    farm.work()

    assert farm.status_of("job") == "failed"
    assert farm.result("job")["error"]["message"] == "exit code 1: MemoryError"


LIMITED = """
import os, resource, sys

resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))
os.execv(sys.executable, [sys.executable, "-P", "-m", "farm", *sys.argv[1:]])
"""


@pytest.mark.fault(11)
def test_a_callable_without_memory_fails_and_its_worker_goes_on(farm: Farm) -> None:
    farm.write("takes.py", "def go():\n    return len(bytearray(4 * 10**9))\n")
    farm.drop("a", call="takes:go")
    farm.drop("b", run="true")
    script = farm.write("limited.py", LIMITED)
    worker = farm.start_python(str(script), "worker", str(farm.root), "--until-done")
    code = worker.wait(30)
    result = farm.result("a")

    assert code == 1
    assert (result["status"], whys(result)) == ("failed", ["failed"])
    assert result["error"]["message"] == "out of memory: MemoryError"
    assert farm.status_of("b") == "succeeded"


# -- what takes its worker with it -----------------------------------------------------

DEADLY = """
import ctypes, os


def kill():
    os.kill(os.getpid(), 9)


def segfault():
    ctypes.string_at(0)
"""
POISONS = [
    pytest.param(
        {"run": "kill -9 $PPID; sleep 1000"}, "SIGKILL", id="kills its parent"
    ),
    pytest.param({"call": "deadly:kill"}, "SIGKILL", id="kills itself"),
    pytest.param({"call": "deadly:segfault"}, "SIGSEGV", id="segfault"),
]


@pytest.mark.fault(11, 13)
@pytest.mark.parametrize(("poison", "named"), POISONS)
def test_poison_ends_lost_with_its_signal_and_other_slots_keep_going(
    farm: Farm, poison: dict[str, str], named: str
) -> None:
    gate = farm.gate()
    farm.write("deadly.py", DEADLY)
    farm.drop("long", run=gate.command)
    supervisor = farm.supervise("-j", "2", "--until-done")
    gate.wait_reached()
    farm.drop("a-poison", **poison)
    others = [farm.drop(f"b{number}", run="true") for number in range(5)]
    result = farm.wait_for("lost", "a-poison")
    gate.open()
    code = supervisor.wait(40)

    assert code == 1
    assert whys(result) == ["lost", "lost", "lost"]
    assert named in result["error"]["message"]
    assert {farm.status_of(i) for i in others} == {"succeeded"}
    assert whys(farm.result("long")) == ["succeeded"]
    assert farm.left_behind() == []


@pytest.mark.fault(13)
def test_without_a_supervisor_poison_takes_three_workers_and_no_more(
    farm: Farm,
) -> None:
    farm.write("deadly.py", DEADLY)
    farm.drop("a-poison", call="deadly:kill")
    farm.drop("b", run="true")
    codes = [farm.work() for _ in range(4)]

    assert codes == [-signal.SIGKILL] * 3 + [1]
    assert farm.status_of("a-poison") == "lost"
    assert farm.status_of("b") == "succeeded"


# -- what the machine refuses ----------------------------------------------------------

HELPLESS = """
import errno
from farm.child import Child


def refused(command):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


Child.start = refused
"""
RESTS = 75


@pytest.mark.fault(13)
def test_a_worker_that_the_machine_fails_each_time_rests_and_the_others_go_on(
    farm: Farm,
) -> None:
    ids = [farm.drop(f"t{number}", run="true") for number in range(5)]
    helpless = farm.start_changed(HELPLESS)
    code = helpless.wait(30)
    farm.start_worker()
    farm.wait_for("succeeded", *ids)
    attempts = [a for i in ids for a in farm.result(i)["attempts"]]
    faults = [a for a in attempts if a["why"] == "fault"]

    assert code == RESTS
    assert len(faults) == 3
    assert {a["counted"] for a in faults} == {False}
    assert os.strerror(11) in farm.logs[0].read_text()


BESIDE_A_HOOK = """
import glob, os, pathlib, time

def nothing():
    pass

def holds_our_lock(pid):
    return any(os.path.realpath(fd).endswith("/task-c.lock")
               for fd in glob.glob(f"/proc/{pid}/fd/*"))

def children():
    for path in glob.glob("/proc/self/task/*/children"):
        yield from pathlib.Path(path).read_text().split()

def hooks_ended():
    return pathlib.Path(".farm/logs/hooks.log").read_text().count("done")

def fail():
    pathlib.Path("c-runs").touch()
    # Some versions of Python stand still while they start a process: nothing is seen.
    while not any(map(holds_our_lock, children())) and hooks_ended() < 2:
        time.sleep(0.001)
    raise ValueError("enough")
"""


@needs("strace")
def test_a_hook_that_is_just_being_started_does_not_belong_to_the_task_that_fails(
    farm: Farm, tmp_path: Path
) -> None:
    hook = "while [ ! -e c-runs ]; do sleep 0.01; done; echo done"
    farm.write("farm.toml", f"[hooks]\non_done = '{hook}'\n")
    farm.write("beside.py", BESIDE_A_HOOK)
    for name in ("a", "b"):
        farm.drop(name, call="beside:nothing")
    farm.drop("c", call="beside:fail")
    slowly = ["-f", "--seccomp-bpf", *inject("setsid", "delay_enter=1500000")]
    work_traced(farm, tmp_path / "trace", slowly)

    assert farm.status_of("c") == "failed"
    assert (farm.state / "logs" / "hooks.log").read_text() == "done\n" * 3
