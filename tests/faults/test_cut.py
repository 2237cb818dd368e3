"""What is left of a farm when its machine loses its power: a real one, in the middle.

The machine is a guest with a disk of its own. Tasks tell of each of their runs, and
a witness of each end that a worker told of, on the machine's console: a record that
is outside and none of farm's.
"""

import json
import random
from typing import Any

import pytest

from tests.driver import whys
from tests.faults.machines import TELL, Machine
from tests.faults.tools import needs

pytestmark = [pytest.mark.processes, needs("root")]

JOB = f"""
import time, uuid
{TELL}
def run(seconds):
    tell("ran")
    time.sleep(seconds)
    return uuid.uuid4().hex

def hold():
    tell("held")
    while not os.path.exists("open"):
        time.sleep(0.05)
"""

#: Reads what a worker says; the digests of results that it has told of.
WITNESS = """
import hashlib, re, sys

for line in sys.stdin:
    if found := re.match(r"\\S+  (\\S+) succeeded in", line):
        with open(f"tasks/{found[1]}.result.json", "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        print("acknowledged", found[1], digest, flush=True)
    else:
        print(line, end="", flush=True)
"""

WORKER = "cd /mnt; farm worker . 2>&1 | python witness.py"


def begin(machine: Machine, tasks: dict[str, dict[str, Any]]) -> None:
    """Boot, with a project of these tasks safely on the disk."""
    for name, text in (("job.py", JOB), ("witness.py", WITNESS)):
        (machine.folder / name).write_text(text)
    dropped = [f"{task_id} {json.dumps(task)}\n" for task_id, task in tasks.items()]
    (machine.folder / "tasks").write_text("".join(dropped))
    machine.boot()
    machine.run(f"""
        mount /dev/vda /mnt
        mkdir /mnt/tasks
        cp {machine.at}/*.py /mnt
        while read -r id task; do echo "$task" > /mnt/tasks/$id.json; done \\
            < {machine.at}/tasks
        sync
    """)


def come_back(machine: Machine) -> dict[str, str]:
    """Power again: the digests of the results that the disk still has, by task."""
    machine.cut()
    machine.boot()
    machine.run("mount /dev/vda /mnt")
    return digests(machine)


def digests(machine: Machine) -> dict[str, str]:
    """Digests of all results, empty ones too."""
    said = machine.run("cd /mnt/tasks; sha256sum *.result.json 2>/dev/null || true")
    pairs = (line.split() for line in said.splitlines())
    return {name.removesuffix(".result.json"): digest for digest, name in pairs}


def acknowledged(machine: Machine) -> dict[str, str]:
    """The same, of those that workers have told of since the machine was booted."""
    pairs = (pair.split() for pair in machine.told(r"acknowledged (.+)"))
    return dict(pairs)


