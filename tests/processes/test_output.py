"""What a task prints is bounded while it runs, and nobody has to read the rest."""

from pathlib import Path
from typing import Any

import pytest

from tests.driver import Farm, said
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

MOST = 256 * 1024
LINES = 400_000  # of 12 letters
MODULE = """
import os, sys, time

def lines(count):
    for number in range(count):
        print(f"line {number:06}")

def secret(count):
    lines(count)
    print(os.environ["MY_TOKEN"])

def own_file(path):
    mine = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(mine, 1)
    os.write(1, b"x" * 3_000_000)
    time.sleep(0.6)
"""
SHELL = f"python3 -c 'import m; m.lines({LINES})'"
PRINTS: dict[str, dict[str, Any]] = {
    "command": {"run": f"{SHELL}; echo end >&2"},
    "callable": {"call": "m:lines", "args": [LINES]},
    "command with a secret": {
        "run": f"{SHELL}; echo $MY_TOKEN",
        "env_from": ["MY_TOKEN"],
    },
    "callable with a secret": {
        "call": "m:secret",
        "args": [LINES],
        "env_from": ["MY_TOKEN"],
    },
}


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("kind", PRINTS)
def test_of_long_output_the_middle_is_dropped_and_the_result_says_so(
    farm: Farm, kind: str
) -> None:
    farm.write("m.py", MODULE)
    farm.drop("a", **PRINTS[kind], max_output="256 KiB")
    farm.work(MY_TOKEN="hidden-from-all")

    result = farm.result("a")
    log = farm.root / result["stdout_path"]
    printed = farm.farm("logs", "a").stdout
    assert result["status"] == "succeeded"
    assert taken(log) <= MOST + 16_384
    assert result["stdout_left_out"] == log.stat().st_size - len(
        log.read_bytes().replace(b"\0", b"")
    )
    assert "stderr_left_out" not in result
    assert printed.startswith("line 000000\nline 000001\n")
    assert f"[... {result['stdout_left_out']} bytes left out" in printed
    assert "\0" not in printed + result["stdout"]
    assert "hidden-from-all" not in printed
    assert f"line {LINES - 1:06}" in result["stdout"]
    assert f"line {LINES - 1:06}" in farm.farm("logs", "a", "--tail", "3").stdout


def test_never_more_is_kept_than_all_logs_may_take(farm: Farm) -> None:
    farm.write("m.py", MODULE)
    farm.write("farm.toml", 'max_output = "1 TiB"\nlogs.max_total = "1 MiB"\n')
    farm.drop("a", run=SHELL)
    farm.work()

    result = farm.result("a")
    assert taken(farm.root / result["stdout_path"]) <= (1 << 20) + 16_384
    assert result["stdout_left_out"] > 0


def test_a_log_is_bounded_while_its_task_runs(farm: Farm) -> None:
    gate = farm.gate()
    farm.write("m.py", MODULE)
    farm.drop("a", run=f"{SHELL}; {gate.command}; echo end", max_output="256 KiB")
    farm.start_worker()
    gate.wait_reached()
    log = farm.state / "logs" / "a.1.out"
    wait_until(lambda: taken(log) <= MOST + 16_384)
    while_it_ran = farm.farm("logs", "a").stdout
    shown = farm.farm("show", "a").stdout
    gate.open()
    farm.wait_for("succeeded", "a")

    assert "bytes left out" in while_it_ran
    assert "\0" not in while_it_ran + shown
    assert farm.result("a")["stdout"].endswith("\nend\n")


