"""`ParallelSessionManager`: a program of one's own runs its functions in real workers."""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm import ParallelSessionManager, WorkerHealthState
from farm.errors import UsageError
from farm.process import stat
from farm.processor import Processor, run
from farm.session import MOST_TRIES, Next, after_failure
from farm.states import Status
from tests.driver import Farm, Gate
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent
Results = list[dict[str, Any]]
Define = Callable[[str], Processor]


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary projects are made; afterwards nothing is there, nobody lives."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FARM_HEARTBEAT", "0.2")
    yield folder
    assert list(folder.iterdir()) == []
    assert own_workers() == []


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Define:
    """Write a module that only our own `sys.path` leads to; its `process`."""
    monkeypatch.syspath_prepend(tmp_path / "code")

    def write(source: str) -> Processor:
        name = f"agents_{os.urandom(4).hex()}"
        file = tmp_path / "code" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"import os, signal\n{textwrap.dedent(source)}")
        found: Processor = importlib.import_module(name).process
        return found

    return write


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def gated(gate: Gate, ends: str = "return os.getpid()") -> str:
    """Source of a processor: tasks that say `wait` are held by the gate."""
    held = textwrap.indent(gate.python, " " * 8)
    return (
        "def process(task, worker_id):\n    import os\n"
        f"    if task.get('wait'):\n{held}    {ends}\n"
    )


def own_workers() -> list[psutil.Process]:
    """Worker processes that we have started and that live."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "worker" in words(child)]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has just ended; it may be another test's
        return []


def run_all(
    process: Processor, *tasks: dict[str, Any], workers: int = 1, **options: Any
) -> Results:
    manager = ParallelSessionManager(workers, **options)
    return asyncio.run(manager.run_parallel_agents(list(tasks), process))


async def reached(gate: Gate, count: int = 1) -> list[int]:
    """Until so many came this far; the event loop runs meanwhile."""
    return await asyncio.to_thread(gate.wait_reached, count)


async def eventually(fact: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, fact)


def while_running(
    manager: ParallelSessionManager,
    process: Processor,
    tasks: list[dict[str, Any]],
    meanwhile: Callable[[], Awaitable[object]],
) -> Results:
    """The results of a run during which something else happens on its event loop."""

    async def both() -> Results:
        coroutine = manager.run_parallel_agents(tasks, process)
        running = asyncio.ensure_future(coroutine)
        await meanwhile()
        return await running

    return asyncio.run(both())


def dropped(farm: Farm) -> list[Path]:
    """The task files of sessions."""
    found = farm.tasks.glob("session-*/*.json")
    return sorted(path for path in found if not path.match("*.result.json"))


def ended(farm: Farm) -> list[Path]:
    return sorted(farm.tasks.glob("session-*/*.result.json"))


# -- the usual case --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_processor_may_be_plain_or_async(define: Define, kind: str) -> None:
    process = define(f"{kind} process(task, worker_id):\n    return [task, worker_id]")

    assert run_all(process, {"n": 7}) == [
        {"task": {"n": 7}, "result": [{"n": 7}, 0], "success": True}
    ]


def test_no_tasks_have_no_results(define: Define, tmp_path: Path) -> None:
    process = define("def process(task, worker_id): pass")

    assert run_all(process, project=tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_results_come_in_the_order_in_which_they_ended(
    farm: Farm, define: Define, gate: Gate
) -> None:
    tasks = [{"n": 0, "wait": True}, {"n": 1}, {"n": 2}]

    async def open_at_last() -> None:
        await eventually(lambda: len(ended(farm)) == 2)
        gate.open()

    manager = ParallelSessionManager(2, project=farm.root)
    results = while_running(manager, define(gated(gate)), tasks, open_at_last)

    assert [result["task"]["n"] for result in results] == [1, 2, 0]
    assert results[2]["task"] is tasks[0]


def test_as_many_run_at_a_time_as_there_are_workers_and_no_more(
    farm: Farm, define: Define, gate: Gate
) -> None:
    process = define(gated(gate, "return [worker_id, os.getpid()]"))

    async def look() -> None:
        assert len(await reached(gate, 3)) == 3
        assert len(dropped(farm)) == 3
        gate.open()

    tasks = [{"n": n, "wait": True} for n in range(5)]
    manager = ParallelSessionManager(3, project=farm.root)
    results = while_running(manager, process, tasks, look)

    seats = {tuple(result["result"]) for result in results}
    assert len(results) == 5
    assert sorted(worker_id for worker_id, _ in seats) == [0, 1, 2]
    assert len({pid for _, pid in seats} | {os.getpid()}) == 4


def test_in_a_temporary_project_the_processor_finds_our_folder(
    define: Define, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    process = define("def process(task, worker_id): return os.getcwd()")

    assert run_all(process, {})[0]["result"] == str(tmp_path)


def test_a_secret_is_passed_on_if_it_is_named(
    define: Define, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", os.urandom(8).hex())
    process = define("def process(t, w): return len(os.environ.get('MY_API_KEY', ''))")

    assert run_all(process, {})[0]["result"] == 0
    assert run_all(process, {}, env_from=["MY_API_KEY"])[0]["result"] == 16
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        run_all(process, {}, env_from=["NO_SUCH_KEY"])


# -- failures --------------------------------------------------------------------------


def failing(tmp_path: Path, times: int) -> str:
    """Source of a processor: `bad` tasks fail so often; each try leaves a line."""
    return f"""
    def process(task, worker_id):
        if not task.get("bad"):
            return "well"
        with open("{tmp_path}/tries", "a+") as tries:
            print(os.getpid(), file=tries)
            tries.seek(0)
            if len(tries.readlines()) <= {times}:
                raise ValueError("a bad day")
        return "at last"
    """


def tries(tmp_path: Path) -> list[str]:
    """The process of each try."""
    return (tmp_path / "tries").read_text().split()


def test_a_failure_is_tried_again_in_a_fresh_process(
    define: Define, tmp_path: Path
) -> None:
    manager = ParallelSessionManager(1)
    process = define(failing(tmp_path, 2))
    results = asyncio.run(manager.run_parallel_agents([{"bad": 1}], process))

    assert results == [{"task": {"bad": 1}, "result": "at last", "success": True}]
    assert len(set(tries(tmp_path))) == 3
    assert vars(manager.health_states[0]) == {
        "worker_id": 0,
        "consecutive_failures": 0,
        "total_recoveries": 2,
        "last_error_type": None,
        "recovery_attempts": 0,  # a success forgives
    }


def test_a_failure_is_final_when_its_slot_has_no_recovery_left(
    define: Define, tmp_path: Path
) -> None:
    manager = ParallelSessionManager(1)
    process = define(failing(tmp_path, 99))
    tasks = [{"bad": 1}, {"good": 1}]
    results = asyncio.run(manager.run_parallel_agents(tasks, process))

    assert results[0]["result"] == "well"
    assert results[1] == {
        "task": {"bad": 1},
        "error": "a bad day",
        "success": False,
        "exhausted_recovery": True,
    }
    # The first failure; the good task; five recoveries and as many failures.
    state = manager.health_states[0]
    assert state.total_recoveries == len(tries(tmp_path)) - 1 == MOST_TRIES
    assert (state.consecutive_failures, state.last_error_type) == (1, "ValueError")


class Forgiving(WorkerHealthState):
    """A slot that others' successes forgive all the time."""

    def should_attempt_recovery(self) -> bool:
        return True


