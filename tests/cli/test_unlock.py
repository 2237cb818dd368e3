"""`farm unlock`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from farm import process
from farm.ledger import Claimed, Ledger, endings, history, peek
from farm.life import Life
from farm.process import Identity
from farm.project import Project
from farm.states import Status, Why
from tests.attempts import attempt, begin, end
from tests.cli.conftest import Run
from tests.driver import Farm, whys
from tests.lives import FOREIGN, lay_life_file
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

DEAD_HERE = msgspec.structs.replace(process.identify(), pid=2**22 + 1)


def drop(project: Project, *task_ids: str) -> None:
    for task_id in task_ids:
        Path(project.task_path(task_id)).write_text('{"run": "true"}')


def claimed(project: Project, who: Identity) -> Ledger:
    """The task `a`, claimed by a worker `eve` of another process; its held ledger."""
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "eve", who, time.time()))
    return ledger


# -- a process that is no worker ---------------------------------------------------------

HOLDS = """
import fcntl, sys

held = open(sys.argv[1], "r+")
fcntl.flock(held, {how})
open("held", "w").close()
sys.stdin.read()
"""


@pytest.fixture(params=["LOCK_EX", "LOCK_SH"])
def stranger(farm: Farm, request: pytest.FixtureRequest) -> Iterator[int]:
    """A process that has the lock of the task `a`, as a backup may; its id."""
    farm.drop("a", run="true")
    path = Project.open(farm.root).ledger_path("a")
    Path(path).touch()
    code = HOLDS.format(how=f"fcntl.{request.param} | fcntl.LOCK_NB")
    with subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=farm.root, stdin=subprocess.PIPE
    ) as holds:
        wait_until((farm.root / "held").exists)
        yield holds.pid
        holds.kill()


def test_unlock_and_why_name_a_process_that_holds_a_lock_and_is_no_worker(
    farm: Farm, stranger: int
) -> None:
    unlocked, why = farm.farm("unlock", "a"), farm.farm("why", "a")
    words = f"its lock is held by process {stranger} ("

    assert unlocked.returncode == 1
    assert unlocked.stdout.startswith(f"a: {words}")
    assert words in why.stdout
    assert "it starts when its lock is free" in why.stdout


def test_why_names_it_while_workers_wait_for_it_and_for_what_has_ended(
    farm: Farm, stranger: int
) -> None:
    farm.start_worker()
    waiting = farm.farm("why", "a")
    farm.result_path("a").write_text('{"status": "succeeded"}')
    ended = farm.farm("why", "a")

    assert f"process {stranger} (" in waiting.stdout
    assert f"process {stranger} (" in ended.stdout


def test_a_lock_whose_holder_cannot_be_seen_is_said_to_be_held(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(project, "a")
    monkeypatch.setattr(process, "lock_holders", lambda _: [])
    held = Ledger.open(project.ledger_path("a"))
    code, out, _ = run("unlock", "-C", project.root, "a")
    assert held is not None
    held.let_go()

    assert code == 1
    assert "a process that cannot be seen from here" in out


def test_a_worker_that_runs_its_task_is_not_called_a_stranger(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    said = farm.farm("unlock", "a").stdout + farm.farm("why", "a").stdout
    gate.open()

    assert "its life lock is held" in said
    assert "not a worker" not in said


# -- nobody has to be asked ------------------------------------------------------------


def test_what_nobody_held_is_free(run: Run, project: Project) -> None:
    drop(project, "a")
    code, out, err = run("unlock", "-C", project.root, "a")

    assert (code, out, err) == (0, "a: nobody held it\n", "")
    assert project.ledger_names() == []


def test_what_waits_for_its_next_attempt_is_free_and_keeps_its_history(
    run: Run, project: Project
) -> None:
    retries = {"max": 1, "base_delay": "2d", "max_delay": "2d"}
    text = json.dumps({"run": "true", "retries": retries})
    Path(project.task_path("a")).write_text(text)
    attempt(project, "a", Why.FAILED, time.time())
    before = Path(project.ledger_path("a")).read_bytes()
    code, out, _ = run("unlock", "-C", project.root, "a")

    assert (code, out) == (0, "a: nobody held it\n")
    assert Path(project.ledger_path("a")).read_bytes() == before


def test_what_has_ended_is_free(run: Run, project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, time.time())
    code, out, _ = run("unlock", "-C", project.root, "a")

    assert (code, out) == (0, "a: nobody holds it: it has ended\n")


@pytest.mark.parametrize(
    ("word", "said"),
    [("biuld", "did you mean `build`"), ("x*", "x*"), ("b*", "b*")],
    ids=["a slip", "a glob for nothing", "a glob"],
)
def test_only_an_id_can_be_unlocked(
    run: Run, project: Project, word: str, said: str
) -> None:
    drop(project, "build")
    code, out, err = run("unlock", "-C", project.root, word)

    assert code in (1, 2)
    assert (out, said in err) == ("", True)


def test_one_must_be_named(run: Run, project: Project) -> None:
    assert run("unlock", "-C", project.root)[0] == 2


def test_what_is_no_ledger_is_an_error_that_says_what_to_do(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    Path(project.ledger_path("a")).mkdir()
    code, _, err = run("unlock", "-C", project.root, "a")

    assert (code, "move it away" in err) == (1, True)


# -- the living ------------------------------------------------------------------------


def test_a_living_owner_keeps_it_and_the_proof_is_its_life_lock(
    run: Run, project: Project, alive: Life
) -> None:
    drop(project, "a")
    taken = begin(project, "a", alive, time.time())
    code, out, _ = run("unlock", "-C", project.root, "a")
    ending = end(project, taken, Why.SUCCEEDED, time.time())

    assert code == 1
    assert f"ada (process {os.getpid()} on {alive.record.who.host}) holds it" in out
    assert "life lock is held" in out
    assert ending.status is Status.SUCCEEDED


def test_a_living_owner_whose_lock_was_lost_keeps_it(
    run: Run, project: Project, alive: Life
) -> None:
    drop(project, "a")
    begin(project, "a", alive, time.time()).hold.ledger.abandon()
    before = Path(project.ledger_path("a")).read_bytes()
    code, out, _ = run("unlock", "-C", project.root, "a")

    assert (code, "life lock is held" in out) == (1, True)
    assert Path(project.ledger_path("a")).read_bytes() == before


def test_a_living_process_without_a_life_lock_keeps_it(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    begin(project, "a", None, time.time()).hold.ledger.abandon()
    code, out, _ = run("unlock", "-C", project.root, "a")

    assert (code, "its process runs here since it took the task" in out) == (1, True)


def test_a_living_worker_of_another_host_keeps_it(run: Run, project: Project) -> None:
    claimed(project, FOREIGN).let_go()
    lay_life_file(project, "eve", FOREIGN)
    held = Life.begin(project, "bob", 0.0, 2.0)
    os.replace(project.life_path("bob"), project.life_path("eve"))  # noqa: PTH105 - as eve
    code, out, _ = run("unlock", "-C", project.root, "a")
    held.end()

    assert code == 1
    assert f"eve (process {FOREIGN.pid} on {FOREIGN.host}) holds it" in out


# -- the dead --------------------------------------------------------------------------


@pytest.mark.parametrize("who", [DEAD_HERE, FOREIGN], ids=["here", "elsewhere"])
def test_a_dead_owner_loses_it(run: Run, project: Project, who: Identity) -> None:
    claimed(project, who).let_go()
    lay_life_file(project, "eve", who)
    code, out, _ = run("unlock", "-C", project.root, "a")
    (ended,) = endings(history(peek(project.ledger_path("a"))))

    assert (code, out.startswith("a: freed: its worker eve")) == (0, True)
    assert (ended.why, ended.counted) == (Why.LOST, False)


def test_unlocking_twice_is_no_mistake(run: Run, project: Project) -> None:
    claimed(project, DEAD_HERE).let_go()
    run("unlock", "-C", project.root, "a")
    code, out, _ = run("unlock", "-C", project.root, "a")

    assert (code, out) == (0, "a: nobody held it\n")


def test_what_a_dead_worker_of_another_host_left_running_there_keeps_it(
    run: Run, project: Project
) -> None:
    ledger = claimed(project, FOREIGN)
    lay_life_file(project, "eve", FOREIGN)
    code, out, _ = run("unlock", "-C", project.root, "a")
    ledger.let_go()

    assert code == 1
    assert f"a worker on {FOREIGN.host}, or farm unlock there, ends it" in out


def test_a_command_whose_worker_is_dead_is_ended_and_its_task_runs_again(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker()
    (pid,) = gate.wait_reached()
    farm.kill(worker)
    lived_on = psutil.pid_exists(pid)
    freed = farm.farm("unlock", "a")
    gone = not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    gate.open()
    farm.work()

    assert lived_on
    assert freed.returncode == 0
    assert freed.stdout.startswith("a: freed: its worker ")
    assert freed.stdout.endswith("; what it had left running was ended\n")
    assert gone
    assert whys(farm.result("a")) == ["lost", "succeeded"]


def test_a_running_task_runs_on(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    refused = farm.farm("unlock", "a")
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert refused.returncode == 1
    assert f"process {worker.pid} " in refused.stdout
    assert len(result["attempts"]) == 1
