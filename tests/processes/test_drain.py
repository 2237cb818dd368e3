"""How a worker stops: finish what runs, or give it back, but never lose it."""

import json
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
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


# -- a service manager, and a terminal that goes away -------------------------------


def everyone(farm: Farm) -> list[int]:
    """Every process of this farm: supervisor, workers, and what they run."""
    return [process.pid for process in farm.left_behind()]


def stop_service(farm: Farm, signum: signal.Signals, *, tasks_first: bool) -> None:
    """One signal to every process at once, as systemd and `kill` to a group send it."""
    pids = sorted(everyone(farm), reverse=tasks_first)
    for pid in pids:
        with suppress(ProcessLookupError):  # what a shell waited for has ended
            farm.signal(pid, signum)


ONCE = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.fault(49)
@pytest.mark.parametrize("signum", ONCE)
@pytest.mark.parametrize("verb", ["worker", "supervise"])
def test_a_service_that_is_stopped_finishes_its_callables(
    farm: Farm, verb: str, signum: signal.Signals
) -> None:
    gate = farm.gate()
    body = gate.python.replace("\n", "\n    ")
    farm.write("waits.py", f"def go():\n    {body}\n")
    farm.drop("a", call="waits:go")
    farm.drop("b", run="true", needs=["a"])
    there = farm.start(verb, str(farm.root), *(["-j", "1"] * (verb == "supervise")))
    gate.wait_reached()
    stop_service(farm, signum, tasks_first=False)
    wait_until(lambda: "finishing what runs" in said(farm), on_timeout=farm.describe)
    gate.open()
    code = there.wait(30)

    assert code == 130
    assert whys(farm.result("a")) == ["succeeded"]
    assert farm.status_of("b") is None


PASSES_ON = "trap 'exit {code}' {name}; echo > ready; while :; do sleep 0.02; done"


@pytest.mark.fault(49)
@pytest.mark.parametrize("tasks_first", [True, False], ids=["tasks", "workers"])
@pytest.mark.parametrize("verb", ["worker", "supervise"])
@pytest.mark.parametrize("signum", ONCE)
@pytest.mark.parametrize("dies", ["by the signal", "with its code"])
def test_a_command_that_ends_with_its_service_is_given_back_uncounted(
    farm: Farm, dies: str, signum: signal.Signals, verb: str, *, tasks_first: bool
) -> None:
    code, name = 128 + signum, signum.name.removeprefix("SIG")
    script = PASSES_ON.format(code=code, name=name)
    if dies == "by the signal":
        script = "echo > ready; exec sleep 600"
    farm.drop("a", run=["bash", "-c", f'[ "$FARM_ATTEMPT" = 2 ] || {{ {script}; }}'])
    there = farm.start(verb, str(farm.root), *(["-j", "1"] * (verb == "supervise")))
    wait_until((farm.root / "ready").exists, on_timeout=farm.describe)
    wait_until(lambda: dies != "by the signal" or sleeps(farm))
    stop_service(farm, signum, tasks_first=tasks_first)
    there.wait(30)
    (ended,) = attempts(farm, "a")
    farm.work()

    assert (ended["why"], ended["counted"]) == ("drained", False)
    assert whys(farm.result("a")) == ["drained", "succeeded"]


def sleeps(farm: Farm) -> bool:
    """Whether the task's shell has become `sleep`."""
    return any(p.name() == "sleep" for p in farm.left_behind())


def test_a_command_that_is_killed_while_no_worker_stops_has_failed(farm: Farm) -> None:
    farm.drop("a", run="kill -TERM $$")
    farm.drop("b", run="exit 143")
    farm.work()

    assert farm.result("a")["error"]["message"] == "killed by SIGTERM"
    assert farm.result("b")["exit_code"] == 143


def test_a_code_that_the_task_calls_well_is_well_also_while_its_worker_stops(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"{gate.command}; exit 143", ok_exit_codes=[143])
    worker = farm.start_worker()
    gate.wait_reached()
    farm.signal(worker, signal.SIGTERM)
    gate.open()
    worker.wait(30)

    assert farm.status_of("a") == "succeeded"


@pytest.mark.fault(49)
def test_a_terminal_that_is_gone_is_one_request_however_often_it_is_told(
    farm: Farm, held: Gate
) -> None:
    worker = farm.start_worker()
    held.wait_reached()
    for _ in range(3):
        farm.signal(worker, signal.SIGHUP)
        wait_until(lambda: not pending(worker.pid))
    held.open()
    code = worker.wait(30)

    assert code == 130
    assert whys(farm.result("a")) == ["succeeded"]


def pending(pid: int) -> bool:
    """Whether a signal waits for this process."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"^(?:Sig|Shd)Pnd:\t(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) for mask in masks)


@pytest.mark.parametrize("verb", ["worker", "supervise"])
def test_under_nohup_a_terminal_may_go_away(farm: Farm, verb: str) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="true", needs=["a"])
    ignoring = "trap '' HUP; exec \"$@\""
    command = [sys.executable, "-P", "-m", "farm", verb, str(farm.root), "--until-done"]
    there = farm.start_command("sh", "-c", ignoring, "sh", *command)
    gate.wait_reached()
    stop_service(farm, signal.SIGHUP, tasks_first=True)
    gate.open()
    code = there.wait(30)

    assert code == 0
    assert farm.status_of("b") == "succeeded"