def results(machine: Machine) -> dict[str, dict[str, Any]]:
    """All results, read."""
    lines = machine.run("cd /mnt/tasks; cat *.result.json").splitlines()
    return {result["id"]: result for result in map(json.loads, lines)}


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("durability", "seconds", "count"),
    [
        pytest.param("always", 0.0, 200, id="always"),
        pytest.param("auto", 0.12, 40, id="auto, and they took a while"),
    ],
)
def test_what_was_told_of_survives_the_cut_and_never_runs_again(
    machine: Machine, durability: str, seconds: float, count: int
) -> None:
    ids = [f"t{number}" for number in range(count)]
    begin(machine, {i: {"call": "job:run", "args": [seconds]} for i in ids})
    for _ in range(2):
        machine.start(f"export FARM_DURABILITY={durability}; {WORKER}")
    machine.wait_told("acknowledged .+", random.randint(5, count // 2))
    machine.cut()
    told = acknowledged(machine)
    left = come_back(machine)
    machine.run("cd /mnt; farm worker . --until-done")
    again, later, ended = machine.told("ran (.+)"), digests(machine), results(machine)

    assert {i: left.get(i) for i in told} == told
    assert not told.keys() & set(again)
    assert {i: later.get(i) for i in told} == told
    assert [ended[i]["status"] for i in ids] == ["succeeded"] * len(ids)


@pytest.mark.fault(35, 36)
def test_results_that_a_cut_emptied_run_again_and_no_others(machine: Machine) -> None:
    ids = [f"t{number}" for number in range(40)]
    begin(machine, {i: {"call": "job:run", "args": [0.0]} for i in ids})
    machine.start(f"export FARM_DURABILITY=never; {WORKER}")
    machine.wait_told("acknowledged .+", 20)
    machine.run("cd /mnt; echo > mine; sync mine")  # takes names of results with it
    left = come_back(machine)
    whole = {i for i, digest in left.items() if digest != EMPTY}
    machine.run("cd /mnt; farm worker . --until-done")
    again, ended = machine.told("ran (.+)"), results(machine)

    assert EMPTY in left.values()
    assert sorted(again) == sorted(set(ids) - whole)
    assert [ended[i]["status"] for i in ids] == ["succeeded"] * len(ids)


@pytest.mark.fault(19)
@pytest.mark.parametrize("verb", ["worker", "supervise"])
def test_what_ran_when_the_power_went_is_called_lost_and_runs_again(
    machine: Machine, verb: str
) -> None:
    begin(machine, {"job": {"call": "job:hold"}})
    machine.start("cd /mnt; farm supervise . -j 1")
    machine.wait_told("held job")
    boot = machine.run("sync; cat /proc/sys/kernel/random/boot_id")
    come_back(machine)
    machine.run(f"""
        cd /mnt
        farm status --json > {machine.at}/status || true
        touch open
        farm {verb} . --until-done
    """)
    status = json.loads((machine.folder / "status").read_text())
    (result,) = results(machine).values()

    assert boot != machine.run("cat /proc/sys/kernel/random/boot_id")
    assert [worker["health"] for worker in status["workers"]] == ["dead"]
    assert status["counts"]["running"] == 0
    assert machine.told("held (.+)") == ["job"]
    assert whys(result) == ["lost", "succeeded"]


@pytest.mark.fault(13, 35)
def test_a_task_that_takes_its_machine_with_it_is_given_up(machine: Machine) -> None:
    # A claim is not synced: the kernel writes it out by itself, in about 5 seconds.
    begin(machine, {"job": {"run": "sync; echo c > /proc/sysrq-trigger"}})
    for _ in range(2):
        machine.start(
            "cd /mnt; FARM_MAX_LOST=1 farm worker . --until-done || echo over"
        )
        if not machine.dies_before("over"):
            break
        come_back(machine)
    (result,) = results(machine).values()

    assert result["status"] == "lost"


#: Whether the one worker here is still seen by its process id and start time.
SEES = """
import sys

from farm import life, process
from farm.project import Project

(name,) = life.living(Project("."))
record = life.read(Project("."), name)
sys.exit(not process.is_alive(record[1].who))
"""


@pytest.mark.fault(34)
@pytest.mark.parametrize("step", ["+2 hours", "-2 hours"])
def test_a_step_of_the_clock_makes_nobody_dead_or_late(
    machine: Machine, step: str
) -> None:
    begin(machine, {"job": {"call": "job:hold", "timeout": "1h"}})
    (machine.folder / "sees.py").write_text(SEES)
    machine.start("cd /mnt; farm supervise . -j 1")
    machine.wait_told("held job")
    machine.run(f"""
        date -s '{step}'
        cd /mnt
        python {machine.at}/sees.py
        farm worker . --until-done 2> {machine.at}/other &
        until grep works {machine.at}/other; do sleep 0.1; done
        touch open
        wait $!
    """)
    (result,) = results(machine).values()

    assert machine.told("held (.+)") == ["job"]
    assert whys(result) == ["succeeded"]
