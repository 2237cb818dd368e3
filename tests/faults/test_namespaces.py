"""Containers, time namespaces and process ids that mean something else elsewhere."""

import os
import signal
import sys

import psutil
import pytest

from tests.driver import Farm, Gate, ran, whys
from tests.faults.spaces import (
    OWN_PROC,
    Container,
    born,
    command_with,
    commands_of,
    farm_command,
    inner,
    number_inside,
)
from tests.faults.tools import UNSHARE, needs
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("pid namespace")]

NO_PROC = "--kill-child"  # nothing more than every container here has
TIME_TRAVEL = [*UNSHARE, "--time", "--boottime", "100000", "--fork", "--kill-child"]
NO_REAPER = """
import subprocess, sys
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(sys.argv[1])
subprocess.run(sys.argv[2:])
"""
SAME = 500  # a process id that is used in two containers


def whole(gate: Gate) -> str:
    """A command that says when it begins, waits at the gate, says when it ends."""
    return f"echo begin >> ran; {gate.command}; echo end >> ran"


def drop_recorders(farm: Farm, gates: list[Gate], quick: int) -> list[str]:
    """Tasks that say which they are: one for each gate, and so many quick ones."""
    record = "echo $FARM_TASK_ID >> ran"
    held = [
        farm.drop(f"held-{i}", run=f"{gate.command}; {record}", priority=1)
        for i, gate in enumerate(gates)
    ]
    return held + [farm.drop(f"quick-{i}", run=record) for i in range(quick)]


def drop_call(farm: Farm, task_id: str, gate: Gate) -> None:
    """A callable that waits at the gate in its worker's own process."""
    farm.write(
        "module.py",
        f"def work():\n    {gate.python.replace(chr(10), chr(10) + '    ')}\n",
    )
    farm.drop(task_id, call="module:work")


