"""A disk without room, without inodes, read-only, and a limit on the size of files.

The project lies on a small disk of its own, mounted where only its processes see it;
the test looks in through `/proc/PID/root`. Gates and logs lie outside, on a real one.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.driver import Farm, whys
from tests.faults.spaces import farm_command
from tests.faults.tools import NSENTER, UNSHARE, needs
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("mount")]

PAGE = 4096  # a small disk is full when no page is left: what is begun has room still
FULL = "No space left on device"
BYTES = "head -c 4m /dev/zero > filler 2> /dev/null || true"
INODES = (
    "mkdir fillers; n=0; while ln -s x fillers/$n 2> /dev/null; do n=$((n+1)); done"
)


class SmallDisk:
    """A project on a disk of 2 MB and 500 inodes; processes are those of a farm."""

    def __init__(self, outer: Farm) -> None:
        self.outer = outer
        self.path = outer.root / "small"
        self.back = outer.root / "back"
        self.glass = outer.root / "glass"
        self.path.mkdir()
        mount = f"mount -t tmpfs -o size=2m,nr_inodes=500,mode=755 tmpfs {self.path}"
        unshare = [*UNSHARE, "--mount", "--propagation", "private"]
        holder = outer.start_command(
            *unshare, "sh", "-c", f"{mount} && exec sleep 1000"
        )
        wait_until(lambda: psutil.Process(holder.pid).name() == "sleep")
        self.enter = [*NSENTER, f"--target={holder.pid}", "--mount"]
        self.farm = Farm(
            Path(f"/proc/{holder.pid}/root{self.path}")
        )  # to look and drop

    def command(self, verb: str, *args: str) -> list[str]:
        """A verb of farm on this project."""
        command = farm_command(self.outer, verb, *args)
        command[command.index(str(self.outer.root))] = str(self.path)
        return command

    def start(
        self, verb: str, *args: str, before: str = "", log: str = "/dev/stdout"
    ) -> "subprocess.Popen[bytes]":
        """Start a verb in there, perhaps after some shell text."""
        shell = f'{before} cd {self.path}; exec "$@" >> {log} 2>&1'
        command = ["sh", "-c", shell, "sh", *self.command(verb, *args)]
        return self.outer.start_command(*self.enter, *command)

    def start_worker(self, before: str = "") -> "subprocess.Popen[bytes]":
        """Start a worker and wait until it is born."""
        popen = self.start("worker", before=before)
        wait_until(self.farm.worker_names, on_timeout=self.describe)
        return popen

    def run(self, command: str) -> None:
        """Run a shell command in there, in the project's folder."""
        shell = ["sh", "-c", f"cd {self.path} && {command}"]
        subprocess.run([*self.enter, *shell], check=True)

    def cover(self, then: str) -> None:
        """Make the disk read-only, and do something by the back door, still open.

        A mount with files open for writing cannot be made so; one that nobody uses can,
        and is then put on top of it.
        """
        for place in (self.back, self.glass):
            place.mkdir()
            self.run(f"mount --bind {self.path} {place}")
        self.run(f"mount -o remount,bind,ro {self.glass}")
        self.run(f"mount --bind {self.glass} {self.path} && {then}")

    def uncover(self) -> None:
        """Let it be written again, also while somebody reads."""
        self.run(f"cd / && umount --lazy {self.path}")

    def make_room(self) -> None:
        """Give all of it back."""
        self.run("rm -rf filler fillers")

    def describe(self) -> str:
        """What every process said so far."""
        return self.outer.describe() + self.farm.describe()

    def wait_said(self, text: str) -> None:
        """Until one of the processes has said this."""
        wait_until(lambda: text in self.describe(), on_timeout=self.describe)

    def wait_known(self, task_id: str) -> None:
        """Until a worker has written that it runs this: no beat of it writes more."""
        task = f'"task":"{task_id}"'
        health = self.farm.state / "workers"
        wait_until(
            lambda: any(task in path.read_text() for path in health.glob("*.json")),
            on_timeout=self.describe,
        )

    def wait_whys(self, *task_ids: str) -> set[str]:
        """Until these have succeeded; how all their attempts ended."""
        self.farm.wait_for("succeeded", *task_ids)
        return {why for task_id in task_ids for why in whys(self.farm.result(task_id))}

    def end(self) -> None:
        """End what the processes have left."""
        project = Farm(self.path)
        self.outer.end()
        project.end()


@pytest.fixture
def small(farm: Farm) -> Iterator[SmallDisk]:
    farm.environ["FARM_GRACE"] = "0.5"
    there = SmallDisk(farm)
    yield there
    print(there.describe())  # shown only if the test failed
    there.end()


