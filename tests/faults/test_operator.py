"""An operator's hands in the folder while farm works in it: at most a second run.

People delete, move, edit and lock away files of a farm that runs. The documented
price is that a task whose ledger was taken away may run twice, and the first owner
is fenced; there is one result, nothing is lost, and the farm comes back to order by
itself.
"""

import fcntl
import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.driver import Farm, Gate, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def said(farm: Farm) -> str:
    """What every process has printed so far."""
    return "".join(log.read_text(errors="replace") for log in farm.logs)


def drop_held(farm: Farm, kind: str, task_id: str = "job") -> Gate:
    """A command or a callable that waits at a gate."""
    gate = farm.gate(task_id)
    if kind == "run":
        farm.drop(task_id, run=gate.command)
    else:
        body = gate.python.replace("\n", "\n    ")
        farm.write("waits.py", f"def go():\n    {body}\n")
        farm.drop(task_id, call="waits:go")
    return gate


each_kind = pytest.mark.parametrize("kind", ["run", "call"])


# -- ledgers and all of .farm are deleted ------------------------------------------------


def remove_locks(farm: Farm) -> None:
    shutil.rmtree(farm.state / "locks")


def remove_lock_file(farm: Farm) -> None:
    (farm.state / "locks" / "task-job.lock").unlink()


def rename_lock_file(farm: Farm) -> None:
    ledger = farm.state / "locks" / "task-job.lock"
    ledger.rename(farm.root / "old.lock")


def remove_everything(farm: Farm) -> None:
    """As `rm -rf .farm` does, again while somebody writes into it meanwhile."""

    def is_gone() -> bool:
        shutil.rmtree(farm.state, ignore_errors=True)
        return not (farm.state / "locks").exists()

    wait_until(is_gone)


REMOVALS = [remove_lock_file, rename_lock_file, remove_locks, remove_everything]
each_removal = pytest.mark.parametrize(
    "remove", [pytest.param(remove, id=remove.__name__) for remove in REMOVALS]
)


@pytest.mark.fault(20, 21)
@each_kind
@each_removal
def test_without_its_ledger_a_task_may_run_twice_but_has_one_result(
    farm: Farm, remove: Callable[[Farm], None], kind: str
) -> None:
    gate = drop_held(farm, kind)
    first = farm.start_worker()
    (name,) = farm.worker_names()
    gate.wait_reached()
    remove(farm)
    farm.start_worker()
    gate.wait_reached(2)
    gate.open()
    result = farm.wait_for("succeeded", "job")
    farm.drop("later", run="true")
    farm.wait_for("succeeded", "later")
    farm.signal(first, signal.SIGTERM)
    first.wait(30)

    assert whys(result) == ["succeeded"]
    assert result["worker"] != name
    assert farm.result("job") == result
    assert "job was not ours any more" in said(farm)
    assert list((farm.state / "logs").glob("job.1.*.fenced"))


@pytest.mark.fault(20, 21)
@each_kind
@each_removal
def test_a_worker_alone_comes_back_to_order_by_itself(
    farm: Farm, remove: Callable[[Farm], None], kind: str
) -> None:
    gate = drop_held(farm, kind)
    farm.start_worker()
    gate.wait_reached()
    remove(farm)
    gate.open()
    farm.wait_for("succeeded", "job")
    later = [farm.drop("later-call", call="os:getpid"), farm.drop("later", run="true")]
    farm.wait_for("succeeded", *later)
    wait_until(farm.worker_names, on_timeout=farm.describe)  # it is seen alive again

    assert "Traceback" not in said(farm)


@pytest.mark.fault(20)
@pytest.mark.parametrize("workers", ["live on", "die, too"])
def test_a_supervised_farm_comes_back_to_order_by_itself(
    farm: Farm, workers: str
) -> None:
    gates = [drop_held(farm, kind, kind) for kind in ("run", "call")]
    supervisor = farm.supervise("-j", "2")
    for gate in gates:
        gate.wait_reached()
    pids = farm.worker_pids()
    remove_everything(farm)
    for pid in pids if workers == "die, too" else ():
        farm.kill(pid)
    for gate in gates:
        gate.open()
    farm.wait_for("succeeded", "run", "call")
    later = [farm.drop(f"later-{n}", call="os:getpid") for n in range(4)]
    farm.wait_for("succeeded", *later)
    farm.signal(supervisor, signal.SIGTERM)

    assert supervisor.wait(30) == 130
    assert "Traceback" not in said(farm)
    assert farm.left_behind() == []


# -- rights are taken away ---------------------------------------------------------------

POWERLESS = """
import ctypes, os, sys

for power in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root obeys no mode
    ctypes.CDLL(None).prctl(24, power)  # PR_CAPBSET_DROP, from the next exec on
os.execv(sys.executable, [sys.executable, "-P", "-m", "farm", *sys.argv[1:]])
"""


