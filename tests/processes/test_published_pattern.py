"""The published pattern's page, used as it is written there, over a real farm.

People come with programs after that page: loops of their own, the ready loop, keys that
rotate, sessions. Each runs here as they would write it, in several processes, beside
farm's own workers, and with kills.
"""

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import farm as published
from farm import (
    AdaptiveBackoff,
    APIRotationState,
    ParallelSessionManager,
    TaskLock,
    TaskStateManager,
    WorkerHealthState,
    work_stealing_loop,
)
from farm.errors import UsageError
from farm.project import Project
from tests.driver import Farm, ran, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

#: what every program of these tests begins with: a processor that notes what it runs,
#: and that two of them are never at work on one task
PROCESSOR = """
import asyncio, fcntl, os, sys
from pathlib import Path
from farm import TaskLock, TaskStateManager, work_stealing_loop

async def process(task):
    with open(task["id"].replace("/", "-") + ".busy", "w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        meta = task["meta"]
        if gate := meta.get("gate"):
            Path(gate, f"reached.{os.getpid()}").touch()
            while not Path(gate, "open").exists():
                await asyncio.sleep(0.02)
        if meta.get("fails"):
            raise ValueError("it does not work")
        with open("ran", "a") as ran:
            ran.write(task["id"] + "\\n")
        return meta.get("value")

manager, lock = TaskStateManager("."), TaskLock(".")
"""

READY_LOOP = f"""{PROCESSOR}
asyncio.run(work_stealing_loop(int(sys.argv[1]), manager, lock, process))
"""

OWN_LOOP = f"""{PROCESSOR}
async def loop(number):
    while (candidate := manager.get_next_pending_task()) is not None:
        task_id = candidate["id"]
        with lock.lock(task_id, holder_id=f"worker-{{number}}") as mine:
            if not mine:
                continue
            task = manager.get_task(task_id)
            if task.get("is_started"):
                continue
            manager.update_task(task_id, is_started=True)
            try:
                await process(task)
                manager.update_task(task_id, is_complete=True)
            except Exception as error:
                manager.update_task(
                    task_id,
                    is_started=False,
                    error_message=str(error),
                    attempts=task.get("attempts", 0) + 1,
                )

asyncio.run(loop(int(sys.argv[1])))
"""

ROOT = Path(__file__).parents[2]
LOOPS = pytest.mark.parametrize(
    "loop", [READY_LOOP, OWN_LOOP], ids=["ready loop", "own loop"]
)


def drop(farm: Farm, task_id: str, retries: int = 0, **meta: object) -> None:
    """A task that a processor, and farm's own workers alike, can run."""
    command = f'echo "$FARM_TASK_ID" >> {farm.root}/ran'
    delays = {"max": retries, "base_delay": 0.01}
    farm.drop(task_id, run=command, meta=meta, retries=delays)


def start_loop(farm: Farm, loop: str, number: int) -> "subprocess.Popen[bytes]":
    return farm.start_python("-c", loop, str(number), PYTHONPATH=str(ROOT))


# -- loops -----------------------------------------------------------------------------


@LOOPS
def test_three_loops_beside_a_worker_run_each_task_once(farm: Farm, loop: str) -> None:
    ids = [f"t/{n}" for n in range(40)]
    for task_id in ids:
        drop(farm, task_id)
    loops = [start_loop(farm, loop, number) for number in range(3)]
    worker = farm.start("worker", "--until-done")

    assert [each.wait(50) for each in (*loops, worker)] == [0] * 4, farm.describe()
    farm.wait_for("succeeded", *ids)
    assert sorted(ran(farm)) == sorted(ids)
    assert farm.farm("wait", "--timeout", "0").returncode == 0


@LOOPS
def test_what_killed_loops_held_is_run_by_another(farm: Farm, loop: str) -> None:
    gate = farm.gate()
    ids = [f"t/{n}" for n in range(6)]
    for task_id in ids:
        drop(farm, task_id, gate=str(gate.folder))
    loops = [start_loop(farm, loop, number) for number in range(3)]
    pids = gate.wait_reached(3)
    assert sorted(pids) == sorted(each.pid for each in loops)
    for each in loops[:2]:
        farm.kill(each)
    gate.open()
    assert loops[2].wait(50) == 0, farm.describe()
    assert start_loop(farm, loop, 3).wait(50) == 0, farm.describe()

    farm.wait_for("succeeded", *ids)
    assert sorted(ran(farm)) == ids
    lost = [task_id for task_id in ids if whys(farm.result(task_id))[0] == "lost"]
    assert len(lost) == 2


