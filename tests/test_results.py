"""Which results count, and how each task ended."""

import json
from pathlib import Path

import pytest

from farm import disk
from farm.journal import Entry, Journal, Reader
from farm.project import Project
from farm.results import Known, Results
from farm.states import Status, Why


def lay(project: Project, task_id: str, raw: bytes) -> None:
    Path(project.task_path(task_id)).write_text('{"run": "true"}')
    Path(project.result_path(task_id)).write_bytes(raw)


def result(status: Status, **more: str) -> bytes:
    return json.dumps({"status": status} | more).encode()


def tell(project: Project, worker: str, *entries: Entry) -> None:
    journal = Journal(project, worker)
    for entry in entries:
        journal.append(entry)
    journal.close()


def file(project: Project, task_id: str) -> int:
    return disk.identity_of(project.result_path(task_id))


def told(project: Project, task_id: str, status: Status) -> Entry:
    """The line of the result that lies there."""
    return Entry(task_id, 1.0, "w", status=status, file=file(project, task_id))


@pytest.mark.parametrize("last", ["ada", "bob"])
@pytest.mark.parametrize("clock", [1.0, -1.0], ids=["ahead", "behind"])
def test_the_line_that_names_the_file_is_right_whatever_clocks_say(
    project: Project, last: str, clock: float
) -> None:
    lay(project, "a", result(Status.FAILED))
    others = Entry("a", 2.0 + clock, "ada", status=Status.SUCCEEDED, file=12345)
    right = Entry("a", 2.0, "bob", status=Status.FAILED, file=file(project, "a"))
    for entry in (others, right) if last == "bob" else (right, others):
        tell(project, entry.worker, entry)
    results = Results(project)
    results.refresh({"a"})

    assert results.known("a") == Known(Status.FAILED, 2.0, file=file(project, "a"))


def test_a_result_whose_line_was_lost_is_read(project: Project) -> None:
    lay(project, "a", result(Status.SUCCEEDED))
    tell(project, "ada", told(project, "a", Status.SUCCEEDED))
    Path(project.result_path("a")).unlink()
    lay(project, "a", result(Status.FAILED))
    results = Results(project, writes=False)
    results.refresh({"a"})

    assert results.status("a") is Status.FAILED


def test_a_result_that_is_replaced_is_seen_when_all_are_asked_once_more(
    project: Project,
) -> None:
    lay(project, "a", result(Status.SUCCEEDED))
    results = Results(project)
    results.refresh({"a"})
    lay(project, "a", result(Status.FAILED))
    results.recheck()
    results.refresh({"a"})

    assert results.ends()["a"].status is Status.FAILED


@pytest.mark.parametrize(
    ("late", "believed"), [(0.0, True), (0.9, True), (5.0, False), (-5.0, False)]
)
def test_a_line_without_a_file_counts_if_the_file_is_of_the_time_it_tells(
    project: Project, late: float, believed: bool
) -> None:
    lay(project, "a", result(Status.FAILED))
    written = Path(project.result_path("a")).stat().st_mtime
    tell(project, "old", Entry("a", written - late, "old", status=Status.SUCCEEDED))
    results = Results(project)
    results.refresh({"a"})
    status = Status.SUCCEEDED if believed else Status.FAILED

    assert results.status("a") is status


def test_a_line_that_names_the_file_goes_before_one_without_any(
    project: Project,
) -> None:
    lay(project, "a", result(Status.FAILED))
    at = Path(project.result_path("a")).stat().st_mtime
    tell(project, "new", told(project, "a", Status.FAILED))
    tell(project, "old", Entry("a", at, "old", status=Status.SUCCEEDED))
    results = Results(project)
    results.refresh({"a"})

    assert results.status("a") is Status.FAILED


@pytest.mark.parametrize("looks", [0, 1], ids=["all at once", "one by one"])
def test_a_result_that_was_taken_away_is_read_again_whatever_was_told_before(
    project: Project, looks: int
) -> None:
    lay(project, "a", result(Status.SUCCEEDED))
    tell(project, "ada", told(project, "a", Status.SUCCEEDED))
    results = Results(project)
    for _ in range(looks):
        results.refresh({"a"})
    lay(project, "a", result(Status.FAILED))
    tell(project, "verbs", Entry("a", 2.0, "verbs"))
    results.refresh({"a"})

    assert results.status("a") is Status.FAILED


