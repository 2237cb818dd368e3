"""The clock jumps by two hours while a farm works: deadlines and beats do not care.

libfaketime lies to the farm's processes about the time of day, and only about that;
its lie is read anew at each call from a file that a test rewrites.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm.result import rfc3339
from tests.driver import Farm, Gate, whys
from tests.faults.tools import faketime, needs
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("faketime")]

AHEAD, BACK = "+7200", "-7200"
JUMPS = pytest.mark.parametrize("jump", [AHEAD, BACK], ids=["ahead", "back"])


def shared_memory(pid: int) -> list[Path]:
    """What libfaketime made for a process, and what stays if that is killed."""
    names = [f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"]
    return [path for name in names if (path := Path("/dev/shm", name)).exists()]


class Clock:
    """The time of day as the farm's processes see it."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._lie = farm.root / "clock"
        self.jump("+0")
        farm.environ |= {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._lie),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # files keep the times that the kernel gave them
        }

    def jump(self, seconds: str) -> None:
        """Set it to so many seconds from the true time, in one step."""
        aside = self._lie.with_suffix(".new")
        aside.write_text(f"{seconds}\n")
        aside.rename(self._lie)

    def end(self) -> None:
        """End the farm's processes, and remove what libfaketime made for them."""
        self._farm.end()
        for popen in self._farm.processes:
            for path in shared_memory(popen.pid):
                path.unlink()


@pytest.fixture
def clock(farm: Farm) -> Iterator[Clock]:
    there = Clock(farm)
    yield there
    there.end()


def counter(farm: Farm, name: str) -> int:
    """How often a worker's heart has beaten; far more than ever if it is gone."""
    try:
        text = (farm.state / "workers" / f"{name}.lock").read_text()
    except FileNotFoundError:
        return 1_000_000
    return int(text.split()[0])


def wait_beats(farm: Farm, name: str, beats: int) -> None:
    """Until a worker's heart has beaten so often from now on."""
    until = counter(farm, name) + beats
    wait_until(lambda: counter(farm, name) >= until, on_timeout=farm.describe)


def drop_held(farm: Farm, kind: str, **task: Any) -> Gate:
    """Drop `a`: a command ("run") or a callable ("call") that waits at the gate."""
    gate = farm.gate()
    work = {"run": gate.command, "call": "module:work"}
    # `time.sleep` fails under libfaketime.
    text = f"""
import os, threading

def work():
    {gate.mark}
    while not os.path.exists({str(gate.folder / "open")!r}):
        threading.Event().wait(0.02)
"""
    farm.write("module.py", text)
    farm.drop("a", **{kind: work[kind]}, **task)
    return gate


def from_now(seconds: float) -> str:
    """A moment so many seconds from the true now."""
    return rfc3339(time.time() + seconds)


@pytest.mark.fault(33)
@JUMPS
@pytest.mark.parametrize("kind", ["run", "call"])
def test_nothing_is_ended_or_called_dead_when_the_clock_jumps(
    farm: Farm, clock: Clock, jump: str, kind: str
) -> None:
    gate = drop_held(farm, kind, timeout=60)
    farm.environ["FARM_HEARTBEAT_TIMEOUT"] = "10"
    farm.supervise("-j2", "--until-done")
    gate.wait_reached()
    names = wait_until(lambda: len(n := farm.worker_names()) == 2 and n)
    clock.jump(jump)
    for name in names or ():
        wait_beats(farm, name, 4)
    after = farm.worker_names()
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert after == names
    assert whys(result) == ["succeeded"]
    assert "no heartbeat" not in farm.describe()


@pytest.mark.fault(33)
@JUMPS
@pytest.mark.parametrize("kind", ["run", "call"])
def test_a_deadline_holds_though_the_clock_jumps(
    farm: Farm, clock: Clock, jump: str, kind: str
) -> None:
    gate = drop_held(farm, kind, timeout=2)
    farm.start_worker()
    # On a machine that stands still the deadline may come first.
    wait_until(lambda: gate.reached() or farm.status_of("a"))
    clock.jump(jump)
    result = farm.wait_for("timed_out", "a")

    assert whys(result) == ["timed_out"]