def lives(process: psutil.Process) -> bool:
    """Whether it can still run code."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.fault(15)
def test_workers_with_one_pid_in_two_containers_share_the_work(farm: Farm) -> None:
    gates = [farm.gate(f"gate-{i}") for i in range(2)]  # their commands' pids are equal
    tasks = drop_recorders(farm, gates, 20)
    for _ in gates:
        Container(farm).start_worker(pid=SAME)
    for gate in gates:
        gate.wait_reached()
    pids = farm.worker_pids()
    for gate in gates:
        gate.open()
    farm.wait_for("succeeded", *tasks)

    assert pids == [SAME, SAME]
    assert sorted(ran(farm)) == sorted(tasks)


@pytest.mark.fault(15)
@pytest.mark.parametrize("life_file", ["kept", "removed by an operator"])
@pytest.mark.parametrize("where", ["outside", "in a container with the same pid"])
def test_a_living_owner_in_a_container_keeps_its_task(
    farm: Farm, where: str, life_file: str
) -> None:
    gate = farm.gate()
    farm.drop("a", run=whole(gate))
    Container(farm).start_worker(pid=SAME)
    gate.wait_reached()
    if life_file != "kept":
        (farm.state / "workers" / f"{farm.worker_names()[0]}.lock").unlink()
    if where == "outside":
        unlocked = farm.farm("unlock", "a")
        farm.start_worker()
    else:
        other = Container(farm)
        unlocked = other.run("unlock", "a")
        other.start_worker(pid=SAME)
    farm.drop("b", run="true")
    farm.wait_for("succeeded", "b")
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert unlocked.returncode == 1, unlocked.stdout
    assert whys(result) == ["succeeded"]
    assert ran(farm) == ["begin", "end"]


@pytest.mark.fault(7, 15)
def test_a_command_that_outlives_its_worker_keeps_the_task_from_other_containers(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=whole(gate))
    worker = Container(farm).start_worker()
    gate.wait_reached()
    farm.kill(inner(worker))
    farm.start_worker()
    Container(farm).start_worker()
    for name in ("b", "c"):
        farm.drop(name, run="true")
    farm.wait_for("succeeded", "b", "c")
    unlocked = farm.farm("unlock", "a")
    alone = ran(farm)
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert alone == ["begin"]
    assert unlocked.returncode == 1, unlocked.stdout
    assert "is dead, but something that it started there" in unlocked.stdout
    assert whys(result) == ["lost", "succeeded"]
    assert ran(farm) == ["begin", "end", "begin", "end"]


@pytest.mark.fault(7, 15)
def test_a_worker_of_the_same_container_ends_what_a_dead_one_left(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; }}")
    box = Container(farm)
    worker = box.start_worker()
    [pid] = gate.wait_reached()
    orphan = command_with(farm, "a", pid)
    farm.kill(inner(worker))
    box.start_worker()
    result = farm.wait_for("succeeded", "a")

    assert whys(result) == ["lost", "succeeded"]
    assert not lives(orphan)


@pytest.mark.fault(15, 51)
def test_what_a_container_held_is_rescued_outside_when_it_is_gone(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; }}")
    box = Container(farm)
    box.start_worker()
    gate.wait_reached()
    farm.supervise("-j1")
    box.end()

    assert whys(farm.wait_for("succeeded", "a")) == ["lost", "succeeded"]


@pytest.mark.fault(51)
def test_a_supervisor_outside_cleans_up_and_leaves_a_container_in_peace(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=whole(gate))
    inside = Container(farm).start_worker()
    [name] = farm.worker_names()
    gate.wait_reached()
    supervisor = farm.supervise("-j1")
    born(farm, supervisor, {name})
    [other] = psutil.Process(supervisor.pid).children()
    farm.kill(other.pid)
    wait_until(lambda: "another starts" in farm.describe())
    farm.drop("b", run="true")
    farm.wait_for("succeeded", "b")
    alive = inside.poll() is None and name in farm.worker_names()
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert alive
    assert whys(result) == ["succeeded"]
    assert result["worker"] == name
    assert ran(farm) == ["begin", "end"]


# -- a container without a /proc of its own ----------------------------------------


@pytest.mark.fault(16)
def test_without_its_own_proc_tasks_end_as_they_do_elsewhere(farm: Farm) -> None:
    farm.write("module.py", "def work():\n    return 7\n")
    farm.drop("good", run="sleep 1000 & true")
    farm.drop("bad", run="sleep 1000 & exit 3")
    farm.drop("slow", run="sleep 1000", timeout=0.2)
    farm.drop("called", call="module:work")
    Container(farm, NO_PROC).start_worker()
    farm.wait_for("succeeded", "good", "called")
    farm.wait_for("failed", "bad")
    farm.wait_for("timed_out", "slow")

    ended = ("good", "bad", "slow")
    wait_until(lambda: not any(commands_of(farm, name) for name in ended))  # killed


@pytest.mark.fault(16)
def test_without_its_own_proc_a_group_elsewhere_is_not_waited_for(farm: Farm) -> None:
    # Process 1 reaps no orphans here, so the group stays to be asked for; and a group
    # outside has the same number, and never ends.
    others = os.getpgid(0)
    command = f"sleep 1000 & test $$ = {others}"
    farm.drop("a", run=command)
    worker = farm_command(farm, "worker")
    unshare = [*UNSHARE, "--pid", "--fork", "--kill-child"]
    last = str(others - 3)  # the worker and a thread of its are between
    farm.start_command(*unshare, sys.executable, "-c", NO_REAPER, last, *worker)

    assert farm.wait_for("succeeded", "a", timeout=10)


@pytest.mark.fault(16)
def test_without_its_own_proc_a_beating_worker_is_not_called_silent(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    # more than a machine stands still
    farm.environ |= {"FARM_HEARTBEAT_TIMEOUT": "5", "FARM_GRACE": "0.2"}
    Container(farm, NO_PROC).start_verb("supervise", "-j1")
    gate.wait_reached()
    [name] = farm.worker_names()
    life = farm.state / "workers" / f"{name}.lock"
    wait_until(lambda: not life.exists() or int(life.read_text().split()[0]) > 26)
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert whys(result) == ["succeeded"]
    assert "no heartbeat" not in farm.describe()


@pytest.mark.fault(14, 16)
@pytest.mark.parametrize("proc", [OWN_PROC, NO_PROC])
def test_a_dead_workers_pid_that_is_used_again_is_neither_killed_nor_its_owner(
    farm: Farm, proc: str
) -> None:
    gate = farm.gate()
    drop_call(farm, "a", gate)
    box = Container(farm, proc)
    worker = box.start_worker(pid=SAME)
    assert gate.wait_reached() == [SAME]
    farm.kill(inner(worker))
    worker.wait()
    innocent = psutil.Process(inner(box.start("setsid", "sleep", "1000", pid=SAME)))
    gate.open()
    box.start_worker()
    result = farm.wait_for("succeeded", "a")

    assert number_inside(innocent.pid) == SAME
    assert whys(result) == ["lost", "succeeded"]
    assert lives(innocent)


def is_gone(group: int) -> bool:
    """Whether a process group has no member any more."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.fault(14)
