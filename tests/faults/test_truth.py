"""`farm status` and `farm workers` tell the truth about workers that do not work.

A dead worker is called dead, a stuck one stuck, and the reason is named.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farm.project import Project
from farm.report import Report, survey
from tests.driver import Farm
from tests.faults.tools import MEMORY, needs
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

GREEDY = """
def eat():
    meal = []
    while True:
        meal.append(bytes(10_000_000))
"""


def look(farm: Farm) -> Report:
    return survey(Project(farm.root))


def health(farm: Farm) -> list[str]:
    """What is said of every worker; none of those that were tidied up after."""
    return [worker.health for worker in look(farm).workers]


def shown(farm: Farm) -> str:
    """What people see, by both verbs."""
    return farm.farm("status").stdout + farm.farm("workers").stdout


def test_a_killed_worker_is_dead_and_its_task_does_not_run(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    farm.kill(worker)
    seen = look(farm)

    assert [view.health for view in seen.workers] == ["dead"]
    assert [view.alive for view in seen.workers] == [False]
    assert seen.counts["running"] == 0
    assert "dead" in shown(farm)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
def test_the_signal_that_killed_a_supervised_worker_is_named(
    farm: Farm, signum: signal.Signals
) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    farm.supervise("-j", "1")
    gate.wait_reached()
    (pid,) = farm.worker_pids()
    os.kill(pid, signum)
    gate.wait_reached(2)
    gate.open()
    (lost, done) = farm.wait_for("succeeded", "job")["attempts"]

    assert (lost["why"], done["why"]) == ("lost", "succeeded")
    assert f"was killed by {signum.name}" in lost["error"]["message"]


def test_a_stopped_worker_has_no_heartbeat_and_is_not_called_busy(farm: Farm) -> None:
    worker = farm.start_worker()
    farm.signal(worker, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    (said,) = wait_until(lambda: [h for h in health(farm) if h != "well"])

    assert said.startswith("no heartbeat for ")
    assert "no heartbeat for " in shown(farm)


def test_a_worker_that_goes_on_is_well_again(farm: Farm) -> None:
    worker = farm.start_worker()
    farm.signal(worker, signal.SIGSTOP)
    wait_until(lambda: health(farm) != ["well"])
    farm.signal(worker, signal.SIGCONT)

    assert wait_until(lambda: health(farm) == ["well"])


def test_what_a_silent_worker_holds_still_runs(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    farm.signal(worker, signal.SIGSTOP)
    wait_until(lambda: health(farm) != ["well"])

    assert look(farm).counts["running"] == 1


@pytest.fixture
def pantry() -> Iterator[Path]:
    """A control group in which 300 MB of memory are all there is."""
    group = MEMORY / f"farm-test-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(300_000_000))
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), timeout=30)
    group.rmdir()


@pytest.mark.fault(11, 13)
@needs("root", "memory cgroup")
def test_memory_is_named_when_the_kernel_killed_for_it(
    farm: Farm, pantry: Path
) -> None:
    farm.write("greedy.py", GREEDY)
    farm.drop("callable", call="greedy:eat")
    farm.drop("command", run=[sys.executable, "-c", f"{GREEDY}\neat()"])
    farm.drop("other", run="true")
    join = f'echo $$ > {pantry}/cgroup.procs; exec "$@"'
    supervise = ["-m", "farm", "supervise", str(farm.root), "-j", "1", "--until-done"]
    supervisor = farm.start_command(
        "sh", "-c", join, "sh", sys.executable, "-P", *supervise
    )
    supervisor.wait(50)
    lost, failed = farm.result("callable"), farm.result("command")
    farm.end()

    assert lost["status"] == "lost"
    assert "was killed by SIGKILL, out of memory" in lost["error"]["message"]
    assert failed["status"] == "failed"
    assert "out of memory" in failed["error"]["message"]
    assert farm.status_of("other") == "succeeded"
