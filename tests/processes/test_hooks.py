"""Hooks of real workers: whatever they do, tasks and workers go on."""

import signal
from pathlib import Path

import pytest

from tests.driver import Farm, said
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

NAME = 'basename "$1" .result.json'


def hooks(farm: Farm, **commands: str) -> None:
    """Settings with these hooks, each a text for the shell."""
    rows = [f"{name} = '''{text}'''" for name, text in commands.items()]
    farm.write("farm.toml", "\n".join(["[hooks]", *rows, ""]))


def log(farm: Farm) -> list[str]:
    """What hooks have printed so far."""
    path = farm.state / "logs" / "hooks.log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_worker_that_returns_has_run_its_hooks(farm: Farm) -> None:
    hooks(farm, on_done=f"sleep 0.1; {NAME}", on_failure=f"{NAME} | sed s/$/!/")
    for name in ("a", "b", "c"):
        farm.drop(name, run="exit 1" if name == "b" else "true")
    code = farm.work()

    assert code == 1
    assert log(farm) == ["a", "b!", "b", "c"]


def test_the_result_is_there_when_its_hook_runs(farm: Farm) -> None:
    hooks(farm, on_done='cat "$1"')
    farm.drop("a", run="echo out")
    farm.work()

    assert log(farm) == farm.result_path("a").read_text().splitlines()


def test_quick_tasks_of_several_workers_run_each_hook_once(farm: Farm) -> None:
    hooks(farm, on_done=NAME)
    names = sorted(farm.drop(f"t{number}", run="true") for number in range(200))
    done = farm.farm("supervise", str(farm.root), "-j", "2", "--until-done")

    assert done.returncode == 0
    assert sorted(log(farm)) == names


def test_an_attempt_that_is_repeated_runs_no_hook(farm: Farm) -> None:
    hooks(farm, on_done="echo done", on_failure="echo failure")
    quick = {"max": 2, "base_delay": 0.1, "max_delay": 0.1}
    farm.drop("a", run='test "$FARM_ATTEMPT" = 3', retries=quick)

    assert farm.work() == 0
    assert log(farm) == ["done"]


def test_what_was_skipped_is_done_but_no_failure(farm: Farm) -> None:
    hooks(farm, on_done=NAME, on_failure=f"{NAME} | sed s/$/!/")
    farm.drop("a", run="exit 1")
    farm.drop("b", run="true", needs=["a"])
    farm.work()

    assert farm.status_of("b") == "skipped"
    assert log(farm) == ["a!", "a", "b"]


def test_a_file_that_is_no_task_is_a_failure(farm: Farm) -> None:
    hooks(farm, on_failure=NAME)
    farm.drop_bytes("a", b"{")
    farm.work()

    assert farm.status_of("a") == "invalid"
    assert log(farm) == ["a"]


def test_neither_secrets_nor_the_workers_variables_reach_a_hook(farm: Farm) -> None:
    hooks(farm, on_done="env")
    farm.drop("a", run="true", env_from=["FOO_API_KEY"])
    farm.work(FOO_API_KEY="key", FOO_TOKEN="token", FARM_RETRIES="1", FOO="plain")
    names = {line.partition("=")[0] for line in log(farm)}

    assert farm.status_of("a") == "succeeded"
    assert {"FOO", "PATH"} <= names
    assert not names & {"FOO_API_KEY", "FOO_TOKEN"}
    assert [line for line in log(farm) if line.startswith("FARM_")] == [
        f"FARM_PROJECT={farm.root}"
    ]


@pytest.mark.parametrize(
    ("hook", "how"),
    [("exit 3", "ended with code 3"), ("nosuchprogram", "ended with code 127")],
)
def test_a_hook_that_fails_is_said_and_disturbs_nothing(
    farm: Farm, hook: str, how: str
) -> None:
    hooks(farm, on_done=hook)
    farm.drop("a", run="true")
    farm.drop("b", run="true", needs=["a"])
    done = farm.farm("worker", str(farm.root), "--until-done")

    assert done.returncode == 0
    assert [farm.status_of(name) for name in "ab"] == ["succeeded", "succeeded"]
    assert f"the hook for a {how}" in done.stderr
    assert f"the hook for b {how}" in done.stderr