@pytest.mark.fault(33)
@JUMPS
def test_a_result_says_how_long_a_task_took_though_the_clock_jumped(
    farm: Farm, clock: Clock, jump: str
) -> None:
    gate = drop_held(farm, "run")
    farm.start_worker()
    gate.wait_reached()
    clock.jump(jump)
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert 0 <= result["duration_s"] < 3600


@pytest.mark.fault(33)
def test_a_retry_does_not_wait_for_hours_when_the_clock_goes_back(
    farm: Farm, clock: Clock
) -> None:
    gate = farm.gate()
    once = f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; exit 1; }}"
    delays = {"max": 1, "base_delay": 3, "max_delay": 3}
    farm.drop("a", run=once, retries=delays)
    farm.start_worker()
    gate.wait_reached()
    gate.open()
    wait_until(lambda: "runs again" in farm.describe(), on_timeout=farm.describe)
    clock.jump(BACK)
    result = farm.wait_for("succeeded", "a", timeout=15)

    assert whys(result) == ["failed", "succeeded"]


@pytest.mark.fault(33)
def test_a_task_begins_when_the_clock_reaches_its_time(
    farm: Farm, clock: Clock
) -> None:
    farm.drop("soon", run="true", not_before=from_now(3600))
    farm.drop("later", run="true", not_before=from_now(2 * 7200))
    farm.start_worker()
    [name] = farm.worker_names()
    clock.jump(BACK)
    wait_beats(farm, name, 2)
    early = farm.status_of("soon")
    clock.jump(AHEAD)
    farm.wait_for("succeeded", "soon")

    assert early is None
    assert farm.status_of("later") is None


def cpu_seconds(pid: int) -> float:
    """How long the main thread of a process has computed.

    Threads that wait for a lock with a time-out (the watchdog's, say) do spin under
    libfaketime when time goes back: it gives them a deadline that has passed.
    """
    (main,) = (t for t in psutil.Process(pid).threads() if t.id == pid)
    return main.user_time + main.system_time


@pytest.mark.fault(33)
@JUMPS
def test_a_worker_that_waits_does_not_spin_when_the_clock_jumps(
    farm: Farm, clock: Clock, jump: str
) -> None:
    gate = farm.gate()
    farm.drop("held", run=gate.command)
    farm.drop("timed", run="true", not_before=from_now(3 * 7200))
    farm.drop(
        "failing",
        run="exit 1",
        retries={"max": 9, "base_delay": 3600, "max_delay": 3600},
    )
    farm.start_worker()
    farm.start_worker()
    gate.wait_reached()
    wait_until(lambda: "runs again" in farm.describe(), on_timeout=farm.describe)
    wait_until(lambda: len(farm.worker_names()) == 2)
    clock.jump(jump)
    for name in farm.worker_names():  # what the jump itself sets off is done by then
        wait_beats(farm, name, 5)
    spins = farm.start_python("-c", "while True: pass")  # what it is measured against
    before = {pid: cpu_seconds(pid) for pid in (*farm.worker_pids(), spins.pid)}
    for name in farm.worker_names():
        wait_beats(farm, name, 10)
    used = {pid: cpu_seconds(pid) - then for pid, then in before.items()}
    spins.kill()
    spun = used.pop(spins.pid)

    assert max(used.values()) < spun / 2, farm.describe()


@pytest.mark.fault(33)
@JUMPS
def test_what_a_dead_worker_held_is_rescued_though_the_clock_jumped(
    farm: Farm, clock: Clock, jump: str
) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"test $FARM_ATTEMPT = 2 || {{ {gate.command}; }}")
    worker = farm.start_worker()
    gate.wait_reached()
    clock.jump(jump)
    farm.kill(worker)
    farm.start_worker()
    result = farm.wait_for("succeeded", "a")

    assert whys(result) == ["lost", "succeeded"]


def test_nothing_is_left_in_shared_memory(farm: Farm, clock: Clock) -> None:
    worker = farm.start_worker()
    made = shared_memory(worker.pid)
    clock.end()

    assert made
    assert shared_memory(worker.pid) == []
