"""A folder that cannot keep farm's promises is refused."""

import os
from pathlib import Path

import pytest

from farm import disk, life, process, trial
from farm.bell import Bell
from farm.errors import MountError
from farm.life import Life
from farm.process import Identity
from farm.project import Project
from tests.lives import FOREIGN, lay_life_file


def test_a_local_disk_keeps_the_promises_and_is_left_clean(project: Project) -> None:
    trial.check_mount(project)

    assert list(Path(project.tmp).iterdir()) == []


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([False], "a new file cannot be locked"),
        ([True, True], "two owners get the same lock"),
    ],
)
def test_a_mount_whose_locks_lie_is_refused(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[bool],
    sentence: str,
) -> None:
    said = iter(answers)
    monkeypatch.setattr(trial, "lock_descriptor", lambda fd: next(said))

    with pytest.raises(MountError, match=f"{sentence}.*mounted with locks"):
        trial.check_mount(project)
    assert list(Path(project.tmp).iterdir()) == []


def test_a_mount_without_hard_links_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(MountError, match=r"Operation not permitted.*hard links"):
        trial.check_mount(project)
    assert list(Path(project.tmp).iterdir()) == []


def test_a_mount_where_a_locked_file_cannot_be_read_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_read = disk.read_fd

    def read(fd: int, most: int = disk.MOST) -> bytes:
        ours = Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(project.root)
        return b"" if ours else really_read(fd, most)

    monkeypatch.setattr(disk, "read_fd", read)

    with pytest.raises(MountError, match="a locked file cannot be read"):
        trial.check_mount(project)


class RecordingBell(Bell):
    """Does something instead of waiting, and remembers for how long it was asked."""

    def __init__(self, project: Project, beats: bool, who: Identity) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._project, self._counter, self._who = project, int(beats), who

    def wait(self, timeout: float | None, *fds: int) -> bool:
        self.waits.append(timeout)
        lay_life_file(self._project, "bob", self._who, self._counter)
        return False


def test_a_counter_that_moves_behind_a_free_lock_is_refused(project: Project) -> None:
    lay_life_file(project, "bob", FOREIGN)
    bell = RecordingBell(project, True, FOREIGN)

    with pytest.raises(MountError, match=r"bob on host other-host is alive.*its lock"):
        trial.check_shared(project, bell)
    assert bell.waits == [2.0 * life.BEATS_TO_WAIT]


def test_a_counter_that_stands_still_belongs_to_the_dead(project: Project) -> None:
    lay_life_file(project, "bob", FOREIGN)
    bell = RecordingBell(project, False, FOREIGN)

    trial.check_shared(project, bell)

    assert bell.waits == [2.0 * life.BEATS_TO_WAIT]


def test_nobody_waits_for_the_dead_of_this_host(project: Project) -> None:
    lay_life_file(project, "bob", process.identify())
    bell = RecordingBell(project, True, process.identify())

    trial.check_shared(project, bell)

    assert bell.waits == []


def test_nobody_waits_where_nobody_died(project: Project, alive: Life) -> None:
    bell = RecordingBell(project, True, FOREIGN)

    trial.check_shared(project, bell)

    assert bell.waits == []
