"""Who ends, rescues, sweeps or waits: each fix of the protocol about it, by itself.

Workers that die or see no events are small programs of this file: they wrap a
function of farm and then run `farm worker`. farm itself has no hooks for this.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from textwrap import indent

import pytest

from farm import claim, control, process, rescue
from farm.bell import Bell
from farm.child import Child, Command
from farm.claim import Claim, Holder, mark_of
from farm.config import Settings
from farm.ledger import Claimed, Ended, Ledger, history, peek
from farm.life import Life
from farm.look import read_look
from farm.project import Project
from farm.states import Why
from farm.stop import Stop, TaskCancelledError
from farm.trial import Bench
from tests.attempts import begin, end
from tests.driver import Farm, whys
from tests.lives import FOREIGN, lay_life_file
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def hidden(request: pytest.FixtureRequest) -> None:
    """Workers have a secret, as most have: then no ordinary user reads their /proc."""
    if "farm" in request.fixturenames:
        request.getfixturevalue("farm").environ["SOME_SECRET"] = "of no use to anybody"


def ledger_of(farm: Farm, task_id: str) -> str:
    """The path of a task's ledger."""
    return Project(farm.root).ledger_path(task_id)


def owner(farm: Farm, task_id: str) -> int:
    """The process id of the worker whose attempt is open."""
    return history(peek(ledger_of(farm, task_id)))[-1].claimed.who.pid


def kill_owner(farm: Farm, task_id: str) -> None:
    """SIGKILL the worker that runs this task."""
    pid = owner(farm, task_id)
    farm.kill(next(popen for popen in farm.processes if popen.pid == pid))


# -- the token, the lock, and no more --------------------------------------------------

DIES_BEFORE_THE_CHILD_LINE = """
import os, signal, sys, time

from farm.cli import run
from farm.ledger import Child, Ledger

really_append = Ledger.append


def append(ledger, line):
    if isinstance(line, Child):
        while not os.path.exists("pid"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    really_append(ledger, line)


Ledger.append = append
sys.exit(run(sys.argv[1:]))
"""

HIDES = """
import os, time

{hide}
with open("pid.aside", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid.aside", "pid")
time.sleep(600)
"""

NOTE_OVERLAP = """case "$(cut -d' ' -f3 /proc/$(cat pid)/stat 2>/dev/null)" in
    ""|Z|X) ;; *) : > overlaps;; esac"""


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("hide", "through"),
    [
        pytest.param("os.closerange(3, 99)", "", id="known by its token alone"),
        pytest.param("", "env -i", id="known by the lock that it keeps alone"),
    ],
)
def test_an_orphan_that_no_line_tells_of_is_ended_before_the_next_attempt(
    farm: Farm, hide: str, through: str
) -> None:
    script = farm.write("hides.py", HIDES.format(hide=hide))
    first = f"exec {through} {sys.executable} {script}"
    farm.drop("job", run=f"[ ! -e pid ] || {{ {NOTE_OVERLAP}; exit 0; }}\n{first}")
    dies = ("-c", DIES_BEFORE_THE_CHILD_LINE, "worker", str(farm.root))
    farm.start_python(*dies).wait(30)
    orphan = int((farm.root / "pid").read_text())
    lived, told = process.stat(orphan) is not None, peek(ledger_of(farm, "job"))
    farm.start_worker()
    farm.wait_for("succeeded", "job", timeout=15)

    assert lived
    assert [type(line) for line in told] == [Claimed]
    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert not (farm.root / "overlaps").exists()
    assert process.stat(orphan) is None


@pytest.mark.fault(7)
def test_a_rescue_ends_what_is_orphaned_and_nobody_elses_command(farm: Farm) -> None:
    gates = {task_id: farm.gate(task_id) for task_id in ("dead", "alive")}
    for task_id, gate in gates.items():
        farm.drop(task_id, run=gate.command)
        farm.start_worker()
    (orphan,), (spared,) = (gate.wait_reached() for gate in gates.values())
    kill_owner(farm, "dead")
    project, me = Project(farm.root), Holder.passing()
    found = {task_id: rescue.rescue(project, me, task_id) for task_id in gates}
    left = [process.stat(pid) is not None for pid in (orphan, spared)]
    gates["alive"].open()
    farm.wait_for("succeeded", "alive")

    assert found == {"dead": True, "alive": False}
    assert left == [False, True]
    assert whys(farm.result("alive")) == ["succeeded"]