def test_a_bad_task_is_tried_so_often_however_healthy_its_slots_are(
    define: Define, tmp_path: Path
) -> None:
    manager = ParallelSessionManager(1)
    manager.health_states[0] = Forgiving(0)
    process = define(failing(tmp_path, 99))
    results = asyncio.run(manager.run_parallel_agents([{"bad": 1}], process))

    assert results[0]["exhausted_recovery"] is True
    assert len(tries(tmp_path)) == 1 + MOST_TRIES


@pytest.mark.parametrize(
    ("status", "tries", "step"),
    [
        (Status.FAILED, 0, Next.RECOVER),
        (Status.TIMED_OUT, MOST_TRIES - 1, Next.RECOVER),
        (Status.FAILED, MOST_TRIES, Next.EXHAUSTED),
        (Status.LOST, 0, Next.EXHAUSTED),
        (Status.CANCELLED, 0, Next.FAILED),
        (Status.INVALID, 0, Next.FAILED),
    ],
)
def test_what_follows_a_failure(status: Status, tries: int, step: Next) -> None:
    assert after_failure(status, tries, WorkerHealthState(0)) is step


def test_a_failure_of_nobody_of_ours_needs_no_recovery() -> None:
    assert after_failure(Status.FAILED, 0, None) is Next.AGAIN
    assert after_failure(Status.FAILED, MOST_TRIES, None) is Next.EXHAUSTED


