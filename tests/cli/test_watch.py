"""`farm watch`."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm import poll, register
from farm.claim import Claim
from farm.journal import Entry, Journal
from farm.life import Life
from farm.project import Project
from farm.result import posix
from farm.states import Status, Why
from tests.attempts import attempt, begin, drop, end, ended
from tests.cli.conftest import Run
from tests.driver import Farm, said
from tests.terminals import Terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

Event = Callable[[], object]


class Script:
    """What is to happen between two looks, one thing after the other; then Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: Run, root: str) -> None:
        self._run, self._root = run, root
        self._left: list[Event] = []
        self.out = ""  #: all that was printed the last time
        event = SimpleNamespace(wait=self._next)
        monkeypatch.setattr(poll, "threading", SimpleNamespace(Event=lambda: event))

    def _next(self, _seconds: float) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left.pop(0)()

    def __call__(self, *events: Event, words: tuple[str, ...] = ()) -> list[str]:
        """The lines that are printed, each with single blanks, without the time."""
        self._left = list(events)
        code, self.out, err = self._run("watch", "-C", self._root, *words)
        assert (code, err.strip()) == (130, "farm: interrupted")
        rows = [" ".join(line.split()) for line in self.out.splitlines()]
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", row) for row in rows]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, run: Run, project: Project) -> Script:
    return Script(monkeypatch, run, project.root)


class Runs:
    """One task's attempts, as a living worker makes them."""

    def __init__(self, project: Project, alive: Life, task_id: str) -> None:
        self._project, self._alive, self._id = project, alive, task_id
        self._taken: Claim | None = None

    def begins(self, at: float | None = None) -> None:
        now = time.time() if at is None else at
        self._taken = begin(self._project, self._id, self._alive, now)

    def ends(self, why: Why, at: float | None = None) -> None:
        assert self._taken is not None
        end(self._project, self._taken, why, time.time() if at is None else at)


# -- what is printed -------------------------------------------------------------------


def test_first_comes_what_runs_and_nothing_else(
    watch: Script, project: Project, alive: Life
) -> None:
    ended(project, "good", Why.SUCCEEDED)
    ended(project, "bad", Why.FAILED)
    drop(project, "ready")
    drop(project, "waiting", needs=["nobody"])
    drop(project, "running")
    Runs(project, alive, "running").begins()

    assert watch() == ["running running attempt 1 on ada true"]


def test_an_id_with_brackets_means_that_task_alone(
    watch: Script, project: Project
) -> None:
    drop(project, "t[a-b]", needs=["x"])
    lines = watch(
        lambda: drop(project, "ta"),
        lambda: ended(project, "t[a-b]", Why.SUCCEEDED),
        words=("t[a-b]",),
    )

    assert [line.split()[:2] for line in lines] == [["succeeded", "t[a-b]"]]


def test_each_change_is_a_line(watch: Script, project: Project, alive: Life) -> None:
    runs = Runs(project, alive, "a")
    lines = watch(
        lambda: drop(project, "a"),
        runs.begins,
        lambda: runs.ends(Why.SUCCEEDED),
        lambda: drop(project, "b", needs=["c"]),
    )

    assert [re.sub(r"in [0-9.]+ \w*s", "in TIME", line) for line in lines] == [
        "ready a true",
        "running a attempt 1 on ada true",
        "succeeded a in TIME true",
        "waiting b needs c (not in tasks/) true",
    ]


@pytest.mark.parametrize(
    ("why", "line"),
    [
        (Why.FAILED, "failed a exit code 1 true"),
        (Why.TIMED_OUT, "timed out a exit code 1 true"),
        (Why.CANCELLED, "cancelled a exit code 1 true"),
    ],
)
def test_what_did_not_succeed_says_why(
    watch: Script, project: Project, why: Why, line: str
) -> None:
    drop(project, "a")

    assert watch(lambda: attempt(project, "a", why, time.time())) == [line]


def test_a_task_that_will_run_again_waits(watch: Script, project: Project) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": 60})

    assert watch(lambda: attempt(project, "a", Why.FAILED, time.time())) == [
        "waiting a its next attempt has its time true"
    ]


def test_a_task_whose_file_was_deleted_is_gone(watch: Script, project: Project) -> None:
    drop(project, "a")

    assert watch(Path(project.task_path("a")).unlink) == [
        "gone a its task file was deleted"
    ]


def test_a_task_whose_result_was_deleted_is_ready(
    watch: Script, project: Project
) -> None:
    ended(project, "a", Why.FAILED)

    assert watch(Path(project.result_path("a")).unlink) == ["ready a true"]