def start_powerless(farm: Farm, *args: str) -> "subprocess.Popen[bytes]":
    """Start a verb for which modes hold, also as root."""
    return farm.start_python("-c", POWERLESS, *args)


@pytest.mark.fault(23)
@pytest.mark.parametrize("folder", ["tasks", ".farm/locks", ".farm/tmp"])
def test_a_folder_that_is_locked_away_is_named_and_waited_for(
    farm: Farm, folder: str
) -> None:
    farm.drop("first", run="true")
    worker = start_powerless(farm, "worker", str(farm.root))
    farm.wait_for("succeeded", "first")
    farm.signal(worker, signal.SIGSTOP)
    farm.drop("job", run="true")
    there = farm.root / folder
    there.chmod(0)
    farm.signal(worker, signal.SIGCONT)
    start_powerless(farm, "status").wait(30)
    wait_until(lambda: "Permission denied" in said(farm), on_timeout=farm.describe)
    before = "job succeeded" in said(farm)
    there.chmod(0o700)
    farm.start_worker()  # the other may have given up in the meantime: a supervisor's job
    result = farm.wait_for("succeeded", "job")

    assert not before
    assert not any(attempt["counted"] for attempt in result["attempts"][:-1])


@pytest.mark.fault(23)
def test_a_task_file_that_is_locked_away_disturbs_no_other(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.drop("b", run="true", needs=["c"])
    farm.drop("c", run="true")
    (farm.tasks / "a.json").chmod(0)
    start_powerless(farm, "worker", str(farm.root))
    farm.wait_for("invalid", "a")
    farm.wait_for("succeeded", "b", "c")
    (farm.tasks / "a.json").chmod(0o600)
    wait_until(lambda: farm.status_of("a") == "succeeded", on_timeout=farm.describe)


# -- tasks/ is deleted and made again ------------------------------------------------------


def remove_tasks(farm: Farm) -> None:
    """Task files first: one whose result alone is gone would be run meanwhile."""
    for path in farm.tasks.glob("*.json"):
        if not path.name.endswith(".result.json"):
            path.unlink()
    shutil.rmtree(farm.tasks)


@pytest.mark.fault(40)
def test_an_idle_worker_finds_tasks_in_a_folder_that_was_made_again(farm: Farm) -> None:
    farm.drop("before", run="true")
    farm.start_worker()
    farm.wait_for("succeeded", "before")
    for _ in range(2):
        remove_tasks(farm)
        farm.tasks.mkdir()
        farm.drop("after", run="true")
        farm.wait_for("succeeded", "after")

    assert "Traceback" not in said(farm)


@pytest.mark.fault(40)
@each_kind
def test_a_busy_worker_keeps_its_result_until_there_is_a_folder_again(
    farm: Farm, kind: str
) -> None:
    gate = drop_held(farm, kind)
    farm.start_worker()
    gate.wait_reached()
    shutil.rmtree(farm.tasks)
    gate.open()
    wait_until(lambda: "cannot write the result of job" in said(farm))
    farm.tasks.mkdir()
    result = farm.wait_for("succeeded", "job")
    farm.drop("after", run="true")
    farm.wait_for("succeeded", "after")

    assert whys(result) == ["succeeded"]
    assert len(gate.reached()) == 1


@pytest.mark.fault(40)
def test_a_sub_folder_that_was_made_again_is_watched_again(farm: Farm) -> None:
    farm.drop("sub/before", run="true")
    farm.start_worker()
    farm.wait_for("succeeded", "sub/before")
    for number in range(3):
        # Within `tasks/` a result that is deleted first would be made again.
        (farm.tasks / "sub").rename(farm.root / f"old-{number}")
        farm.drop(f"sub/after-{number}", run="true")
        farm.wait_for("succeeded", f"sub/after-{number}")

    assert "Traceback" not in said(farm)


# -- results and task files are deleted or edited --------------------------------------------


@pytest.mark.fault(53)
def test_a_deleted_result_is_made_again_however_many_look_at_it(farm: Farm) -> None:
    farm.drop("job", run="echo >> ran")
    farm.drop("needs-it", run="true", needs=["job"])
    for _ in range(2):
        farm.start_worker()
    for _ in range(6):
        farm.wait_for("succeeded", "job", "needs-it")
        farm.result_path("job").unlink()
    result = farm.wait_for("succeeded", "job", "needs-it")

    assert len((farm.root / "ran").read_text().splitlines()) == 7
    assert whys(result) == ["succeeded"]
    assert "Traceback" not in said(farm)


EAGER = "from farm import work, worker; work.SWEEP_EVERY = worker.IDLE_LOOK = 0.1"


@pytest.mark.fault(53)
def test_a_result_that_is_emptied_in_place_is_made_again_by_who_was_idle(
    farm: Farm,
) -> None:
    farm.drop("job", run="echo >> ran")
    farm.start_changed(EAGER)
    farm.wait_for("succeeded", "job")
    os.truncate(farm.result_path("job"), 0)
    wait_until(lambda: (farm.root / "ran").read_text() == "\n\n")
    result = farm.wait_for("succeeded", "job")

    assert whys(result) == ["succeeded"]


@pytest.mark.fault(52)
@each_kind
def test_a_task_that_is_edited_while_it_runs_ends_with_the_bytes_that_ran(
    farm: Farm, kind: str
) -> None:
    gate = drop_held(farm, kind)
    ran = (farm.tasks / "job.json").read_bytes()
    farm.start_worker()
    gate.wait_reached()
    farm.drop("job", run="touch edited")
    gate.open()
    result = farm.wait_for("succeeded", "job")
    farm.work()

    assert result["sha256"] == hashlib.sha256(ran).hexdigest()
    assert farm.result("job") == result
    assert not (farm.root / "edited").exists()


@pytest.mark.fault(52)
@each_kind
def test_a_task_that_is_deleted_while_it_runs_has_a_result_all_the_same(
    farm: Farm, kind: str
) -> None:
    gate = drop_held(farm, kind)
    ran = (farm.tasks / "job.json").read_bytes()
    farm.start_worker()
    gate.wait_reached()
    (farm.tasks / "job.json").unlink()
    gate.open()
    result = farm.wait_for("succeeded", "job")

    assert result["sha256"] == hashlib.sha256(ran).hexdigest()
    assert len(gate.reached()) == 1


@pytest.mark.fault(52)
def test_a_failed_task_that_was_deleted_or_edited_meanwhile_is_not_retried_as_it_was(
    farm: Farm,
) -> None:
    retries = {"max": 3, "base_delay": 0.01}
    gate = farm.gate()
    for name in ("deleted", "edited"):
        farm.drop(name, run=f"{gate.command}; exit 1", retries=retries)
    farm.start_worker()
    farm.start_worker()
    gate.wait_reached(2)
    (farm.tasks / "deleted.json").unlink()
    farm.drop("edited", run="true")
    gate.open()
    result = farm.wait_for("succeeded", "edited")
    farm.work()

    assert whys(result) == ["succeeded"]
    assert farm.status_of("deleted") is None
    assert len(gate.reached()) == 2


# -- the dead, the undead and lost terminals --------------------------------------------------


@pytest.mark.fault(48)
@pytest.mark.parametrize("life_file", ["lies there", "was deleted, too"])
def test_a_zombie_is_not_taken_for_a_living_worker(farm: Farm, life_file: str) -> None:
    gate = drop_held(farm, "run")
    worker = farm.start_worker()
    (name,) = farm.worker_names()
    gate.wait_reached()
    farm.signal(worker, signal.SIGKILL)  # nobody waits for it
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE)
    if life_file != "lies there":
        (farm.state / "workers" / f"{name}.lock").unlink()
    gate.open()
    told = json.loads(farm.farm("status", "--json").stdout)
    farm.work()

    assert told["counts"]["running"] == 0
    assert not any(there["alive"] for there in told["workers"])
    assert whys(farm.result("job")) == ["lost", "succeeded"]


