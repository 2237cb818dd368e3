"""Which logs may go: old ones first, never those of tasks that have not ended."""

import os
from pathlib import Path

import pytest

from farm import disk, process, retention
from farm.config import Settings
from farm.ledger import Claimed, Final, Ledger
from farm.project import CHECK, Project
from farm.retention import EVERY, LogFile, expired, trim
from farm.states import Status

NOW = 1_763_700_000.0
DAY = 86_400.0
MUCH = 1 << 40
CLAIMED = Claimed("open", 1, "t0", "ada", process.identify(), NOW)


def old(name: str, days: float = 100.0, size: int = 10) -> LogFile:
    return LogFile(name, size, NOW - days * DAY)


def write(project: Project, name: str, days: float = 100.0, size: int = 10) -> Path:
    path = Path(project.logs, name)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


def names(project: Project) -> list[str]:
    return sorted(path.name for path in Path(project.logs).iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "build.1.out",
        "build.12.err",
        "tiles%2F0-0.1.out",
        "v1.2.3.1.out",
        "a.1.out.1.out",
        "build.2.0123456789abcdef.fenced",
        "build.2.none.retried",
        "build.0..fenced",
        "two\nlines.1.out",
    ],
)
def test_an_old_log_of_an_ended_task_goes(name: str) -> None:
    assert expired([old(name)], set(), NOW, 30 * DAY, MUCH) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "worker-0.log",
        "worker-12.log",
        "notes.txt",
        "build.out",
        "build.one.out",
        "build.0.ada.bad-1f.folder",
        ".1.out",
    ],
)
def test_what_is_no_log_of_a_task_never_goes(name: str) -> None:
    assert expired([old(name)], set(), NOW, keep=0.0, max_total=0) == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("build.1.out", "build"),
        ("v1.2.3.1.err", "v1.2.3"),
        ("a.1.out.2.out", "a.1.out"),
        ("build.1.0123456789012345.fenced", "build"),
        ("build.1.2.none.retried", "build.1"),
    ],
)
def test_a_log_of_an_unfinished_task_never_goes(name: str, key: str) -> None:
    assert expired([old(name)], {key}, NOW, keep=0.0, max_total=0) == []


def test_a_key_with_dots_is_not_taken_for_a_shorter_one() -> None:
    assert expired([old("a.1.2.out")], {"a"}, NOW, 0.0, MUCH) == ["a.1.2.out"]


@pytest.mark.parametrize(("days", "goes"), [(29.9, False), (30.0, False), (30.1, True)])
def test_age_counts_from_the_last_line_written(days: float, goes: bool) -> None:
    gone = expired([old("a.1.out", days)], set(), NOW, 30 * DAY, MUCH)

    assert bool(gone) is goes


def test_beyond_the_size_the_oldest_go() -> None:
    files = [old(f"{i}.1.out", days=i, size=10) for i in (2, 4, 1, 3)]

    assert expired(files, set(), NOW, 30 * DAY, max_total=20) == ["4.1.out", "3.1.out"]


def test_at_the_size_none_goes() -> None:
    files = [old(f"{i}.1.out", days=i, size=10) for i in (1, 2)]

    assert expired(files, set(), NOW, 30 * DAY, max_total=20) == []


def test_what_must_stay_counts_in_the_size() -> None:
    files = [
        old("worker-0.log", days=9, size=90),
        old("open.1.out", days=8, size=90),
        old("a.1.out", days=2, size=10),
        old("b.1.out", days=1, size=10),
    ]

    assert expired(files, {"open"}, NOW, 30 * DAY, max_total=190) == ["a.1.out"]


def test_size_is_counted_after_age() -> None:
    files = [old("a.1.out", days=40, size=90), old("b.1.out", days=1, size=10)]

    assert expired(files, set(), NOW, 30 * DAY, max_total=50) == ["a.1.out"]


def test_a_log_of_the_future_stays() -> None:
    assert expired([old("a.1.out", days=-1)], set(), NOW, 0.0, MUCH) == []


# -- on disk ------------------------------------------------------------------------


def test_trim_removes_what_is_old(project: Project) -> None:
    write(project, "a.1.out")
    write(project, "b.1.out", days=1)
    removed = trim(project, Settings(), NOW)

    assert (removed, names(project)) == (1, ["b.1.out"])


