"""`farm drain`."""

import fcntl
import signal
import subprocess
from pathlib import Path

import pytest

from farm import process
from farm.project import Project
from tests.cli.conftest import Run
from tests.driver import Farm, said
from tests.lives import lay_life_file
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SLOW = {"FARM_HEARTBEAT": "30", "FARM_HEARTBEAT_TIMEOUT": "90"}


def orders(farm: Farm) -> list[str]:
    return [path.name for path in (farm.state / "control").iterdir()]


def start_drain(farm: Farm) -> "subprocess.Popen[bytes]":
    """`farm drain` in the background, once it waits for somebody."""
    verb = farm.start("drain")
    wait_until(lambda: "waiting for" in said(farm, verb), on_timeout=farm.describe)
    return verb


# -- nobody is there -------------------------------------------------------------------


def test_where_nobody_works_it_returns_at_once(run: Run, project: Project) -> None:
    code, out, err = run("drain", "-C", project.root)

    assert (code, out, err) == (0, "", "drained: nobody works here any more\n")
    assert list(Path(project.control).iterdir()) == []


def test_the_dead_are_not_waited_for(run: Run, project: Project) -> None:
    lay_life_file(project, "dead", process.identify())
    Path(project.supervisor_path("east")).write_text("41\n")
    code, _, _ = run("drain", "-C", project.root)

    assert code == 0


def test_supervisors_of_other_hosts_are_waited_for(farm: Farm) -> None:
    project = Project.open(farm.root)
    path = Path(project.supervisor_path("east"))
    path.write_text("41\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        verb = start_drain(farm)
        waited = verb.poll() is None

    assert verb.wait(30) == 0
    assert waited
    assert "waiting for supervisor on east" in said(farm, verb)
    assert orders(farm) == []


# -- workers ---------------------------------------------------------------------------


def test_idle_workers_end_and_the_file_is_removed(farm: Farm) -> None:
    workers = [farm.start_worker() for _ in range(2)]
    drained = farm.farm("drain")

    assert drained.returncode == 0
    assert [worker.wait(30) for worker in workers] == [0, 0]
    assert farm.worker_names() == []
    assert orders(farm) == []


def test_what_runs_is_waited_for_and_nothing_new_starts(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="true")
    worker = farm.start_worker()
    gate.wait_reached()
    verb = start_drain(farm)
    waited = verb.poll() is None
    gate.open()

    assert verb.wait(30) == 0
    assert worker.wait(30) == 0
    assert waited
    assert farm.status_of("a") == "succeeded"
    assert farm.status_of("b") is None


def test_supervisors_and_lone_workers_end_alike(farm: Farm) -> None:
    supervisor = farm.supervise("-j", "2")
    wait_until(lambda: len(farm.worker_pids()) == 2, on_timeout=farm.describe)
    worker = farm.start_worker()
    drained = farm.farm("drain")

    assert drained.returncode == 0
    assert (supervisor.wait(30), worker.wait(30)) == (0, 0)
    assert farm.left_behind() == []
    assert orders(farm) == []


def test_a_supervisor_that_rests_with_no_worker_ends_too(farm: Farm) -> None:
    supervisor = farm.supervise("-j", "1")
    wait_until(farm.worker_pids, on_timeout=farm.describe)
    farm.farm("scale", "0")
    drained = farm.farm("drain")

    assert drained.returncode == 0
    assert supervisor.wait(30) == 0


@pytest.fixture
def slow(farm: Farm) -> "subprocess.Popen[bytes]":
    """A worker that runs `a` at a gate and looks for orders only after that."""
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker(**SLOW)
    gate.wait_reached()
    return worker


@pytest.fixture
def supervisor(
    farm: Farm, slow: "subprocess.Popen[bytes]"
) -> "subprocess.Popen[bytes]":
    """A supervisor beside it, whose worker is idle."""
    popen = farm.supervise("-j", "1")
    wait_until(lambda: len(farm.worker_pids()) == 2, on_timeout=farm.describe)
    return popen


def test_a_worker_that_hears_of_it_late_ends_all_the_same(
    farm: Farm,
    slow: "subprocess.Popen[bytes]",
    supervisor: "subprocess.Popen[bytes]",
) -> None:
    verb = start_drain(farm)
    supervisor.wait(30)
    farm.gate().open()

    assert slow.wait(20) == 0
    assert verb.wait(30) == 0
    assert orders(farm) == []


def test_an_order_by_hand_is_not_taken_away_while_somebody_works(
    farm: Farm,
    slow: "subprocess.Popen[bytes]",
    supervisor: "subprocess.Popen[bytes]",
) -> None:
    (farm.state / "control" / "drain").touch()
    supervisor.wait(30)
    farm.gate().open()

    assert slow.wait(20) == 0


def test_workers_that_start_afterwards_work_as_usual(farm: Farm) -> None:
    farm.supervise("-j", "1")
    wait_until(farm.worker_pids, on_timeout=farm.describe)
    farm.farm("drain")
    farm.drop("a", run="true")
    farm.supervise("-j", "1")
    farm.wait_for("succeeded", "a")


def test_a_death_meanwhile_is_an_end_too(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    verb = start_drain(farm)
    farm.kill(worker)

    assert verb.wait(30) == 0
    assert farm.status_of("a") is None


def test_two_who_drain_both_return(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    verbs = [start_drain(farm) for _ in range(2)]
    gate.open()

    assert [verb.wait(30) for verb in verbs] == [0, 0]
    assert orders(farm) == []


def test_after_ctrl_c_the_workers_end_all_the_same(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    verb = start_drain(farm)
    farm.signal(verb, signal.SIGINT)
    code = verb.wait(30)
    gate.open()

    assert code == 130
    assert "Traceback" not in said(farm, verb)
    assert worker.wait(30) == 0
    assert farm.status_of("a") == "succeeded"


def test_many_are_not_all_named(farm: Farm) -> None:
    project = Project.open(farm.root)
    held = []
    for number in range(7):
        path = Path(project.supervisor_path(f"east-{number}"))
        path.touch()
        held.append(path.open())
        fcntl.flock(held[-1], fcntl.LOCK_EX)
    verb = start_drain(farm)
    for file in held:
        file.close()

    assert verb.wait(30) == 0
    assert "east-4, ... (Ctrl-C" in said(farm, verb)
    assert "east-5" not in said(farm, verb)