TERMINAL = """
import fcntl, os, sys, termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-P", "-m", "farm", *sys.argv[1:]])
"""


def at_a_terminal(farm: Farm, *args: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a verb as a shell at a terminal would; and the terminal's other end."""
    ours, theirs = pty.openpty()
    popen = subprocess.Popen(
        [sys.executable, "-P", "-c", TERMINAL, *args],
        cwd=farm.root,
        env=farm.environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    farm.processes.append(popen)
    return popen, ours


@pytest.mark.fault(49)
@pytest.mark.parametrize("verb", ["worker", "supervise"])
@each_kind
def test_a_terminal_that_is_closed_loses_no_task(
    farm: Farm, verb: str, kind: str
) -> None:
    gate = drop_held(farm, kind)
    farm.drop("later", run="true", needs=["job"])
    there, terminal = at_a_terminal(farm, verb, str(farm.root))
    gate.wait_reached()
    os.close(terminal)
    wait_until(lambda: not psutil.Process(there.pid).terminal())
    gate.open()
    there.wait(30)
    not_begun = farm.status_of("later")
    farm.work()

    assert not_begun is None
    assert whys(farm.result("job")) == ["succeeded"]
    assert farm.status_of("later") == "succeeded"
    wait_until(lambda: not farm.left_behind())


@pytest.mark.fault(49)
def test_a_drain_waits_for_a_long_task_and_a_second_signal_gives_it_back(
    farm: Farm,
) -> None:
    gate = drop_held(farm, "run")
    worker = farm.start_worker(FARM_GRACE="0.5")
    gate.wait_reached()
    farm.signal(worker, signal.SIGTERM)
    wait_until(lambda: "SIGTERM: finishing what runs" in said(farm))
    farm.drop("later", run="true")
    still_runs = not farm.status_of("job") and worker.poll() is None
    farm.signal(worker, signal.SIGTERM)
    code = worker.wait(30)
    not_begun = farm.status_of("later")
    gate.open()
    farm.work()

    assert still_runs
    assert (code, not_begun) == (130, None)
    assert whys(farm.result("job")) == ["drained", "succeeded"]
    assert farm.status_of("later") == "succeeded"


# -- another version of farm -------------------------------------------------------------------

NOBODY = {"host": "h", "boot": "b", "pidns": 1, "pid": 1, "ticks": 1, "soul": "x"}


def future_claim(farm: Farm, task_id: str, holder: str) -> dict[str, Any]:
    """A ledger's line of a version that knows more."""
    raw = (farm.tasks / f"{task_id}.json").read_bytes()
    return {
        "line": "claimed",
        "format": 99,
        "task": task_id,
        "attempt": 1,
        "token": "t",
        "holder": holder,
        "who": NOBODY,
        "acquired_at": 1.0,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "priority_class": {"new": [1, 2]},
    }


def write_ledger(farm: Farm, task_id: str, *lines: dict[str, Any]) -> None:
    locks = farm.state / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (locks / f"task-{task_id}.lock").write_text(text)


@pytest.mark.fault(50)
def test_a_newer_farms_ledger_counts_as_far_as_it_can_be_read(farm: Farm) -> None:
    farm.drop("job", run="exit 1", retries={"max": 1, "base_delay": 0})
    ended = {"line": "ended", "token": "t", "attempt": 1, "why": "failed"}
    ended |= {"counted": True, "finished": 2.0, "format": 99}
    paid = {"line": "paid", "token": "t", "cents": 3}
    write_ledger(farm, "job", future_claim(farm, "job", "w2"), paid, ended)
    farm.work()
    result = farm.result("job")

    assert whys(result) == ["failed", "failed"]
    assert result["attempts"][0]["worker"] == "w2"


@pytest.mark.fault(50)
def test_a_newer_farms_result_is_final_and_counted(farm: Farm) -> None:
    farm.drop("job", run="touch ran")
    result = {"version": 99, "id": "job", "status": "succeeded", "cost": {"cents": 3}}
    text = json.dumps(result | {"attempts": [{"number": 1}], "worker": {"name": "w"}})
    farm.result_path("job").write_text(text)
    farm.drop("needs-it", run="true", needs=["job"])
    code = farm.work()
    verbs = [farm.farm(verb, "job") for verb in ("show", "why", "logs")]
    counts = json.loads(farm.farm("status", "--json").stdout)["counts"]

    assert code == 0
    assert farm.result_path("job").read_text() == text
    assert counts["succeeded"] == 2
    assert not any("Traceback" in done.stderr for done in verbs)


@pytest.mark.fault(50, 51)
def test_a_living_worker_of_a_newer_farm_keeps_what_it_holds(farm: Farm) -> None:
    farm.farm("status")
    farm.drop("job", run="true")
    workers = farm.state / "workers"
    workers.mkdir(parents=True)
    (workers / "w2.json").write_text('{"format": 99, "task": ["job"], "died": 7}')
    life = os.open(workers / "w2.lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(life, b'format 99\n{"name": "w2"}\n')
    fcntl.flock(life, fcntl.LOCK_EX)
    write_ledger(farm, "job", future_claim(farm, "job", "w2"))
    farm.start_worker()
    farm.drop("other", run="true")
    farm.wait_for("succeeded", "other")
    while_it_lives = farm.status_of("job")
    os.close(life)
    result = farm.wait_for("succeeded", "job")

    assert while_it_lives is None
    assert whys(result) == ["lost", "succeeded"]
    assert "Traceback" not in said(farm)


SETTLED = 'patch("farm.disk.has_settled", return_value=True).start()'


@pytest.mark.fault(20)
@each_kind
def test_what_was_fenced_by_nobodys_result_runs_again_though_no_folder_moves(
    farm: Farm, kind: str
) -> None:
    gate = drop_held(farm, kind)
    farm.start_changed(SETTLED)
    gate.wait_reached()
    remove_locks(farm)
    gate.open()
    farm.wait_for("succeeded", "job")

    assert "was not ours any more" in farm.describe()