def test_trim_removes_what_is_too_much(project: Project) -> None:
    write(project, "a.1.out", days=2)
    write(project, "b.1.out", days=1)
    removed = trim(project, Settings(logs_max_total=10), NOW)

    assert (removed, names(project)) == (1, ["b.1.out"])


@pytest.mark.parametrize("task_id", ["open", "v1.2.3", "tiles/0-0", "x" * 230])
def test_trim_leaves_logs_of_a_task_with_a_ledger(
    project: Project, task_id: str
) -> None:
    ledger = Ledger.open(project.ledger_path(task_id))
    assert ledger is not None

    ledger.let_go()
    log = write(project, Path(project.log_path(task_id, 1, "out")).name)
    removed = trim(project, Settings(logs_max_total=0), NOW)

    assert (removed, log.exists()) == (0, True)


def test_trim_leaves_folders_and_links(project: Project, tmp_path: Path) -> None:
    Path(project.logs, "a.1.out").mkdir()
    Path(project.logs, "b.1.out").symlink_to(tmp_path)
    removed = trim(project, Settings(logs_keep=0.0, logs_max_total=0), NOW)

    assert (removed, names(project)) == (0, ["a.1.out", "b.1.out"])


def test_a_log_that_a_new_run_writes_meanwhile_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write(project, "a.1.out")
    listed = retention._listed

    def then_a_new_run(folder: str) -> list[LogFile]:
        files = listed(folder)
        log.write_text("the new run\n")
        return files

    monkeypatch.setattr(retention, "_listed", then_a_new_run)

    assert (trim(project, Settings(), NOW), names(project)) == (0, ["a.1.out"])


def test_a_task_that_begins_after_the_logs_were_listed_keeps_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "a.1.out")
    listed = retention._listed

    def then_it_begins(folder: str) -> list[LogFile]:
        files = listed(folder)
        Path(project.ledger_path("a")).touch()
        return files

    monkeypatch.setattr(retention, "_listed", then_it_begins)

    assert (trim(project, Settings(), NOW), names(project)) == (0, ["a.1.out"])


def test_two_may_trim_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "a.1.out")
    write(project, "b.1.out")
    real = disk.unlink

    def the_other_was_quicker(path: str) -> bool:
        monkeypatch.setattr(disk, "unlink", real)
        assert trim(project, Settings(), NOW) == 2
        return real(path)

    monkeypatch.setattr(disk, "unlink", the_other_was_quicker)

    assert (trim(project, Settings(), NOW), names(project)) == (0, [])


def test_without_a_folder_there_is_nothing_to_trim(project: Project) -> None:
    Path(project.logs).rmdir()

    assert trim(project, Settings(), NOW) == 0


def test_where_ledgers_outlive_their_tasks_the_logs_of_ended_ones_go(
    project: Project,
) -> None:
    project.network = True
    lines: dict[str, Claimed | Final] = {
        "ended": Final(Status.SUCCEEDED),
        "open": CLAIMED,
    }
    for task_id, line in lines.items():
        write(project, f"{task_id}.1.out")
        ledger = Ledger.open(project.ledger_path(task_id))
        assert ledger is not None
        ledger.append(line)
        ledger.let_go()
    removed = trim(project, Settings(), NOW)

    assert (removed, names(project)) == (1, ["open.1.out"])


def test_a_log_that_cannot_be_removed_keeps_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "a.1.out")
    write(project, "b.1.out")
    real = disk.unlink

    def immutable(path: str) -> bool:
        if path.endswith("a.1.out"):
            raise PermissionError(1, "Operation not permitted", path)
        return real(path)

    monkeypatch.setattr(disk, "unlink", immutable)

    assert (trim(project, Settings(), NOW), names(project)) == (1, ["a.1.out"])


# -- strays ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (f"{CHECK}check-7-ab.lock", 2 * EVERY, False),
        (f"{CHECK}check-7-ab.lock", EVERY / 2, True),
        (".of-somebody-else", 2 * EVERY, True),
        ("task.json", 2 * EVERY, True),
    ],
)
def test_what_a_trial_of_the_mount_left_in_tasks_goes_when_it_is_old(
    project: Project, name: str, age: float, *, stays: bool
) -> None:
    path = Path(project.tasks, name)
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    trim(project, Settings(), NOW)

    assert path.exists() is stays
