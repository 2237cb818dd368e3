"""Why a task is where it is: sentences."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm import process
from farm.control import DRAIN, cancel_name, give, pause_name
from farm.explain import MOST_NEEDS, Explanation, explain
from farm.ledger import Claimed, Ledger
from farm.life import Life
from farm.process import Identity
from farm.project import Project
from farm.report import Survey
from farm.result import rfc3339
from farm.states import State, Status, Why
from tests.attempts import attempt, begin, drop, end

NOW = 1_000_000.0  # POSIX seconds
DEAD = Identity("other-host", "other-boot", 1, 2, 3)
SLOW = {"max": 3, "base_delay": "2d", "max_delay": "2d"}  # retries
NOBODY = "no worker is alive here: farm supervise, or farm worker, starts one"


def lay_result(project: Project, task_id: str, **result: Any) -> None:
    """As if some farm had written it 5 s ago."""
    drop(project, task_id)
    told = {"version": 1, "finished": rfc3339(NOW - 5.0)} | result
    Path(project.result_path(task_id)).write_text(json.dumps(told))


def asked(project: Project, task_id: str = "a", now: float = NOW) -> Explanation:
    """What is said of a task at this moment."""
    survey = Survey(project)
    survey.look(now, 50.0)
    return explain(survey, task_id, now)


def answer(project: Project, task_id: str = "a") -> str:
    """The first sentence."""
    return asked(project, task_id).why[0]


# -- ready -------------------------------------------------------------------------


def test_the_first_in_line_is_ready(project: Project, alive: Life) -> None:
    drop(project, "a")
    found = asked(project)

    assert (found.state, found.status) == (State.READY, None)
    assert found.why == ["it is ready, the first"]
    assert found.next == "the next free worker takes it"


def test_those_that_go_before_are_counted(project: Project, alive: Life) -> None:
    drop(project, "z", priority=1)
    drop(project, "y")
    drop(project, "waits", needs=["nobody"])

    assert answer(project, "y") == "it is ready, behind 1 task"


def test_without_a_worker_that_is_said_and_nothing_follows(project: Project) -> None:
    drop(project, "a")
    found = asked(project)

    assert found.why == ["it is ready, the first", NOBODY]
    assert found.next == (
        "nothing until there is a worker; then the next free worker takes it"
    )


def test_a_dead_worker_is_none(project: Project) -> None:
    drop(project, "a")
    life = Life.begin(project, "ada", NOW, 2.0)
    life.forget()

    assert NOBODY in asked(project).why


@pytest.mark.parametrize("raw", [b"", b"garbage {\n", b"\xff\xfe\0"])
def test_garbage_in_its_ledger_says_nothing(
    project: Project, alive: Life, raw: bytes
) -> None:
    drop(project, "a")
    Path(project.ledger_path("a")).write_bytes(raw)

    assert asked(project).why == ["it is ready, the first"]


def test_a_folder_where_its_ledger_should_be_is_in_the_way(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    Path(project.ledger_path("a")).mkdir()
    found = asked(project)

    assert found.state is State.WAITING
    assert "is not a regular file" in found.why[0]


def test_an_attempt_that_was_left_behind_is_said(project: Project, alive: Life) -> None:
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "eve", DEAD, NOW))
    ledger.let_go()
    found = asked(project)

    assert found.state is State.READY
    assert "attempt 1 was lost: its worker eve is dead" in found.why


# -- people ------------------------------------------------------------------------


@pytest.mark.parametrize("glob", [None, "a", "*"])
def test_a_pause_is_named_by_its_file(
    project: Project, alive: Life, glob: str | None
) -> None:
    drop(project, "a")
    give(project, pause_name(glob))
    found = asked(project)

    assert found.state is State.WAITING
    assert found.why == [
        f"paused by .farm/control/{pause_name(glob)}: farm resume starts it again"
    ]
    assert found.next == "it starts when that is over"


def test_a_pause_of_others_is_no_pause(project: Project, alive: Life) -> None:
    drop(project, "a")
    give(project, pause_name("b"))

    assert asked(project).state is State.READY


def test_a_drain_is_in_the_way(project: Project, alive: Life) -> None:
    drop(project, "a")
    give(project, DRAIN)

    assert answer(project) == "all workers are told to end (.farm/control/drain)"


def test_a_task_that_is_cancelled_can_only_end(project: Project, alive: Life) -> None:
    drop(project, "a")
    give(project, cancel_name("a"))
    found = asked(project)

    assert found.why == [f"cancelled by .farm/control/{cancel_name('a')}"]
    assert found.next == "the next free worker writes that down: cancelled"


# -- time --------------------------------------------------------------------------


@pytest.mark.usefixtures("zone")
def test_a_time_is_said_as_people_have_it_and_how_far_it_is(
    project: Project, alive: Life
) -> None:
    drop(project, "a", not_before=rfc3339(NOW + 3600.0))
    there = datetime.fromtimestamp(NOW + 3600.0 + 12.75 * 3600, UTC)

    assert answer(project) == f"its `not_before` is {there:%H:%M:%S}, in 1 h 0 min"


@pytest.mark.usefixtures("zone")
def test_a_time_that_local_calendars_do_not_know_is_no_crash(
    project: Project, alive: Life
) -> None:
    drop(project, "a", not_before="9999-12-31T23:59:59Z")

    assert answer(project).startswith("its `not_before` is")


def test_a_time_that_has_come_is_not_in_the_way(project: Project, alive: Life) -> None:
    drop(project, "a", not_before=rfc3339(NOW - 1.0))

    assert asked(project).state is State.READY


def test_a_wait_between_attempts_says_after_which_and_how_that_ended(
    project: Project, alive: Life
) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, NOW - 10.0)
    found = asked(project)

    assert found.state is State.WAITING
    assert found.why[0].startswith("attempt 1 did not succeed; the next starts ")
    assert found.why[1].startswith("attempt 1 failed after 0 ms on ")
    assert found.why[1].endswith(": exit code 1")


def test_an_attempt_at_other_bytes_delays_nothing(
    project: Project, alive: Life
) -> None:
    """As `farm.claim` decides: other bytes have a past of their own."""
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, NOW - 10.0)
    drop(project, "a", retries=SLOW, labels=["edited"])
    found = asked(project)

    assert found.state is State.READY
    assert found.why[0] == "it is ready, the first"


# -- needs -------------------------------------------------------------------------


def test_a_need_that_nobody_dropped_has_the_nearest_name(
    project: Project, alive: Life
) -> None:
    drop(project, "build")
    drop(project, "a", needs=["biuld"])

    assert answer(project) == (
        "it needs biuld, which is not in tasks/, did you mean `build`?"
    )


def test_a_need_that_is_ready_is_said_to_be(project: Project, alive: Life) -> None:
    drop(project, "b")
    drop(project, "a", needs=["b"])

    assert answer(project) == "it needs b, which is ready and has not started"


def test_a_need_that_runs_says_since_when_and_where(
    project: Project, alive: Life
) -> None:
    drop(project, "b")
    drop(project, "a", needs=["b"])
    begin(project, "b", alive, NOW - 5.0)

    assert answer(project) == "it needs b, which runs for 5 s on ada"


def test_a_need_that_waits_says_for_what(project: Project, alive: Life) -> None:
    drop(project, "b", needs=["c"])
    drop(project, "c")
    drop(project, "a", needs=["b"])

    assert answer(project) == "it needs b, which waits: needs c"


def test_a_need_that_failed_skips_the_task_and_says_so(
    project: Project, alive: Life
) -> None:
    lay_result(project, "b", status="failed", exit_code=3)
    drop(project, "a", needs=["b"])
    found = asked(project)

    assert found.why == ["it needs b, which ended failed"]
    assert found.next == "the next free worker writes that down: skipped"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"status": "failed", "exit_code": 3}, "failed 5 s ago: exit code 3"),
        (
            {"status": "failed", "signal": "SIGSEGV"},
            "failed 5 s ago: killed by SIGSEGV",
        ),
        (
            {
                "status": "timed_out",
                "error": {"kind": "timeout", "message": "too slow"},
            },
            "timed out 5 s ago: too slow",
        ),
        ({"status": "lost"}, "was lost 5 s ago: no reason given"),
        ({"status": "skipped"}, "was skipped 5 s ago: no reason given"),
        ({"status": "cancelled"}, "was cancelled 5 s ago: no reason given"),
    ],
    ids=["failed", "killed", "timed out", "lost", "skipped", "cancelled"],
)
def test_a_need_that_ended_says_when_and_why(
    project: Project, alive: Life, result: dict[str, Any], said: str
) -> None:
    """Seen behind a pause, which a worker asks about first."""
    lay_result(project, "b", **result)
    drop(project, "a", needs=["b"])
    give(project, pause_name(None))

    assert f"it needs b, which {said}" in asked(project).why


def test_a_need_whose_file_is_invalid_says_what_is_wrong_with_it(
    project: Project, alive: Life
) -> None:
    wrong = {"kind": "invalid", "message": "tasks/b.json:1:1: no JSON"}
    drop(project, "b", runn="x")
    sha256 = project.read_task("b").sha256
    told = {"status": "invalid", "finished": rfc3339(NOW - 5.0), "error": wrong}
    Path(project.result_path("b")).write_text(json.dumps(told | {"sha256": sha256}))
    drop(project, "a", needs=["b"])
    found = asked(project)

    assert found.state is State.WAITING
    assert "tasks/b.json:1:1: no JSON" in found.why[0]
    assert "which invalid" not in found.why[0]


def test_a_need_that_has_succeeded_is_not_in_the_way(
    project: Project, alive: Life
) -> None:
    lay_result(project, "b", status="succeeded")
    drop(project, "c")
    drop(project, "a", needs=["b", "c"])

    assert asked(project).why == ["it needs c, which is ready and has not started"]


def test_a_need_without_a_task_file_is_met_by_its_result(
    project: Project, alive: Life
) -> None:
    lay_result(project, "b", status="succeeded")
    Path(project.task_path("b")).unlink()
    drop(project, "a", needs=["b"])

    assert asked(project).state is State.READY


def test_a_glob_that_matches_nothing_is_said(project: Project, alive: Life) -> None:
    drop(project, "a", needs=["tiles/*"])

    assert answer(project) == "it needs tiles/*, which matches nothing yet"


def test_a_glob_never_means_the_asking_task(project: Project, alive: Life) -> None:
    drop(project, "a", needs=["*"])

    assert answer(project) == "it needs *, which matches nothing yet"


@pytest.mark.parametrize("more", [0, 1, 7])
def test_of_a_glob_ten_are_named_and_the_rest_is_counted(
    project: Project, alive: Life, more: int
) -> None:
    for number in range(MOST_NEEDS + more):
        drop(project, f"tiles/{number:02}")
    drop(project, "a", needs=["tiles/*"])
    why = asked(project).why
    named = [f"tiles/{number:02}" for number in range(MOST_NEEDS)]
    rest = [f"it needs {more} more that match tiles/*"] if more else []

    assert [line.split()[2].rstrip(",") for line in why[:MOST_NEEDS]] == named
    assert why[MOST_NEEDS:] == rest


def test_all_that_is_in_the_way_is_said_in_a_workers_order(
    project: Project, alive: Life
) -> None:
    drop(project, "b")
    drop(project, "a", needs=["b"], not_before=rfc3339(NOW + 60.0))
    give(project, pause_name(None))
    why = asked(project).why

    assert [line.split()[:2] for line in why] == [
        ["paused", "by"],
        ["its", "`not_before`"],
        ["it", "needs"],
    ]


def test_a_circle_is_the_first_thing_that_is_said(
    project: Project, alive: Life
) -> None:
    drop(project, "a", needs=["b"])
    drop(project, "b", needs=["a"])

    assert answer(project).startswith(
        "tasks/a.json: it needs itself, in a circle of a, b"
    )


# -- a file that is wrong ----------------------------------------------------------


def test_a_wrong_file_names_its_line_and_column_while_it_settles(
    project: Project, alive: Life
) -> None:
    Path(project.task_path("a")).write_text('{"run": "true",\n "retires": 2}')
    found = asked(project)

    assert found.state is State.WAITING
    assert found.why[0].startswith("tasks/a.json:2:2: ")
    assert "did you mean `retries`?" in found.why[0]
    assert "stood still for 2 s" in found.why[0]


def test_what_will_be_invalid_is_not_said_to_start(
    project: Project, alive: Life
) -> None:
    Path(project.task_path("a")).write_text("{")

    assert "it starts" not in asked(project).next


def test_a_file_that_was_refused_names_its_line_and_column(
    project: Project, alive: Life
) -> None:
    Path(project.task_path("a")).write_text("{")
    survey = Survey(project)
    survey.look(NOW, 50.0)
    survey.look(NOW + 3.0, 53.0)
    found = explain(survey, "a", NOW + 3.0)

    assert found.why[0].startswith("tasks/a.json:1:2: ")
    assert found.next == "the next free worker writes that down: invalid"


def test_an_empty_file_is_refused_too(project: Project, alive: Life) -> None:
    Path(project.task_path("a")).touch()

    assert "the file is empty" in answer(project)


# -- running -----------------------------------------------------------------------


def test_what_runs_says_how_long_who_has_it_and_the_proof(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW - 5.0)
    found = asked(project)
    me = process.identify()

    assert (found.state, found.status) == (State.RUNNING, None)
    assert found.why[0] == "it runs for 5 s, attempt 1"
    assert found.why[1] == (
        f"ada (process {me.pid} on {me.host}) holds it and lives: the kernel says that"
        " its life lock is held"
    )
    assert found.next == "it ends by itself"


def test_a_running_owner_whose_life_file_is_gone_is_proven_by_its_process(
    project: Project,
) -> None:
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "eve", process.identify(), NOW - 5.0))
    ledger.let_go()

    assert (
        "lives: its process runs here since it took the task" in asked(project).why[1]
    )


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (NOW + 5.0, "in 55 s (timeout 1 min 0 s)"),
        (NOW + 99.0, "now (timeout 1 min 0 s)"),
    ],
    ids=["to come", "passed"],
)
def test_what_runs_with_a_timeout_says_its_deadline(
    project: Project, alive: Life, now: float, said: str
) -> None:
    drop(project, "a", timeout=60)
    begin(project, "a", alive, NOW)

    assert (
        asked(project, now=now).next == f"it ends by itself, or at its deadline {said}"
    )


@pytest.mark.parametrize("named", [True, False], ids=["this run", "any run"])
def test_what_runs_and_is_cancelled_ends_at_the_next_heartbeat(
    project: Project, alive: Life, *, named: bool
) -> None:
    drop(project, "a")
    taken = begin(project, "a", alive, NOW)
    give(project, cancel_name("a"), taken.opened.token if named else "")

    assert asked(project).next == (
        "it is cancelled: its worker ends it at its next heartbeat"
    )


def test_an_order_for_another_run_cancels_nothing(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW)
    give(project, cancel_name("a"), "another-token")

    assert asked(project).next == "it ends by itself"


def test_what_runs_tells_its_earlier_attempts(project: Project, alive: Life) -> None:
    drop(project, "a", retries={"max": 3, "base_delay": 0, "max_delay": 0})
    attempt(project, "a", Why.FAILED, NOW - 20.0)
    begin(project, "a", alive, NOW - 5.0)
    why = asked(project).why

    assert why[0].endswith("attempt 2")
    assert why[-1].startswith("attempt 1 failed after ")


# -- ended -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("succeeded", "it has succeeded (farm retry a runs it again)"),
        ("failed", "farm retry a runs it again"),
        ("timed_out", "farm retry a runs it again"),
        ("lost", "farm retry a runs it again"),
        ("cancelled", "farm retry a runs it again"),
        ("skipped", "farm retry a runs it again, too"),
    ],
)
def test_what_has_ended_says_what_runs_it_again(
    project: Project, status: str, said: str
) -> None:
    lay_result(project, "a", status=status)
    found = asked(project)

    assert (found.state, found.status) == (State.FINAL, Status(status))
    assert said in found.next


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"status": "failed", "exit_code": 3}, "failed 5 s ago: exit code 3"),
        (
            {"status": "failed", "signal": "SIGKILL"},
            "failed 5 s ago: killed by SIGKILL",
        ),
        ({"status": "failed"}, "failed 5 s ago: no reason given"),
        ({"status": "succeeded"}, "succeeded 5 s ago"),
        (
            {"status": "lost", "error": {"kind": "lost", "message": "gone"}},
            "lost 5 s ago: gone",
        ),
    ],
    ids=["exit code", "signal", "nothing", "success", "error"],
)
def test_how_it_ended_is_the_answer(
    project: Project, result: dict[str, Any], said: str
) -> None:
    lay_result(project, "a", **result)

    assert answer(project) == said


def test_a_result_without_a_time_does_not_say_when(project: Project) -> None:
    """A person, or another program, may have written it."""
    drop(project, "a")
    Path(project.result_path("a")).write_text('{"status": "succeeded"}')

    assert answer(project) == "succeeded"


def test_a_single_attempt_is_not_told_twice(project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, NOW - 5.0)

    assert len(asked(project).why) == 1


def test_several_attempts_each_have_their_end(project: Project) -> None:
    drop(project, "a", retries={"max": 2, "base_delay": 0, "max_delay": 0})
    for how, at in ((Why.LOST, 30.0), (Why.TIMED_OUT, 20.0), (Why.SUCCEEDED, 10.0)):
        attempt(project, "a", how, NOW - at)
    why = asked(project).why

    assert [line.split(" after ")[0] for line in why] == [
        "succeeded 10 s ago, in 0 ms",
        "attempt 1 lost",
        "attempt 2 timed out",
        "attempt 3 succeeded",
    ]
    assert [line.endswith("(not counted)") for line in why] == [
        False,
        True,
        False,
        False,
    ]


def test_a_newer_result_says_that_not_all_of_it_is_shown(project: Project) -> None:
    lay_result(project, "a", version=99, status="failed", exit_code=3, novelty={"x": 1})
    why = asked(project).why

    assert why[0] == "failed 5 s ago: exit code 3"
    assert "of version 99, written by a newer farm" in why[1]


def test_a_newer_result_with_unknown_words_says_so_too(project: Project) -> None:
    one = {"attempt": 1, "why": "evaporated", "novelty": True}
    lay_result(
        project, "a", version=99, status="failed", exit_code=3, attempts=[one, one]
    )
    why = asked(project).why

    assert why[0] == "failed 5 s ago: exit code 3"
    assert any("newer farm" in line for line in why)


def test_a_result_whose_task_file_is_gone_says_so(project: Project) -> None:
    lay_result(project, "a", status="succeeded")
    Path(project.task_path("a")).unlink()

    assert "its task file is gone; its result is all that is left" in asked(project).why


def test_an_invalid_verdict_on_other_bytes_does_not_count(
    project: Project, alive: Life
) -> None:
    lay_result(project, "a", status="invalid", sha256="of-other-bytes")

    assert asked(project).state is State.READY


def test_what_is_no_result_leaves_the_task_ready(project: Project, alive: Life) -> None:
    drop(project, "a")
    Path(project.result_path("a")).touch()

    assert asked(project).state is State.READY


@pytest.mark.parametrize("why", [Why.SUCCEEDED, Why.FAILED])
def test_what_ended_since_the_look_is_said_to_have_ended(
    project: Project, alive: Life, why: Why
) -> None:
    """RACE: it ran when the survey looked, and has a result when it is explained."""
    drop(project, "a")
    taken = begin(project, "a", alive, NOW - 5.0)
    survey = Survey(project)
    survey.look(NOW, 50.0)
    end(project, taken, why, NOW)
    found = explain(survey, "a", NOW)

    assert found.state is State.FINAL
    assert found.why[0].startswith(f"{why} 0 ms ago")


def test_an_explanation_is_a_json_object(project: Project) -> None:
    drop(project, "a")
    found = json.loads(msgspec.json.encode(asked(project)))

    assert found.keys() == {"id", "state", "status", "why", "next"}
