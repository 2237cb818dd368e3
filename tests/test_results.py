"""Which results count, and how each task ended."""

import json
from pathlib import Path

import pytest

from farm import process
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


@pytest.mark.parametrize("order", [(1.0, 2.0), (2.0, 1.0)], ids=["asc", "desc"])
def test_the_latest_line_says_how_a_task_ended(
    project: Project, order: tuple[float, float]
) -> None:
    status = {1.0: Status.FAILED, 2.0: Status.SUCCEEDED}
    for worker, at in zip(("ada", "bob"), order, strict=True):
        tell(project, worker, Entry("a", at, worker, status=status[at]))
    results = Results(project)
    results.refresh({"a"})

    assert results.known("a") == Known(Status.SUCCEEDED, 2.0)


@pytest.mark.parametrize("looks", [0, 1], ids=["all at once", "one by one"])
def test_a_result_that_was_taken_away_is_read_again_whatever_was_told_before(
    project: Project, looks: int
) -> None:
    lay(project, "a", result(Status.FAILED))
    tell(project, "ada", Entry("a", 1.0, "ada", status=Status.SUCCEEDED))
    results = Results(project)
    for _ in range(looks):
        results.refresh({"a"})
    tell(project, "verbs", Entry("a", 2.0, "verbs"))
    results.refresh({"a"})

    assert results.status("a") is Status.FAILED


def test_an_attempt_that_will_be_repeated_says_nothing_of_how_it_ended(
    project: Project,
) -> None:
    tell(project, "ada", Entry("a", 1.0, "ada", status=Status.SUCCEEDED))
    tell(project, "bob", Entry("a", 2.0, "bob", why=Why.FAILED))
    results = Results(project)
    results.refresh({"a"})

    assert results.known("a") == Known(Status.SUCCEEDED, 1.0)


def test_a_result_that_a_journal_tells_is_not_read(project: Project) -> None:
    lay(project, "a", result(Status.FAILED))
    tell(project, "w", Entry("a", 1.0, "w", status=Status.SUCCEEDED))
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

    assert results.known("a") == Known(Status.FAILED, 5.0)
    assert [(e.id, e.status) for e in Reader(project).poll()] == [("a", Status.FAILED)]


def test_who_only_looks_writes_no_journal(project: Project) -> None:
    lay(project, "a", result(Status.FAILED))
    Results(project, writes=False).refresh({"a"})

    assert Reader(project).poll() == []


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


@pytest.mark.parametrize(
    ("since", "left"), [(-60.0, set()), (+60.0, {"a"})], ids=["before", "since"]
)
def test_who_only_looks_doubts_what_ended_before_the_machine_started(
    project: Project, since: float, left: set[str]
) -> None:
    lay(project, "a", b"")
    at = process.booted() + since
    tell(project, "w", Entry("a", at, "w", status=Status.SUCCEEDED))

    assert Results(project, writes=False).refresh({"a"}) == left
    assert Results(project).refresh({"a"}) == set()


def test_who_only_looks_at_a_network_doubts_everything(project: Project) -> None:
    project.network = True
    lay(project, "a", b"")
    at = process.booted() + 60.0
    tell(project, "w", Entry("a", at, "w", status=Status.SUCCEEDED))

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
    tell(project, "w", Entry("a", 1.0, "w", status=Status.SUCCEEDED))

    assert (before, results.refresh({"a"})) == (set(), {"a"})