@LOOPS
def test_farms_own_worker_rescues_what_a_killed_loop_held(
    farm: Farm, loop: str
) -> None:
    gate = farm.gate()
    drop(farm, "job", gate=str(gate.folder))
    killed = start_loop(farm, loop, 1)
    gate.wait_reached()
    farm.start_worker()
    farm.kill(killed)
    result = farm.wait_for("succeeded", "job")

    assert whys(result) == ["lost", "succeeded"]
    assert ran(farm) == ["job"]


@LOOPS
def test_a_task_that_kills_its_loops_ends_lost(farm: Farm, loop: str) -> None:
    gate = farm.gate()
    drop(farm, "poison", gate=str(gate.folder))
    for number in range(3):
        there = start_loop(farm, loop, number)
        gate.wait_reached(number + 1)
        farm.kill(there)
    drop(farm, "well")
    assert start_loop(farm, loop, 3).wait(50) == 0, farm.describe()

    assert whys(farm.wait_for("lost", "poison")) == ["lost"] * 3
    assert farm.status_of("well") == "succeeded"


@LOOPS
def test_what_raises_fails_after_its_retries_and_its_value_is_kept(
    farm: Farm, loop: str
) -> None:
    drop(farm, "bad", retries=1, fails=True)
    drop(farm, "good", value={"x": [1, 2]})
    process = start_loop(farm, loop, 1)
    assert process.wait(50) == 0, farm.describe()
    if loop == OWN_LOOP:  # the page's loop ends while a retry has its delay
        assert start_loop(farm, loop, 2).wait(50) == 0, farm.describe()

    bad = farm.wait_for("failed", "bad")
    assert whys(bad) == ["failed", "failed"]
    assert bad["error"]["message"] == "it does not work"
    assert farm.result("good").get("value") == (
        {"x": [1, 2]} if loop == READY_LOOP else None
    )
    counted = farm.farm("status").stdout
    assert "1 failed" in counted


def test_a_loop_that_is_interrupted_gives_its_task_back(farm: Farm) -> None:
    gate = farm.gate()
    drop(farm, "job", gate=str(gate.folder))
    loop = start_loop(farm, READY_LOOP, 1)
    gate.wait_reached()
    farm.signal(loop, signal.SIGINT)
    assert loop.wait(20) != 0
    gate.open()
    assert start_loop(farm, READY_LOOP, 2).wait(50) == 0, said(farm)

    assert whys(farm.wait_for("succeeded", "job")) == ["released", "succeeded"]


def test_many_loops_of_one_process_share_its_event_loop(farm: Farm) -> None:
    ids = [f"t/{n}" for n in range(8)]
    gate = farm.gate()
    for task_id in ids:
        drop(farm, task_id, gate=str(gate.folder))
    loops = "asyncio.gather(*(work_stealing_loop(n, manager, lock, process)"
    program = (
        f"{PROCESSOR}\nasync def all():\n    await {loops} for n in range(4)))\n"
        "asyncio.run(all())\n"
    )
    there = start_loop(farm, program, 0)
    gate.wait_reached()
    gate.open()
    assert there.wait(50) == 0, said(farm)

    farm.wait_for("succeeded", *ids)
    assert sorted(ran(farm)) == ids


# -- update_task -----------------------------------------------------------------------


@pytest.fixture
def manager(farm: Farm) -> TaskStateManager:
    return TaskStateManager(farm.root)


@pytest.fixture
def lock(farm: Farm) -> TaskLock:
    return TaskLock(farm.root)


@pytest.mark.parametrize(
    "told",
    [
        {"is_started": True},
        {"is_complete": True},
        {"is_started": False, "error_message": "no"},
        {"is_started": False},
    ],
)
def test_without_the_lock_update_task_refuses(
    farm: Farm, manager: TaskStateManager, told: dict[str, Any]
) -> None:
    drop(farm, "job")

    with pytest.raises(UsageError, match=r"job: update_task changes a task only under"):
        manager.update_task("job", **told)
    assert farm.status_of("job") is None