def nothing() -> None:
    """Time passes."""


def test_where_nothing_changes_nothing_is_printed(
    watch: Script, project: Project, alive: Life
) -> None:
    drop(project, "a")
    drop(project, "b")
    Runs(project, alive, "b").begins()
    ended(project, "c", Why.FAILED)

    assert len(watch(nothing, nothing, nothing)) == 1


def test_changes_of_one_moment_come_in_the_order_in_which_they_happened(
    watch: Script, project: Project
) -> None:
    for name in ("a", "b", "c"):
        drop(project, name)

    def all_end() -> None:
        for number, name in enumerate(("b", "c", "a")):
            attempt(project, name, Why.FAILED, 1000.0 + number)

    assert [line.split()[1] for line in watch(all_end)] == ["b", "c", "a"]


# -- each once -------------------------------------------------------------------------


def tell(project: Project, task_id: str, status: Status, at: float) -> None:
    """A worker's journal tells of an ending."""
    journal = Journal(project, "bob")
    journal.append(Entry(task_id, at, "bob", Why(status.value), status))
    journal.close()


@pytest.mark.parametrize("why", [Why.SUCCEEDED, Why.FAILED])
def test_an_ending_of_which_the_journal_tells_later_is_printed_once(
    watch: Script, project: Project, why: Why
) -> None:
    drop(project, "a")

    def tell_the_same() -> None:
        head = register.counts(project, "a")
        assert head is not None
        tell(project, "a", head.status, posix(head.finished))

    lines = watch(
        lambda: attempt(project, "a", why, time.time()), tell_the_same, nothing
    )

    assert [line.split()[:2] for line in lines] == [[why.value, "a"]]


def test_the_same_ending_of_a_later_run_is_printed_again(
    watch: Script, project: Project
) -> None:
    ended(project, "a", Why.FAILED)

    def again() -> None:
        Path(project.result_path("a")).unlink()
        attempt(project, "a", Why.FAILED, time.time() + 60.0)
        tell(project, "a", Status.FAILED, time.time() + 60.0)

    assert watch(again) == ["failed a exit code 1 true"]


@pytest.mark.parametrize("later", [0.6, 60.0])
def test_the_next_attempt_is_printed_however_soon_it_begins(
    watch: Script, project: Project, alive: Life, later: float
) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": 0.01, "max_delay": 0.01})
    runs, now = Runs(project, alive, "a"), time.time() - 90.0

    def next_attempt() -> None:
        runs.ends(Why.FAILED, now + later - 0.1)
        runs.begins(now + later)

    assert watch(lambda: runs.begins(now), next_attempt) == [
        "running a attempt 1 on ada true",
        "running a attempt 2 on ada true",
    ]


# -- which -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ((), ["other", "tiles/1", "tiles/2"]),
        (("tiles/*",), ["tiles/1", "tiles/2"]),
        (("tiles/1",), ["tiles/1"]),
        (("tiles/1", "o*"), ["other", "tiles/1"]),
        (("--status", "waiting"), ["other"]),
        (("--status", "waiting", "--status", "ready"), ["other", "tiles/1", "tiles/2"]),
        (("tiles/*", "--status", "waiting"), []),
    ],
)
def test_only_what_is_meant_is_printed_also_if_it_is_dropped_later(
    watch: Script, project: Project, words: tuple[str, ...], ids: list[str]
) -> None:
    for name in ("tiles/0", "tiles/1", "only"):
        ended(project, name, Why.SUCCEEDED)

    def more() -> None:
        Path(project.result_path("tiles/1")).unlink()
        drop(project, "tiles/2")
        drop(project, "other", needs=["nobody"])

    lines = watch(more, words=words)

    assert sorted(line.split()[1] for line in lines) == ids


def test_failed_narrows_to_failures(watch: Script, project: Project) -> None:
    for name in ("a", "b", "c"):
        drop(project, name)
    lines = watch(
        lambda: attempt(project, "a", Why.FAILED, time.time()),
        lambda: attempt(project, "b", Why.SUCCEEDED, time.time()),
        lambda: attempt(project, "c", Why.TIMED_OUT, time.time()),
        words=("--failed",),
    )

    assert [line.split()[0] for line in lines] == ["failed", "timed"]


@pytest.mark.parametrize(
    ("word", "said"), [("biuld", "did you mean `build`"), ("x*", "no task matches x*")]
)
def test_a_slip_is_not_watched(
    run: Run, project: Project, word: str, said: str
) -> None:
    drop(project, "build")
    code, out, err = run("watch", "-C", project.root, word)

    assert (code, out, said in err) == (1, "", True)