@pytest.mark.fault(25, 26)
@pytest.mark.parametrize("fill", [BYTES, INODES], ids=["bytes", "inodes"])
def test_a_result_waits_until_there_is_room(
    farm: Farm, small: SmallDisk, fill: str
) -> None:
    gate = farm.gate()
    small.farm.drop("a", run=f"echo 7; echo 8 >&2; {gate.command}")
    small.start_worker()
    gate.wait_reached()
    small.wait_known("a")  # what it replaces by this leaves room
    small.run(fill)
    gate.open()
    small.wait_said(f"cannot write the result of a: {FULL}; trying again")
    early = small.farm.status_of("a")
    small.make_room()
    small.farm.wait_for("succeeded", "a")

    assert early is None
    assert whys(small.farm.result("a")) == ["succeeded"]


@pytest.mark.fault(25, 26)
@pytest.mark.parametrize("fill", [BYTES, INODES], ids=["bytes", "inodes"])
@pytest.mark.parametrize("task", [{"run": "echo 7"}, {"call": "module:work"}])
def test_tasks_wait_while_none_can_be_begun(
    small: SmallDisk, fill: str, task: dict[str, str]
) -> None:
    small.farm.write("module.py", "def work():\n    print(7)\n")
    names = [small.farm.drop(f"task-{i}", **task) for i in range(3)]
    small.run("mkdir aside; mv tasks/*.json aside")
    small.start("supervise", "-j1")
    small.wait_said("works on")  # from now on there is a page for what it says
    small.run(f"{fill}; mv aside/*.json tasks")
    small.wait_said(f"task-0: {FULL}")
    small.make_room()
    ends = small.wait_whys(*names)

    assert ends <= {"succeeded", "fault"}
    assert [small.farm.result(name)["stdout"] for name in names] == ["7\n"] * 3
    assert "Traceback" not in small.describe()


@pytest.mark.fault(25)
@pytest.mark.parametrize("task", [{"run": "cat lines"}, {"call": "module:work"}])
def test_output_that_found_no_room_is_no_failure_of_the_task(
    farm: Farm, small: SmallDisk, task: dict[str, str]
) -> None:
    gate = farm.gate()
    lines = "".join(f"{i}\n" for i in range(20_000))
    small.farm.write("lines", lines)
    wait = "    ".join(gate.python.splitlines(keepends=True))
    small.farm.write(
        "module.py", f"def work():\n    {wait}    print(open('lines').read(), end='')\n"
    )
    if "run" in task:
        task = {"run": f"{gate.command}; {task['run']}"}
    small.farm.drop("a", **task)
    small.start_worker()
    gate.wait_reached()
    small.run(BYTES)
    gate.open()
    small.wait_said(f"a: {FULL}")  # its heart may say before that it has no room
    small.make_room()
    ends = small.wait_whys("a")
    kept = small.farm.root / small.farm.result("a")["stdout_path"]

    assert ends == {"fault", "succeeded"}
    assert kept.read_text() == lines


@pytest.mark.fault(26)
def test_what_callables_print_is_not_mixed_up_when_no_inode_was_left(
    farm: Farm, small: SmallDisk
) -> None:
    gate = farm.gate()
    wait = "    ".join(gate.python.splitlines(keepends=True))
    small.farm.write("module.py", f"def work(n):\n    {wait}    print(n)\n")
    names = [small.farm.drop(f"task-{i}", call="module:work", args=[i]) for i in (0, 1)]
    worker = small.start_worker()
    gate.wait_reached()
    small.run(INODES)
    gate.open()
    small.wait_said(f"task-0: {FULL}")  # as above
    small.make_room()
    ends = small.wait_whys(*names)

    assert ends <= {"succeeded", "fault"}
    assert [small.farm.result(name)["stdout"] for name in names] == ["0\n", "1\n"]
    assert worker.poll() is None


@pytest.mark.fault(25)
def test_a_worker_that_cannot_write_its_health_is_not_called_dead(
    farm: Farm, small: SmallDisk
) -> None:
    gate = farm.gate()
    small.farm.drop("a", run=gate.command)
    farm.environ |= {"FARM_HEARTBEAT_TIMEOUT": "5"}  # more than a machine stands still
    small.run(f"{BYTES}; truncate -s -64K filler")
    small.start("supervise", "-j1")
    gate.wait_reached()
    small.run("head -c 4m /dev/zero > filler2 2> /dev/null || true")
    [name] = small.farm.worker_names()
    life = small.farm.state / "workers" / f"{name}.lock"
    wait_until(lambda: not life.exists() or int(life.read_text().split()[0]) > 26)
    gate.open()
    small.run("rm filler filler2")
    small.farm.wait_for("succeeded", "a")

    assert whys(small.farm.result("a")) == ["succeeded"]
    assert small.farm.result("a")["worker"] == name