def test_the_lock_of_another_process_is_not_ours(
    farm: Farm, manager: TaskStateManager
) -> None:
    gate = farm.gate()
    drop(farm, "job", gate=str(gate.folder))
    start_loop(farm, READY_LOOP, 1)
    gate.wait_reached()

    with pytest.raises(UsageError, match="only under its lock"):
        manager.update_task("job", is_complete=True)


def test_a_forked_child_does_not_hold_what_its_parent_holds(
    farm: Farm, manager: TaskStateManager, lock: TaskLock
) -> None:
    drop(farm, "job")
    with lock.lock("job"):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(UsageError):
                manager.update_task("job", is_complete=True)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert farm.status_of("job") is None


def test_a_task_goes_through_the_states_of_the_page(
    farm: Farm, manager: TaskStateManager, lock: TaskLock
) -> None:
    drop(farm, "job", retries=1)
    flags = ("is_started", "is_complete", "attempts", "error_message")

    def seen() -> tuple[object, ...]:
        task = manager.get_task("job")
        assert task is not None
        return tuple(task[flag] for flag in flags)

    states = [seen()]
    with lock.lock("job") as acquired:
        assert acquired
        states.append(seen())  # the page looks again under the lock, before it starts
        manager.update_task("job", is_started=True)
        states.append(seen())
        manager.update_task("job", is_started=False, error_message="no", attempts=1)
    states.append(seen())
    with lock.lock("job"):
        manager.update_task("job", is_started=True)
        manager.update_task("job", is_complete=True, value=7)
    states.append(seen())

    assert states == [
        (False, False, 0, None),
        (False, False, 0, None),
        (True, False, 0, None),
        (False, False, 1, "no"),
        (True, True, 1, None),
    ]
    assert farm.result("job")["value"] == 7


def test_a_task_that_was_only_locked_has_no_attempt(
    farm: Farm, manager: TaskStateManager, lock: TaskLock
) -> None:
    drop(farm, "job")
    with lock.lock("job"):
        assert manager.get_next_pending_task() is None  # another coroutine asks
        manager.update_task("job", is_started=False)
    farm.work()

    assert whys(farm.result("job")) == ["released", "succeeded"]


def test_what_changed_under_the_lock_is_what_ran(
    farm: Farm, manager: TaskStateManager, lock: TaskLock
) -> None:
    drop(farm, "job")
    with lock.lock("job"):
        drop(farm, "job", value=1)
        manager.update_task("job", is_complete=True)
    result = farm.result("job")

    assert result["sha256"] == Project(farm.root).read_task("job").sha256
    assert result["status"] == "succeeded"


@pytest.mark.parametrize(
    ("task_file", "message"),
    [(None, "no task file"), ('{"run": 1}', r"tasks/job.json:1:9")],
)
def test_what_cannot_run_cannot_be_started(
    farm: Farm,
    manager: TaskStateManager,
    lock: TaskLock,
    task_file: str | None,
    message: str,
) -> None:
    if task_file is not None:
        farm.drop_bytes("job", task_file.encode())

    with lock.lock("job"), pytest.raises(UsageError, match=message):
        manager.update_task("job", is_started=True)


def test_a_task_that_has_a_result_cannot_be_started_again(
    farm: Farm, manager: TaskStateManager, lock: TaskLock
) -> None:
    drop(farm, "job")
    farm.work()

    with lock.lock("job"), pytest.raises(UsageError, match="has a result already"):
        manager.update_task("job", is_started=True)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "update_task takes"),
        ({"error_message": "no"}, "update_task takes"),
        ({"is_started": True, "error_message": "no"}, "update_task takes"),
        ({"is_complete": True, "error_message": "no"}, "update_task takes"),
        ({"is_complete": True, "value": {1, 2}}, "JSON cannot hold"),
        ({"is_started": False, "value": 1}, "a value belongs to"),
    ],
)
def test_what_means_nothing_is_refused_and_the_lock_is_kept(
    farm: Farm,
    manager: TaskStateManager,
    lock: TaskLock,
    told: dict[str, Any],
    message: str,
) -> None:
    drop(farm, "job")
    with lock.lock("job"):
        with pytest.raises(UsageError, match=message):
            manager.update_task("job", **told)
        manager.update_task("job", is_complete=True)

    assert farm.status_of("job") == "succeeded"


# -- the classes and their defaults ------------------------------------------------------