def test_no_project_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert run("watch", "-C", tmp_path)[0] == 2


# -- how -------------------------------------------------------------------------------


def test_json_is_an_object_a_line(watch: Script, project: Project) -> None:
    now = time.time()
    lines = watch(
        lambda: drop(project, "a"),
        lambda: attempt(project, "a", Why.FAILED, now),
        Path(project.task_path("a")).unlink,
        Path(project.result_path("a")).unlink,
        words=("--json",),
    )
    found = [json.loads(line) for line in lines]

    assert [set(each) for each in found] == [{"id", "word", "detail", "at", "what"}] * 3
    assert [(each["word"], each["detail"]) for each in found] == [
        ("ready", ""),
        ("failed", "exit code 1"),
        ("gone", "its task file was deleted"),
    ]
    assert found[1]["at"] == pytest.approx(now, abs=0.01)


def test_what_a_task_says_steers_no_terminal(watch: Script, project: Project) -> None:
    drop(project, "a")
    steers = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x08\ttab\rback"
    text = json.dumps({"status": "failed", "error": {"kind": "x", "message": steers}})
    watch(lambda: Path(project.result_path("a")).write_text(text))

    assert "red" in watch.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", watch.out)


def test_it_writes_nothing(watch: Script, project: Project) -> None:
    ended(project, "a", Why.FAILED)
    root = Path(project.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    watch(nothing)

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


# -- with processes --------------------------------------------------------------------


def test_the_life_of_a_task_at_a_real_worker(farm: Farm) -> None:
    gate = farm.gate()
    quick = {"max": 1, "base_delay": 0.01, "max_delay": 0.01}
    farm.drop("held", run=gate.command)
    farm.start_worker("--name", "ada")
    gate.wait_reached()
    verb = farm.start("watch")
    wait_until(lambda: "running" in said(farm), on_timeout=farm.describe)
    farm.drop("bad", run="echo why >&2; exit 3", retries=quick)
    wait_until(lambda: "ready       bad" in said(farm), on_timeout=farm.describe)
    gate.open()
    wait_until(lambda: "failed      bad" in said(farm), on_timeout=farm.describe)
    farm.signal(verb, signal.SIGINT)

    assert verb.wait(30) == 130
    assert said(farm).endswith("farm: interrupted\n")
    assert re.search(r"running +held  attempt 1 on ada  : > ", said(farm))
    assert said(farm).count("succeeded   held") == 1
    assert said(farm).count("failed      bad  exit code 3: why") == 1


def test_many_quick_endings_are_each_printed_once(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("held", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    farm.start_worker()
    verb = farm.start("watch")
    wait_until(lambda: "held" in said(farm), on_timeout=farm.describe)
    names = [farm.drop(f"t{number:03}", run="true") for number in range(200)]
    farm.wait_for("succeeded", *names)
    gate.open()
    wait_until(lambda: "succeeded   held" in said(farm), on_timeout=farm.describe)
    farm.signal(verb, signal.SIGINT)
    verb.wait(30)
    printed = re.findall(r"succeeded +(\S+)", said(farm))

    assert sorted(printed) == ["held", *names]


def test_a_reader_that_goes_ends_it_quietly(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    verb = subprocess.Popen(
        [sys.executable, "-P", "-m", "farm", "watch"],
        cwd=farm.root,
        env=farm.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    farm.processes.append(verb)
    assert verb.stdout is not None
    first = verb.stdout.readline()
    verb.stdout.close()
    gate.open()
    _, err = verb.communicate(timeout=30)

    assert b"running     a" in first
    assert err == b""


@pytest.mark.parametrize("columns", [40, 120])
def test_on_a_terminal_lines_fit_and_nothing_is_coloured(
    farm: Farm, columns: int
) -> None:
    gate = farm.gate()
    name = farm.drop(f"sub/{'x' * 90}", run=gate.command)
    farm.drop("short", run=f"echo '{'why ' * 50}' >&2; exit 3", needs=[name])
    farm.start_worker()
    gate.wait_reached()
    terminal = Terminal(farm, columns, "watch")
    terminal.read_until("running")
    (farm.tasks / "short.json").write_text('{"run": "echo \'a\\tb\\tc\' >&2; exit 3"}')
    gate.open()
    terminal.read_until("failed")
    terminal.read_until("\n")
    farm.signal(terminal.process, signal.SIGINT)
    code = terminal.read_all()

    assert code == 130
    assert "\x1b" not in terminal.said
    assert any("…" in line for line in terminal.lines)
    assert terminal.widest <= columns
