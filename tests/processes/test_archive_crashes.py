"""`farm archive` and `farm restore` are killed before each step that names a file.

A dying process is a script of this file: it counts the calls that give, change or
remove a name, kills itself before the one with the given number, and else runs a verb
of farm. With a number beyond the last call it passes.
"""

import itertools
import signal
from collections.abc import Iterator

import pytest

from farm import cli, shelf
from farm.project import Project
from farm.shelf import Pair
from tests.driver import Farm

pytestmark = pytest.mark.processes

DYING = '''
"""dying.py NUMBER ARGUMENTS OF FARM"""
import os, signal, sys

number, calls = int(sys.argv[1]), 0


def counted(real):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    return wrapped


from farm.cli import run

os.sync = lambda: None  # a kill loses nothing that the kernel has
for name in ("link", "unlink", "replace", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
sys.exit(run(sys.argv[2:]))
'''

IDS = ("a", "b", "tiles/c")
ALONE = "b"  #: only its result lies there
MOST = 60  # steps of either verb on these tasks; a bound, so that no bug runs for ever
BEGUN = 4  # steps of either verb that must have been reached


@pytest.fixture
def done(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> dict[str, Pair]:
    """Three pairs that ended; each task notes its id in the file `ran`."""
    monkeypatch.setattr("os.sync", lambda: None)  # see the script
    for task_id in IDS:
        farm.drop(task_id, run="echo $FARM_TASK_ID >> ran")
    farm.work()
    (farm.tasks / f"{ALONE}.json").unlink()
    (farm.root / "ran").unlink()
    farm.write("dying.py", DYING)
    return {task_id: in_folder(farm, task_id) for task_id in IDS}


def in_folder(farm: Farm, task_id: str) -> Pair:
    """What lies in tasks/; an empty result if there is none."""
    paths = (farm.tasks / f"{task_id}.json", farm.result_path(task_id))
    task, result = (p.read_bytes().decode() if p.exists() else None for p in paths)
    return Pair(task_id, task, result or "")


def in_archives(farm: Farm, task_id: str) -> Iterator[Pair]:
    """The lines of an id, also of archives that are under way."""
    project = Project(farm.root)
    for path in (*shelf.archives(project), *shelf.moving(project)):
        yield from (pair for pair in shelf.pairs(path) if pair.id == task_id)


def die(farm: Farm, number: int, verb: str) -> bool:
    """Kill a verb before this call; False if it passed without coming so far."""
    popen = farm.start_python("dying.py", str(number), verb, "**")
    popen.wait(30)

    assert popen.returncode in (0, -signal.SIGKILL), farm.describe()
    return popen.returncode != 0


def check_rule(farm: Farm, done: dict[str, Pair]) -> None:
    """Each pair can be had with its bytes, and the folder holds nothing else."""
    for task_id, pair in done.items():
        lies = in_folder(farm, task_id)
        lines = list(in_archives(farm, task_id))

        assert all(line == pair for line in lines)
        assert lies == pair or pair in lines, f"{task_id} is lost"
        assert lies.task is None or lies.result, f"{task_id} would run again"
        assert lies.task in (None, pair.task)
        assert lies.result in ("", pair.result)


def check_nothing_runs(farm: Farm) -> None:
    farm.work()

    assert not (farm.root / "ran").exists()


def archives(farm: Farm) -> list[str]:
    """Names of what lies in archive/, under way or not."""
    folder = farm.root / "archive"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def is_packed(farm: Farm, done: dict[str, Pair]) -> bool:
    """All of it in archives, nothing in the folder, nothing under way."""
    here = [in_folder(farm, task_id) for task_id in done]
    there = [list(in_archives(farm, task_id)) for task_id in done]
    return (
        here == [Pair(task_id, None, "") for task_id in done]
        and there == [[pair] for pair in done.values()]
        and shelf.moving(Project(farm.root)) == []
    )


def is_unpacked(farm: Farm, done: dict[str, Pair]) -> bool:
    """All of it in the folder, and no archive."""
    here = {task_id: in_folder(farm, task_id) for task_id in done}
    return here == done and archives(farm) == []


def run(farm: Farm, verb: str) -> int:
    return cli.run([verb, "-C", str(farm.root), "**"])


def test_an_archive_may_be_killed_at_every_step(
    farm: Farm, done: dict[str, Pair]
) -> None:
    for number in itertools.islice(itertools.count(1), MOST):
        killed = die(farm, number, "archive")
        check_rule(farm, done)
        check_nothing_runs(farm)
        # A worker completes what was begun; what was not is archived now.
        again = run(farm, "archive") if killed and not is_packed(farm, done) else 0

        assert (again, is_packed(farm, done)) == (0, True), f"killed at {number}"
        assert run(farm, "restore") == 0
        assert is_unpacked(farm, done)
        if not killed:
            break
    assert BEGUN < number < MOST


def test_a_restore_may_be_killed_at_every_step(
    farm: Farm, done: dict[str, Pair]
) -> None:
    for number in itertools.islice(itertools.count(1), MOST):
        assert run(farm, "archive") == 0

        killed = die(farm, number, "restore")
        check_rule(farm, done)
        check_nothing_runs(farm)
        if not killed:
            break
        code = run(farm, "restore") if archives(farm) else 0

        assert (code, is_unpacked(farm, done)) == (0, True), f"killed at {number}"
    assert BEGUN < number < MOST


def test_what_a_killed_archive_left_may_be_restored_at_once(
    farm: Farm, done: dict[str, Pair]
) -> None:
    for number in itertools.islice(itertools.count(1), MOST):
        killed = die(farm, number, "archive")
        code = run(farm, "restore") if archives(farm) else 0

        assert (code, is_unpacked(farm, done)) == (0, True), f"killed at {number}"
        if not killed:
            break
    assert BEGUN < number < MOST


@pytest.mark.parametrize("verb", ["archive", "restore"])
def test_what_is_dropped_after_a_kill_at_any_step_runs(farm: Farm, verb: str) -> None:
    farm.write("dying.py", DYING)
    for number in itertools.islice(itertools.count(1), MOST):
        farm.drop("t", run="echo old >> ran")
        farm.work()
        if verb == "restore":
            assert run(farm, "archive") == 0
        killed = die(farm, number, verb)
        dropped = not (farm.tasks / "t.json").exists()
        if dropped:
            farm.drop("t", run=f"echo new {number} >> ran")
        farm.work()
        ran = (farm.root / "ran").read_text()

        assert (f"new {number}\n" in ran) == dropped, f"killed at {number}"
        assert ran.count("old") == number, f"killed at {number}"
        for path in [*farm.tasks.iterdir(), *farm.root.glob("archive/*")]:
            path.unlink()
        if not killed:
            break
    assert BEGUN < number < MOST