def test_a_program_that_is_missing_is_said_and_disturbs_nothing(farm: Farm) -> None:
    farm.write("farm.toml", '[hooks]\non_done = ["./nosuchprogram"]\n')
    farm.drop("a", run="true")
    done = farm.farm("worker", str(farm.root), "--until-done")

    assert done.returncode == 0
    assert "the hook for a could not be started" in done.stderr


def test_under_a_supervisor_it_is_said_in_the_workers_log(farm: Farm) -> None:
    hooks(farm, on_done="exit 3")
    farm.drop("a", run="true")
    farm.farm("supervise", str(farm.root), "-j", "1", "--until-done")
    logs = [path.read_text() for path in (farm.state / "logs").glob("worker-*.log")]

    assert "the hook for a ended with code 3" in "".join(logs)


def test_no_task_waits_for_a_hook(farm: Farm) -> None:
    gate = farm.gate()
    hooks(farm, on_done=gate.command)
    second = farm.gate("task")
    farm.drop("a", run="true", priority=1)
    farm.drop("b", run=second.command)
    worker = farm.start("worker", str(farm.root), "--until-done")
    gate.wait_reached()
    second.wait_reached()
    gate.open()
    second.open()

    assert worker.wait(30) == 0
    assert len(gate.reached()) == 2


def test_callables_are_not_disturbed_either(farm: Farm) -> None:
    farm.write("mine.py", "def add(a, b):\n    print('out')\n    return a + b\n")
    hooks(farm, on_done="echo hook; exit 1")
    for number in range(20):
        farm.drop(f"t{number}", call="mine:add", args=[number, 1])
    code = farm.work()

    assert code == 0
    assert [farm.result(f"t{n}")["value"] for n in range(20)] == list(range(1, 21))
    assert {farm.result(f"t{n}")["stdout"] for n in range(20)} == {"out\n"}
    assert log(farm) == ["hook"] * 20


def test_a_daemon_that_a_hook_leaves_behind_does_not_hold_the_worker(
    farm: Farm,
) -> None:
    gate = farm.gate()
    hooks(farm, on_done=f'setsid sh -c "{gate.command}" &')
    farm.drop("a", run="true")
    done = farm.farm("worker", str(farm.root), "--until-done")
    gate.wait_reached()

    assert done.returncode == 0
    assert "hooks took longer" not in done.stderr


def test_a_worker_that_is_stopped_lets_its_hooks_finish(farm: Farm) -> None:
    gate = farm.gate()
    hooks(farm, on_done=f"{gate.command}; {NAME}")
    farm.drop("a", run="true")
    worker = farm.start_worker()
    gate.wait_reached()
    farm.signal(worker, signal.SIGTERM)
    wait_until(lambda: "ends: SIGTERM" in said(farm), on_timeout=farm.describe)
    gate.open()

    assert worker.wait(30) == 130
    assert log(farm) == ["a"]


def test_a_worker_that_is_stopped_twice_does_not_wait_for_hooks(farm: Farm) -> None:
    gate = farm.gate()
    hooks(farm, on_done=gate.command)
    farm.drop("a", run="true", priority=1)
    farm.drop("b", run="true")
    worker = farm.start_worker()
    gate.wait_reached()
    farm.wait_for("succeeded", "b")
    farm.signal(worker, signal.SIGTERM)
    wait_until(lambda: "ends: SIGTERM" in said(farm), on_timeout=farm.describe)
    farm.signal(worker, signal.SIGTERM)
    code = worker.wait(40)

    assert code == 130
    assert "one was killed, 1 not run" in said(farm)
    assert "longer than 30 s" not in said(farm)


def test_a_worker_that_was_killed_has_run_its_hook_at_most_once(farm: Farm) -> None:
    gate = farm.gate()
    hooks(farm, on_done=f"{NAME} >> ran; {gate.command}")
    farm.drop("a", run="true", priority=1)
    worker = farm.start_worker()
    gate.wait_reached()
    farm.kill(worker)
    farm.drop("b", run="true")
    gate.open()
    farm.work()

    assert (Path(farm.root) / "ran").read_text().split() == ["a", "b"]