@pytest.mark.fault(25)
def test_a_supervisor_whose_own_log_finds_no_room_goes_on(small: SmallDisk) -> None:
    supervisor = small.start("supervise", "-j1", log="said.log")
    wait_until(small.farm.worker_names, on_timeout=small.describe)
    [worker] = wait_until(psutil.Process(supervisor.pid).children)
    small.run(f"head -c {PAGE} /dev/zero > zeros; truncate -s {PAGE} said.log")
    small.run(BYTES)
    worker.kill()
    wait_until(lambda: supervisor.poll() is not None or not worker.is_running())
    wait_until(
        lambda: (
            supervisor.poll() is not None or psutil.Process(supervisor.pid).children()
        )
    )
    small.make_room()
    small.farm.drop("a", run="echo 7")
    small.farm.wait_for("succeeded", "a")

    assert supervisor.poll() is None


@pytest.mark.fault(24)
def test_nothing_begins_on_a_read_only_disk_until_it_can_be_written(
    farm: Farm, small: SmallDisk
) -> None:
    gate = farm.gate()
    small.start("supervise", "-j1")
    wait_until(small.farm.worker_names, on_timeout=small.describe)
    small.farm.drop(".a", run=gate.command)
    small.cover(f"mv {small.back}/tasks/.a.json {small.back}/tasks/a.json")
    small.wait_said("Read-only file system")
    early = gate.reached()
    small.uncover()
    gate.wait_reached()
    gate.open()
    ends = small.wait_whys("a")

    assert early == []
    assert ends <= {"succeeded", "fault"}


@pytest.mark.fault(24)
def test_a_result_waits_until_the_disk_can_be_written(
    farm: Farm, small: SmallDisk
) -> None:
    gate = farm.gate()
    small.farm.drop("a", run=gate.command)
    small.start_worker()
    gate.wait_reached()
    small.cover("true")
    gate.open()
    small.wait_said("cannot write the result of a: Read-only file system")
    early = small.farm.status_of("a")
    small.uncover()
    small.farm.wait_for("succeeded", "a")

    assert early is None
    assert whys(small.farm.result("a")) == ["succeeded"]


@pytest.mark.fault(32)
@needs("prlimit")
def test_a_limit_on_the_size_of_files_ends_the_command_and_not_the_worker(
    small: SmallDisk,
) -> None:
    small.farm.write("lines", "x" * 100_000)
    small.farm.drop("big", run=["cat", "lines"], priority=1)
    small.farm.drop("small", run="echo 7")
    worker = small.start_worker(before="ulimit -f 64;")
    small.farm.wait_for("failed", "big")
    small.farm.wait_for("succeeded", "small")

    assert small.farm.result("big")["error"]["message"] == "killed by SIGXFSZ"
    assert worker.poll() is None


# -- one who fills the disk -----------------------------------------------------------

FLOODS: dict[str, dict[str, Any]] = {
    "command": {"run": "yes"},
    "command that goes on": {
        "run": "while :; do yes 2> /dev/null; sleep 0.05; done",
    },
    "command with a secret": {
        "run": "yes 2> /dev/null | tee /dev/null; echo $MY_TOKEN; false",
        "env_from": ["MY_TOKEN"],
        "timeout": 3,
    },
    "callable": {"call": "flood:go"},
    "callable that goes on": {"call": "flood:on"},
}
FLOOD = """
import time

def go():
    while True:
        print("y" * 4000)

def on():
    while True:
        try:
            go()
        except OSError:
            time.sleep(0.05)
"""


@pytest.mark.fault(25)
@pytest.mark.parametrize("kind", FLOODS)
def test_a_task_that_prints_until_the_disk_is_full_fails_and_others_go_on(
    farm: Farm, small: SmallDisk, kind: str
) -> None:
    farm.environ["MY_TOKEN"] = "hidden-from-all"
    small.farm.write("flood.py", FLOOD)
    small.farm.drop("0bad", **FLOODS[kind])
    others = [small.farm.drop(f"good-{n}", run=f"echo {n}") for n in range(4)]
    small.start("supervise", "-j2", "--until-done")
    small.farm.wait_for("succeeded", *others)
    wait_until(lambda: small.farm.status_of("0bad"), on_timeout=small.describe)
    result = small.farm.result("0bad")

    assert result["status"] in ("failed", "timed_out")
    assert whys(result)[-1] in ("failed", "timed_out")
    assert len(result["attempts"]) == 1
    assert result["stdout_left_out"] > 0