@pytest.mark.fault(7)
def test_a_rescuer_that_comes_late_spares_the_next_attempt(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("job", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    (read_before,) = history(peek(ledger_of(farm, "job")))
    kill_owner(farm, "job")
    farm.start_worker()
    gate.wait_reached(2)
    ledger = Path(ledger_of(farm, "job")).stat()
    process.end_marked(mark_of(read_before, (ledger.st_dev, ledger.st_ino)))
    gate.open()
    farm.wait_for("succeeded", "job")

    assert whys(farm.result("job")) == ["lost", "succeeded"]
    assert len(gate.reached()) == 2


SWEEPS = """
import sys
import time

from farm.claim import Holder
from farm.project import Project
from farm.rescue import rescue, sweep

project, me = Project(sys.argv[1]), Holder.passing()
{wait}
rescue(project, me, "job")
sweep(project, me, time.time())
"""


@pytest.mark.fault(7)
def test_many_who_rescue_one_task_at_once_note_its_loss_once(farm: Farm) -> None:
    gate, start = farm.gate(), farm.gate("start")
    farm.drop("job", run=gate.command)
    farm.start_worker()
    (orphan,) = gate.wait_reached()
    rescuers = [
        farm.start_python("-c", SWEEPS.format(wait=start.python), str(farm.root))
        for _ in range(4)
    ]
    start.wait_reached(len(rescuers))
    kill_owner(farm, "job")
    start.open()
    codes = [rescuer.wait(30) for rescuer in rescuers]
    ends = [x.why for x in peek(ledger_of(farm, "job")) if isinstance(x, Ended)]

    assert codes == [0] * len(rescuers), farm.describe()
    assert ends == [Why.LOST]
    assert process.stat(orphan) is None


# -- the end of the group --------------------------------------------------------------


class Leftover:
    """A command that has ended and left a process behind in its group."""

    def __init__(self, folder: Path) -> None:
        self.bell = Bell()
        argv = ["sh", "-c", "sleep 600 & echo $! > left"]
        null = os.open(os.devnull, os.O_RDWR)
        command = Command(argv, str(folder), os.environ, null, null, null)
        self.child = Child.start(command)
        wait_until(lambda: self.child.wait(self.bell, 1.0))
        os.close(null)
        self.left = int((folder / "left").read_text())


@pytest.fixture
def leftover(tmp_path: Path) -> Iterator[Leftover]:
    there = Leftover(tmp_path)
    yield there
    if process.stat(there.left) is not None:
        os.kill(there.left, signal.SIGKILL)


def test_a_group_is_killed_while_its_dead_leader_keeps_the_number_taken(
    leftover: Leftover, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_kill, taken = os.killpg, []

    def look_and_kill(group: int, signum: int) -> None:
        if signum == signal.SIGKILL:
            taken.append(Path(f"/proc/{group}/stat").exists())
        really_kill(group, signum)

    monkeypatch.setattr(os, "killpg", look_and_kill)
    ended = leftover.child.end(leftover.bell)

    assert taken == [True]
    assert ended.code == 0
    assert process.stat(leftover.left) is None


def test_an_end_waits_until_the_last_of_the_group_is_gone(
    leftover: Leftover, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_kill = os.killpg

    def kill_slowly(group: int, signum: int) -> None:
        if signum == signal.SIGKILL:  # as in an uninterruptible wait
            threading.Timer(0.3, really_kill, (group, signum)).start()
        else:
            really_kill(group, signum)

    monkeypatch.setattr(os, "killpg", kill_slowly)
    leftover.child.end(leftover.bell)

    assert process.stat(leftover.left) is None


# -- no event tells --------------------------------------------------------------------

SEES_NO_EVENTS = """
import os

from farm import bell, watcher, worker
from farm.ledger import Ledger

{change}
really_open, really_wait = Ledger.open, bell.Bell.wait


def opened(path, **how):
    ledger = really_open(path, **how)
    if ledger is None:
        open("refused", "w").close()
    return ledger


def wait(self, timeout, *fds):
    if timeout is not None and timeout > 0.5:
        open("asleep", "w").close()
        open("asleep.%d" % os.getpid(), "w").close()
    return really_wait(self, timeout, *fds)


Ledger.open, bell.Bell.wait = opened, wait
"""
BLIND = "watcher.Watcher.start = lambda self: 'no file events here'\n"
NEVER_BY_ITSELF = "worker.IDLE_LOOK = worker.BLIND_LOOK = 3600.0\n"


@pytest.mark.fault(41)
@pytest.mark.parametrize("change", ["", BLIND], ids=["events", "no events"])
def test_an_idle_worker_gets_a_freed_task_of_which_no_event_tells(
    farm: Farm, change: str
) -> None:
    farm.drop("job", run="true")
    held = Ledger.open(Project.open(farm.root).ledger_path("job"))
    assert held is not None
    text = SEES_NO_EVENTS.format(change=change + NEVER_BY_ITSELF)
    farm.start_changed(text)
    wait_until((farm.root / "refused").exists, on_timeout=farm.describe)
    held.let_go()
    farm.wait_for("succeeded", "job", timeout=15)

    assert whys(farm.result("job")) == ["succeeded"]


FIRST_WAITS = """
def job():
    import os
    if os.environ["FARM_ATTEMPT"] == "1":
{wait}
"""


@pytest.mark.fault(1)
@pytest.mark.parametrize("kind", ["run", "call"])
def test_a_killed_workers_only_task_goes_to_one_that_was_refused_it_and_sleeps(
    farm: Farm, kind: str
) -> None:
    gate = farm.gate()
    farm.write("m.py", FIRST_WAITS.format(wait=indent(gate.python, 8 * " ")))
    first_waits = f'[ "$FARM_ATTEMPT" = 1 ] || exit 0\n{gate.command}'
    for _ in range(2):
        farm.start_changed(SEES_NO_EVENTS.format(change=NEVER_BY_ITSELF))
    wait_until(lambda: len(list(farm.root.glob("asleep.*"))) == 2)
    farm.drop("job", **{"run": first_waits} if kind == "run" else {"call": "m:job"})
    gate.wait_reached()
    wait_until((farm.root / "refused").exists, on_timeout=farm.describe)
    kill_owner(farm, "job")
    farm.wait_for("succeeded", "job", timeout=15)

    assert whys(farm.result("job")) == ["lost", "succeeded"]


@pytest.mark.fault(41)
def test_a_sleeping_workers_only_task_that_failed_runs_again_when_its_delay_is_over(
    farm: Farm,
) -> None:
    farm.start_changed(SEES_NO_EVENTS.format(change=NEVER_BY_ITSELF))
    wait_until((farm.root / "asleep").exists, on_timeout=farm.describe)
    once_more = {"max": 1, "base_delay": 0.5, "max_delay": 1}
    farm.drop("job", run='[ "$FARM_ATTEMPT" = 2 ]', retries=once_more)
    farm.wait_for("succeeded", "job", timeout=15)

    assert whys(farm.result("job")) == ["failed", "succeeded"]


@pytest.mark.fault(41)
def test_a_worker_without_events_finds_what_is_dropped_while_it_sleeps(
    farm: Farm,
) -> None:
    change = f"worker.IDLE_LOOK = 3600.0\n{BLIND}"
    text = SEES_NO_EVENTS.format(change=change)
    farm.start_changed(text)
    wait_until((farm.root / "asleep").exists, on_timeout=farm.describe)
    farm.drop("job", run="true")
    farm.wait_for("succeeded", "job", timeout=15)

    assert "no file events here" in farm.describe()


# -- what a rescue leaves alone --------------------------------------------------------


def test_what_a_dead_worker_elsewhere_left_running_is_not_ours_to_rescue(
    project: Project,
) -> None:
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "eve", FOREIGN, 0.0))
    found = rescue.rescue(project, Holder.passing(), "a")  # False: wait, do not retry
    ledger.let_go()

    assert not found


# -- temporary files -------------------------------------------------------------------

DAY = 86_400.0


def lay_temporary(project: Project, worker: str, age: str = "old") -> Path:
    """A temporary file of this worker: of now, or of the beginning of all time."""
    path = Path(project.aside_path(worker, age))
    path.write_bytes(b"half a result")
    if age == "old":
        os.utime(path, (1.0, 1.0))
    return path


def test_temporary_files_of_the_dead_are_swept_and_of_the_living_kept(
    project: Project, alive: Life
) -> None:
    lay_life_file(project, "dead", FOREIGN)
    kept = {
        ("ada", "old"): True,
        ("dead", "old"): False,
        ("dead", "young"): False,
        ("without-a-life-file", "old"): False,
        ("without-a-life-file", "young"): True,  # it is being born, or passes by
    }
    files = {owner: lay_temporary(project, *owner) for owner in kept}
    rescue.sweep(project, Holder.passing(), DAY)

    assert {owner: path.exists() for owner, path in files.items()} == kept
    assert project.worker_names() == ["ada"]


def test_what_somebody_just_makes_is_kept_whatever_age_ledgers_may_have(
    project: Project,
) -> None:
    file = lay_temporary(project, "passing-by", "young")
    rescue.sweep(project, Holder.passing(), time.time(), max_age=0.0)

    assert file.exists()


KILLED_IN_A_TRIAL = """
import os, signal, sys
from farm.project import Project
from farm.trial import Bench

Bench(Project.open(sys.argv[1])).file("lock")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_trial_left_goes_at_once_and_a_living_one_is_not_disturbed(
    project: Project,
) -> None:
    command = [sys.executable, "-c", KILLED_IN_A_TRIAL, project.root]
    died = subprocess.run(command, check=False)
    left = list(Path(project.tmp).iterdir())
    with Bench(project) as bench:
        ours = Path(bench.file("lock"))
        other_boot = ours.stem.replace(process.identify().boot, 36 * "0")
        elsewhere = lay_temporary(project, other_boot, "young")
        rescue.sweep(project, Holder.passing(), time.time())
        kept = set(Path(project.tmp).iterdir())

    assert (died.returncode, len(left)) == (-signal.SIGKILL, 1)
    assert kept == {ours, elsewhere}


def test_a_temporary_file_that_is_removed_meanwhile_disturbs_nobody(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stray = lay_temporary(project, "one"), lay_temporary(project, "other")
    scandir = os.scandir

    def too_late(folder: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            listed = list(entries)
        gone.unlink(missing_ok=True)
        return nullcontext(listed)

    monkeypatch.setattr(os, "scandir", too_late)

    assert rescue.strays(project, set(), set(), DAY) == [str(stray)]


def test_what_a_dead_owner_left_is_kept_as_long_as_its_attempt_is_open(
    project: Project, alive: Life
) -> None:
    Path(project.task_path("a")).write_text('{"run": "true"}')
    lay_life_file(project, "dead", FOREIGN)
    file = lay_temporary(project, "dead")
    dead = Holder("dead", FOREIGN)
    look = read_look(project, "a")
    assert look is not None
    taken = claim.take(project, dead, look, Settings(), 0.0)
    assert isinstance(taken, Claim)
    rescue.sweep(project, Holder.passing(), DAY)  # its command holds the lock still
    kept = file.exists()
    taken.hold.ledger.let_go()
    rescue.sweep(project, Holder.passing(), DAY)

    assert kept
    assert not file.exists()
    assert [type(line) for line in peek(project.ledger_path("a"))] == [Claimed, Ended]


# -- old ledgers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "lives", "kept"),
    [
        pytest.param(False, True, False, id="here"),
        pytest.param(True, True, True, id="on a network, a worker lives"),
        pytest.param(True, False, False, id="on a network, nobody lives"),
    ],
)
def test_an_old_ledger_is_removed_where_and_when_that_is_safe(
    project: Project, alive: Life, network: bool, lives: bool, kept: bool
) -> None:
    old = Path(project.ledger_path("long-gone"))
    old.write_bytes(b"")
    os.utime(old, (1.0, 1.0))
    project.network = network
    if not lives:
        alive.end()
    rescue.sweep(project, Holder.passing(), DAY)

    assert old.exists() is kept


# -- late orders -----------------------------------------------------------------------


def test_an_order_to_cancel_that_came_too_late_is_swept_and_no_other(
    project: Project,
) -> None:
    for task_id in ("ended", "ready"):
        Path(project.task_path(task_id)).write_text('{"run": "true"}')
    ended = begin(project, "ended", None, 0.0)
    end(project, ended, Why.SUCCEEDED, 1.0)
    for task_id in ("ended", "ready"):
        control.give(project, control.cancel_name(task_id), ended.opened.token)
    rescue.sweep(project, Holder.passing(), DAY)

    assert [path.name for path in Path(project.control).iterdir()] == ["cancel-ready"]


def test_a_signal_to_cancel_that_arrives_late_does_not_hit_the_next_callable() -> None:
    stop = Stop(Bell())
    stop.cancel("first")
    stop.interruptible = "next"
    stop._interrupt(signal.SIGUSR1, None)
    stop.interruptible = "first"

    with pytest.raises(TaskCancelledError):
        stop._interrupt(signal.SIGUSR1, None)


def test_a_sweep_takes_as_long_however_many_tasks_there_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    scan, names = os.scandir, os.listdir

    def noted(path: str) -> str:
        listed.append(path)
        return path

    monkeypatch.setattr(os, "scandir", lambda path: scan(noted(path)))
    monkeypatch.setattr(os, "listdir", lambda path: names(noted(path)))
    rescue.sweep(project, Holder.passing(), 1000.0)

    assert project.tmp in listed
    assert project.tasks not in listed
