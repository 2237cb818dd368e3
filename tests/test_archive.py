"""Finished pairs move into an archive and back, and are never lost on the way."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm import archive, disk, journal, pair, rescue, restore, shelf
from farm.claim import Holder
from farm.errors import BusyError
from farm.journal import Entry
from farm.ledger import Claimed, Ended, Ledger
from farm.pair import Moved
from farm.project import Project
from farm.report import Survey
from farm.results import Results
from farm.shelf import ArchiveError, Pair
from farm.states import Status, Why

ME = Holder.passing()
NOW = 1_763_700_000.0
TASK = b'{"run": "true"}\n'


def result(**more: str) -> bytes:
    return json.dumps({"status": "succeeded"} | more).encode()


def lay(
    project: Project, task_id: str, task: bytes | None = TASK, raw: bytes = b""
) -> None:
    path = Path(project.task_path(task_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    if task is not None:
        path.write_bytes(task)
    Path(project.result_path(task_id)).write_bytes(raw or result(token=task_id))


def lies(project: Project, task_id: str) -> tuple[bytes | None, bytes | None]:
    """The bytes of task and result in tasks/; None for what is not there."""
    paths = (Path(project.task_path(task_id)), Path(project.result_path(task_id)))
    task, raw = (path.read_bytes() if path.exists() else None for path in paths)
    return task, raw


def pack(project: Project, *ids: str, now: float = NOW) -> Moved:
    return archive.archive(project, ME, ids, now)


def unpack(project: Project, *ids: str) -> Moved:
    copies, _ = restore.catalogue(project)
    return restore.restore(project, ME, {i: copies[i] for i in ids}, NOW)


def packed(project: Project) -> list[str]:
    """The ids in all archives, one for each line."""
    return [pair.id for path in shelf.archives(project) for pair in shelf.pairs(path)]


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def hold(project: Project, task_id: str) -> Ledger:
    ledger = Ledger.open(project.ledger_path(task_id))

    assert ledger is not None
    return ledger


# -- there and back ---------------------------------------------------------------


def test_a_pair_leaves_the_folder(project: Project) -> None:
    lay(project, "tiles/0-0")
    moved = pack(project, "tiles/0-0")

    assert (moved.ids, moved.left) == (["tiles/0-0"], {})
    assert lies(project, "tiles/0-0") == (None, None)
    assert packed(project) == ["tiles/0-0"]


@pytest.mark.parametrize(
    "task",
    [
        b"",
        b'{"run": "true"}',
        b'{"run": "true"}\r\n\r\n',
        b'\xef\xbb\xbf{"run": "true"}',
        '{"run": "écho \u2028 \\u0000"}\n'.encode(),
        b"\x00\x1b[31m no JSON at all \x7f",
    ],
    ids=["empty", "no newline", "CRLF", "BOM", "odd letters", "control characters"],
)
def test_its_bytes_come_back(project: Project, task: bytes) -> None:
    lay(project, "a", task, result() + b"\r\n\t ")
    before = lies(project, "a")
    pack(project, "a")
    unpack(project, "a")

    assert lies(project, "a") == before


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text())
def test_the_bytes_of_any_text_come_back(project: Project, text: str) -> None:
    lay(project, "a", text.encode())
    pack(project, "a")
    unpack(project, "a")

    assert lies(project, "a")[0] == text.encode()


def test_a_result_without_a_task_comes_back_alone(project: Project) -> None:
    lay(project, "a", task=None)
    before = lies(project, "a")
    pack(project, "a")
    unpack(project, "a")

    assert lies(project, "a") == before


def test_an_empty_archive_is_removed(project: Project) -> None:
    lay(project, "a")
    pack(project, "a")
    unpack(project, "a")

    assert names(f"{project.root}/archive") == []


def test_what_was_not_asked_for_stays_in_its_archive(project: Project) -> None:
    lay(project, "a")
    lay(project, "b")
    pack(project, "a", "b")
    unpack(project, "a")

    assert packed(project) == ["b"]


def test_a_folder_that_was_removed_is_made_again(project: Project) -> None:
    lay(project, "tiles/0-0")
    pack(project, "tiles/0-0")
    Path(project.tasks, "tiles").rmdir()
    unpack(project, "tiles/0-0")

    assert lies(project, "tiles/0-0")[0] == TASK


def test_nothing_is_left_behind_in_farms_folder(project: Project) -> None:
    lay(project, "a")
    pack(project, "a")
    unpack(project, "a")

    assert names(project.tmp) == names(project.locks) == []


# -- what stays ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "raw", "why"),
    [
        pytest.param(b"\xff", result(), "UTF-8", id="a task that is no text"),
        pytest.param(TASK, b"\n", "is none", id="no result"),
        pytest.param(
            TASK,
            result(status="invalid", sha256="of other bytes"),
            "no longer counts",
            id="a verdict on other bytes",
        ),
    ],
)
def test_what_cannot_be_packed_stays_as_it_is(
    project: Project, task: bytes, raw: bytes, why: str
) -> None:
    lay(project, "a", task, raw)
    moved = pack(project, "a")

    assert moved.ids == packed(project) == []
    assert why in moved.left["a"]
    assert lies(project, "a") == (task, raw)


def test_a_task_that_is_a_link_stays(project: Project) -> None:
    lay(project, "a", task=None)
    Path(project.root, "real.json").write_bytes(TASK)
    Path(project.task_path("a")).symlink_to("../real.json")
    moved = pack(project, "a")

    assert "symbolic link" in moved.left["a"]
    assert Path(project.task_path("a")).is_symlink()


def test_a_pair_that_somebody_holds_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "PATIENCE", 0.0)
    lay(project, "a")
    lay(project, "b")
    held = hold(project, "a")
    moved = pack(project, "a", "b")
    held.let_go()

    assert moved.ids == packed(project) == ["b"]
    assert "farm why a" in moved.left["a"]
    assert lies(project, "a") == (TASK, result(token="a"))


@pytest.mark.parametrize("what", ["task", "result"])
def test_a_pair_that_changes_while_it_is_packed_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = Path(getattr(project, f"{what}_path")("a"))
    other = result(token="another")
    move_all = archive._move_all

    def meanwhile(*args: object) -> None:
        path.write_bytes(other)
        move_all(*args)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(archive, "_move_all", meanwhile)
    lay(project, "a")
    moved = pack(project, "a")

    assert "changed" in moved.left["a"]
    assert path.read_bytes() == other
    assert None not in lies(project, "a")


def test_a_task_that_is_dropped_in_the_moment_of_removal_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.move

    def just_now(path: str, new: str) -> bool:
        if path == project.task_path("a"):
            Path(path).write_bytes(b'{"run": "new"}')
        return real(path, new)

    monkeypatch.setattr(disk, "move", just_now)
    lay(project, "a")
    moved = pack(project, "a")

    assert "changed" in moved.left["a"]
    assert lies(project, "a") == (b'{"run": "new"}', result(token="a"))


def test_an_unfinished_tasks_history_survives_that_it_was_to_be_packed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_all = archive._move_all

    def retried(*args: object) -> None:
        Path(project.result_path("a")).unlink()
        ledger = hold(project, "a")
        ledger.append(Claimed("a", 1, "t", "ada", ME.who, NOW))
        ledger.append(Ended("t", 1, Why.FAILED, counted=True, finished=NOW))
        ledger.let_go()
        move_all(*args)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(archive, "_move_all", retried)
    lay(project, "a")
    pack(project, "a")

    assert len(hold(project, "a").lines) == 2


def test_earlier_attempts_do_not_count_for_a_new_task_of_the_name(
    project: Project,
) -> None:
    lay(project, "a")
    ledger = hold(project, "a")
    ledger.append(Claimed("a", 1, "t", "ada", ME.who, NOW))
    ledger.let_go()
    pack(project, "a")

    assert hold(project, "a").lines == []


def test_on_a_network_file_system_no_ledger_is_unlinked(project: Project) -> None:
    project.network = True
    lay(project, "a")
    ledger = hold(project, "a")
    ledger.append(Claimed("a", 1, "t", "ada", ME.who, NOW))
    ledger.let_go()
    pack(project, "a")

    assert names(project.locks) == ["task-a.lock"]
    assert hold(project, "a").lines == []


@pytest.mark.parametrize("need", ["a", "a*", "**"])
def test_what_an_unfinished_task_needs_is_known(project: Project, need: str) -> None:
    lay(project, "a")
    open_task = Path(project.task_path("open"))
    open_task.write_text(json.dumps({"run": "true", "needs": [need]}))

    assert archive.needed(project, {"a", "open"}, {"a"}) == {"a"}


def test_a_finished_task_needs_nothing_any_more(project: Project) -> None:
    lay(project, "a")
    lay(project, "b", b'{"run": "true", "needs": ["a"]}')

    assert archive.needed(project, {"a", "b"}, {"a", "b"}) == set()


# -- what the disk refuses ----------------------------------------------------------


def full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_with_a_full_disk_nothing_is_removed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(project, "a")
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ArchiveError, match="No space left on device"):
        pack(project, "a")
    assert lies(project, "a") == (TASK, result(token="a"))
    assert names(project.tmp) == names(f"{project.root}/archive") == []


def test_with_a_full_disk_nothing_leaves_the_archive(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(project, "a")
    pack(project, "a")
    monkeypatch.setattr(disk, "write_all", full)

    with pytest.raises(ArchiveError, match="No space left on device"):
        unpack(project, "a")
    assert (packed(project), lies(project, "a")) == (["a"], (None, None))


def test_a_disk_that_fills_up_while_an_archive_is_rewritten_loses_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(project, "a")
    lay(project, "b")
    pack(project, "a", "b")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)

        with pytest.raises(ArchiveError):
            unpack(project, "a")
    again = unpack(project, "a")

    assert (again.ids, packed(project)) == (["a"], ["b"])
    assert lies(project, "a") == (TASK, result(token="a"))


def test_bytes_are_on_the_disk_before_anything_is_removed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    unlink, fsync = disk.unlink, os.fsync

    def noted(path: str) -> bool:
        order.extend(["removed"] if path.startswith(project.tasks) else [])
        return unlink(path)

    def synced(fd: int) -> None:
        order.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    lay(project, "a")
    monkeypatch.setattr(disk, "unlink", noted)
    monkeypatch.setattr(os, "fsync", synced)
    pack(project, "a")

    assert order[0] == Path(project.root).name  # the folder archive/ is new
    assert order[1:4] == [f"{ME.name}.archive", "archive", "removed"]


# -- restore ------------------------------------------------------------------------


def test_restore_leaves_what_lies_in_the_folder(project: Project) -> None:
    lay(project, "a")
    pack(project, "a")
    Path(project.task_path("a")).write_bytes(b'{"run": "new"}')
    moved = unpack(project, "a")

    assert "lies in tasks/" in moved.left["a"]
    assert lies(project, "a") == (b'{"run": "new"}', None)
    assert packed(project) == ["a"]


def test_a_task_that_is_dropped_while_its_name_is_restored_will_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.link_new

    def just_now(aside: str, final: str) -> bool:
        if final == project.task_path("a"):
            Path(final).write_bytes(b'{"run": "new"}')
        return real(aside, final)

    lay(project, "a")
    pack(project, "a")
    monkeypatch.setattr(disk, "link_new", just_now)
    moved = unpack(project, "a")

    assert "lies in tasks/" in moved.left["a"]
    assert lies(project, "a") == (b'{"run": "new"}', None)


def test_the_newest_copy_of_an_id_comes_back_first(project: Project) -> None:
    for token in ("old", "new"):
        lay(project, "a", raw=result(token=token))
        pack(project, "a")
    unpack(project, "a")

    assert lies(project, "a")[1] == result(token="new")
    assert packed(project) == ["a"]


def test_the_newest_copy_is_known_when_the_clock_was_put_back(
    project: Project,
) -> None:
    for token, now in (("old", NOW), ("new", NOW - 86_400)):
        lay(project, "a", raw=result(token=token))
        pack(project, "a", now=now)
    unpack(project, "a")

    assert lies(project, "a")[1] == result(token="new")


def test_of_an_older_copy_journals_tell_nothing_any_more(project: Project) -> None:
    for status in (Status.SUCCEEDED, Status.FAILED):
        lay(project, "a", raw=result(status=status))
        pack(project, "a")
    journal.note(project, "ada", [Entry("a", NOW - 1, "ada", status=Status.FAILED)])
    unpack(project, "a")
    Path(project.task_path("a")).unlink()
    Path(project.result_path("a")).unlink()
    unpack(project, "a")
    results = Results(project)
    results.refresh({"a"})

    assert results.status("a") is Status.SUCCEEDED


def test_a_result_that_was_archived_again_without_its_task_finds_it(
    project: Project,
) -> None:
    lay(project, "a")
    pack(project, "a")
    lay(project, "a", task=None)  # as a killed restore leaves it
    pack(project, "a")
    unpack(project, "a")

    assert lies(project, "a") == (TASK, result(token="a"))


@pytest.mark.parametrize("task", [None, TASK], ids=["the result alone", "both"])
def test_a_killed_restore_is_finished_by_the_next(
    project: Project, task: bytes | None
) -> None:
    lay(project, "a")
    pack(project, "a")
    lay(project, "a", task)
    moved = unpack(project, "a")

    assert (moved.ids, packed(project)) == (["a"], [])
    assert lies(project, "a") == (TASK, result(token="a"))


NEW = b'{"run": "new"}'


@pytest.fixture
def restored_by_half(project: Project) -> Project:
    """A restore of `a` was killed between the result and the task."""
    lay(project, "a")
    moved = pack(project, "a")
    assert moved.file is not None
    shelf.begin_restore(project, moved.file, ["a"], f"{project.tmp}/aside")
    lay(project, "a", task=None)
    return project


def test_a_task_that_is_dropped_after_a_killed_restore_will_run(
    restored_by_half: Project,
) -> None:
    project = restored_by_half
    Path(project.task_path("a")).write_bytes(NEW)
    faults = restore.finish(project, ME)

    assert (faults, lies(project, "a")) == ([], (NEW, None))
    assert packed(project) == ["a"]
    assert not project.is_moving()


def test_a_task_follows_its_result_after_a_killed_restore(
    restored_by_half: Project,
) -> None:
    project = restored_by_half
    restore.finish(project, ME)

    assert lies(project, "a") == (TASK, result(token="a"))
    assert not project.is_moving()


def test_a_restore_of_which_the_archive_is_gone_is_over(
    restored_by_half: Project,
) -> None:
    project = restored_by_half
    Path(shelf.archives(project)[0]).unlink()

    assert restore.finish(project, ME) == []
    assert not project.is_moving()


# -- what a killed archive leaves ---------------------------------------------------


def under_way(project: Project, *pairs: Pair) -> None:
    """An archive as a killed run leaves it, before any of it was removed."""
    shelf.write(shelf.moving_path(project, NOW), pairs, f"{project.tmp}/aside")


PAIR = Pair("a", TASK.decode(), result(token="a").decode())


@pytest.mark.parametrize("left", [2, 1, 0], ids=["both", "the result", "nothing"])
def test_a_killed_run_is_rolled_forward(project: Project, left: int) -> None:
    if left:
        lay(project, "a", TASK if left == 2 else None)
    under_way(project, PAIR)
    ids, faults = archive.finish(project, ME)

    assert (ids, faults, packed(project)) == (["a"], [], ["a"])
    assert lies(project, "a") == (None, None)
    assert shelf.moving(project) == []


def test_what_was_dropped_since_is_not_touched_and_the_line_stays(
    project: Project,
) -> None:
    under_way(project, PAIR)
    Path(project.task_path("a")).write_bytes(TASK)
    ids, _ = archive.finish(project, ME)

    assert (ids, packed(project)) == ([], ["a"])
    assert lies(project, "a") == (TASK, None)


def test_a_task_that_is_dropped_after_a_killed_archive_will_run(
    project: Project,
) -> None:
    lay(project, "a", NEW)
    under_way(project, PAIR)
    archive.finish(project, ME)

    assert lies(project, "a") == (NEW, None)
    assert packed(project) == ["a"]


def test_a_line_is_dropped_if_its_pair_never_left(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "PATIENCE", 0.0)
    lay(project, "a")
    under_way(project, PAIR)
    held = hold(project, "a")
    archive.finish(project, ME)
    held.let_go()

    assert packed(project) == shelf.moving(project) == []
    assert lies(project, "a") == (TASK, result(token="a"))


def test_a_line_with_the_only_copy_of_a_task_is_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair, "PATIENCE", 0.0)
    lay(project, "a", task=None)
    under_way(project, PAIR)
    held = hold(project, "a")
    archive.finish(project, ME)
    held.let_go()

    assert packed(project) == ["a"]


# -- one at a time, and damage ------------------------------------------------------


def test_a_second_archiver_is_refused(project: Project) -> None:
    with pair.alone(project), pytest.raises(BusyError, match="wait until"):
        pair.alone(project).__enter__()


def test_the_next_archiver_may_come(project: Project) -> None:
    with pair.alone(project):
        pass

    with pair.alone(project):
        assert Path(project.farm, "archive.lock").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def foreign(path: Path) -> None:
    path.write_bytes(b"somebody's own notes\n")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, foreign, folder])
def test_a_damaged_archive_is_said_and_the_others_work(
    project: Project, damage: Callable[[Path], None]
) -> None:
    for task_id in ("a", "b"):
        lay(project, task_id)
        pack(project, task_id)
    path = Path(shelf.archives(project)[0])
    damage(path)
    copies, faults = restore.catalogue(project)

    assert set(copies) == {"b"}
    assert len(faults) == 1
    assert str(path) in faults[0]
    assert "out of archive/" in faults[0]


def test_a_damaged_archive_under_way_is_said_and_stays(project: Project) -> None:
    lay(project, "a")
    under_way(project, PAIR)
    cut(Path(shelf.moving(project)[0]))
    ids, faults = archive.finish(project, ME)

    assert (ids, len(faults), len(shelf.moving(project))) == ([], 1, 1)
    assert lies(project, "a") == (TASK, result(token="a"))


@pytest.mark.parametrize(
    "line",
    [
        Pair("../../x", None, PAIR.result),
        Pair(".hidden", None, PAIR.result),
        Pair("a", TASK.decode(), ""),
    ],
    ids=["an id outside", "a hidden id", "a result that is none"],
)
def test_a_line_that_farm_cannot_have_written_is_never_restored(
    project: Project, line: Pair
) -> None:
    shelf.moving_path(project, NOW)  # makes the folder
    path = f"{project.root}/archive/mine.jsonl.gz"
    shelf.write(path, [line], f"{project.tmp}/aside")
    copies, faults = restore.catalogue(project)

    assert (copies, len(faults)) == ({}, 1)


# -- a run that was killed between the move of a task and its look -------------------


class Killed(BaseException):
    """A SIGKILL at this very place, as far as the files can tell."""


@pytest.fixture
def dropped_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A person drops other bytes just before the move, and the run is killed after."""
    other = b'{"run": "echo new"}'
    lay(project, "a")
    move = disk.move

    def drop_and_die(path: str, new: str) -> bool:
        if path == project.task_path("a"):
            Path(path).write_bytes(other)
            move(path, new)
            raise Killed
        return move(path, new)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "move", drop_and_die)
        with pytest.raises(Killed):
            pack(project, "a")
    return other


def test_a_task_dropped_anew_survives_the_sweeps_until_somebody_archives(
    project: Project, dropped_anew: bytes
) -> None:
    rescue.sweep(project, ME, NOW, max_age=-1e9)
    archive.finish(project, ME)

    assert lies(project, "a")[0] == dropped_anew


def test_what_was_moved_and_is_the_lines_own_is_removed(project: Project) -> None:
    lay(project, "a")
    moving = shelf.moving_path(project, NOW)
    pair = Pair("a", TASK.decode(), result(token="a").decode())
    shelf.write(moving, [pair], project.aside_path("me", "archive"))
    aside = archive._moved_path(project, "a")
    Path(project.task_path("a")).rename(aside)
    archive.finish(project, ME)

    assert lies(project, "a") == (None, None)
    assert packed(project) == ["a"]
    assert not Path(aside).exists()


def test_a_second_archive_within_a_tick_of_the_file_systems_clock_is_seen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: False)
    survey, seen = Survey(project), []
    for number, task_id in enumerate(("a", "b")):
        lay(project, task_id)
        pack(project, task_id, now=NOW + number)
        os.utime(project.archive, (NOW, NOW))
        seen.append(sorted(survey.archived))

    assert seen == [["a"], ["a", "b"]]