def test_who_follows_a_log_is_told_what_was_dropped_before_it_was_read(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.write("m.py", MODULE)
    farm.drop("a", run=f"{SHELL}; {gate.command}; {SHELL}", max_output="256 KiB")
    farm.start_worker()
    gate.wait_reached()
    follower = farm.start("logs", "a", "-f", "--tail", "1")
    wait_until(lambda: "line" in said(farm, follower))
    gate.open()
    farm.wait_for("succeeded", "a")
    follower.wait(timeout=30)

    assert "\0" not in said(farm, follower)
    assert said(farm, follower).rstrip().endswith(f"line {LINES - 1:06}")


def test_a_callables_own_file_is_not_its_output(farm: Farm) -> None:
    mine = farm.root / "mine"
    farm.write("m.py", MODULE)
    farm.drop("a", call="m:own_file", args=[str(mine)], max_output="256 KiB")
    farm.work()

    assert farm.status_of("a") == "succeeded"
    assert mine.read_bytes() == b"x" * 3_000_000


CANNOT = """
import errno
def no_holes(*_):
    raise OSError(errno.EOPNOTSUPP, "no holes here")
patch("farm.middle._punch", no_holes).start()
"""


@pytest.mark.parametrize("kind", ["command", "callable"])
def test_where_the_middle_cannot_be_dropped_the_task_fails_and_others_go_on(
    farm: Farm, kind: str
) -> None:
    endless: dict[str, dict[str, Any]] = {
        "command": {"run": "while :; do seq 100000; sleep 0.01; done"},
        "callable": {"call": "m:lines", "args": [10**12]},
    }
    farm.write("m.py", MODULE)
    farm.drop("a", **endless[kind], max_output="256 KiB", priority=1)
    farm.drop("b", run="echo 7")
    farm.start_changed(CANNOT, "--until-done")
    result = farm.wait_for("failed", "a")
    farm.wait_for("succeeded", "b")

    assert result["error"]["kind"] == "output"
    assert "cannot drop the middle of a file" in result["error"]["message"]
    assert (farm.root / result["stdout_path"]).stat().st_size <= MOST


def test_a_worker_that_says_much_begins_a_new_log(farm: Farm) -> None:
    farm.write("farm.toml", "workers = 1\n")
    supervisor = farm.supervise()
    log = farm.state / "logs" / "worker-0.log"
    wait_until(lambda: log.exists() and farm.worker_names())
    with log.open("ab") as file:
        file.write(b"x" * 5_000_000)
    wait_until(lambda: log.stat().st_size < 1_000_000)

    assert log.with_name("worker-0.log.1").stat().st_size >= 5_000_000
    farm.drop("a", run="true")
    farm.wait_for("succeeded", "a")
    assert supervisor.poll() is None


# -- those that do nothing any more ------------------------------------------------------

IDLE_MODULE = """
import os, sys, time

def sleeps():
    time.sleep(600)

def computes():
    while time.process_time() < 2: pass

def prints():
    for number in range(20):
        print(number, flush=True)
        time.sleep(0.1)

def progresses():
    for number in range(20):
        with open(os.environ["FARM_PROGRESS"], "w") as file:
            print(number / 20, "still here", file=file)
        time.sleep(0.1)

def stuck():
    sum(range(10**15))
"""


def as_command(name: str) -> dict[str, Any]:
    return {"run": ["python3", "-c", f"import idle; idle.{name}()"]}


def as_callable(name: str) -> dict[str, Any]:
    return {"call": f"idle:{name}"}


@pytest.mark.parametrize("kind", [as_command, as_callable])
def test_a_task_that_shows_no_sign_of_work_is_ended(farm: Farm, kind: Any) -> None:
    farm.write("idle.py", IDLE_MODULE)
    farm.drop("a", **kind("sleeps"), idle_timeout="0.8s", retries=1)
    farm.drop("b", run="true", priority=-1)
    farm.work()
    result = farm.result("a")

    assert result["status"] == "timed_out"
    assert [attempt["counted"] for attempt in result["attempts"]] == [True, True]
    assert "no sign of work for 800 ms" in result["error"]["message"]
    assert farm.status_of("b") == "succeeded"


@pytest.mark.parametrize("kind", [as_command, as_callable])
@pytest.mark.parametrize("name", ["computes", "prints", "progresses"])
def test_who_computes_prints_or_tells_its_progress_is_at_work(
    farm: Farm, kind: Any, name: str
) -> None:
    farm.write("idle.py", IDLE_MODULE)
    farm.drop("a", **kind(name), idle_timeout="1.5s")
    farm.work()

    assert farm.status_of("a") == "succeeded"


def test_without_a_limit_a_silent_command_may_go_on(farm: Farm) -> None:
    farm.drop("a", run="sleep 1.5")
    farm.work()

    assert farm.status_of("a") == "succeeded"


def test_a_callable_that_is_stuck_in_c_is_ended_with_its_worker(farm: Farm) -> None:
    farm.write("idle.py", "import signal, threading\n" + STUCK)
    farm.drop("a", call="idle:stuck", idle_timeout="0.5s")
    farm.supervise("-j1", "--until-done", FARM_GRACE="0.3")
    result = farm.wait_for("timed_out", "a")

    assert "no sign of work for 500 ms" in result["error"]["message"]
    assert "idle.py" in result["error"]["traceback"]


#: waits in C code, lets other threads run, and hears no signal
STUCK = """
def stuck():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    threading.Lock().acquire() or None
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
"""
