"""How a worker stops: finish what runs, or give it back, but never lose it."""

import json
import signal
import subprocess
from typing import Any

import pytest

from tests.driver import Farm, Gate, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(params=["run", "call"])
def held(request: pytest.FixtureRequest, farm: Farm) -> Gate:
    """The task `a` waits at this gate, as a command and as a callable."""
    gate = farm.gate()
    if request.param == "run":
        farm.drop("a", run=gate.command)
    else:
        body = gate.python.replace("\n", "\n    ")
        farm.write("waits.py", f"def go():\n    {body}\n")
        farm.drop("a", call="waits:go")
    return gate


def attempts(farm: Farm, task_id: str) -> list[dict[str, Any]]:
    """The ended attempts in a task's ledger."""
    path = farm.state / "locks" / f"task-{task_id}.lock"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["line"] == "ended"]


def end_at_once(farm: Farm, worker: "subprocess.Popen[bytes]") -> int:
    """SIGTERM twice; the worker's exit code.

    The second one when the first was heard: the system keeps only one of two signals
    that were not taken yet. No third one: it could hit a Python that is ending.
    """
    farm.signal(worker, signal.SIGTERM)
    wait_until(lambda: "finishing what runs" in said(farm, worker))
    farm.signal(worker, signal.SIGTERM)
    return worker.wait(30)


@pytest.mark.fault(49)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_asked_once_a_worker_finishes_and_ends(
    farm: Farm, held: Gate, signum: signal.Signals
) -> None:
    farm.drop("b", run="true")
    worker = farm.start_worker()
    held.wait_reached()
    farm.signal(worker, signum)
    held.open()
    code = worker.wait(30)

    assert code == 130
    assert farm.status_of("a") == "succeeded"
    assert farm.status_of("b") is None
    assert farm.worker_names() == []


@pytest.mark.fault(49)
def test_asked_twice_a_worker_gives_its_task_back_uncounted(
    farm: Farm, held: Gate
) -> None:
    worker = farm.start_worker(FARM_GRACE="0.5")
    held.wait_reached()
    code = end_at_once(farm, worker)
    (ended,) = attempts(farm, "a")

    assert code == 130
    assert ended["why"] == "drained"
    assert ended["counted"] is False
    assert farm.status_of("a") is None
    assert farm.left_behind() == []


def test_what_was_given_back_runs_again_at_once(farm: Farm, held: Gate) -> None:
    worker = farm.start_worker(FARM_GRACE="0.5")
    held.wait_reached()
    end_at_once(farm, worker)
    held.open()
    code = farm.work()
    result = farm.result("a")

    assert code == 0
    assert whys(result) == ["drained", "succeeded"]


@pytest.mark.fault(9, 49)
def test_a_command_that_ignores_the_end_is_killed_and_given_back(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"trap '' TERM; {gate.command}")
    worker = farm.start_worker(FARM_GRACE="0.5")
    gate.wait_reached()
    end_at_once(farm, worker)

    assert [e["why"] for e in attempts(farm, "a")] == ["drained"]
    assert farm.left_behind() == []


def test_a_callable_that_catches_every_exception_is_still_given_back(
    farm: Farm,
) -> None:
    gate = farm.gate()
    body = gate.python.replace("\n", "\n        ")
    farm.write(
        "stubborn.py",
        f"def go():\n    try:\n        {body}\n    except Exception: pass\n",
    )
    farm.drop("a", call="stubborn:go")
    worker = farm.start_worker()
    gate.wait_reached()
    end_at_once(farm, worker)

    assert [e["why"] for e in attempts(farm, "a")] == ["drained"]


def test_an_idle_worker_ends_at_the_first_signal(farm: Farm) -> None:
    worker = farm.start_worker()
    farm.drop("a", run="true")
    farm.wait_for("succeeded", "a")
    farm.signal(worker, signal.SIGTERM)

    assert worker.wait(30) == 130
    assert farm.worker_names() == []


def test_the_drain_file_ends_every_worker_after_what_it_runs(
    farm: Farm, held: Gate
) -> None:
    farm.drop("b", run="true", needs=["a"])
    busy, idle = farm.start_worker(), farm.start_worker()
    held.wait_reached()
    (farm.state / "control" / "drain").touch()
    idle_code = (idle if worker_of(farm, "a") == busy.pid else busy).wait(30)
    held.open()
    codes = [busy.wait(30), idle.wait(30)]

    assert idle_code == 0
    assert codes == [0, 0]
    assert farm.status_of("a") == "succeeded"
    assert farm.status_of("b") is None


def worker_of(farm: Farm, task_id: str) -> int:
    """The process id of the worker that has claimed a task."""
    path = farm.state / "locks" / f"task-{task_id}.lock"
    return int(json.loads(path.read_text().splitlines()[0])["who"]["pid"])


def test_a_supervisor_ends_with_its_drained_workers_and_removes_the_file(
    farm: Farm,
) -> None:
    supervisor = farm.supervise("-j", "2")
    wait_until(lambda: len(farm.worker_names()) == 2, on_timeout=farm.describe)
    drain = farm.state / "control" / "drain"
    drain.touch()
    supervisor.wait(30)

    assert not drain.exists()
    assert farm.left_behind() == []