PUBLISHED = {
    "WorkerHealthState": (
        "worker_id consecutive_failures=0 total_recoveries=0 last_error_type=None"
        " recovery_attempts=0"
    ),
    "WorkerHealthState.record_failure": "self error_type",
    "WorkerHealthState.record_success": "self",
    "WorkerHealthState.record_recovery": "self success",
    "WorkerHealthState.should_attempt_recovery": "self",
    "WorkerHealthState.is_healthy": "self",
    "ParallelSessionManager": "max_workers=3",
    "ParallelSessionManager.run_parallel_agents": "self tasks task_processor",
    "TaskLock": "project_dir",
    "TaskLock.acquire": "self task_id holder_id=worker-0 timeout=300",
    "TaskLock.release": "self task_id holder_id=None",
    "TaskLock.lock": "self task_id holder_id=worker-0",
    "TaskLock.clean_all_stale_locks": "self max_age_seconds=3600",
    "TaskStateManager.get_next_pending_task": "self",
    "TaskStateManager.get_task": "self task_id",
    "work_stealing_loop": "worker_id task_manager task_lock processor",
    "AdaptiveBackoff": "base_delay=1.0 max_delay=60.0 jitter_factor=0.1",
    "AdaptiveBackoff.get_delay": "self",
    "AdaptiveBackoff.wait": "self",
    "APICredential": (
        "api_key base_url=None model=None is_exhausted=False last_error=None"
    ),
    "APIRotationState": "",
    "APIRotationState.get_current": "self",
    "APIRotationState.rotate": "self error_message",
    "APIRotationState.should_rotate": "self status_code error_text",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_call_takes_the_published_arguments_with_their_defaults(name: str) -> None:
    found: Any = published
    for part in name.split("."):
        found = getattr(found, part)
    parameters = inspect.signature(found).parameters.values()
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    told = " ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default}" for p in positional
    )

    assert told == PUBLISHED[name]


def test_the_attributes_that_the_page_shows_are_there(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_1", "a-key-of-this-test")
    sessions, keys = ParallelSessionManager(2), APIRotationState()
    lock, backoff = TaskLock(farm.root), AdaptiveBackoff(2.0)

    assert sessions.max_workers == 2
    assert [state.worker_id for state in sessions.health_states] == [0, 1]
    assert isinstance(sessions.health_states[0], WorkerHealthState)
    assert (backoff.base_delay, backoff.consecutive_failures) == (2.0, 0)
    assert (keys.current_index, keys.credentials[0].is_exhausted) == (0, False)
    assert lock.project_dir == farm.root
    assert lock.lock_dir == farm.root / TaskLock.LOCK_DIR
    assert lock.lock_dir.is_dir()
    assert TaskLock.LOCK_TIMEOUT == 300
    assert asyncio.iscoroutinefunction(work_stealing_loop)


def test_keys_take_turns_and_a_daily_quota_exhausts_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in (1, 2):
        monkeypatch.setenv(f"ANTHROPIC_API_KEY_{number}", f"key-{number}-of-this-test")
    state = APIRotationState()
    first = state.get_current()
    assert first is not None
    assert state.should_rotate(429, "slow down")
    assert state.should_rotate(500, "Quota exceeded")
    assert not state.should_rotate(500, "overloaded")
    assert state.rotate("Daily quota reached")

    assert first.is_exhausted
    assert state.current_index == 1
    second = state.get_current()
    assert second is not None
    assert second.api_key != first.api_key
    assert not state.rotate("daily quota reached")
    assert state.get_current() is None


def test_sessions_run_a_processor_of_the_page(farm: Farm) -> None:
    farm.write("agents.py", "async def answer(task, worker_id): return task['n'] * 2")
    farm.write(
        "use.py",
        "import asyncio, agents\n"
        "from farm import ParallelSessionManager\n"
        "if __name__ == '__main__':\n"
        "    manager = ParallelSessionManager(max_workers=2)\n"
        "    tasks = [{'n': n} for n in range(4)]\n"
        "    done = asyncio.run(manager.run_parallel_agents(tasks, agents.answer))\n"
        "    print(sorted((d['task']['n'], d['result'], d['success']) for d in done))\n",
    )
    there = farm.start_python("use.py", PYTHONPATH=f"{farm.root}:{ROOT}")
    wait_until(lambda: there.poll() is not None, 50, farm.describe)

    assert "[(0, 0, True), (1, 2, True), (2, 4, True), (3, 6, True)]" in said(farm)
