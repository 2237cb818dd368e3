"""The life lock: who lives, who may be believed dead, and bad mounts."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from farm import life, process
from farm.errors import FarmError
from farm.life import Life, LifeLock, LifeRecord, Owner
from farm.project import Project
from tests.lives import FOREIGN, lay_life_file

# -- being alive ----------------------------------------------------------------------


def test_a_living_workers_lock_is_held(project: Project, alive: Life) -> None:
    assert life.observe(project, "ada") is LifeLock.HELD


def test_a_worker_that_never_was_has_no_lock(project: Project) -> None:
    assert life.observe(project, "nobody") is LifeLock.MISSING


def test_a_dead_workers_lock_is_free(project: Project) -> None:
    script = (
        "import os, sys\n"
        "from farm.life import Life\n"
        "from farm.project import Project\n"
        "Life.begin(Project(sys.argv[1]), 'ada', 0.0, 2.0)\n"
        "os._exit(1)\n"
    )
    path = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run(
        [sys.executable, "-c", script, project.root], env=os.environ | path, check=False
    )

    assert life.observe(project, "ada") is LifeLock.FREE


def test_observers_do_not_disturb_each_other(project: Project, alive: Life) -> None:
    lay_life_file(project, "dead", process.identify())

    seen = [life.observe(project, name) for name in ("dead", "dead", "ada", "ada")]

    assert seen == [LifeLock.FREE, LifeLock.FREE, LifeLock.HELD, LifeLock.HELD]


def test_a_tidy_end_leaves_nothing(project: Project, alive: Life) -> None:
    Path(project.health_path("ada")).touch()

    alive.end()

    assert list(Path(project.workers).iterdir()) == []
    assert list(Path(project.tmp).iterdir()) == []


def test_the_file_by_which_all_else_is_found_goes_last(
    project: Project, alive: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(project.health_path("ada")).touch()
    gone: list[str] = []
    monkeypatch.setattr("farm.disk.unlink", gone.append)

    alive.end()

    assert gone == [project.health_path("ada"), project.life_path("ada")]


def test_an_end_may_be_repeated(alive: Life) -> None:
    alive.end()

    alive.end()


def test_a_birth_leaves_nothing_aside(project: Project, alive: Life) -> None:
    assert list(Path(project.tmp).iterdir()) == []


def test_a_forked_child_does_not_hold_it(project: Project, alive: Life) -> None:
    born, says = os.pipe()
    waits, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.write(says, b"!")
        os.read(waits, 1)
        os._exit(0)
    os.close(waits)
    os.read(born, 1)
    alive.forget()  # what the kernel does when the parent dies

    assert life.observe(project, "ada") is LifeLock.FREE
    os.close(go)
    os.waitpid(pid, 0)
    os.close(born)
    os.close(says)


def test_a_forked_child_that_ends_does_not_end_its_parents_life(
    project: Project, alive: Life
) -> None:
    pid = os.fork()
    if pid == 0:
        alive.end()
        os._exit(0)
    os.waitpid(pid, 0)

    assert life.observe(project, "ada") is LifeLock.HELD


def test_a_program_that_is_started_does_not_inherit_it(
    project: Project, alive: Life
) -> None:
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        alive.forget()
        seen = life.observe(project, "ada")
        child.kill()

    assert seen is LifeLock.FREE


# -- names ------------------------------------------------------------------------------


def test_a_name_that_lives_is_refused(project: Project, alive: Life) -> None:
    with pytest.raises(FarmError, match="a worker named ada lives already"):
        Life.begin(project, "ada", 1000.0, 2.0)

    assert life.observe(project, "ada") is LifeLock.HELD
    assert list(Path(project.tmp).iterdir()) == []


def test_a_name_whose_tasks_are_not_given_back_is_refused(project: Project) -> None:
    lay_life_file(project, "ada", process.identify())

    with pytest.raises(FarmError, match="a worker named ada died here"):
        Life.begin(project, "ada", 1000.0, 2.0)


def test_a_name_is_free_after_a_tidy_end(project: Project, alive: Life) -> None:
    alive.end()

    Life.begin(project, "ada", 1000.0, 2.0).end()


def test_default_names_tell_host_and_pid_and_never_repeat() -> None:
    who = process.identify()
    names = {life.default_name(who) for _ in range(20)}

    assert len(names) > 1
    assert all(name.startswith(f"{who.host}-{who.pid}-") for name in names)


# -- beats ------------------------------------------------------------------------------


def test_a_beat_raises_the_counter_in_place(project: Project, alive: Life) -> None:
    inode = Path(project.life_path("ada")).stat().st_ino
    counters = []
    for _ in range(3):
        alive.beat()
        seen = life.read(project, "ada")
        assert seen is not None
        counters.append(seen[0])

    assert counters == [1, 2, 3]
    assert Path(project.life_path("ada")).stat().st_ino == inode
    assert life.observe(project, "ada") is LifeLock.HELD


def test_the_record_says_who_lives_there(project: Project, alive: Life) -> None:
    alive.beat()

    seen = life.read(project, "ada")

    assert seen == (1, LifeRecord("ada", process.identify(), 1000.0, 2.0))


@pytest.mark.parametrize("raw", [b"", b"\n", b"12", b"x\n{}\n", b"1\n{}\n", b"\xff"])
def test_an_unreadable_life_file_says_nothing(project: Project, raw: bytes) -> None:
    Path(project.life_path("ada")).write_bytes(raw)

    assert life.read(project, "ada") is None


def test_a_missing_life_file_says_nothing(project: Project) -> None:
    assert life.read(project, "ada") is None


# -- verdicts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holder", "lock", "seen_running", "expected"),
    [
        ("ada", LifeLock.HELD, True, Owner.ALIVE),
        ("ada", LifeLock.HELD, False, Owner.ALIVE),
        ("ada", LifeLock.FREE, True, Owner.ALIVE),
        ("ada", LifeLock.FREE, False, Owner.DEAD),
        ("ada", LifeLock.MISSING, True, Owner.ALIVE),
        ("ada", LifeLock.MISSING, False, Owner.DEAD),
        ("me", LifeLock.HELD, True, Owner.DEAD),
    ],
)
def test_an_owner_is_dead_only_if_nothing_says_that_it_lives(
    holder: str, lock: LifeLock, seen_running: bool, expected: Owner
) -> None:
    assert life.verdict(holder, "me", lock, seen_running=seen_running) is expected


def test_a_held_life_lock_vetoes_for_an_owner_of_another_host(
    project: Project, alive: Life
) -> None:
    assert life.owner_of(project, "ada", FOREIGN, "me") is Owner.ALIVE


def test_a_living_process_vetoes_without_its_life_file(project: Project) -> None:
    me = process.identify()
    reused = msgspec.structs.replace(me, ticks=me.ticks + 1)

    assert life.owner_of(project, "ada", me, "me") is Owner.ALIVE
    assert life.owner_of(project, "ada", reused, "me") is Owner.DEAD
