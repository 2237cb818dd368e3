"""A supervisor keeps workers going, ends when it should, and may die itself."""

import os
import re
import signal
import subprocess

import psutil
import pytest

from tests.driver import IMPATIENT, Farm, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def wait_said(farm: Farm, words: str) -> None:
    """Until the process that was started last has printed these words."""
    wait_until(lambda: words in said(farm), 30, farm.describe)


def wait_workers(farm: Farm, count: int) -> list[int]:
    """Process ids of the workers, once there are so many."""
    return wait_until(
        lambda: pids if len(pids := farm.worker_pids()) >= count else [],
        on_timeout=farm.describe,
    )


def until_done(farm: Farm, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Supervise one worker until nothing is left; what was said, how it ended."""
    return farm.farm("supervise", str(farm.root), "-j", "1", "--until-done", **environ)


# -- deaths ------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_task_runs_again(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    supervisor = farm.supervise("-j", "1", "--until-done")
    gate.wait_reached()
    (first,) = farm.worker_pids()
    farm.kill(first)
    gate.wait_reached(2)
    gate.open()
    result = farm.wait_for("succeeded", "job")

    assert supervisor.wait(30) == 0
    assert whys(result) == ["lost", "succeeded"]
    assert re.search(r"worker \S+ was killed by SIGKILL; another starts", said(farm))


def test_as_many_workers_run_as_were_asked_for(farm: Farm) -> None:
    gate = farm.gate()
    for number in range(5):
        farm.drop(f"t{number}", run=gate.command)
    farm.supervise("-j", "3")
    gate.wait_reached(3)

    assert len(farm.worker_pids()) == 3
    assert len(gate.reached()) == 3


@pytest.mark.fault(5)
def test_workers_of_a_killed_supervisor_finish_what_they_hold_and_end(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    supervisor = farm.supervise("-j", "2")
    gate.wait_reached()
    workers = [psutil.Process(pid) for pid in wait_workers(farm, 2)]
    farm.kill(supervisor)
    psutil.wait_procs(workers, timeout=20, callback=lambda _: gate.open())
    result = farm.wait_for("succeeded", "job")
    _, alive = psutil.wait_procs(workers, timeout=20)

    assert whys(result) == ["succeeded"]
    assert alive == []


@pytest.mark.fault(5)
def test_a_new_supervisor_carries_on_after_a_killed_one(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    farm.drop("later", run="true", needs=["job"])
    supervisor = farm.supervise("-j", "1")
    gate.wait_reached()
    farm.kill(supervisor)
    farm.supervise("-j", "1", "--until-done")
    gate.open()
    code = farm.processes[-1].wait(40)

    assert code == 0, farm.describe()
    assert whys(farm.result("job")) == ["succeeded"]
    assert farm.status_of("later") == "succeeded"


def test_a_second_supervisor_is_refused_and_told_who_has_it(farm: Farm) -> None:
    supervisor = farm.supervise("-j", "1")
    wait_workers(farm, 1)
    second = farm.farm("supervise", str(farm.root))

    assert second.returncode == 2
    assert str(supervisor.pid) in second.stderr
    assert "already has a supervisor" in second.stderr


@pytest.mark.fault(6)
def test_of_four_supervisors_started_at_once_one_stays(farm: Farm) -> None:
    four = [farm.supervise("-j", "1") for _ in range(4)]
    wait_until(lambda: sum(one.poll() == 2 for one in four) == 3)
    (pid,) = wait_workers(farm, 1)
    (stays,) = (one.pid for one in four if one.poll() is None)

    assert psutil.Process(pid).ppid() == stays
    assert farm.describe().count("already has a supervisor") == 3


def test_a_worker_that_neither_beats_nor_computes_is_replaced(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    supervisor = farm.supervise("-j", "1", "--until-done", **IMPATIENT)
    gate.wait_reached()
    (stopped,) = farm.worker_pids()
    farm.signal(stopped, signal.SIGSTOP)
    gate.wait_reached(2)
    gate.open()
    result = farm.wait_for("succeeded", "job")

    assert supervisor.wait(30) == 0
    assert whys(result) == ["lost", "succeeded"]
    assert "no heartbeat for" in said(farm)


def test_a_worker_that_computes_without_beating_is_left_alone(farm: Farm) -> None:
    farm.write("busy.py", BUSY)
    farm.drop("job", call="busy:count")
    ended = until_done(farm, **IMPATIENT)

    assert ended.returncode == 0
    assert whys(farm.result("job")) == ["succeeded"]


BUSY = """
def count():
    \"\"\"About 2 s of one C loop, which never lets go of the interpreter's lock.\"\"\"
    return sum(range(100_000_000))
"""


def test_the_first_restart_is_at_once_and_said(farm: Farm) -> None:
    farm.supervise("-j", "1")
    (pid,) = wait_workers(farm, 1)
    farm.kill(pid)
    wait_said(farm, "was killed by SIGKILL; another starts at once")
    wait_until(
        lambda: pid not in farm.worker_pids() and farm.worker_pids(),
        on_timeout=farm.describe,
    )


def test_a_slot_whose_workers_succeed_before_they_die_does_not_rest(farm: Farm) -> None:
    farm.write("m.py", "import os\ndef end(): os.kill(os.getpid(), 11)")
    for number in range(7):  # two more deaths than a slot has recoveries
        farm.drop(f"{number}-well", run="true")
        farm.drop(f"{number}-worse", call="m:end")
    once = {"FARM_MAX_LOST": "1", "FARM_HEARTBEAT": "25"}  # nothing is seen by a beat
    farm.supervise("-j", "1", "--until-done", **once)
    farm.wait_for("lost", *(f"{n}-worse" for n in range(7)), timeout=50)
    pauses = re.findall(r"was killed by SIGSEGV.*; another starts (.*)", said(farm))

    assert set(pauses) == {"at once"}


def test_a_slot_whose_workers_do_nothing_before_they_die_waits_longer_and_longer(
    farm: Farm,
) -> None:
    farm.write("m.py", "import os\ndef end(): os.kill(os.getpid(), 11)")
    for number in range(3):
        farm.drop(f"{number}", call="m:end")
    farm.supervise("-j", "1", "--until-done", FARM_MAX_LOST="1")
    farm.wait_for("lost", "0", "1", "2", timeout=50)
    pauses = re.findall(r"was killed by SIGSEGV.*; another starts (.*)", said(farm))

    assert pauses[0] == "at once"
    assert "at once" not in pauses[1:]


def test_workers_that_cannot_start_are_tried_again_and_their_words_passed_on(
    farm: Farm,
) -> None:
    farm.supervise("-j", "1")
    (pid,) = wait_workers(farm, 1)
    farm.tasks.chmod(0o777)  # a worker refuses to run what everybody can write
    farm.kill(pid)
    wait_said(farm, "can be written by every user")
    farm.tasks.chmod(0o755)
    farm.drop("job", run="true")
    farm.wait_for("succeeded", "job")

    assert "ended with code" in said(farm)


# -- until done ----------------------------------------------------------------------


def test_all_succeeded_ends_with_0(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.drop("b", run="true", needs=["a"])

    assert until_done(farm).returncode == 0


def test_it_ends_with_its_last_worker_however_seldom_hearts_beat(farm: Farm) -> None:
    seldom = {"FARM_HEARTBEAT": "300", "FARM_HEARTBEAT_TIMEOUT": "900"}

    assert until_done(farm, **seldom).returncode == 0  # where nothing else wakes it


def test_an_empty_folder_ends_with_0(farm: Farm) -> None:
    assert until_done(farm).returncode == 0


def test_a_failure_ends_with_1_and_is_named_with_its_reason(farm: Farm) -> None:
    farm.drop("good", run="true")
    farm.drop("bad", run="echo no such tea >&2; exit 7")
    ended = until_done(farm)

    assert ended.returncode == 1
    assert "bad failed: exit code 7: no such tea" in ended.stdout
    assert "good" not in ended.stdout


def test_a_failure_of_an_earlier_run_ends_with_1(farm: Farm) -> None:
    farm.drop("bad", run="exit 7")
    farm.work()
    farm.drop("good", run="true")
    ended = until_done(farm)

    assert ended.returncode == 1
    assert "bad failed" in ended.stdout


def test_the_delays_of_retries_are_waited_for(farm: Farm) -> None:
    farm.drop(
        "flaky",
        run='test "$FARM_ATTEMPT" = 3',
        retries={"max": 2, "base_delay": 0.5, "max_delay": 0.5},
    )
    ended = until_done(farm)

    assert ended.returncode == 0
    assert whys(farm.result("flaky")) == ["failed", "failed", "succeeded"]


def test_what_needs_a_task_that_nobody_dropped_is_named_and_ends_with_1(
    farm: Farm,
) -> None:
    farm.drop("good", run="true")
    farm.drop("join", run="true", needs=["nobody"])
    ended = until_done(farm)

    assert ended.returncode == 1
    assert re.search(r"join waits: .*nobody", ended.stdout)
    assert farm.status_of("good") == "succeeded"
    assert farm.status_of("join") is None


@pytest.mark.parametrize("order", ["pause", "pause-stop*"])
def test_what_is_paused_is_named_and_ends_with_1(farm: Farm, order: str) -> None:
    farm.drop("stopped", run="true")
    (farm.state / "control").mkdir(parents=True)
    (farm.state / "control" / order).touch()
    ended = until_done(farm)

    assert ended.returncode == 1
    assert f"stopped waits: paused by .farm/control/{order}" in ended.stdout
    assert farm.status_of("stopped") is None


def test_what_is_dropped_while_it_runs_is_done_too(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("first", run=gate.command)
    supervisor = farm.supervise("-j", "2", "--until-done")
    gate.wait_reached()
    farm.drop("second", run="true")
    gate.open()
    code = supervisor.wait(40)

    assert code == 0
    assert farm.status_of("second") == "succeeded"


def test_a_task_may_drop_tasks(farm: Farm) -> None:
    child = '{"run": "true"}'
    farm.drop("parent", run=f"echo '{child}' > tasks/.c; mv tasks/.c tasks/child.json")
    ended = until_done(farm)

    assert ended.returncode == 0
    assert farm.status_of("child") == "succeeded"


def test_a_terminal_is_not_needed_to_see_what_goes_on(farm: Farm) -> None:
    farm.drop("a", run="true")
    ended = until_done(farm)

    assert re.search(r"^\d\d:\d\d:\d\d  a succeeded in ", ended.stderr, re.MULTILINE)
    assert "\x1b" not in ended.stderr + ended.stdout


# -- interrupted -----------------------------------------------------------------------


@pytest.mark.fault(49)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_finishes_what_runs(
    farm: Farm, signum: signal.Signals
) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="true")
    supervisor = farm.supervise("-j", "1", "--until-done")
    gate.wait_reached()
    farm.signal(supervisor, signum)
    wait_said(farm, "finishing what runs, taking nothing new")
    wait_delivered(farm)
    gate.open()
    code = supervisor.wait(30)

    assert code == 130
    assert farm.status_of("a") == "succeeded"
    assert farm.status_of("b") is None
    assert farm.left_behind() == []


def wait_delivered(farm: Farm) -> None:
    """Until no worker has a signal that it has not taken yet."""
    wait_until(lambda: not any(pending(pid) for pid in farm.worker_pids()))


def pending(pid: int) -> bool:
    """Whether a signal waits for this process."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - one line of /proc
        masks = re.findall(r"^(?:Sig|Shd)Pnd:\t(\w+)$", status.read(), re.MULTILINE)
    return any(int(mask, 16) for mask in masks)


@pytest.mark.fault(49)
def test_interrupted_twice_it_gives_back_what_runs_uncounted(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    supervisor = farm.supervise("-j", "1", "--until-done", FARM_GRACE="0.5")
    gate.wait_reached()
    farm.signal(supervisor, signal.SIGINT)
    wait_said(farm, "finishing what runs")
    wait_delivered(farm)
    farm.signal(supervisor, signal.SIGINT)
    code = supervisor.wait(30)
    unfinished = farm.status_of("a")
    left = farm.left_behind()
    gate.open()
    farm.work()
    result = farm.result("a")

    assert code == 130
    assert unfinished is None
    assert left == []
    assert whys(result) == ["drained", "succeeded"]
    assert result["attempts"][0]["counted"] is False


def test_interrupted_twice_in_one_moment_it_gives_back_what_runs_too(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    supervisor = farm.supervise("-j", "1")
    gate.wait_reached()
    farm.signal(supervisor, signal.SIGSTOP)
    for signum in (signal.SIGINT, signal.SIGTERM):
        farm.signal(supervisor, signum)
    farm.signal(supervisor, signal.SIGCONT)
    code = supervisor.wait(30)
    gate.open()
    farm.work()

    assert code == 130
    assert whys(farm.result("a")) == ["drained", "succeeded"]


def test_an_idle_supervisor_ends_at_the_first_signal(farm: Farm) -> None:
    supervisor = farm.supervise("-j", "2")
    wait_workers(farm, 2)
    os.kill(supervisor.pid, signal.SIGTERM)
    code = supervisor.wait(30)

    assert code == 130
    assert farm.left_behind() == []