def test_an_attempt_that_will_be_repeated_says_nothing_of_how_it_ended(
    project: Project,
) -> None:
    lay(project, "a", result(Status.SUCCEEDED))
    tell(project, "ada", told(project, "a", Status.SUCCEEDED))
    tell(project, "bob", Entry("a", 2.0, "bob", why=Why.FAILED))
    results = Results(project)
    results.refresh({"a"})

    assert results.known("a") == Known(Status.SUCCEEDED, 1.0, file=file(project, "a"))


def test_a_result_that_a_journal_tells_is_not_read(project: Project) -> None:
    lay(project, "a", result(Status.FAILED))
    tell(project, "w", told(project, "a", Status.SUCCEEDED))
    results = Results(project)
    results.refresh({"a"})

    assert results.status("a") is Status.SUCCEEDED


def test_ends_are_of_those_alone_that_count_and_can_be_read(project: Project) -> None:
    unreadable = "x" * 300  # the disk refuses the name
    lay(project, "a", result(Status.SUCCEEDED))
    tell(project, "w", Entry("gone", 1.0, "w", status=Status.SUCCEEDED))
    results = Results(project)

    assert results.refresh({"a", unreadable}) == {"a", unreadable}
    assert results.ends().keys() == {"a"}


def test_a_result_that_no_journal_tells_is_read_and_told(project: Project) -> None:
    lay(project, "a", result(Status.FAILED, finished="1970-01-01T00:00:05Z"))
    results = Results(project)
    results.refresh({"a"})

    assert results.known("a") == Known(Status.FAILED, 5.0, file=file(project, "a"))
    lines = Reader(project, Entry).poll()
    assert [(e.id, e.status) for e in lines] == [("a", Status.FAILED)]
    assert lines[0].file == file(project, "a")


def test_who_only_looks_writes_no_journal(project: Project) -> None:
    lay(project, "a", result(Status.FAILED))
    Results(project, writes=False).refresh({"a"})

    assert Reader(project, Entry).poll() == []


@pytest.mark.parametrize("raw", [b"", b'{"stat'])
def test_what_is_no_result_does_not_count(project: Project, raw: bytes) -> None:
    lay(project, "a", raw)
    lay(project, "b", result(Status.SUCCEEDED))

    assert Results(project).refresh({"a", "b"}) == {"b"}


def test_an_empty_file_does_not_count_whatever_a_journal_tells(
    project: Project,
) -> None:
    lay(project, "a", b"")
    tell(project, "w", Entry("a", 1.0, "w", status=Status.SUCCEEDED))

    assert Results(project).refresh({"a"}) == set()


def test_who_only_looks_does_not_count_an_empty_file_either(project: Project) -> None:
    lay(project, "a", b"")
    tell(project, "w", Entry("a", 1.0, "w", status=Status.SUCCEEDED, file=12345))

    assert Results(project, writes=False).refresh({"a"}) == set()


def test_a_result_that_went_away_is_forgotten(project: Project) -> None:
    lay(project, "a", result(Status.FAILED))
    results = Results(project)
    results.refresh({"a"})
    results.refresh(set())
    lay(project, "a", result(Status.SUCCEEDED))
    results.refresh({"a"})

    assert results.status("a") is Status.SUCCEEDED


def test_a_verdict_on_other_bytes_counts_until_the_file_changes(
    project: Project,
) -> None:
    lay(project, "a", b"")
    sha256 = project.read_task("a").sha256
    lay(project, "a", result(Status.INVALID, sha256=sha256))
    results = Results(project)
    while_it_stands = results.refresh({"a"})
    Path(project.task_path("a")).write_text('{"run": "false"}')

    assert (while_it_stands, results.refresh({"a"})) == ({"a"}, set())


def test_a_doubt_ends_when_a_journal_tells_how_it_ended(project: Project) -> None:
    lay(project, "a", b"")
    results = Results(project)
    before = results.refresh({"a"})
    lay(project, "a", result(Status.SUCCEEDED))
    tell(project, "w", told(project, "a", Status.SUCCEEDED))

    assert (before, results.refresh({"a"})) == (set(), {"a"})
