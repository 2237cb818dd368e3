"""farm as process 1 of a container: it reaps orphans, and its child hears all signals."""

import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from farm.first_process import is_heard_by_group
from tests.driver import Farm, said, whys
from tests.faults.spaces import farm_command, number_inside
from tests.faults.tools import UNSHARE, needs
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("pid namespace")]

CONTAINER = [*UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc"]
VERBS = [("worker",), ("supervise", "-j1")]
ORPHANS = "(exit 0 &); (exit 0 &); exit 0"
ZOMBIES = """
for try in $(seq 200); do
    count=$(grep -l "^State:.Z" /proc/[0-9]*/status | wc -l)
    [ "$count" = 0 ] && break
    sleep 0.05
done
echo $count
"""


def start(farm: Farm, *words: str) -> "subprocess.Popen[bytes]":
    """Start a verb as process 1 of a container."""
    return farm.start_command(*CONTAINER, *farm_command(farm, words[0], *words[1:]))


def first(popen: "subprocess.Popen[bytes]") -> int:
    """The process that has number 1 in its container, by its number outside."""

    def found() -> int:
        for process in psutil.Process(popen.pid).children(recursive=True):
            with suppress(psutil.Error, OSError):
                if number_inside(process.pid) == 1:
                    return process.pid
        return 0

    return wait_until(found)


@pytest.mark.parametrize("verb", VERBS)
def test_orphans_are_reaped(farm: Farm, verb: tuple[str, ...]) -> None:
    for number in range(3):
        farm.drop(f"a{number}", run=ORPHANS)
    farm.drop("z", run=ZOMBIES, priority=-1)
    code = start(farm, *verb, "--until-done").wait(50)

    assert (code, farm.result("z")["stdout"]) == (0, "0\n")


@pytest.mark.parametrize("verb", VERBS)
def test_the_exit_code_is_that_of_farm(farm: Farm, verb: tuple[str, ...]) -> None:
    farm.drop("a", run="exit 3")

    assert start(farm, *verb, "--until-done").wait(50) == 1


def test_a_farm_that_is_killed_ends_its_container(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = start(farm, "worker")
    gate.wait_reached()
    (child,) = psutil.Process(first(worker)).children()
    farm.kill(child.pid)

    assert worker.wait(50) == 128 + signal.SIGKILL


@pytest.mark.parametrize("verb", VERBS)
def test_no_task_reads_a_secret_from_it(farm: Farm, verb: tuple[str, ...]) -> None:
    farm.environ["DEMO_API_KEY"] = "a-secret-of-the-container"
    farm.drop("a", run="tr '\\0' '\\n' < /proc/1/environ | tee shown")
    start(farm, *verb, "--until-done").wait(50)
    shown = (farm.root / "shown").read_text()

    assert "a-secret-of-the-container" not in shown
    assert shown == "" or "PATH=" in shown  # nothing, where we are not root in there


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_once(
    farm: Farm, verb: tuple[str, ...], number: signal.Signals
) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    popen = start(farm, *verb)
    gate.wait_reached()
    farm.signal(first(popen), number)
    wait_until(lambda: "finishing what runs" in said(farm), on_timeout=farm.describe)
    gate.open()

    assert popen.wait(50) == 130
    assert whys(farm.result("a")) == ["succeeded"]


def test_a_second_signal_gives_back_what_runs(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = start(farm, "worker")
    gate.wait_reached()
    farm.signal(first(worker), signal.SIGTERM)
    wait_until(lambda: "finishing what runs" in said(farm), on_timeout=farm.describe)
    farm.signal(first(worker), signal.SIGTERM)

    assert worker.wait(50) == 130
    gate.open()
    farm.work()
    assert whys(farm.result("a")) == ["drained", "succeeded"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_ctrl_c_at_its_terminal_counts_once(
    farm: Farm, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    with (farm.root / "process-0.log").open("wb") as log:
        worker = subprocess.Popen(
            [*CONTAINER, *farm_command(farm, "worker")],
            env=farm.environ,
            stdin=theirs,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - this process has one thread
        )
    farm.processes.append(worker)
    farm.logs.append(farm.root / "process-0.log")
    gate.wait_reached()
    os.write(ours, b"\x03")
    wait_until(lambda: "finishing what runs" in said(farm), on_timeout=farm.describe)
    gate.open()
    worker.wait(50)

    assert whys(farm.result("a")) == ["succeeded"]


def test_what_a_terminal_sends_goes_to_the_whole_group_except_its_end() -> None:
    by_kernel, by_kill = 128, 0

    assert is_heard_by_group(signal.SIGINT, by_kernel)
    assert not is_heard_by_group(signal.SIGINT, by_kill)
    assert not is_heard_by_group(signal.SIGHUP, by_kernel)


@pytest.mark.parametrize("verb", VERBS)
def test_no_task_reads_a_key_from_the_environment_of_process_1(
    farm: Farm, verb: tuple[str, ...]
) -> None:
    farm.environ["DEMO_API_KEY"] = "of-no-use-to-anybody"
    count = "cat /proc/[0-9]*/environ 2>/dev/null | grep -ac DEMO_API_KEY=[a-z]"
    farm.drop("a", run=f"{count}; true")
    farm.drop("b", run="echo $DEMO_API_KEY", env_from=["DEMO_API_KEY"])
    start(farm, *verb, "--until-done").wait(50)

    assert farm.result("a")["stdout"] == "0\n"
    assert farm.result("b")["stdout"] == "[secret]\n"
