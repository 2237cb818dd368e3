"""Journals are packed: results keep their lines, attempts count once, files go."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from farm import compact as module
from farm import disk, journal
from farm.compact import compact
from farm.journal import Entry, Journal, Reader, Told, note, totals
from farm.life import Life
from farm.listing import Listing
from farm.project import Project
from farm.result import Usage
from farm.results import Results
from farm.singleton import Singleton
from farm.states import Status, Why


def lay(project: Project, task_id: str, status: str = "succeeded") -> None:
    path = Path(project.result_path(task_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    aside.write_text(f'{{"status": "{status}"}}')
    aside.rename(path)


def end(project: Project, worker: str, *ids: str, **more: object) -> None:
    """A worker ends these tasks, and writes of it."""
    own = Journal(project, worker)
    for task_id in ids:
        lay(project, task_id)
        own.append(told(project, task_id, worker, **more))
    own.close()


def told(project: Project, task_id: str, worker: str = "w", **more: object) -> Entry:
    file = disk.identity_of(project.result_path(task_id))
    known = {"why": Why.SUCCEEDED, "status": Status.SUCCEEDED, "file": file}
    return Entry(task_id, 1.0, worker, attempt=1, duration=0.5, **(known | more))  # type: ignore[arg-type]  # whatever a test says


def files(project: Project) -> list[str]:
    return sorted(path.name for path in Path(project.journal).iterdir())


def packed(project: Project) -> list[str]:
    return [line.id for line in journal.read_compacted(project).lines]


def looks(project: Project, *ids: str, listing: Listing | None = None) -> Results:
    """Who only looks, after its first look."""
    results = Results(project, writes=False, listing=listing)
    results.refresh(set(ids))
    return results


@pytest.fixture
def no_result_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_anything: object) -> None:
        pytest.fail("a result was opened")

    monkeypatch.setattr("farm.register.look", fail)


# -- what is packed ---------------------------------------------------------------


def test_the_files_of_the_dead_become_one(
    project: Project, no_result_is_opened: None
) -> None:
    for worker in ("ada", "bob", "cyd"):
        end(project, worker, f"{worker}-1", f"{worker}-2")

    assert compact(project, at_rest=True)
    assert files(project) == []
    assert len(packed(project)) == 6
    assert looks(project, "ada-1").status("ada-1") is Status.SUCCEEDED


def test_what_was_archived_leaves_only_its_part_in_the_sums(project: Project) -> None:
    end(project, "ada", "a", "b", usage=Usage(1, 2, 3, 4, 0.25))
    compact(project, at_rest=True)
    Path(project.result_path("a")).unlink()
    compact(project, at_rest=True)
    sums = totals(project)

    assert packed(project) == ["b"]
    assert sums.attempts == {"succeeded": 2}
    assert sums.seconds == {"succeeded": 1.0}
    assert sums.usage == Usage(2, 4, 6, 8, 0.5)


def test_sums_are_of_what_is_packed_and_what_is_not(project: Project) -> None:
    end(project, "ada", "a")
    compact(project, at_rest=True)
    end(project, "bob", "b")
    note(project, "verbs", [Entry("c", 1.0, "verbs", why=Why.LOST, rescue=2.5)])
    note(project, "verbs", [Entry("d", 1.0, "verbs", why=Why.LOST, rescue=0.5)])
    sums = totals(project)

    assert sums.attempts == {"succeeded": 2, "lost": 2}
    assert (sums.rescues, sums.rescue_s, sums.longest_rescue_s) == (2, 3.0, 2.5)


def test_a_line_about_another_file_of_that_name_is_dropped(project: Project) -> None:
    end(project, "ada", "a")
    lay(project, "a", "failed")
    compact(project, at_rest=True)

    assert packed(project) == []
    assert looks(project, "a").status("a") is Status.FAILED


def test_a_line_that_names_no_file_gets_the_name_of_the_one_it_is_about(
    project: Project,
) -> None:
    lay(project, "a")
    at = Path(project.result_path("a")).stat().st_mtime
    note(project, "old", [Entry("a", at, "old", status=Status.SUCCEEDED)])
    compact(project, at_rest=True)
    (line,) = journal.read_compacted(project).lines

    assert line.file == disk.identity_of(project.result_path("a"))


def test_a_file_that_ends_in_half_a_line_goes_as_well(project: Project) -> None:
    end(project, "ada", "a")
    with Path(project.journal_path("ada")).open("ab") as own:
        own.write(b'{"id":"b"')
    compact(project, at_rest=True)

    assert (files(project), packed(project)) == ([], ["a"])


def test_of_what_cannot_be_read_nothing_is_known(project: Project) -> None:
    end(project, "ada", "a")
    compact(project, at_rest=True)
    Path(project.compacted).write_bytes(b"garbage\n")

    assert looks(project, "a").status("a") is Status.SUCCEEDED
    assert compact(project, at_rest=True)


# -- what is not ------------------------------------------------------------------


@pytest.fixture
def ada(project: Project) -> Iterator[Life]:
    """A worker that lives."""
    life = Life.begin(project, "ada", 1.0, 15.0)
    yield life
    life.end()


def test_of_the_living_only_the_closed_parts_are_packed(
    project: Project, ada: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEALED_AFTER", 2)
    end(project, ada.name, *"abcde")
    before = files(project)
    compact(project, at_rest=True)

    assert before == ["ada.1.jsonl", "ada.2.jsonl", "ada.jsonl"]
    assert files(project) == ["ada.2.jsonl"]
    assert sorted(packed(project)) == list("abcd")


def test_a_name_that_is_given_anew_begins_anew(project: Project) -> None:
    follower = Reader(project, Entry)
    end(project, "ada", "a", "b")
    first = [entry.id for entry in follower.poll()]
    compact(project, at_rest=True)
    end(project, "ada", "c")

    assert (first, [entry.id for entry in follower.poll()]) == (["a", "b"], ["c"])
    assert totals(project).attempts == {"succeeded": 3}


@pytest.mark.parametrize("quiet", [True, False])
def test_beside_a_supervisor_only_what_was_told_long_ago_is_packed(
    project: Project, quiet: bool
) -> None:
    supervisor = Singleton(project)
    end(project, "ada", "a")
    if quiet:
        os.utime(project.journal_path("ada"), (1.0, 1.0))
    compact(project, at_rest=True)
    supervisor.release()

    assert files(project) == ([] if quiet else ["ada.jsonl"])


def test_a_file_that_a_verb_writes_just_now_stays(project: Project) -> None:
    lay(project, "a")
    note(project, "verbs", [told(project, "a")])
    writing = journal._open_shared(project.journal_path("verbs"))
    assert writing is not None
    compact(project, at_rest=True)
    os.close(writing)

    assert files(project) == ["verbs.jsonl"]


def test_a_verb_whose_file_was_packed_writes_into_a_new_one(project: Project) -> None:
    note(project, "verbs", [Entry("a", 1.0, "verbs")])
    compact(project, at_rest=True)
    note(project, "verbs", [Entry("b", 1.0, "verbs")])

    assert [entry.id for entry in Reader(project, Entry).poll()] == ["b"]


def test_a_few_lines_are_not_worth_while_for_who_is_busy(project: Project) -> None:
    end(project, "ada", "a")

    assert not compact(project, at_rest=False)
    assert files(project) == ["ada.jsonl"]


def test_many_files_are(project: Project) -> None:
    for number in range(module.FEW + 1):
        end(project, f"w{number}", f"t{number}")

    assert compact(project, at_rest=False)
    assert files(project) == []


def test_with_a_full_disk_all_stays_as_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_anything: object) -> None:
        raise OSError(28, "No space left on device")

    end(project, "ada", "a")
    monkeypatch.setattr(disk, "write_all", full)

    assert not compact(project, at_rest=True)
    assert files(project) == ["ada.jsonl"]
    assert list(Path(project.tmp).iterdir()) == []


# -- a kill at any step ------------------------------------------------------------


class Killed(BaseException):
    """A SIGKILL at this very place, as far as the files can tell."""


@pytest.mark.parametrize("step", range(8))
def test_killed_at_any_step_each_attempt_counts_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    end(project, "ada", "a")
    compact(project, at_rest=True)
    end(project, "bob", "b")
    end(project, "cyd", "c")
    calls = 0

    def dying(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls > step:
                raise Killed
            return real(*args, **kwargs)

        patch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        for name in ("unlink", "replace", "fsync", "write"):
            dying(name)
        with suppress(Killed):
            compact(project, at_rest=True)
    after_the_kill = totals(project).attempts
    compact(project, at_rest=True)

    assert calls > step or files(project) == []
    assert after_the_kill == totals(project).attempts == {"succeeded": 3}
    assert files(project) == []
    assert sorted(packed(project)) == ["a", "b", "c"]


# -- who only looks -----------------------------------------------------------------


@pytest.fixture
def at_rest(project: Project) -> Project:
    """Two folders in which nothing happens, and journals that were packed then."""
    end(project, "ada", "a", "tiles/b")
    for folder in (project.tasks, f"{project.tasks}/tiles"):
        os.utime(folder, (1_000_000_000, 1_000_000_000.5))
    compact(project, at_rest=True)
    return project


def listed(project: Project) -> Listing:
    listing = Listing(project)
    listing.refresh()
    return listing


def compared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], Results]:
    """Which results are compared with their lines at a first look, and what it knows."""
    seen: list[str] = []
    files_of = Results._files

    def note_them(self: Results, ids: list[str]) -> Iterator[int]:
        seen.extend(ids)
        return files_of(self, ids)

    with monkeypatch.context() as patch:
        patch.setattr(Results, "_files", note_them)
        results = looks(project, "a", "tiles/b", listing=listed(project))
    return seen, results


def test_where_nothing_has_changed_no_result_is_compared(
    at_rest: Project, monkeypatch: pytest.MonkeyPatch, no_result_is_opened: None
) -> None:
    seen, results = compared(at_rest, monkeypatch)

    assert seen == []
    assert [results.status(i) for i in ("a", "tiles/b")] == [Status.SUCCEEDED] * 2


def test_in_a_folder_that_has_changed_results_are_compared(
    at_rest: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(at_rest, "tiles/b", "failed")
    seen, results = compared(at_rest, monkeypatch)

    assert seen == ["tiles/b"]
    assert results.status("tiles/b") is Status.FAILED


@pytest.mark.parametrize("why", ["network", "boot"])
def test_after_another_boot_or_on_a_network_all_are_compared(
    at_rest: Project, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "network":
        at_rest.network = True
    else:
        path = Path(at_rest.compacted)
        path.write_bytes(path.read_bytes().replace(b'"boot":"', b'"boot":"other-'))
    seen, _ = compared(at_rest, monkeypatch)

    assert sorted(seen) == ["a", "tiles/b"]


def test_a_worker_compares_all(
    at_rest: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(at_rest.result_path("a"), 0)
    results = Results(at_rest)

    assert results.refresh({"a", "tiles/b"}) == {"tiles/b"}


def test_what_is_packed_while_it_is_read_is_read_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(project, "ada", "a")
    real = journal.files_of

    def packed_just_now(there: Project) -> list[tuple[str, int, int]]:
        monkeypatch.setattr(journal, "files_of", real)
        compact(there, at_rest=True)
        return real(there)

    monkeypatch.setattr(journal, "files_of", packed_just_now)
    reader = Reader(project, Told)
    reader.poll()

    assert [line.id for line in reader.take_compacted()] == ["a"]
