"""What is known of a task's attempts, and where their output is."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import farm.history
from farm.history import numbers, output, read_history
from farm.ledger import Claimed, Ledger, Line, peek
from farm.life import Life
from farm.process import Identity
from farm.project import Project
from farm.states import Status, Why
from tests.attempts import attempt, begin, drop, end

NOW = 1_000_000.0  # POSIX seconds
DEAD = Identity("other-host", "other-boot", 1, 2, 3)
SLOW = {"max": 3, "base_delay": "2d", "max_delay": "2d"}  # retries
ENDED = {
    "attempt": 1,
    "why": "failed",
    "counted": True,
    "started": "2026-11-21T03:00:00.000Z",
    "finished": "2026-11-21T03:00:01.000Z",
    "worker": "ada",
    "host": "here",
}


def lay_result(project: Project, task_id: str, **result: Any) -> None:
    """As if some farm had written it."""
    Path(project.result_path(task_id)).write_text(json.dumps(result))


# -- attempts ----------------------------------------------------------------------


def test_a_task_that_never_ran_has_no_attempt(project: Project) -> None:
    drop(project, "a")
    past = read_history(project, "a")

    assert (past.result, past.ended, past.open) == (None, [], None)
    assert numbers(past) == []


def test_an_attempt_that_runs_is_open_and_alive(project: Project, alive: Life) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW)
    past = read_history(project, "a")

    assert past.open is not None
    assert (past.open.claimed.holder, past.alive, numbers(past)) == ("ada", True, [1])


def test_an_open_attempt_whose_owner_is_dead_does_not_live(project: Project) -> None:
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "gone", DEAD, NOW))
    ledger.let_go()
    past = read_history(project, "a")

    assert (past.alive, numbers(past)) == (False, [1])


def test_attempts_before_a_retry_are_in_the_ledger(project: Project) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, NOW)
    past = read_history(project, "a")

    assert [(one.attempt, one.why) for one in past.ended] == [(1, Why.FAILED)]
    assert past.not_before > NOW
    assert past.result is None


def test_all_attempts_are_in_the_result(project: Project) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": 0, "max_delay": 0})
    attempt(project, "a", Why.FAILED, NOW)
    attempt(project, "a", Why.SUCCEEDED, NOW + 10)
    past = read_history(project, "a")

    assert past.result is not None
    assert past.result.status is Status.SUCCEEDED
    assert [one.why for one in past.ended] == [Why.FAILED, Why.SUCCEEDED]


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0\0", b"garbage\n{]\n", b"\xff\xfe", b'{"line":"other"}\n']
)
def test_a_ledger_without_a_readable_line_is_no_history(
    project: Project, raw: bytes
) -> None:
    drop(project, "a")
    Path(project.ledger_path("a")).write_bytes(raw)

    assert numbers(read_history(project, "a")) == []


def test_readable_lines_count_although_others_do_not(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW)
    path = Path(project.ledger_path("a"))
    path.write_bytes(b"torn {\n" + path.read_bytes() + b'{"line": "newer"}\n\xff')

    assert numbers(read_history(project, "a")) == [1]


# -- results of others -------------------------------------------------------------


def test_unknown_keys_of_a_newer_farm_are_passed_over(project: Project) -> None:
    one = ENDED | {"cost": {"usd": 1}}
    lay_result(
        project,
        "a",
        version=99,
        status="failed",
        attempts=[one],
        novelty=[1],
        worker="x",
    )
    past = read_history(project, "a")

    assert past.result is not None
    assert (past.result.version, past.result.worker) == (99, "x")
    assert [one.why for one in past.ended] == [Why.FAILED]


@pytest.mark.parametrize(
    "odd",
    [
        {"attempts": [ENDED | {"why": "evaporated"}]},
        {"stdout": ["not", "text"]},
        {"version": "2.0"},
    ],
    ids=["an unknown why", "other text", "another version"],
)
def test_what_cannot_be_read_hides_nothing_that_can(
    project: Project, odd: dict[str, Any]
) -> None:
    finished = "2026-11-21T03:00:00.000Z"
    known = {"status": "failed", "finished": finished, "exit_code": 3}
    lay_result(project, "a", **({"version": 99} | known | odd))
    told = read_history(project, "a").result

    assert told is not None
    assert (told.status, told.finished) == (Status.FAILED, finished)
    assert told.exit_code == 3


def test_a_result_of_a_newer_farm_with_unknown_words_is_still_newer(
    project: Project,
) -> None:
    odd = [ENDED | {"why": "evaporated"}]
    lay_result(project, "a", version=99, status="failed", attempts=odd)
    told = read_history(project, "a").result

    assert told is not None
    assert told.version == 99


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"status": "evaporated"}', b"\xff\xff"]
)
def test_bytes_that_are_no_result_are_none(project: Project, raw: bytes) -> None:
    drop(project, "a")
    Path(project.result_path("a")).write_bytes(raw)

    assert read_history(project, "a").result is None


@pytest.mark.parametrize("kind", ["a folder", "a symbolic link", "a FIFO"])
def test_what_is_no_regular_file_is_no_result(project: Project, kind: str) -> None:
    """As `farm.register` decides: workers move it aside and run the task."""
    drop(project, "a")
    path = Path(project.result_path("a"))
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(project.task_path("a"))

    assert read_history(project, "a").result is None


def test_a_result_that_may_not_be_read_is_an_error_that_names_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(project, "a")
    lay_result(project, "a", status="succeeded")
    real = os.open

    def refuse(path: str, *rest: int) -> int:
        if path.endswith(".result.json"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(PermissionError, match=r"a\.result\.json"):
        read_history(project, "a")


def test_a_result_counts_although_its_task_file_is_gone(project: Project) -> None:
    lay_result(project, "a", status="succeeded", value=None)
    told = read_history(project, "a").result

    assert told is not None
    assert bytes(told.value) == b"null"


# -- output ------------------------------------------------------------------------


def test_the_output_of_what_runs_is_its_log(project: Project, alive: Life) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW)
    log = Path(project.log_path("a", 1, "out"))
    log.write_text("so far\n")
    source = output(project, read_history(project, "a"), 1, "out")

    assert (source.path, source.growing) == (str(log), True)


def test_the_output_of_a_running_callable_lies_aside(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    Path(project.task_path("a")).write_text('{"call": "m:f"}')
    begin(project, "a", alive, NOW)
    scratch = Path(project.aside_path("ada", "err"))
    scratch.write_text("so far\n")
    source = output(project, read_history(project, "a"), 1, "err")

    assert (source.path, source.growing) == (str(scratch), True)


def test_the_output_of_an_earlier_attempt_is_its_log(
    project: Project, alive: Life
) -> None:
    lay_result(
        project,
        "a",
        status="succeeded",
        stdout="last",
        attempts=[
            ENDED | {"stdout_path": ".farm/logs/a.1.out"},
            ENDED | {"attempt": 2, "why": "succeeded"},
        ],
    )
    Path(project.log_path("a", 1, "out")).write_text("first")
    past = read_history(project, "a")

    assert output(project, past, 1, "out").path == project.log_path("a", 1, "out")
    assert output(project, past, 2, "out").text == "last"


def test_an_earlier_attempt_without_a_log_wrote_nothing(project: Project) -> None:
    lay_result(
        project,
        "a",
        status="succeeded",
        stdout="last",
        attempts=[ENDED, ENDED | {"attempt": 2, "why": "succeeded"}],
    )
    source = output(project, read_history(project, "a"), 1, "out")

    assert (source.path, source.text, source.lost) == (None, "", None)


def test_a_log_that_was_removed_is_lost_and_named(project: Project) -> None:
    lay_result(
        project,
        "a",
        status="failed",
        attempts=[ENDED | {"stdout_path": ".farm/logs/a.1.out"}],
    )
    source = output(project, read_history(project, "a"), 1, "out")

    assert (source.path, source.lost) == (None, ".farm/logs/a.1.out")


def test_the_log_of_what_its_worker_left_does_not_grow(project: Project) -> None:
    drop(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "gone", DEAD, NOW))
    ledger.let_go()
    Path(project.log_path("a", 1, "out")).write_text("so far\n")
    source = output(project, read_history(project, "a"), 1, "out")

    assert (source.path, source.growing) == (project.log_path("a", 1, "out"), False)


def test_a_task_that_ends_while_it_is_looked_at_has_ended(
    project: Project, alive: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RACE: no result lay there yet, and then no ledger any more."""
    drop(project, "a")
    taken = begin(project, "a", alive, NOW)

    def late(path: str) -> list[Line]:
        end(project, taken, Why.SUCCEEDED, NOW + 1.0)
        return peek(path)

    monkeypatch.setattr(farm.history, "peek", late)

    assert numbers(read_history(project, "a")) == [1]