def test_a_dead_commands_pid_that_is_used_again_is_not_killed(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; }}")
    box = Container(farm)
    worker = box.start_worker()
    [pid] = gate.wait_reached()
    group = os.getpgid(command_with(farm, "a", pid).pid)
    farm.kill(inner(worker))
    worker.wait()
    os.killpg(group, signal.SIGKILL)
    wait_until(lambda: is_gone(group))  # as long as it has members its number is taken
    innocent = psutil.Process(inner(box.start("setsid", "sleep", "1000", pid=pid)))
    wait_until(lambda: innocent.name() == "sleep")
    box.start_worker()
    result = farm.wait_for("succeeded", "a")

    assert number_inside(innocent.pid) == pid
    assert whys(result) == ["lost", "succeeded"]
    assert lives(innocent)


# -- a time namespace ---------------------------------------------------------------


@pytest.mark.fault(17)
@needs("time namespace")
@pytest.mark.parametrize("life_file", ["kept", "removed by an operator"])
def test_a_living_owner_in_a_time_namespace_keeps_its_task(
    farm: Farm, life_file: str
) -> None:
    gate = farm.gate()
    farm.drop("a", run=whole(gate))
    farm.start_command(*TIME_TRAVEL, *farm_command(farm, "worker"))
    gate.wait_reached()
    [name] = farm.worker_names()
    if life_file != "kept":
        (farm.state / "workers" / f"{name}.lock").unlink()
    unlocked = farm.farm("unlock", "a")
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert unlocked.returncode == 1, unlocked.stdout
    assert whys(result) == ["succeeded"]
    assert ran(farm) == ["begin", "end"]


@pytest.mark.fault(7, 17)
@needs("time namespace")
def test_what_a_dead_worker_of_a_time_namespace_left_is_ended(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; }}")
    worker = farm.start_command(*TIME_TRAVEL[:-1], *farm_command(farm, "worker"))
    [pid] = gate.wait_reached()
    orphan = command_with(farm, "a", pid)
    [number] = farm.worker_pids()
    farm.kill(number)
    farm.start_worker()
    result = farm.wait_for("succeeded", "a")

    assert worker.wait() != 0
    assert whys(result) == ["lost", "succeeded"]
    assert not lives(orphan)


# -- two hosts of one name, two supervisors --------------------------------------------


def host(farm: Farm, name: str) -> Container:
    """A container with this host name."""
    return Container(farm, OWN_PROC, "--uts").named(name)


@pytest.mark.fault(18)
def test_two_supervisors_on_hosts_of_one_name_run_everything_once(farm: Farm) -> None:
    gates = [farm.gate(f"gate-{i}") for i in range(2)]
    tasks = drop_recorders(farm, gates, 10)
    first = host(farm, "twin").start_verb("supervise", "-j2", "--until-done")
    for gate in gates:
        gate.wait_reached()
    ours = set(farm.worker_names())
    second = host(farm, "twin").start_verb("supervise", "-j2", "--until-done")
    wait_until(lambda: second.poll() is not None or len(farm.worker_names()) > 2)
    both = set(farm.worker_names())
    for gate in gates:
        gate.open()
    farm.wait_for("succeeded", *tasks)

    assert ours <= both
    assert sorted(ran(farm)) == sorted(tasks)
    assert first.wait() == 0
    assert second.wait() in (0, 2)  # it works, too, or says who has the project


PATIENCE = {
    "alpha": {},  # its worker may stand still for a while
    "beta": {"FARM_HEARTBEAT_TIMEOUT": "5", "FARM_GRACE": "0.2"},
}


@pytest.mark.fault(15)
def test_a_supervisor_does_not_take_another_containers_worker_for_its_own(
    farm: Farm,
) -> None:
    supervisors = []
    for name in ("alpha", "beta"):  # whose files beta would find first
        box, before = host(farm, name), set(farm.worker_names())
        patience = PATIENCE[name]
        popen = box.start_verb("supervise", "-j1", pid=SAME, **patience)
        born(farm, popen, before)
        supervisors.append(popen)
    healthy, stuck = sorted(farm.worker_names())
    pids = farm.worker_pids()
    [worker] = psutil.Process(inner(supervisors[1])).children()
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: stuck not in farm.worker_names(), on_timeout=farm.describe)

    assert pids[0] == pids[1]
    assert healthy in farm.worker_names()
    assert f"worker {stuck}: no heartbeat" in farm.logs[-1].read_text()
