"""`farm status`."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import queue
from farm import report as module
from farm.cli.status import MOST_ROWS, describe, headline, progress
from farm.crew import Running, WorkerView
from farm.estimate import Pace
from farm.health import Health, write_health
from farm.life import Life
from farm.project import Project
from farm.report import Failure, Report, Waits
from farm.result import rfc3339
from farm.skipped import Cause
from farm.states import State, Status, Why
from tests import attempts
from tests.attempts import attempt, drop
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.faults.tools import UNSHARE, needs
from tests.lives import FOREIGN, lay_life_file
from tests.terminals import Terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

NOW = 1_000_000.0  # POSIX seconds
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
WIDE = "\u6771\u4eac"  # two letters, four columns
STEERS = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x08\ttab\rback"


def report(**fields: Any) -> Report:
    """An empty report, but for these fields; counts may be given in part."""
    every = dict.fromkeys([State.READY, State.RUNNING, State.WAITING, *Status], 0)
    every |= Counter(failure.status for failure in fields.get("failures", ()))
    counts = {str(word): n for word, n in every.items()} | fields.pop("counts", {})
    usual: dict[str, Any] = {
        "project": "/p",
        "at": "",
        "total": sum(counts.values()) or 1,
        "running": [],
        "failures": [],
        "waiting": [],
        "workers": [worker("ada")],
        "supervisors": [],
        "unusable": {},
    }
    return Report(counts=counts, **usual | fields)


def worker(name: str, task: str | None = None, **fields: Any) -> WorkerView:
    usual: dict[str, Any] = {"alive": True, "health": "well", "tasks_ended": 0}
    more = usual | fields
    return WorkerView(name=name, host="h", pid=1, started=NOW, task=task, **more)


def failures(count: int, status: Status = Status.FAILED) -> list[Failure]:
    """The most recent first, as a report has them: t0 a minute ago, t1 two ..."""
    return [
        Failure(f"t{i}", status, f"exit code {i}", rfc3339(NOW - 60 * (i + 1)))
        for i in range(count)
    ]


def section(lines: list[str], title: str) -> list[str]:
    """The lines below a heading, each with single blanks."""
    if title not in lines:
        return []
    below = lines[lines.index(title) + 1 :]
    ends = next((i for i, line in enumerate(below) if not line), len(below))
    return [" ".join(line.split()) for line in below[:ends]]


def shown(title: str, **fields: Any) -> list[str]:
    """One section of what a report with these fields looks like."""
    return section(describe(report(**fields), NOW), title)


# -- attention first -------------------------------------------------------------------


def test_failures_come_first_then_what_runs_then_what_waits() -> None:
    lines = describe(
        report(
            failures=failures(1),
            running=[Running("r", "ada", 1, "", 1.0)],
            waiting=[Waits("w", "needs x")],
            unusable={"n.json": "why"},
            workers=[worker("bob", health="dead", alive=False)],
        ),
        NOW,
    )
    headings = [line for line in lines[1:] if line and not line.startswith(" ")]

    assert headings == [
        "Needs attention",
        "Cannot be tasks",
        "Running",
        "Waiting",
        "Workers",
    ]


def test_nothing_to_say_is_no_section() -> None:
    assert describe(report(counts={"succeeded": 3}), NOW) == [
        "/p",
        "  0 of 1 worker busy, 0 queued, 3 done",
    ]


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.SUCCEEDED])
def test_only_what_nobody_wanted_needs_attention(status: Status) -> None:
    lines = shown("Needs attention", failures=failures(1, status))
    wanted = status in (Status.CANCELLED, Status.SKIPPED)

    assert lines == ([] if wanted else [f"t0 {status.words} 1 min 0 s ago exit code 0"])


def test_the_most_recent_failure_is_the_first() -> None:
    lines = shown("Needs attention", failures=failures(3))

    assert [line.split()[0] for line in lines] == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    ("count", "last"),
    [(MOST_ROWS, "t9 failed 10 min 0 s ago exit code 9"), (15, "and 5 more")],
)
def test_of_many_failures_ten_are_shown_and_the_rest_is_counted(
    count: int, last: str
) -> None:
    lines = shown("Needs attention", failures=failures(count))

    assert MOST_ROWS == 10
    assert sum("exit code" in line for line in lines) == MOST_ROWS
    assert lines[-1] == last


def test_what_was_skipped_is_told_with_what_it_was_skipped_for() -> None:
    skipped = [(Cause("sleepy", "cancelled"), ["join"])]
    lines = describe(report(counts={"skipped": 1}), NOW, skipped)

    assert lines[2:] == [
        "",
        "Skipped",
        (
            "  join was skipped because sleepy was cancelled:"
            " farm retry sleepy runs both again"
        ),
    ]


def test_of_many_causes_some_are_shown() -> None:
    skipped = [(Cause(f"c{n}", "failed"), [f"s{n}"]) for n in range(12)]
    lines = describe(report(counts={"skipped": 12}), NOW, skipped)

    assert lines[-1] == "  and 2 more"


def test_the_command_that_status_names_lets_what_was_skipped_run_again(
    run: Run, project: Project
) -> None:
    lay(project, "sleepy", "cancelled")
    lay(project, "join", "skipped")
    drop(project, "join", needs=["sleepy"])
    lay(project, "bad", "failed")
    _, out, _ = run("status", project.root)
    named = re.search(r"cancelled: farm (retry sleepy) runs both again", out)
    assert named, out
    code, out, _ = run("-C", project.root, *named[1].split())

    assert (code, out.split()) == (0, ["sleepy", "join"])


def test_a_failure_of_which_no_time_is_known_shows_none() -> None:
    there = Failure("a", Status.FAILED, "exit code 1", "")

    assert shown("Needs attention", failures=[there]) == ["a failed exit code 1"]


def test_names_that_cannot_be_tasks_are_shown_with_the_reason() -> None:
    lines = shown("Cannot be tasks", unusable={"sub/b.json": "why b", "a.json": "w"})

    assert lines == ["tasks/a.json w", "tasks/sub/b.json why b"]


@pytest.mark.parametrize(
    ("title", "fields"),
    [
        ("Cannot be tasks", {"unusable": {f"{i}.json": "w" for i in range(12)}}),
        ("Running", {"running": [Running(f"{i}", "w", 1, "", 1) for i in range(12)]}),
        ("Waiting", {"waiting": [Waits(f"{i}", f"w{i}") for i in range(12)]}),
        ("Workers", {"workers": [worker(f"{i}", health="ill") for i in range(12)]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_section_has_at_most_ten_rows_and_counts_the_rest(
    title: str, fields: dict[str, Any]
) -> None:
    lines = shown(title, **fields)

    assert len(lines) == MOST_ROWS + 1
    assert lines[-1] == "and 2 more"


def test_tasks_that_wait_for_the_same_are_one_row() -> None:
    waiting = [Waits(f"{i}", "all keys rest") for i in range(2000)]
    waiting += [Waits("x", "it needs a")]

    lines = shown("Waiting", waiting=waiting)
    assert lines == ["0 and 1999 more all keys rest", "x it needs a"]


# -- what runs, what waits -------------------------------------------------------------


@pytest.mark.parametrize(
    ("running", "words"),
    [
        (Running("a", "ada", 1, "", 31.0), "a 31 s ada"),
        (Running("a", "ada", 3, "", 31.0), "a 31 s ada attempt 3"),
        (
            Running("a", "ada", 1, "", 7500.0, 0.61, "turn 23"),
            "a 2 h 5 min ada ######---- 61% turn 23",
        ),
    ],
)
def test_what_runs_has_its_time_its_worker_its_attempt_and_its_progress(
    running: Running, words: str
) -> None:
    assert shown("Running", running=[running]) == [words]


@pytest.mark.parametrize(
    ("share", "message", "words"),
    [
        (None, "", ""),
        (None, "epoch 3", "epoch 3"),
        (0.0, "", "----------  0%"),
        (0.04, "", "----------  4%"),
        (0.5, "half", "#####-----  50%  half"),
        (1.0, "", "##########  100%"),
    ],
)
def test_progress_is_a_bar_a_share_and_a_message(
    share: float | None, message: str, words: str
) -> None:
    assert progress(Running("a", "w", 1, "", 1.0, share, message)) == words


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (None, "a needs x"),
        ("1970-01-12T13:50:00Z", "a needs x (until 22:50:00)"),
        ("1970-01-12T16:00:00Z", "a needs x (until 1970-01-13 01:00:00)"),
        ("2099-01-01T00:00:00Z", "a needs x (until 2099-01-01 09:00:00)"),
    ],
)
def test_what_waits_says_why_and_until_when_by_the_local_clock(
    tokyo: None, until: str | None, words: str
) -> None:
    assert shown("Waiting", waiting=[Waits("a", "needs x", until)]) == [words]


def test_a_time_after_the_last_year_that_a_clock_can_show_is_no_bug(
    tokyo: None, run: Run, project: Project
) -> None:
    drop(project, "a", not_before="9999-12-31T23:59:59Z")
    code, out, _ = run("status", project.root)

    assert (code, "not before its time" in out) == (0, True)


# -- the headline ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"workers": []}, "0 queued, 0 done"),
        ({}, "0 of 1 worker busy, 0 queued, 0 done"),
        (
            {"workers": [worker("a", "t"), worker("b"), worker("c", alive=False)]},
            "1 of 2 workers busy, 0 queued, 0 done",
        ),
        (
            {
                "counts": {"ready": 36, "waiting": 6, "succeeded": 118, "timed_out": 2},
                "pace": Pace(0.3, 1.0),
            },
            (
                "0 of 1 worker busy, 42 queued (6 waiting), 118 done, 2 timed out,"
                " ~2 min left"
            ),
        ),
        (
            {"counts": {"ready": 36, "waiting": 6}, "unread": 30},
            "0 of 1 worker busy, 42 queued (6 waiting, 30 not looked into), 0 done",
        ),
        (
            {
                "counts": {"running": 1},
                "running": [Running("r", "ada", 1, "", 1.0, left_s=5.2)],
            },
            "0 of 1 worker busy, 0 queued, 0 done, ~5 s left",
        ),
        (
            {"counts": {"succeeded": 9}, "pace": Pace(3.0, 1.0)},
            "0 of 1 worker busy, 0 queued, 9 done",
        ),
    ],
    ids=["nobody", "idle", "busy", "all", "many", "the last one", "over"],
)
def test_the_headline_counts(fields: dict[str, Any], words: str) -> None:
    assert headline(report(**fields)) == words


def test_what_waits_for_what_will_come_is_counted_into_the_time_left() -> None:
    waiting = [Waits("a", "needs b", comes=True), Waits("c", "paused")]
    found = report(counts={"ready": 2}, waiting=waiting, pace=Pace(0.1, 1.0))

    assert found.left_s == 30.0


def test_a_need_that_is_there_lets_its_asker_come(run: Run, project: Project) -> None:
    drop(project, "a")
    drop(project, "b", needs=["a"])
    drop(project, "c", needs=["nobody"])
    waiting = as_json(run, project)["waiting"]

    assert {one["id"]: one["comes"] for one in waiting} == {"b": True, "c": False}


def test_what_has_its_time_is_not_over_before() -> None:
    waiting = [Waits("a", "not before its time", rfc3339(NOW + 500))]
    found = report(at=rfc3339(NOW), waiting=waiting, pace=Pace(10.0, 1.0))

    assert found.left_s == 500.0


def test_no_worker_is_said_with_what_to_do() -> None:
    dead = worker("bob", alive=False, health="dead")
    lines = describe(report(workers=[dead]), NOW)

    assert any("farm supervise" in line for line in lines)


@pytest.mark.parametrize("title", ["Needs attention", "Waiting"])
def test_no_hint_looks_like_a_row_of_a_section(title: str) -> None:
    lines = shown(
        title, workers=[], failures=failures(1), waiting=[Waits("a", "needs x")]
    )

    assert len(lines) == 1


@pytest.mark.parametrize(
    ("health", "lines"),
    [("well", []), ("no heartbeat for 12 s", ["ada no heartbeat for 12 s"])],
)
def test_only_workers_that_are_not_well_are_shown(
    health: str, lines: list[str]
) -> None:
    assert shown("Workers", workers=[worker("ada", health=health)]) == lines


# -- typed -----------------------------------------------------------------------------


def ended(project: Project, task_id: str, why: Why, at: float | None = None) -> None:
    drop(project, task_id)
    attempt(project, task_id, why, time.time() if at is None else at)


def lay(project: Project, task_id: str, status: str, **result: Any) -> None:
    """A task with a result that nobody here has written."""
    drop(project, task_id)
    text = json.dumps({"status": status} | result)
    Path(project.result_path(task_id)).write_text(text)


def as_json(run: Run, project: Project, *args: str) -> Any:
    code, out, _ = run("status", project.root, "--json", *args)
    assert code == 0
    return json.loads(out)


@pytest.fixture
def mixed(project: Project, alive: Life) -> Project:
    """A project with a task of each state and of some statuses."""
    drop(project, "ready")
    drop(project, "waiting", needs=["nobody"])
    drop(project, "running")
    attempts.begin(project, "running", alive, time.time())
    ended(project, "good", Why.SUCCEEDED)
    ended(project, "bad", Why.FAILED)
    ended(project, "late", Why.TIMED_OUT)
    ended(project, "back", Why.CANCELLED)
    return project


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--failed"], ["bad", "late"]),
        (["--status", "failed"], ["bad"]),
        (["--status", "timed_out", "--status", "cancelled"], ["back", "late"]),
        (["--failed", "--status", "succeeded"], ["bad", "good", "late"]),
        (["--status", "ready"], ["ready"]),
        (["--status", "waiting", "--status", "running"], ["running", "waiting"]),
        (["--status", "lost"], []),
    ],
    ids=" ".join,
)
def test_words_list_all_such_tasks(
    run: Run, mixed: Project, words: list[str], ids: list[str]
) -> None:
    code, out, _ = run("status", mixed.root, *words)

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ids
    assert [line["id"] for line in as_json(run, mixed, *words)] == ids


def test_a_list_says_how_and_why(run: Run, mixed: Project) -> None:
    words = ["--failed", "--status", "running", "--status", "waiting"]
    _, out, _ = run("status", mixed.root, *words)
    rows = [" ".join(line.split()) for line in out.splitlines()]

    assert [re.sub(r"\d\d:\d\d:\d\d", "TIME", row) for row in rows] == [
        "bad failed TIME exit code 1 true",
        "late timed out TIME exit code 1 true",
        "running running TIME attempt 1 on ada true",
        "waiting waiting needs nobody (not in tasks/) true",
    ]


def test_a_list_is_not_cut_at_ten(run: Run, project: Project) -> None:
    for number in range(25):
        lay(project, f"t{number:02}", "failed", exit_code=number)
    _, out, _ = run("status", project.root, "--failed")

    assert len(out.splitlines()) == 25


def test_of_many_failures_the_results_of_ten_are_read_and_all_are_counted(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        at = rfc3339(NOW + number)
        lay(project, f"t{number:02}", "failed", exit_code=1, finished=at)
        lay(project, f"s{number:02}", "skipped", finished=rfc3339(NOW + 100))
    read: list[str] = []

    def failure(project: Project, task_id: str) -> Failure | None:
        read.append(task_id)
        return really(project, task_id)

    really = module.failure
    monkeypatch.setattr(module, "failure", failure)
    _, out, _ = run("status", project.root)

    assert read == [f"t{number}" for number in range(24, 14, -1)]
    assert "25 failed" in out
    assert "and 15 more" in out


def test_of_very_many_open_tasks_few_are_read_unless_what_waits_is_asked_for(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOK_AHEAD", 2)
    monkeypatch.setattr(queue, "GLANCE", 1)
    for task_id in "abc":
        drop(project, task_id, needs=["nobody"])
    _, out, _ = run("status", project.root)
    _, listed, _ = run("status", project.root, "--status", "waiting")

    assert "3 queued (1 waiting, 2 not looked into)" in out
    assert [line.split()[0] for line in listed.splitlines()] == ["a", "b"]


def test_a_word_that_is_none_is_wrong_usage(run: Run, project: Project) -> None:
    code, out, err = run("status", project.root, "--status", "fialed")

    assert (code, out) == (2, "")
    assert err.startswith("farm: ")


def test_json_has_all_counts_and_the_time_left(run: Run, mixed: Project) -> None:
    found = as_json(run, mixed)

    assert set(found["counts"]) == {"ready", "running", "waiting", *Status}
    assert {word: n for word, n in found["counts"].items() if n} == {
        "ready": 1,
        "running": 1,
        "waiting": 1,
        "succeeded": 1,
        "failed": 1,
        "timed_out": 1,
        "cancelled": 1,
    }
    assert found["left_s"] is None


def test_json_of_a_list_has_an_object_for_each(run: Run, mixed: Project) -> None:
    (found,) = as_json(run, mixed, "--status", "failed")

    assert set(found) == {"id", "word", "detail", "at", "what"}
    assert (found["word"], found["detail"]) == ("failed", "exit code 1")


@pytest.mark.parametrize("count", [4, 5])
def test_the_time_left_is_hidden_until_five_have_ended(
    run: Run, project: Project, alive: Life, count: int
) -> None:
    for number in range(count):
        lay(project, f"t{number}", "succeeded", duration_s=10.0)
    drop(project, "t77")
    _, out, _ = run("status", project.root)

    assert ("~10 s left" in out) == (count == 5)
    assert as_json(run, project)["left_s"] == (10.0 if count == 5 else None)


def test_without_a_worker_there_is_no_time_left(run: Run, project: Project) -> None:
    for number in range(9):
        lay(project, f"t{number}", "succeeded", duration_s=10.0)
    drop(project, "t77")
    _, out, _ = run("status", project.root)

    assert "left" not in out
    assert as_json(run, project)["left_s"] is None


@pytest.mark.parametrize("words", [[], ["--status", "ready", "--failed"]])
def test_control_sequences_never_reach_the_output(
    run: Run, project: Project, alive: Life, words: list[str]
) -> None:
    error = {"kind": "exit", "message": STEERS}
    lay(project, "bad", "failed", error=error, finished=rfc3339(time.time()))
    (Path(project.tasks) / f"{STEERS}.json").write_text("{}")
    drop(project, "running")
    attempts.begin(project, "running", alive, time.time())
    Path(project.aside_path("ada", "progress")).write_text(
        f"0.5 {STEERS.partition(chr(13))[0]}"  # a line ends there
    )
    drop(project, "waiting", needs=[f"{STEERS}*"])
    write_health(project, "bob", Health(died=STEERS), "test")
    lay_life_file(project, "bob", FOREIGN)
    _, out, _ = run("status", project.root, *words)

    assert "red" in out
    assert not CONTROL.search(out)


def test_the_name_of_a_project_steers_no_terminal() -> None:
    assert not CONTROL.search(describe(report(project=f"/{STEERS}"), NOW)[0])


def test_piped_nothing_is_cut(run: Run, project: Project) -> None:
    error = {"kind": "exit", "message": "why " * 200}
    lay(project, f"sub/{'x' * 150}", "failed", error=error)
    _, out, _ = run("status", project.root)

    assert f"sub/{'x' * 150}" in out
    assert ("why " * 200).strip() in out
    assert "…" not in out
    assert "\x1b" not in out


def test_two_thousand_tasks_of_all_kinds_are_a_screenful(
    run: Run, project: Project, alive: Life
) -> None:
    for number in range(200):
        drop(project, f"ready/{number}")
        drop(project, f"waiting/{number}", needs=["nobody"])
        drop(project, f"later/{number}", not_before="2099-01-01T00:00:00Z")
        for status in Status:
            at = rfc3339(NOW + number)
            lay(project, f"{status}/{number}", status, finished=at, duration_s=2.0)
    _, out, _ = run("status", project.root)
    found = as_json(run, project)

    assert found["total"] == 2000
    assert found["counts"] == {
        "ready": 400,  # with those whose verdict, `invalid`, is of other bytes
        "running": 0,
        "waiting": 400,
    } | dict.fromkeys(Status, 200) | {"invalid": 0}
    assert len(out.splitlines()) < 40


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Everything that lies there, with when it changed and its size."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [root, *root.rglob("*")]
    }


@pytest.mark.parametrize("words", [[], ["--failed"], ["--json"]])
def test_it_writes_nothing(run: Run, mixed: Project, words: list[str]) -> None:
    before = snapshot(Path(mixed.root))
    run("status", mixed.root, *words)

    assert snapshot(Path(mixed.root)) == before


# -- with processes --------------------------------------------------------------------


def test_what_runs_shows_its_progress(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f'echo "0.61 half way" > "$FARM_PROGRESS"; {gate.command}')
    farm.start_worker("--name", "ada")
    gate.wait_reached()
    done = farm.farm("status")
    (row,) = section(done.stdout.splitlines(), "Running")

    assert re.fullmatch(r"a [\d.]+ (ms|s) ada ######---- 61% half way echo .*", row)
    assert "1 of 1 worker busy" in done.stdout


def test_a_worker_that_is_stopped_has_no_heartbeat(farm: Farm) -> None:
    worker = farm.start_worker("--name", "ada")
    farm.signal(worker, signal.SIGSTOP)

    def unwell() -> list[str]:
        return section(farm.farm("status").stdout.splitlines(), "Workers")

    (row,) = wait_until(unwell)

    assert re.fullmatch(r"ada no heartbeat for \d+ s", row)


def crowded(farm: Farm) -> None:
    """Something in every section, all of it long."""
    project = Project.open(farm.root)
    error = {"kind": "exit", "message": "why " * 50}
    for number in range(12):
        lay(project, f"{number}-{WIDE * 30}", "failed", error=error)
        drop(project, f"{'w' * 90}{number}", needs=["x" * 90])
    lay(project, "skipped", "skipped")
    (farm.tasks / f"{'n' * 100}\x01.json").write_text("{}")
    lay_life_file(project, "bob", FOREIGN)
    farm.drop(f"run/{'r' * 90}", run="true")


@pytest.mark.parametrize("columns", [40, 120])
@pytest.mark.parametrize("words", [[], ["--failed"]], ids=["all", "failed"])
def test_on_a_terminal_no_line_is_wider(
    farm: Farm, columns: int, words: list[str]
) -> None:
    crowded(farm)
    terminal = Terminal(farm, columns, "status", *words)
    code = terminal.read_all()

    assert code == 0
    assert any("…" in line for line in terminal.lines)
    assert terminal.widest <= columns


@pytest.mark.parametrize("columns", [40, 120])
def test_a_reason_with_tabs_is_no_wider_than_the_terminal(
    farm: Farm, columns: int
) -> None:
    error = {"kind": "exit", "message": "a\tlong\treason\t" * 20}
    at = rfc3339(time.time())
    lay(Project.open(farm.root), "a", "failed", error=error, finished=at)
    terminal = Terminal(farm, columns, "status")
    terminal.read_all()

    assert terminal.widest <= columns


def test_on_a_terminal_headings_are_bold_and_nothing_else_is(farm: Farm) -> None:
    crowded(farm)
    terminal = Terminal(farm, 120, "status")
    terminal.read_all()
    bold = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", terminal.said)

    headings = ["Needs attention", "Skipped", "Cannot be tasks", "Waiting", "Workers"]
    assert bold[1:] == headings
    assert terminal.said.count("\x1b") == 2 * len(bold)


def test_with_no_color_there_are_no_escape_codes_at_all(farm: Farm) -> None:
    crowded(farm)
    terminal = Terminal(farm, 80, "status", NO_COLOR="1")
    terminal.read_all()

    assert "Needs attention" in terminal.said
    assert "\x1b" not in terminal.said


@needs("mount")
def test_a_project_that_cannot_be_written_is_shown(farm: Farm) -> None:
    farm.drop("good", run="true")
    farm.drop("bad", run="exit 3")
    farm.work()
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    refused = '! touch "$0/tasks/probe" 2>/dev/null'
    status = '"$1" -P -m farm status "$0"'
    script = f"{mount} && {refused} && {status}"
    done = subprocess.run(
        [*UNSHARE, "--mount", "sh", "-c", script, str(farm.root), sys.executable],
        env=farm.environ | {"LC_ALL": "C.UTF-8"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "1 done, 1 failed" in done.stdout