def test_a_slot_that_is_not_recovered_leaves_the_failure_as_it_was(
    farm: Farm, define: Define
) -> None:
    breaks = f"open({str(farm.root / 'farm.toml')!r}, 'w').write('no = settings')"
    process = define(f"def process(t, w):\n    {breaks}\n    raise OSError('broken')")
    manager = ParallelSessionManager(1, project=farm.root)
    results = asyncio.run(manager.run_parallel_agents([{}], process))

    assert results == [{"task": {}, "error": "broken", "success": False}]
    assert manager.health_states[0].total_recoveries == 0
    assert manager.health_states[0].recovery_attempts == 1


def test_all_fails_with_a_sentence_if_no_worker_can_live(
    define: Define, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = define("def process(task, worker_id): pass")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    results = run_all(process, {"n": 0}, {"n": 1}, workers=2)

    assert len(results) == 2
    for result in results:
        assert (
            "no worker stays alive; the last one ended with exit code 1"
            in (result["error"])
        )
        assert result["exhausted_recovery"] is True


def test_a_result_that_json_cannot_hold_is_that_tasks_error(define: Define) -> None:
    process = define("def process(t, w): return {1} if t.get('odd') else 1")
    results = run_all(process, {"odd": True}, {})

    assert [result["success"] for result in results] == [True, False]
    assert "JSON cannot hold what it returned: value is a set" in results[1]["error"]


def test_a_project_may_limit_how_long_a_task_takes(farm: Farm, define: Define) -> None:
    farm.write("farm.toml", "timeout = 0.3")
    manager = ParallelSessionManager(1, project=farm.root)
    manager.health_states[0].recovery_attempts = MOST_TRIES
    process = define("import time\ndef process(t, w): time.sleep(1000)")
    results = asyncio.run(manager.run_parallel_agents([{}], process))

    assert results[0]["error"] == "timed out after 0.3 s"
    assert results[0]["exhausted_recovery"] is True
    assert manager.health_states[0].last_error_type == "timeout"


# -- crashes ---------------------------------------------------------------------------


def test_a_task_whose_worker_was_killed_runs_again_and_so_does_the_slot(
    define: Define, gate: Gate
) -> None:
    manager = ParallelSessionManager(1)
    killed = []

    async def kill() -> None:
        killed.extend(await reached(gate))
        os.kill(killed[0], signal.SIGKILL)
        await eventually(lambda: set(gate.reached()) - set(killed))
        gate.open()

    results = while_running(manager, define(gated(gate)), [{"wait": 1}], kill)

    assert results[0]["success"] is True
    assert results[0]["result"] != killed[0]
    assert manager.health_states[0].total_recoveries == 1


def test_a_task_that_kills_each_worker_is_given_up(define: Define) -> None:
    manager = ParallelSessionManager(1)
    process = define("def process(t, w): os.kill(os.getpid(), signal.SIGKILL)")
    results = asyncio.run(manager.run_parallel_agents([{}], process))

    assert results[0]["exhausted_recovery"] is True
    assert "3 attempts vanished with a worker" in results[0]["error"]
    assert manager.health_states[0].last_error_type == "SIGKILL"


# -- being cancelled -------------------------------------------------------------------


def test_cancelling_ends_the_workers_and_takes_back_what_has_not_ended(
    farm: Farm, define: Define, gate: Gate
) -> None:
    farm.drop("theirs", run="true", not_before="2999-01-01T00:00:00Z")
    manager = ParallelSessionManager(2, project=farm.root)
    tasks = [{"n": n, "wait": True} for n in range(9)]
    process = define(gated(gate))

    async def cancel() -> None:
        running = asyncio.ensure_future(manager.run_parallel_agents(tasks, process))
        await reached(gate, 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert own_workers() == []

    asyncio.run(cancel())

    ids = [f"{path.parent.name}/{path.stem}" for path in dropped(farm)]
    assert [farm.status_of(task_id) for task_id in ids] == ["cancelled"] * 2
    assert farm.status_of("theirs") is None
    assert farm.left_behind() == []


def test_cancelling_ends_what_waits_in_an_async_processor(
    define: Define, gate: Gate
) -> None:
    process = define(
        f"import asyncio\nasync def process(t, w):\n    {gate.mark}\n"
        "    await asyncio.Event().wait()\n"
    )

    async def cancel() -> None:
        async with asyncio.timeout(None) as limit:
            manager = ParallelSessionManager(1)
            running = asyncio.ensure_future(manager.run_parallel_agents([{}], process))
            await reached(gate)
            limit.reschedule(0)
            await running

    with pytest.raises(TimeoutError):
        asyncio.run(cancel())


@pytest.mark.parametrize("shared", [True, False])
def test_cancelling_ends_what_a_processor_has_started(
    farm: Farm, define: Define, gate: Gate, *, shared: bool
) -> None:
    starts = define(
        f"import subprocess\ndef process(t, w):\n    subprocess.run({gate.command!r}, shell=True)"
    )
    manager = ParallelSessionManager(1, project=farm.root if shared else None)

    async def cancel() -> None:
        running = asyncio.ensure_future(manager.run_parallel_agents([{}], starts))
        started = await reached(gate)
        running.cancel()
        await asyncio.wait([running])
        assert [pid for pid in started if stat(pid)] == []

    asyncio.run(cancel())


def test_workers_end_by_themselves_when_their_program_was_killed(
    tmp_path: Path, gate: Gate, farm: Farm
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import asyncio\nfrom farm import ParallelSessionManager\n{gated(gate)}"
        "if __name__ == '__main__':\n"
        f"    manager = ParallelSessionManager(1, project={str(farm.root)!r})\n"
        "    tasks = [{'wait': 1}, {'wait': 2}]\n"
        "    asyncio.run(manager.run_parallel_agents(tasks, process))\n"
    )
    popen = subprocess.Popen([sys.executable, script])
    worker = psutil.Process(gate.wait_reached()[0])
    popen.kill()
    popen.wait()
    gate.open()
    wait_until(lambda: not worker.is_running(), on_timeout=farm.describe)

    assert len(ended(farm)) == 1


def test_ctrl_c_leaves_nobody_behind(tmp_path: Path, gate: Gate, temp: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, tempfile\nfrom farm import ParallelSessionManager\n"
        f"tempfile.tempdir = {str(temp)!r}\n{gated(gate)}"
        "if __name__ == '__main__':\n"
        "    runs = ParallelSessionManager(2).run_parallel_agents\n"
        "    asyncio.run(runs([{'wait': 1}, {'wait': 2}], process))\n"
    )
    popen = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE)
    workers = gate.wait_reached(2)
    popen.send_signal(signal.SIGINT)
    _, said = popen.communicate()

    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert [pid for pid in workers if stat(pid)] == []


# -- a project that others work in -----------------------------------------------------


def test_what_was_run_in_a_project_stays_as_a_record(
    farm: Farm, define: Define, tmp_path: Path
) -> None:
    run_all(define(failing(tmp_path, 1)), {"bad": 1}, {"good": 1}, project=farm.root)

    assert len(dropped(farm)) == len(ended(farm)) == 2
    assert farm.farm("wait").returncode == 0  # each has succeeded at last


def test_two_managers_may_share_a_project(
    farm: Farm, define: Define, gate: Gate
) -> None:
    process = define("def process(task, worker_id): return [task['n'], worker_id]")

    async def both() -> list[Results]:
        managers = [ParallelSessionManager(2, project=farm.root) for _ in range(2)]
        runs = [
            manager.run_parallel_agents([{"n": k + n} for n in range(6)], process)
            for manager, k in zip(managers, (0, 100), strict=True)
        ]
        return await asyncio.gather(*runs)

    first, second = asyncio.run(both())

    assert sorted(result["result"][0] for result in first) == [*range(6)]
    assert sorted(result["result"][0] for result in second) == [*range(100, 106)]
    assert {result["result"][1] for result in first + second} <= {0, 1}


def test_tasks_of_others_are_run_meanwhile_and_are_no_results(
    farm: Farm, define: Define
) -> None:
    process = define(
        "import time\ndef process(task, worker_id):\n"
        "    while task.get('wait') and"
        f" not os.path.exists('{farm.tasks}/theirs.result.json'):\n"
        "        time.sleep(0.02)\n"
    )
    farm.drop("theirs", run="true")

    tasks: list[dict[str, Any]] = [{"wait": True}, {}]  # one worker has time for theirs
    assert len(run_all(process, *tasks, workers=2, project=farm.root)) == 2
    assert farm.status_of("theirs") == "succeeded"


def test_a_task_that_somebody_cancels_is_not_tried_again(
    farm: Farm, define: Define, gate: Gate
) -> None:
    manager = ParallelSessionManager(1, project=farm.root)

    async def cancel() -> None:
        await reached(gate)
        await asyncio.to_thread(farm.farm, "cancel", "session-*/*")

    tasks = [{"wait": 1}, {"n": 2}]
    results = while_running(manager, define(gated(gate)), tasks, cancel)

    assert results[0] == {
        "task": {"wait": 1},
        "error": "cancelled while it ran",
        "success": False,
    }
    assert results[1]["success"] is True
    assert manager.health_states[0].total_recoveries == 0


def test_a_task_file_that_somebody_deletes_has_failed(
    farm: Farm, define: Define
) -> None:
    farm.farm("pause")
    process = define("def process(task, worker_id): pass")

    async def delete() -> None:
        await eventually(lambda: dropped(farm))
        dropped(farm)[0].unlink()

    manager = ParallelSessionManager(1, project=farm.root)
    results = while_running(manager, process, [{}], delete)

    assert results[0]["error"] == "somebody took its task file away"
    assert "exhausted_recovery" not in results[0]


def test_in_a_worker_of_somebody_else_the_number_is_one_of_ours(
    define: Define,
) -> None:
    process = define("def process(task, worker_id): return worker_id")
    session: dict[str, Any] = {
        "name": "session-1",
        "function": {"module": process.__module__, "function": "process", "file": None},
        "path": [],
        "folder": None,
        "worker_id": 2,
    }

    assert run({}, session) == 2


# -- what is refused -------------------------------------------------------------------


class Agent:
    """Has a method, and a name that leads to another one."""

    def process(self, _task: dict[str, Any], _worker_id: int) -> None:
        return None

    @staticmethod
    def static(task: dict[str, Any], worker_id: int) -> list[Any]:
        return [task["n"], worker_id]

    def __call__(self, _task: dict[str, Any], _worker_id: int) -> None:
        return None


def nested() -> Processor:
    def process(_task: dict[str, Any], _worker_id: int) -> None:
        return None

    return process


def typed_at_a_prompt() -> Processor:
    """A function of a module that lies in no file."""
    module = type(sys)("typed")
    exec("def process(task, worker_id): pass", module.__dict__)
    sys.modules["typed"] = module
    found: Processor = module.process
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda _task, _worker_id: None,
        nested,
        lambda: Agent().process,
        lambda: partial(Agent.static),
        Agent,
        typed_at_a_prompt,
    ],
    ids=["lambda", "nested", "method", "partial", "object", "prompt"],
)
def test_a_processor_that_no_worker_can_import_is_refused_before_anything_starts(
    make: Callable[[], Processor], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="at the top level of a file"):
        run_all(make(), {}, project=tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_a_static_method_has_a_name_and_works() -> None:
    assert run_all(Agent.static, {"n": 3})[0]["result"] == [3, 0]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"when": {1}}, r'tasks\[1\]\["when"\] is a set'),
        ({1: 2}, "key that is an int"),
        ({"x": float("nan")}, "is nan"),
        (["a list"], r"tasks\[1\] is of type list"),
    ],
)
def test_a_task_that_json_cannot_hold_is_refused_before_anything_starts(
    define: Define, tmp_path: Path, task: Any, words: str
) -> None:
    process = define("def process(task, worker_id): pass")

    with pytest.raises(UsageError, match=words):
        run_all(process, {}, task, project=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ParallelSessionManager(workers)


# -- scripts ---------------------------------------------------------------------------


def run_script(tmp_path: Path, end: str) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, tempfile\nfrom dataclasses import dataclass\n"
        "from farm import ParallelSessionManager\n"
        f"tempfile.tempdir = {str(tmp_path / 'temp')!r}\n"
        "@dataclass\nclass Answer:\n    text: str\n"
        "async def process(task, worker_id):\n"
        "    return Answer('hello ' + task['name']).text\n"
        "def main():\n"
        "    runs = ParallelSessionManager(1).run_parallel_agents\n"
        "    print(asyncio.run(runs([{'name': 'ada'}], process)))\n"
        f"{end}\n"
    )
    command = [sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_function_of_a_script_is_found_by_its_file(tmp_path: Path) -> None:
    done = run_script(tmp_path, "if __name__ == '__main__':\n    main()")

    assert "'result': 'hello ada'" in done.stdout


def test_a_script_that_reads_its_arguments_finds_them_in_a_worker_too(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import argparse, asyncio, sys\nfrom farm import ParallelSessionManager\n"
        "parser = argparse.ArgumentParser()\nparser.add_argument('--name')\n"
        "NAME = parser.parse_args().name\n"
        "def process(task, worker_id):\n    return [NAME, *sys.argv[1:]]\n"
        "if __name__ == '__main__':\n"
        "    runs = ParallelSessionManager(1).run_parallel_agents\n"
        "    print(asyncio.run(runs([{}, {}], process)))\n"
    )
    command = [sys.executable, str(script), "--name", "ada"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout.count("'result': ['ada', '--name', 'ada']") == 2, done


def test_a_script_that_would_start_itself_without_end_is_told_so(
    tmp_path: Path,
) -> None:
    done = run_script(tmp_path, "main()")

    assert 'put what it does under `if __name__ == "__main__":`' in done.stdout
