"""Eight workers, four hundred tasks: each runs exactly once.

The record is independent of farm: every task takes a mark that only one can
make, and adds a line to one file. A second run, at the same time or later, shows.
"""

import pytest

from tests.driver import Farm, ran
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

WORKERS = 8
TASKS = 400

RECORD = '''
import os

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def note(file, name):
    """One line in one write: lines of several processes never mix."""
    fd = os.open(file, APPEND, 0o600)
    os.write(fd, f"{name}\\n".encode())
    os.close(fd)


def once(name):
    mark = f"marks/{name}"
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        note("overlaps", name)
        return
    note("ran", name)
    os.unlink(mark)
'''

COMMAND = """
(set -C; : > marks/{name}) 2>/dev/null || {{ echo {name} >> overlaps; exit 0; }}
echo {name} >> ran
rm marks/{name}
"""


def drop_recorded(farm: Farm, count: int, prefix: str = "t") -> list[str]:
    """Tasks that keep the record; three in four are callables. Their ids."""
    farm.write("record.py", RECORD)
    (farm.root / "marks").mkdir(exist_ok=True)
    ids = [f"{prefix}{number}" for number in range(count)]
    for number, name in enumerate(ids):
        if number % 4:
            farm.drop(name, call="record:once", args=[name])
        else:
            farm.drop(name, run=COMMAND.format(name=name))
    return ids


def start_workers(farm: Farm, count: int) -> None:
    """Workers that end when nothing is left, all started at once."""
    for _ in range(count):
        farm.start("worker", str(farm.root), "--until-done")


def codes(farm: Farm) -> list[int]:
    """How every process ended, once all have."""
    wait_until(
        lambda: all(p.poll() is not None for p in farm.processes), 60, farm.describe
    )
    return [p.returncode for p in farm.processes]


def test_eight_workers_run_four_hundred_tasks_once_each(farm: Farm) -> None:
    ids = drop_recorded(farm, TASKS)
    start_workers(farm, WORKERS)
    ended = codes(farm)

    assert ended == [0] * WORKERS, farm.describe()
    assert sorted(ran(farm)) == sorted(ids)
    assert not (farm.root / "overlaps").exists()
    assert {farm.status_of(i) for i in ids} == {"succeeded"}


def test_each_of_many_tasks_was_one_attempt(farm: Farm) -> None:
    ids = drop_recorded(farm, 60)
    start_workers(farm, 4)
    codes(farm)

    assert [len(farm.result(i)["attempts"]) for i in ids] == [1] * len(ids)
    assert list((farm.state / "locks").iterdir()) == []


def test_tasks_dropped_under_idle_workers_run_once_each(farm: Farm) -> None:
    for _ in range(4):
        farm.start_worker()
    ids = drop_recorded(farm, 60)
    farm.wait_for("succeeded", *ids)

    assert sorted(ran(farm)) == sorted(ids)
    assert not (farm.root / "overlaps").exists()


def test_a_task_whose_result_is_deleted_runs_once_more(farm: Farm) -> None:
    (name,) = drop_recorded(farm, 1)
    farm.work()
    farm.result_path(name).unlink()
    start_workers(farm, 4)
    codes(farm)

    assert ran(farm) == [name, name]
