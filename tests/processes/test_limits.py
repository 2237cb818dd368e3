"""Far too much of something: names, folders, bytes, needs. All of it ends right.

`tests/bench/limits.py` drops the same things at sizes that take minutes.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.limits import BIG, LIMITS, LONGEST, measure
from tests.driver import Farm

pytestmark = pytest.mark.processes

SIZES = {
    "names that are not tasks": 10_000,
    "sub-folders": 2_000,
    "folders in folders": 1_000,
    "names of 255 bytes": 20,
    "task files of 10 MB": 1,
    "tasks that need one": 2_000,
    "tasks that need one by a glob": 2_000,
    "one that needs all": 2_000,
    "chain": 1_000,
    "chain backwards": 1_000,
}


def test_every_limit_has_a_test() -> None:
    assert SIZES.keys() == LIMITS.keys()


@pytest.mark.parametrize("name", SIZES)
def test_too_much_of_something_ends_right(name: str, tmp_path: Path) -> None:
    measured = measure(name, tmp_path, SIZES[name], workers=2)

    assert measured.ended == measured.wanted


@pytest.mark.parametrize("name", ["chain", "chain backwards"])
def test_a_chain_runs_link_by_link(farm: Farm, name: str) -> None:
    farm.write("quick.py", "def nothing() -> None: ...\n")
    LIMITS[name].drop(farm.tasks, 500)
    farm.work()
    results = [farm.result(f"link-{number:06}") for number in range(500)]
    in_order = results if name == "chain" else results[::-1]
    times = [at for one in in_order for at in (one["started"], one["finished"])]

    assert times == sorted(times)


# -- names ---------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["x", "é", "日"], ids=["1", "2", "3"])
def test_a_task_whose_name_has_255_bytes_is_named_with_the_reason(
    farm: Farm, letter: str
) -> None:
    count, rest = divmod(LONGEST - len(".json"), len(letter.encode()))
    name = f"{letter * count}{'x' * rest}.json"
    (farm.tasks / name).write_text('{"run": "true"}')
    farm.drop("good", run="true")
    code = farm.work()
    status, check = farm.farm("status").stdout, farm.farm("check").stdout

    assert (len(name.encode()), code) == (LONGEST, 1)
    assert farm.status_of("good") == "succeeded"
    assert f"tasks/{name}: its name is too long" in check
    assert "Cannot be tasks" in status


# -- bytes ---------------------------------------------------------------------------


def test_the_verdict_on_10_mb_of_garbage_is_short_and_says_where(farm: Farm) -> None:
    good = b'{"run": "true", "meta": "' + b"x" * BIG
    farm.drop_bytes("torn", good)
    farm.drop_bytes("zeros", bytes(BIG))
    farm.work()
    errors = {i: farm.result(i)["error"]["message"] for i in ("torn", "zeros")}

    assert all(text.startswith(f"tasks/{i}.json:1:") for i, text in errors.items())
    assert max(map(len, errors.values())) < 500


# -- folders too deep ----------------------------------------------------------------


@pytest.fixture
def pit(farm: Farm) -> Iterator[Path]:
    """Folders in folders, deeper than a path can name, with a task in the deepest."""
    folder, script = "d" * 9, "for i in range(600): os.mkdir(d); os.chdir(d)"
    write = "open('a.json', 'w').write('{\"run\": \"true\"}')"
    make = f"import os; d = {folder!r}\n{script}\n{write}"
    subprocess.run(["python3", "-c", make], cwd=farm.tasks, check=True)
    yield farm.tasks / folder
    # pytest's own tidying goes no deeper than Python's stack.
    subprocess.run(["rm", "-rf", str(farm.tasks / folder)], check=True)


def test_folders_deeper_than_a_path_can_name_are_named_and_disturb_no_other(
    farm: Farm, pit: Path
) -> None:
    farm.drop("good", run="true")
    code, status = farm.work(), farm.farm("status").stdout
    check = farm.farm("check").stdout

    assert farm.status_of("good") == "succeeded"
    assert "its path is too long" in check
    assert "Cannot be tasks" in status
    assert code == 1


def test_an_idle_worker_stands_folders_that_are_nested_too_deep_to_be_watched(
    farm: Farm,
) -> None:
    LIMITS["folders in folders"].drop(farm.tasks, 1_100)
    farm.write("quick.py", "def nothing() -> None: ...\n")
    try:
        worker = farm.start_worker()
        farm.wait_for("succeeded", "d/" * 1_100 + "a")
        farm.drop("late", run="true")
        farm.wait_for("succeeded", "late")

        assert worker.poll() is None
    finally:
        subprocess.run(["rm", "-rf", str(farm.tasks / "d")], check=True)
