"""One supervisor for each host and project, and who supervises where."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm import process, singleton
from farm.errors import BusyError
from farm.ledger import try_lock
from farm.project import Project
from farm.singleton import Singleton, supervisors

HERE = process.identify().host


@contextmanager
def held(project: Project, host: str, text: str, how: int) -> Iterator[int]:
    """A supervisor's file with this text, locked as somebody else would; the fd."""
    path = Path(project.supervisor_path(host))
    path.write_text(text)
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, how)
    try:
        yield fd
    finally:
        os.close(fd)


def test_nobody_supervises_a_new_project(project: Project) -> None:
    assert supervisors(project) == {}


def test_nobody_supervises_where_farm_never_was(tmp_path: Path) -> None:
    assert supervisors(Project(tmp_path)) == {}


def test_a_living_supervisor_is_known_by_its_host_and_process(project: Project) -> None:
    mine = Singleton(project)

    assert supervisors(project) == {HERE: str(os.getpid())}
    mine.release()


def test_a_second_one_is_refused_and_told_what_to_do(project: Project) -> None:
    mine = Singleton(project)

    with pytest.raises(BusyError, match=rf"process {os.getpid()}\b.*farm scale N"):
        Singleton(project)
    mine.release()


def test_the_next_one_may_come_when_it_was_released(project: Project) -> None:
    Singleton(project).release()
    after_the_release = supervisors(project)
    Singleton(project).release()

    assert after_the_release == {}
    assert Path(project.supervisor_path(HERE)).exists()


def test_a_killed_one_holds_nothing(project: Project) -> None:
    script = (
        "import os, sys\n"
        "from farm.project import Project\n"
        "from farm.singleton import Singleton\n"
        "mine = Singleton(Project(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run(
        [sys.executable, "-c", script, project.root], env=os.environ | path, check=False
    )
    alive = supervisors(project)
    Singleton(project).release()

    assert alive == {}


def test_a_shorter_process_id_replaces_a_longer_one(project: Project) -> None:
    path = Path(project.supervisor_path(HERE))
    path.write_text("12345678901234567890\n")
    mine = Singleton(project)

    assert supervisors(project) == {HERE: str(os.getpid())}
    mine.release()


def test_supervisors_of_other_hosts_are_known_too(project: Project) -> None:
    mine = Singleton(project)

    with held(project, "build-7", "41\n", fcntl.LOCK_EX):
        assert supervisors(project) == {HERE: str(os.getpid()), "build-7": "41"}
    mine.release()


def test_looking_takes_nothing_from_another_who_looks(project: Project) -> None:
    with held(project, "build-7", "41\n", fcntl.LOCK_SH):
        assert supervisors(project) == {}


def test_what_is_no_file_is_no_supervisor(project: Project) -> None:
    Path(project.supervisor_path("folder")).mkdir()
    Path(project.supervisor_path("link")).symlink_to("nowhere")
    os.mkfifo(project.supervisor_path("fifo"))

    assert supervisors(project) == {}


def test_one_who_looks_does_not_keep_a_supervisor_from_starting(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(project, HERE, "41\n", fcntl.LOCK_SH) as looks:

        def try_and_look_away(fd: int, path: str) -> bool:
            got = try_lock(fd, path)
            fcntl.flock(looks, fcntl.LOCK_UN)
            return got

        monkeypatch.setattr(singleton, "try_lock", try_and_look_away)
        Singleton(project).release()
